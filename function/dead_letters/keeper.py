"""Keeps what the dead letter sink receives, without keeping its sender waiting.

Letters are written by a thread of their own, many in one transaction. Whoever brings one waits for a moment, so that
normally a letter is in the table when its sender gets the answer; while the database is away nobody waits. What cannot
be written waits in memory, within bounds, because dead letters come just when the database is away. The line that the
echo printed is there in any case: what the process loses at its end, or must leave out, can be found in the log.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Sequence

from function import errors, measures
from function.dead_letters import letter, table

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that a sender waits for its letter to be written."""
WRITE_SECONDS = 5.0
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Between two attempts while the database is away; the last one again and again."""
BATCH_LETTERS, BATCH_BYTES = 200, 4 * 2**20
MOST_LETTERS, MOST_BYTES = 10_000, 32 * 2**20
"""What waits in memory at most; then the oldest go."""


class Keeper:
    """Writes letters to the table."""

    def __init__(self, letters: table.Table) -> None:
        self._table = letters
        self._lock = threading.Lock()
        self._waiting: collections.deque[_Brought] = collections.deque()
        self._bytes = 0
        self._writing = False
        self._away = False
        """The last attempt found no database: nobody waits for the next one."""
        self._alone = 0
        """How many letters are to be written one by one."""
        self._stop = threading.Event()

    def keep(self, letters: Sequence[letter.Letter]) -> None:
        """Take letters to be written; return when they are, or a moment later. It raises nothing."""
        brought = [_Brought(each) for each in letters]
        with self._lock:
            self._waiting.extend(brought)
            self._bytes += sum(each.size for each in letters)
            left_out = self._leave_out()
            starts, self._writing = not self._writing, True
            away = self._away
        if left_out:
            _log_left_out(left_out)
        if starts:
            threading.Thread(target=self._write, daemon=True).start()
        end = time.monotonic() + PATIENCE
        for each in () if away else brought:
            each.done.wait(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """Write what waits, once; what cannot be written now is only in the log."""
        self._stop.set()
        end = time.monotonic() + WRITE_SECONDS
        while time.monotonic() < end and self._write_some():
            pass
        if self._waiting:
            _log_left_out(len(self._waiting))

    def _leave_out(self) -> int:
        """Forget the oldest letters where there are too many; return how many."""
        before = len(self._waiting)
        while len(self._waiting) > MOST_LETTERS or (self._bytes > MOST_BYTES and len(self._waiting) > 1):
            self._bytes -= self._waiting.popleft().letter.size
        return before - len(self._waiting)

    def _write(self) -> None:
        """Write until nothing waits."""
        attempt = 0
        while not self._stop.is_set():
            if self._write_some():
                attempt = 0
                continue
            with self._lock:
                if not self._waiting:
                    self._writing = False
                    return
            self._stop.wait(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1

    def _write_some(self) -> bool:
        """Write some letters; return whether any were, or can never be."""
        batch = self._first()
        if not batch:
            return False
        try:
            self._table.keep([brought.letter for brought in batch], timeout=WRITE_SECONDS)
        except errors.Unavailable as exc:
            self._away = True
            log.info("dead letters are kept later: %s", exc, extra={"action": "dead_letter.deferred"})
            for brought in batch:
                brought.done.set()
            return False
        except errors.VmledgerError as exc:  # one of them can never be a row: they are written one by one
            if len(batch) > 1:
                self._alone = len(batch)
                return True
            log.warning("a dead letter is only in the log: %s", exc, extra={"action": "dead_letter.left_out"})
            _measure("left_out", 1)
        else:
            _measure("kept", len(batch))
        self._away = False
        self._alone = max(0, self._alone - 1)
        self._remove(batch)
        return True

    def _first(self) -> list[_Brought]:
        """Return the letters that are written next; one, after some that could not be written together."""
        batch: list[_Brought] = []
        size = 0
        with self._lock:
            for brought in self._waiting:
                size += brought.letter.size
                if batch and (self._alone or len(batch) >= BATCH_LETTERS or size > BATCH_BYTES):
                    break
                batch.append(brought)
        return batch

    def _remove(self, batch: list[_Brought]) -> None:
        written = set(map(id, batch))
        with self._lock:
            while self._waiting and id(self._waiting[0]) in written:  # the oldest of them may have been left out
                self._bytes -= self._waiting.popleft().letter.size
        for brought in batch:
            brought.done.set()


def _measure(outcome: str, count: int) -> None:
    if measures.recorder is not None:
        measures.recorder.add(measures.DEAD_LETTERS, (outcome,), count)


def _log_left_out(count: int) -> None:
    _measure("left_out", count)
    log.warning(
        "the database is away: %d dead letters are only in the log of the echo",
        count,
        extra={"action": "dead_letter.left_out"},
    )


class _Brought:
    """A letter, and whether its sender need not wait any more."""

    __slots__ = ("done", "letter")

    def __init__(self, brought: letter.Letter) -> None:
        self.letter = brought
        self.done = threading.Event()
