"""Where requests wait whose rows another transaction has locked, so that no others wait with them.

There is no thread of its own. The first of those who wait leads: it asks now and then which rows are free, stores what
they were locked for, and hands the lead on when it is done itself.
The ledger does not depend on the order of events, so what waited here may be stored after what came later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Generic

from function import errors
from function.clients import postgres_errors
from function.inventory.storage import shared_write
from function.inventory.storage.shared_write import Item, Result

PAUSE_SECONDS = 0.05
"""Between two questions which rows are free."""
MOST = 24
"""Requests that wait here. A pod takes 64 at once (containerConcurrency): two workers leave 16 free."""


class _Place(Generic[Item, Result]):
    """A request that waits; ``woken`` is set when it is done, or when it is to lead."""

    __slots__ = ("request", "woken")

    def __init__(self, request: shared_write.Request[Item, Result]) -> None:
        self.request = request
        self.woken = threading.Event()


class Aside(Generic[Item, Result]):
    """The requests that wait for locked rows.

    least: seconds that a request must have left to be tried once more.
    """

    def __init__(self, shared: shared_write.SharedWrite[Item, Result], *, least: float) -> None:
        self._shared = shared
        self._least = least
        self._lock = threading.Lock()
        self._places: list[_Place[Item, Result]] = []
        self._turn = 0

    def wait(self, request: shared_write.Request[Item, Result]) -> None:
        """Return when the request is done; it is at once where too many wait already that are certainly locked."""
        place = _Place(request)
        with self._lock:
            self._places.append(place)
            self._refuse_beyond()
        try:
            while not request.is_done:
                if self._places[0] is place:
                    self._lead(request)
                else:
                    place.woken.wait()
        finally:
            with self._lock:
                self._places.remove(place)
                if self._places:
                    self._places[0].woken.set()

    def _refuse_beyond(self) -> None:
        """Refuse those that came last, where too many are certainly locked."""
        certain = (shared_write.Lock.SHOWN, shared_write.Lock.HIDDEN)
        waiting = [place for place in self._places if place.request.lock in certain and not place.request.is_done]
        for place in waiting[MOST:]:
            place.request.failure = errors.Locked(postgres_errors.LOCKED)
            place.woken.set()

    def _lead(self, request: shared_write.Request[Item, Result]) -> None:
        """Try all that wait, once; then pause, unless the leader's own request is done."""
        with self._lock:
            waiting = [place.request for place in self._places if not place.request.is_done]
        self._try(waiting)
        with self._lock:
            self._refuse_beyond()
            for place in self._places:
                if place.request.is_done:
                    place.woken.set()
        if not request.is_done:
            time.sleep(PAUSE_SECONDS)

    def _try(self, requests: Sequence[shared_write.Request[Item, Result]]) -> None:
        """Store the requests whose rows are free; give up those that have no time left."""
        end = min(request.end for request in requests)
        try:
            self._shared.show(requests, end)
        except errors.Locked:  # a whole table; so nobody else could write either
            pass
        except Exception as exc:  # whatever it is, they must not wait for ever
            for request in requests:
                request.failure = exc
        else:
            free = [request for request in requests if request.lock is shared_write.Lock.UNSURE]
            if free:
                self._shared.store_alone(free, end)
            self._try_hidden([request for request in requests if request.lock is shared_write.Lock.HIDDEN], end)
        for request in requests:
            if not request.is_done and request.end - time.monotonic() < self._least:
                request.failure = errors.Locked(postgres_errors.LOCKED)

    def _try_hidden(self, requests: Sequence[shared_write.Request[Item, Result]], end: float) -> None:
        """Store the requests whose locks do not show, one after the other, until one is locked still.

        Each attempt waits for the lock, and keeps the connection from others meanwhile; so mostly there is one in a
        round, of another request each time.
        """
        self._turn += 1
        first = self._turn % max(len(requests), 1)
        for request in (*requests[first:], *requests[:first]):
            with self._lock:
                if request.is_done:  # refused meanwhile
                    continue
                request.lock = None
            if not self._shared.store_alone([request], end):
                break
