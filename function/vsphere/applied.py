"""The newest event that was applied to each host, and the host's turn: in Postgres, or without one in this process.

Two events about one host must not act at once, in one process or in two Pods: the one that reads the state first may
write it last. So each waits for the host's turn. A turn in Postgres has an end, so a process that dies loses it.
A turn is a row and not a row lock, because Operations may take 45 seconds to answer, and a transaction that is open for
so long would hold the one connection that all events of this process share.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import pathlib
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Protocol

from function import errors
from function.clients import postgres, statements
from function.vsphere import maintenance

log = logging.getLogger(__name__)

MOST_HOSTS = 10_000
"""Hosts that a process without a database remembers."""
POLL_SECONDS = 0.1
"""Between two attempts to take a turn in Postgres."""

SQL = statements.load(pathlib.Path(__file__).parent / "sql")


class Memory(Protocol):
    """What the capability needs of either."""

    def turn(self, host: str, *, patience: float, longest: float) -> contextlib.AbstractContextManager[None]:
        """Hold the turn of the host of that name for at most ``longest`` seconds; wait for it with ``patience``."""

    def newest(self, resource: str) -> maintenance.Applied | None:
        """Return the newest event that was applied to the resource of that identifier."""

    def record(self, resource: str, wanted: maintenance.Intent) -> None:
        """Keep ``wanted`` as the newest event that was applied to it."""


class InProcess:
    """In this process alone, for the hosts that were used last; lost when it ends."""

    def __init__(self) -> None:
        self._turns = _Turns()
        self._applied: collections.OrderedDict[str, maintenance.Applied] = collections.OrderedDict()
        self._guard = threading.Lock()

    def turn(self, host: str, *, patience: float, longest: float) -> contextlib.AbstractContextManager[None]:
        """Hold the turn of a host; it ends with the block, so ``longest`` is not used."""
        del longest
        return self._turns.turn(host, patience)

    def newest(self, resource: str) -> maintenance.Applied | None:
        """Return the newest event that was applied."""
        with self._guard:
            return self._applied.get(resource)

    def record(self, resource: str, wanted: maintenance.Intent) -> None:
        """Keep the newest event; where there are too many hosts, drop the one that was used longest ago."""
        with self._guard:
            self._applied[resource] = _applied(wanted)
            self._applied.move_to_end(resource)
            while len(self._applied) > MOST_HOSTS:
                self._applied.popitem(last=False)


class InDatabase:
    """In Postgres, shared by all Pods."""

    def __init__(self, db: postgres.Database) -> None:
        self._db = db
        self._turns = _Turns()

    @contextlib.contextmanager
    def turn(self, host: str, *, patience: float, longest: float) -> Iterator[None]:
        """Hold the turn of a host among the Pods, once this process has it among its threads.

        So only one thread of a process polls the database for a host.
        """
        end = time.monotonic() + patience
        parameters = {"host": host, "owner": uuid.uuid4().hex, "seconds": longest}
        with self._turns.turn(host, patience):
            try:
                while not self._claimed(parameters):
                    if time.monotonic() >= end:
                        raise _busy(host)
                    time.sleep(POLL_SECONDS)
                yield
            finally:
                self._release(parameters)

    def newest(self, resource: str) -> maintenance.Applied | None:
        """Return the newest event that was applied."""

        def work(cursor: postgres.Cursor) -> maintenance.Applied | None:
            found = SQL.run(cursor, "newest_applied", {"resource": resource})
            if not found:
                return None
            [(vcenter, key, at, number)] = found
            return maintenance.Applied(vcenter=vcenter, key=key, moment=maintenance.Moment(at, number))

        return self._db.run(work)

    def record(self, resource: str, wanted: maintenance.Intent) -> None:
        """Keep the newest event; an older one that is recorded later changes nothing."""
        parameters = {
            "resource": resource,
            "host": wanted.host,
            "action": wanted.action.value,
            "vcenter": wanted.vcenter,
            "key": wanted.key,
            "time": wanted.moment.time,
            "number": wanted.moment.number,
        }
        self._db.run(lambda cursor: SQL.run(cursor, "record_applied", parameters))

    def _claimed(self, parameters: dict[str, object]) -> bool:
        return bool(self._db.run(lambda cursor: SQL.run(cursor, "claim_host", parameters)))

    def _release(self, parameters: dict[str, object]) -> None:
        try:
            self._db.run(lambda cursor: SQL.run(cursor, "release_host", parameters))
        except errors.VmledgerError as exc:
            log.info("the turn of a host ends later: %s", exc, extra={"action": "vsphere.turn"})


class _Turns:
    """A lock for each host that is in use; one for all would let a slow host hold up the others for 45 seconds."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def turn(self, host: str, patience: float) -> Iterator[None]:
        """Hold the lock of a host."""
        with self._guard:
            lock, users = self._locks.get(host, (threading.Lock(), 0))
            self._locks[host] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=patience):
                raise _busy(host)
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, users = self._locks[host]
                if users == 1:
                    del self._locks[host]
                else:
                    self._locks[host] = (lock, users - 1)


def _applied(wanted: maintenance.Intent) -> maintenance.Applied:
    return maintenance.Applied(vcenter=wanted.vcenter, key=wanted.key, moment=wanted.moment)


def _busy(host: str) -> errors.Unavailable:
    return errors.Unavailable(f"another event about the host {errors.shown(host)} is being handled")
