"""Group commit: requests that arrive while a transaction runs share the next one.

There is no thread of its own and no timer.
The first request that finds nobody writing leads: it writes all that waits, its own included, tells the others what
became of theirs, and hands the lead to the first that came meanwhile.
So an idle service adds no wait, and a busy one pays for a commit once for many events.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from function import errors

Item = TypeVar("Item")
Result = TypeVar("Result")


LEAST_SHARE = 0.1
"""Of its patience that a leader must have left: its time is the time of its whole group."""


class _Entry(Generic[Item, Result]):
    """What one request hands in, until when it waits, and where."""

    __slots__ = ("end", "failure", "items", "leads", "results", "wake")

    def __init__(self, items: Sequence[Item], end: float) -> None:
        self.items = items
        self.end = end
        self.results: Sequence[Result] | None = None
        self.failure: Exception | None = None
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit(Generic[Item, Result]):
    """Groups the calls of many threads into few calls of ``write``.

    write: stores all items it is given within the seconds it is given, or raises and stores none; returns a result for
    each. most: items in one group, unless a single request brings more. patience: seconds that a request waits in all.
    """

    def __init__(
        self, write: Callable[[Sequence[Item], float], Sequence[Result]], *, most: int = 500, patience: float
    ) -> None:
        self._write = write
        self._most = most
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: collections.deque[_Entry[Item, Result]] = collections.deque()
        self._led = False

    def submit(self, items: Sequence[Item]) -> Sequence[Result]:
        """Return the results of ``items`` once they are stored; they are stored all or none.

        Raises what ``write`` raised for them, and :class:`errors.DatabaseUnavailable` where no answer came in time.
        """
        entry: _Entry[Item, Result] = _Entry(items, time.monotonic() + self._patience)
        with self._lock:
            self._waiting.append(entry)
            if not self._led:
                self._led = entry.leads = True
        if not entry.leads:
            self._await(entry)
        if entry.leads:
            try:
                self._lead(entry)
            finally:
                self._hand_over()
        if entry.failure is not None:
            raise entry.failure
        if entry.results is None:
            raise errors.DatabaseUnavailable("the database did not answer in time")
        return entry.results

    def _lead(self, entry: _Entry[Item, Result]) -> None:
        """Write a group; a leader whose patience is all but over leaves that to the next, which may have more."""
        if entry.end - time.monotonic() > self._patience * LEAST_SHARE:
            self._store(self._take(), entry.end)
        else:
            with self._lock:
                self._waiting.remove(entry)

    def _await(self, entry: _Entry[Item, Result]) -> None:
        """Wait until a leader has stored the entry or made it the leader, or patience ends."""
        if entry.wake.acquire(timeout=max(0.0, entry.end - time.monotonic())):
            return
        with self._lock:
            if entry.leads:  # the lead came in the very moment that patience ended
                entry.wake.acquire()
            elif entry in self._waiting:
                self._waiting.remove(entry)

    def _take(self) -> list[_Entry[Item, Result]]:
        """Take a group from the front of the queue; the leader's own entry is its first."""
        with self._lock:
            group = [self._waiting.popleft()]
            size = len(group[0].items)
            while self._waiting and size + len(self._waiting[0].items) <= self._most:
                size += len(self._waiting[0].items)
                group.append(self._waiting.popleft())
        return group

    def _store(self, group: list[_Entry[Item, Result]], end: float) -> None:
        """Write the group's items together; a value that can never be stored fails its own request and no other.

        ``end`` is the leader's: it came first, so nobody in the group has less time left.
        """
        try:
            results = self._write([item for entry in group for item in entry.items], end - time.monotonic())
        except errors.BadEvent as exc:
            if len(group) == 1:
                self._settle(group[0], failure=exc)
                return
            middle = len(group) // 2
            self._store(group[:middle], end)
            self._store(group[middle:], end)
        except Exception as exc:
            for entry in group:
                self._settle(entry, failure=exc)
        else:
            first = 0
            for entry in group:
                beyond = first + len(entry.items)
                self._settle(entry, results=results[first:beyond])
                first = beyond

    @staticmethod
    def _settle(
        entry: _Entry[Item, Result], *, results: Sequence[Result] | None = None, failure: Exception | None = None
    ) -> None:
        entry.results, entry.failure = results, failure
        entry.wake.release()

    def _hand_over(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake.release()
            else:
                self._led = False
