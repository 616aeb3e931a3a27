"""The door to Postgres for what handles events: the connection that a process has.

It is opened at the first use, used by one caller at a time and replaced when it breaks.
Every wait has an end: for the connection's turn, for connecting, for a lock, for an answer of a server that stopped
answering.

A piece of work is run in one transaction and may be run again, after a deadlock or on a new connection, so it must be
safe to repeat; the ledger's statements are, because the same event twice is the same event.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg2
import psycopg2.errors

from function import errors
from function.clients import deadline, postgres_errors, postgres_session

Cursor = postgres_session.Cursor
T = TypeVar("T")

log = logging.getLogger(__name__)

MIGRATIONS = pathlib.Path(__file__).parents[1] / "migrations"
STATEMENT_SECONDS = 5.0
"""After this the server gives up a statement; we wait a second longer for it to say so."""
LOCK_SECONDS = 0.1
"""How long a transaction waits for a lock of another one; then it ends, so that others get the connection.

A lock of our own transactions is held for the time of a commit: some milliseconds. A person's may be held for hours,
and whoever waits for it keeps the connection, and all rows that it has locked itself, from everybody else.
"""
LOCK_PAUSE = 0.05
"""Between two attempts of work that found something locked."""
CONFLICT_ATTEMPTS = 8
ROOM_SECONDS = 5.0
"""How long the disk counts as having room."""

_SQL = postgres_session.SQL
NEEDS = postgres_session.Needs(
    statement=STATEMENT_SECONDS,
    lock=LOCK_SECONDS,
    planner={
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
    },
)
"""Statements are planned once, maybe when the tables are empty, and kept: the plan must be by index from the start."""

BUSY = "the database connection is busy: no turn in time"
NOT_CONFIGURED = "no database is configured: set DB_HOST or DATABASE_URL"


def migrations() -> list[str]:
    """Return the ids of the migrations that this code needs, oldest first."""
    return sorted(path.stem for path in MIGRATIONS.glob("*.sql") if not path.stem.endswith(".rollback"))


class Database:
    """The process's one connection to Postgres.

    keywords: libpq's, or ``dsn``. timeout: seconds that :meth:`run` may take in all.
    """

    def __init__(self, keywords: Mapping[str, Any], *, timeout: float) -> None:
        self._keywords = dict(keywords)
        self.timeout = timeout
        self._turn = threading.Lock()
        self._session: postgres_session.Session | None = None
        self._had_room_at = float("-inf")
        self._probes: list[Callable[[Cursor], object]] = []

    def probe(self, work: Callable[[Cursor], object]) -> None:
        """Let :meth:`state` run ``work`` too, to learn whether the like would work now; it must change nothing."""
        self._probes.append(work)

    def deadline(self, timeout: float | None = None) -> float:
        """Return the end of ``timeout`` seconds from now, by default of the database's, on the monotonic clock."""
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def run(
        self,
        work: Callable[[Cursor], T],
        *,
        timeout: float | None = None,
        until: float | None = None,
        lock_wait: float | None = None,
    ) -> T:
        """Return what ``work`` returns, given a cursor in autocommit mode; it may be called more than once.

        timeout: seconds that it may take, by default the database's; until: or the end, from :meth:`deadline`.
        lock_wait: seconds to wait, once, for a lock of another transaction. By default work that finds something locked
        is tried until the end, and leaves the connection to others in between.

        All statements that ``work`` sends in one ``execute`` are one transaction, committed when it returns, unless
        they end it themselves.
        Raises :class:`errors.DatabaseUnavailable`, :class:`errors.Locked` among these, :class:`errors.SchemaOutdated`
        or :class:`postgres_errors.Unstorable`.
        """
        end = self.deadline(timeout) if until is None else until
        while True:
            try:
                return self._in_turn(work, end, LOCK_SECONDS if lock_wait is None else lock_wait)
            except errors.Locked:
                if lock_wait is not None or time.monotonic() + LOCK_PAUSE + LOCK_SECONDS >= end:
                    raise
            time.sleep(LOCK_PAUSE)

    def wait_until_free(self, end: float) -> None:
        """Return once nobody uses the connection, or at ``end`` on the monotonic clock."""
        if self._turn.acquire(timeout=max(0.0, end - time.monotonic())):
            self._turn.release()

    def _in_turn(self, work: Callable[[Cursor], T], end: float, lock_wait: float) -> T:
        if not self._turn.acquire(timeout=max(0.0, end - time.monotonic())):
            raise errors.DatabaseUnavailable(BUSY)
        try:
            if time.monotonic() >= end:  # an attempt with no time left would cost the connection
                raise errors.DatabaseUnavailable(BUSY)
            return self._run(work, end, lock_wait)
        finally:
            self._turn.release()

    def _run(self, work: Callable[[Cursor], T], end: float, lock_wait: float) -> T:
        reused = self._session is not None
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                return self._attempt(work, end, lock_wait)
            except postgres_errors.Conflict:
                time.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311  # spreads retries; guards no secret
            except errors.Locked:
                raise
            except errors.Unavailable as exc:
                if isinstance(exc.__cause__, psycopg2.errors.DiskFull):
                    self._had_room_at = float("-inf")
                # A connection that was idle may have died unnoticed: the database is asked once more on a new one.
                died = reused and self._session is not None and self._session.closed
                self.close()
                if not died or time.monotonic() >= end:
                    raise
                reused = False
        raise errors.DatabaseUnavailable(f"the database reported a conflict {CONFLICT_ATTEMPTS} times in a row")

    def _attempt(self, work: Callable[[Cursor], T], end: float, lock_wait: float) -> T:
        with deadline.until(end):
            session = self._opened()
            with deadline.within(STATEMENT_SECONDS + 1), session.cursor(lock_wait=lock_wait) as cursor:
                return work(cursor)

    def _opened(self) -> postgres_session.Session:
        if self._session is not None and not self._session.closed:
            return self._session
        with deadline.within(postgres_session.CONNECT_SECONDS):
            session = postgres_session.Session(self._keywords, NEEDS)
            try:
                with session.cursor() as cursor:
                    self._check_schema(cursor)
            except BaseException:
                session.close()
                raise
        log.info("connected to the database", extra={"action": "database.connected"})
        self._session = session
        return session

    def _check_schema(self, cursor: Cursor) -> None:
        needed = migrations()
        [(applied,)] = _SQL.run(cursor, "count_migrations", {"needed": needed})
        if applied < len(needed):
            raise errors.SchemaOutdated(postgres_errors.OUTDATED)

    def state(self) -> str:
        """Return "ok", or the sentence that says why the database cannot be used now; takes about a second at most."""
        try:
            self.run(self._check, timeout=1.0)
        except errors.VmledgerError as exc:
            return str(exc)
        return "ok"

    def _check(self, cursor: Cursor) -> None:
        """Raise where the database could not take an event now."""
        self._check_schema(cursor)
        [(standby, read_only)] = _SQL.run(cursor, "takes_writes")
        if standby or read_only:
            raise errors.DatabaseUnavailable(postgres_errors.STANDBY if standby else postgres_errors.READ_ONLY)
        for probe in self._probes:
            probe(cursor)
        if time.monotonic() - self._had_room_at > ROOM_SECONDS:
            with contextlib.suppress(psycopg2.errors.ConfigurationLimitExceeded):  # temp_file_limit
                cursor.execute(_SQL.call("little_memory") + _SQL.ready(cursor, "take_room"))
            self._had_room_at = time.monotonic()

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()
