"""One write for the items of several requests, parted where an item keeps the others from being stored.

Two things do that. A value that can never be stored fails its own request; it is found by halves.
A row that another transaction has locked sets its requests aside: they are marked, and :mod:`set_aside` waits for the
lock instead of everybody. Which rows are locked is asked of the database. That does not show a row that another
transaction has inserted and not committed: so where nothing is locked, the requests whose rows are not there are set
aside. What is left, such as a locked row of the history, is found by halves.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from function import errors, tracing

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

log = logging.getLogger(__name__)

FIRST_LOCK_SECONDS = 0.1
"""How long the first attempt waits for a lock. Our own writers hold one for the time of a commit: milliseconds."""
NEXT_LOCK_SECONDS = 0.01
"""How long an attempt with a part waits, because something is known to be locked: by halves, waits add up."""
TABLE_PAUSE_SECONDS = 0.05
"""Between attempts while a whole table is locked, when nobody else could write either."""
SUSPECT_SECONDS = 60.0
"""How long a row that was locked is asked about before it is written. A question costs less than a wait."""
MOST_NAMED = 10


class Lock(enum.Enum):
    """How it is known that another transaction has locked a row of a request."""

    UNSURE = "unsure"
    """It may be; the request was not tried alone."""
    SHOWN = "shown"
    """The database shows it."""
    HIDDEN = "hidden"
    """The request was tried alone, though the database shows no lock."""


class Request(Generic[Item, Result]):
    """What one request hands in, until when it waits, and what became of it: results, a failure, or a lock.

    With a lock it is set aside. place: where in a trace it stands.
    """

    __slots__ = ("end", "failure", "items", "lock", "place", "results")

    def __init__(self, items: Sequence[Item], end: float) -> None:
        self.items = items
        self.end = end
        self.place = tracing.tracer().here()
        self.results: Sequence[Result] | None = None
        self.failure: Exception | None = None
        self.lock: Lock | None = None

    @property
    def is_done(self) -> bool:
        """Whether it is known what became of it."""
        return self.results is not None or self.failure is not None


class PartlyLocked(errors.Locked, Generic[Result]):
    """Something locked kept some items of a write from being stored, and the others are.

    results: of each item, or None.
    """

    def __init__(self, message: str, results: Sequence[Result | None]) -> None:
        super().__init__(message)
        self.results = results


class _Write(Protocol[Item_contra, Result_co]):
    def __call__(self, items: Sequence[Item_contra], seconds: float, /, *, lock_wait: float) -> Sequence[Result_co]: ...


class _NotFree(Protocol[Item_contra]):
    def __call__(
        self, items: Sequence[Item_contra], seconds: float, /, *, lock_wait: float
    ) -> Mapping[Hashable, bool]: ...


@dataclasses.dataclass(frozen=True)
class Table(Generic[Item, Result]):
    """What items are written to. Both calls wait for a lock for ``lock_wait`` seconds, then raise errors.Locked.

    write: stores all items within the seconds it is given, and returns a result for each; or raises, and then nobody
    knows which are stored, but for PartlyLocked.
    not_free: returns the keys of the items whose rows cannot be locked: True where one is locked, False where none is
    there. It waits only for a whole table.
    wait: returns once the table could be written to at once, or at the end that it is given, on the monotonic clock.
    key: returns what names the row of an item.
    names: returns the names of the tables that items go to, for traces.
    """

    write: _Write[Item, Result]
    not_free: _NotFree[Item]
    wait: Callable[[float], None]
    key: Callable[[Item], Hashable]
    names: Callable[[Sequence[Item]], Sequence[str]]


class SharedWrite(Generic[Item, Result]):
    """Writes to one table for many requests, and remembers for a while which rows were locked."""

    def __init__(self, table: Table[Item, Result]) -> None:
        self._table = table
        self._suspects: dict[Hashable, tuple[float, Lock]] = {}

    def wait(self, end: float) -> None:
        """Return once a write could begin at once, or at ``end``."""
        self._table.wait(end)

    def store(self, requests: Sequence[Request[Item, Result]], end: float) -> None:
        """Write the items of all requests; afterwards each is done, or has a lock."""
        self._store(requests, end, FIRST_LOCK_SECONDS, alone=False)

    def store_alone(self, requests: Sequence[Request[Item, Result]], end: float) -> bool:
        """Do the same for requests that were set aside; afterwards the lock of each is known for certain.

        Return whether none has a lock any more.
        """
        for request in requests:
            request.lock = None
        self._store(requests, end, NEXT_LOCK_SECONDS, alone=True)
        self._acquit(request for request in requests if request.results is not None)
        return not any(request.lock for request in requests)

    def show(self, requests: Sequence[Request[Item, Result]], end: float) -> None:
        """Ask which of some requests have a lock that shows; raise errors.Locked where a whole table is locked."""
        not_free = self._not_free(requests, end)
        for request in requests:
            if any(not_free.get(key) for key in self._keys([request])):
                request.lock = Lock.SHOWN
            elif request.lock is Lock.SHOWN:
                request.lock = Lock.UNSURE

    def suspicion(self, items: Iterable[Item]) -> Lock | None:
        """Return what a short time ago was known of a row of the items, if it was locked."""
        if not self._suspects:
            return None
        now = time.monotonic()
        found = [self._suspects.get(self._table.key(item), (0.0, Lock.UNSURE)) for item in items]
        known = {lock for until, lock in found if until > now}
        if not known:
            return None
        return Lock.HIDDEN if Lock.HIDDEN in known else Lock.UNSURE

    def _store(self, requests: Sequence[Request[Item, Result]], end: float, lock_wait: float, *, alone: bool) -> None:
        parts = [requests]
        try:
            while parts:
                part = parts.pop()
                try:
                    self._write(part, end, lock_wait)
                except errors.BadEvent as exc:
                    parts += _halves(part)
                    if len(part) == 1:
                        part[0].failure = exc
                except errors.Locked:
                    lock_wait = NEXT_LOCK_SECONDS
                    left = [request for request in part if not request.is_done]
                    parts += self._without_locked(left, end, alone=alone)
                except Exception as exc:  # whatever it is, these requests must not wait for ever
                    _fail(part, exc)
                if alone:
                    time.sleep(0)  # gevent gives the connection to who waits for it only when we let it
        finally:
            left = [request for request in requests if not request.is_done and request.lock is None]
            _fail(left, errors.DatabaseUnavailable("the writing was broken off"))

    def _write(self, part: Sequence[Request[Item, Result]], end: float, lock_wait: float) -> None:
        items = [item for request in part for item in request.items]
        with tracing.tracer().write([request.place for request in part], lambda: self._table.names(items), len(items)):
            try:
                results: Sequence[Result | None] = self._table.write(items, end - time.monotonic(), lock_wait=lock_wait)
            except PartlyLocked as exc:
                _hand_out(part, exc.results)
                raise
        _hand_out(part, results)

    def _without_locked(
        self, part: Sequence[Request[Item, Result]], end: float, *, alone: bool
    ) -> list[Sequence[Request[Item, Result]]]:
        """Return the parts to write next, where something that this one needs is locked."""
        try:
            not_free = self._not_free(part, end)
        except errors.Locked as exc:
            if time.monotonic() + TABLE_PAUSE_SECONDS < end:
                time.sleep(TABLE_PAUSE_SECONDS)
                return [part]
            _fail(part, exc)
            return []
        except Exception as exc:  # as in _store
            _fail(part, exc)
            return []
        shown = [request for request in part if any(not_free.get(key) for key in self._keys([request]))]
        unsure = [request for request in part if not not_free.keys().isdisjoint(self._keys([request]))]
        if shown:
            self._set_aside(shown, Lock.SHOWN)
        elif len(part) == 1:
            self._set_aside(part, Lock.HIDDEN)
        elif unsure and not alone:
            self._set_aside(unsure, Lock.UNSURE)
        else:
            return _halves(part)
        free = [request for request in part if request.lock is None]
        return [free] if free else []

    def _not_free(self, requests: Sequence[Request[Item, Result]], end: float) -> Mapping[Hashable, bool]:
        items = [item for request in requests for item in request.items]
        not_free = self._table.not_free(items, end - time.monotonic(), lock_wait=NEXT_LOCK_SECONDS)
        self._suspect({key for key, is_locked in not_free.items() if is_locked}, Lock.SHOWN)
        return not_free

    def _keys(self, requests: Iterable[Request[Item, Result]]) -> set[Hashable]:
        return {self._table.key(item) for request in requests for item in request.items}

    def _set_aside(self, requests: Iterable[Request[Item, Result]], lock: Lock) -> None:
        for request in requests:
            request.lock = lock
            if lock is not Lock.UNSURE:
                self._suspect(self._keys([request]), lock)

    def _suspect(self, keys: set[Hashable], lock: Lock) -> None:
        """Remember locked rows; log those that are new."""
        now = time.monotonic()
        new = [key for key in keys if self._suspects.get(key, (0.0, lock))[0] <= now]
        if new:
            self._suspects = {key: known for key, known in self._suspects.items() if known[0] > now}
            log.warning(
                "another transaction holds a lock on what events change; these wait for it, and no others do",
                extra={"action": "database.locked", "rows": [str(key) for key in new[:MOST_NAMED]], "count": len(new)},
            )
        self._suspects |= dict.fromkeys(keys, (now + SUSPECT_SECONDS, lock))

    def _acquit(self, requests: Iterable[Request[Item, Result]]) -> None:
        """Forget that the rows of some requests were locked: they are stored."""
        for key in self._keys(requests):
            self._suspects.pop(key, None)


def _hand_out(part: Iterable[Request[Item, Result]], results: Sequence[Result | None]) -> None:
    """Give each request its results, if they are all known."""
    first = 0
    for request in part:
        beyond = first + len(request.items)
        known = [result for result in results[first:beyond] if result is not None]
        if len(known) == len(request.items):
            request.results = known
        first = beyond


def _halves(part: Sequence[Request[Item, Result]]) -> list[Sequence[Request[Item, Result]]]:
    """Return the halves of a part, the first one last; none of a single request."""
    middle = len(part) // 2
    return [part[middle:], part[:middle]] if middle else []


def _fail(requests: Iterable[Request[Item, Result]], exc: Exception) -> None:
    for request in requests:
        request.failure = exc
