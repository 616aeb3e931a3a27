"""Group commit: requests that arrive while a transaction runs share the next one.

There is no thread of its own and no timer.
A request that finds nobody writing writes at once; what comes meanwhile gathers in a group.
The first of a group leads it. It waits for the group's turn, and for the connection, which others use too, and it lets
others run as long as that brings more; then it writes what has gathered, and tells the others what became of theirs.
So an idle service adds no wait, and a busy one pays for a commit once for many events.
A request whose row another transaction has locked leaves its group and waits aside.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Sequence
from typing import Generic

from function import errors, measures
from function.inventory.storage import set_aside, shared_write
from function.inventory.storage.shared_write import Item, Result

PORTION = 50
"""Items of one request that are stored at once: the others wait for no more of it."""
LEAST_SHARE = 0.1
"""Of its patience that a leader must have left: its time is the time of its whole group."""


class _Group(Generic[Item, Result]):
    """Requests that are written together.

    turn: a lock that is free when the group may be written; only its leader, the first of the requests, waits for it.
    done: set when every request knows what became of it, or when the leader has left and the next is to lead.
    """

    __slots__ = ("done", "requests", "size", "turn")

    def __init__(self) -> None:
        self.requests: list[shared_write.Request[Item, Result]] = []
        self.size = 0
        self.turn = threading.Lock()
        self.done = threading.Event()


class GroupCommit(Generic[Item, Result]):
    """Groups the calls of many threads into few writes.

    most: items in one group, at least PORTION. patience: seconds that each portion of a request waits in all.
    """

    def __init__(self, table: shared_write.Table[Item, Result], *, most: int = 500, patience: float) -> None:
        self._most = most
        self._patience = patience
        self._lock = threading.Lock()
        self._groups: collections.deque[_Group[Item, Result]] = collections.deque()
        self._writing = False
        self._shared = shared_write.SharedWrite(table)
        self._aside = set_aside.Aside(self._shared, least=patience * LEAST_SHARE)

    def submit(self, items: Sequence[Item]) -> Sequence[Result]:
        """Return the results of ``items`` once they are stored.

        Up to PORTION of them are stored all or none; more are stored in portions, and other requests between these.

        Raises what the table raised for them, and :class:`errors.DatabaseUnavailable` where no answer came in time.
        """
        if len(items) <= PORTION:
            return self._submit(items)
        results: list[Result] = []
        for start in range(0, len(items), PORTION):
            results += self._submit(items[start : start + PORTION])
        return results

    def _submit(self, items: Sequence[Item]) -> Sequence[Result]:
        """Store items all or none."""
        request: shared_write.Request[Item, Result] = shared_write.Request(items, time.monotonic() + self._patience)
        request.lock = self._shared.suspicion(items)
        if request.lock is None:
            self._in_group(request)
        if not request.is_done:
            self._aside.wait(request)
        if request.failure is not None:
            raise request.failure
        return request.results or ()

    def _in_group(self, request: shared_write.Request[Item, Result]) -> None:
        """Return when the request is done, or has a lock."""
        group = self._join(request)
        while not request.is_done and request.lock is None:
            done = group.done  # looked at before the lead is: a leader that leaves changes both, the lead first
            if group.requests[0] is request:
                self._lead(group, request)
            else:
                done.wait()

    @property
    def waiting(self) -> int:
        """How many requests wait for their group's turn."""
        with self._lock:
            return sum([len(group.requests) for group in self._groups])

    def _join(self, request: shared_write.Request[Item, Result]) -> _Group[Item, Result]:
        """Put a request into the group that gathers, or make it the first of another."""
        with self._lock:
            group = self._groups[-1] if self._groups else None
            if group is None or group.size + len(request.items) > self._most:
                group = _Group()
                if self._writing:
                    group.turn.acquire()
                self._writing = True
                self._groups.append(group)
            group.requests.append(request)
            group.size += len(request.items)
        return group

    def _lead(self, group: _Group[Item, Result], request: shared_write.Request[Item, Result]) -> None:
        """Write the group at its turn; a leader whose patience is all but over leaves that to the next."""
        closed = False
        try:
            if group.turn.acquire(timeout=max(0.0, request.end - time.monotonic())):
                self._gather(group, request.end)
                if request.end - time.monotonic() > self._patience * LEAST_SHARE:
                    with self._lock:
                        self._groups.popleft()
                    closed = True
                    self._store(group, request.end)
                else:
                    group.turn.release()
        finally:
            if closed:
                with self._lock:
                    self._pass_turn()
                group.done.set()
            else:
                request.failure = errors.DatabaseUnavailable("the database did not answer in time")
                self._leave(group)

    def _gather(self, group: _Group[Item, Result], end: float) -> None:
        """Return at ``end``, or once the connection is free and all that has arrived is in the group.

        Requests that have arrived are read first: a commit costs the same for one event and for many.
        """
        size = 0
        while size < group.size < self._most:
            size = group.size
            time.sleep(0)
            self._shared.wait(end)

    def _store(self, group: _Group[Item, Result], end: float) -> None:
        """Write a group; its leader came first, so nobody in it has less time left than until ``end``."""
        if measures.recorder is None:
            self._shared.store(group.requests, end)
            return
        began = time.monotonic()
        size = group.size
        self._shared.store(group.requests, end)
        measures.recorder.observe(measures.GROUP_SIZE, size)
        measures.recorder.observe(measures.GROUP_WAIT, max(0.0, began - (end - self._patience)))
        measures.recorder.observe(measures.GROUP_POSTGRES, time.monotonic() - began)

    def _leave(self, group: _Group[Item, Result]) -> None:
        """Take the leader out of its group; the next of it leads."""
        with self._lock:
            del group.requests[0]
            done, group.done = group.done, threading.Event()
            if not group.requests:
                self._groups.remove(group)
                if group.turn.acquire(blocking=False):
                    self._pass_turn()
        done.set()

    def _pass_turn(self) -> None:
        """Let the next group be written."""
        if self._groups:
            self._groups[0].turn.release()
        else:
            self._writing = False
