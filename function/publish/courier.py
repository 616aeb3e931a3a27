"""Who sends: several threads, each with the changes of one VM at a time, in their order."""

from __future__ import annotations

import collections
import queue
import threading
from collections.abc import Callable, Sequence

from function.publish import message, sink

Send = Callable[[message.Message], sink.Outcome]


class _Portion:
    """The messages of a portion, and which of them are done; ``left`` of the VMs have some that are not."""

    def __init__(self, messages: Sequence[message.Message]) -> None:
        self.done = [False] * len(messages)
        self.failure: BaseException | None = None
        self.finished = threading.Event()
        self._lock = threading.Lock()
        self.lines: dict[tuple[str, str, str], list[tuple[int, message.Message]]] = collections.defaultdict(list)
        for number, each in enumerate(messages):
            self.lines[each.key].append((number, each))
        self._left = len(self.lines)

    def end(self, failure: BaseException | None = None) -> None:
        """Note that the messages of a VM are done, or that no more of them will be sent."""
        with self._lock:
            self._left -= 1
            self.failure = self.failure or failure
            if self._left == 0:
                self.finished.set()


_Line = tuple[_Portion, list[tuple[int, message.Message]]]


class Courier:
    """Sends portions of messages with so many threads, which wait for their work.

    They are daemons: a request that hangs does not keep the process from ending.
    """

    def __init__(self, send: Send, threads: int) -> None:
        self._send = send
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def deliver(
        self, messages: Sequence[message.Message], stop: threading.Event, *, grace: float, tick: Callable[[], None]
    ) -> list[bool]:
        """Send the messages; return for each whether it is done, which is all unless ``stop`` is set.

        grace: for how many seconds requests in flight are waited for, once it is. tick: is called now and then.
        """
        portion = _Portion(messages)
        for line in portion.lines.values():
            self._lines.put((portion, line))
        while portion.lines and not portion.finished.wait(0.1):
            tick()
            if stop.is_set():
                portion.finished.wait(grace)
                break
        if portion.failure is not None:
            raise portion.failure
        return list(portion.done)

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in self._threads:
            self._lines.put(None)

    def _work(self) -> None:
        while (job := self._lines.get()) is not None:
            portion, line = job
            try:
                for number, each in line:
                    if self._send(each) is sink.Outcome.STOPPED:
                        break
                    portion.done[number] = True
            except BaseException as exc:  # the thread that waits for the portion raises it
                portion.end(exc)
            else:
                portion.end()


def reached(messages: Sequence[message.Message], done: Sequence[bool]) -> tuple[str, ...] | None:
    """Return the last place up to which all messages are done, where not all of them are; None for none.

    Several changes may have one place, which is reached when all of them are done.
    """
    first_left = messages[done.index(False)].place
    places = [each.place for each in messages[: done.index(False)] if each.place != first_left]
    return places[-1] if places else None
