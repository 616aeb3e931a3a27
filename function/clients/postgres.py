"""The door to Postgres; the only room that imports its driver at run time.

One connection for each process, opened at the first use, used by one caller at a time and replaced when it breaks.
Every wait has an end: for the connection's turn, for connecting, for an answer of a server that stopped answering.
What the driver raises becomes one of :mod:`errors` here, without the driver's words: those may quote data.

A piece of work is run in one transaction and may be run again, after a deadlock or on a new connection, so it must be
safe to repeat; the ledger's statements are, because the same event twice is the same event.
"""

from __future__ import annotations

import contextlib
import logging
import math
import pathlib
import random
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from function import errors
from function.clients import deadline, resolver

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor
T = TypeVar("T")

log = logging.getLogger(__name__)

MIGRATIONS = pathlib.Path(__file__).parents[1] / "migrations"
CONNECT_SECONDS = 3.0
STATEMENT_SECONDS = 5.0
"""After this the server gives up a statement; we wait a second longer for it to say so."""
CONFLICT_ATTEMPTS = 8

_GENERIC_PLANS = """
SELECT set_config('plan_cache_mode', 'force_generic_plan', false)
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus');
"""
"""Citus' coordinator ends where an INSERT ... SELECT on its tables is planned without values."""

SESSION = f"""
SET statement_timeout = '{int(STATEMENT_SECONDS * 1000)}ms';
SET idle_in_transaction_session_timeout = '30s';
SET default_transaction_isolation = 'read committed';
SET TimeZone = 'UTC';
{_GENERIC_PLANS}
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
"""What the function needs of a session, whatever the server's defaults.

With synchronous_commit off, acknowledged events could be lost.
Statements are planned once, maybe when the tables are empty, and kept: so the plan must be by index from the start.
"""

TCP = {"keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 10_000}


class Unstorable(errors.BadEvent):
    """Postgres refuses a value for good."""


class Conflict(Exception):
    """Postgres chose this transaction to give way; it is tried again."""


def _wait(connection: Connection) -> None:
    """Wait for the server as libpq asks, until the call's deadline; psycopg2 calls this wherever it would block."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        events = select.POLLIN if state == psycopg2.extensions.POLL_READ else select.POLLOUT
        poller = select.poll()
        poller.register(connection.fileno(), events)
        left = deadline.left()
        if not poller.poll(None if left == math.inf else left * 1000):
            raise psycopg2.OperationalError("no answer in time")


psycopg2.extensions.set_wait_callback(_wait)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except psycopg2.Error as exc:
        raise translate(exc) from exc


def translate(exc: psycopg2.Error) -> Exception:
    """Return our error for the driver's, by what the sender of the event should do next."""
    match exc:
        case psycopg2.errors.SerializationFailure() | psycopg2.errors.DeadlockDetected():
            return Conflict()
        case (
            psycopg2.DataError()
            | psycopg2.IntegrityError()
            | psycopg2.errors.ProgramLimitExceeded()
            | psycopg2.errors.StatementTooComplex()
        ):
            return Unstorable(f"the database can never store a value of this event ({_name(exc)})")
        case psycopg2.errors.UndefinedTable() | psycopg2.errors.UndefinedColumn() | psycopg2.errors.UndefinedFunction():
            return errors.SchemaOutdated(OUTDATED)
        case psycopg2.errors.InsufficientPrivilege():
            return errors.DatabaseUnavailable(
                "the database role may not do this: run `python -m function migrate` with DB_APP_ROLE set to that role"
            )
        case psycopg2.errors.QueryCanceled():
            return errors.DatabaseUnavailable(f"the database did not finish within {STATEMENT_SECONDS:g} seconds")
        case _:
            return errors.DatabaseUnavailable(f"the database cannot be used now ({_name(exc)})")


NOT_CONFIGURED = "no database is configured: set DB_HOST or DATABASE_URL"
OUTDATED = "the database schema is older than this function needs: run `python -m function migrate`"


def _name(exc: psycopg2.Error) -> str:
    """Return the error's class in words, with its SQLSTATE; never its text, which may quote data or a password."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(exc).__name__).strip()
    return f"{words}, SQLSTATE {exc.pgcode}" if exc.pgcode else words


def migrations() -> list[str]:
    """Return the ids of the migrations that this code needs, oldest first."""
    return sorted(path.stem for path in MIGRATIONS.glob("*.sql") if not path.stem.endswith(".rollback"))


def connect(keywords: Mapping[str, Any]) -> Connection:
    """Open a connection in autocommit mode; what ``keywords`` leave out, libpq reads from its own variables."""
    connection: Connection = psycopg2.connect(
        **{**TCP, **keywords}, client_encoding="UTF8", application_name="vmledger"
    )
    connection.autocommit = True
    return connection


def resolved(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return libpq's keywords with the addresses of their hosts; one that cannot be resolved in time is left out.

    libpq would look a name up in C code that blocks, for as long as the resolver takes: under gevent the whole worker.
    The name stays, for the certificate. A host of several addresses becomes several hosts, which libpq tries in turn.
    """
    given = {**psycopg2.extensions.parse_dsn(keywords["dsn"])} if "dsn" in keywords else dict(keywords)
    if not given.get("host") or given.get("hostaddr"):
        return given
    hosts = str(given["host"]).split(",")
    ports = str(given.get("port") or "").split(",")
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    found = [(host, address, port) for host, port in zip(hosts, ports, strict=True) for address in _addresses(host)]
    if not found:
        raise psycopg2.OperationalError("no host has an address")
    given["host"], given["hostaddr"], given["port"] = (",".join(each) for each in zip(*found, strict=True))
    return {key: value for key, value in given.items() if value}


def _addresses(host: str) -> list[str]:
    """Return the addresses of a host; a socket's folder has none, which is ``""``."""
    if not host or host[0] in "/@":
        return [""]
    try:
        return resolver.addresses(host)
    except resolver.Unresolved:
        return []


class Database:
    """The process's one connection to Postgres.

    keywords: libpq's, or ``dsn``. timeout: seconds that :meth:`run` may take in all.
    """

    def __init__(self, keywords: Mapping[str, Any], *, timeout: float) -> None:
        self._keywords = dict(keywords)
        self.timeout = timeout
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._preparations: dict[str, str] = {}

    def prepare(self, sql: str, *, probe: str) -> None:
        """Run ``sql`` once on each connection that is opened from now on, such as PREPARE.

        probe: what :meth:`state` runs to learn whether the prepared would work now; it must change nothing.
        """
        if sql not in self._preparations:
            self._preparations[sql] = probe
            self.close()

    def deadline(self, timeout: float | None = None) -> float:
        """Return the end of ``timeout`` seconds from now, by default of the database's, on the monotonic clock."""
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def run(self, work: Callable[[Cursor], T], *, timeout: float | None = None, until: float | None = None) -> T:
        """Return what ``work`` returns, given a cursor in autocommit mode; it may be called more than once.

        timeout: seconds that it may take, by default the database's; until: or the end, from :meth:`deadline`.

        All statements that ``work`` sends in one ``execute`` are one transaction, committed when it returns.
        Raises :class:`errors.DatabaseUnavailable`, :class:`errors.SchemaOutdated` or :class:`Unstorable`.
        """
        end = self.deadline(timeout) if until is None else until
        if not self._turn.acquire(timeout=max(0.0, end - time.monotonic())):
            raise errors.DatabaseUnavailable("the database connection is busy: no turn in time")
        try:
            return self._run(work, end)
        finally:
            self._turn.release()

    def _run(self, work: Callable[[Cursor], T], end: float) -> T:
        reused = self._connection is not None
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                return self._attempt(work, end)
            except Conflict:
                time.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311  # spreads retries; guards no secret
            except errors.Unavailable:
                # A connection that was idle may have died unnoticed: the database is asked once more on a new one.
                died = reused and self._connection is not None and self._connection.closed
                self.close()
                if not died or time.monotonic() >= end:
                    raise
                reused = False
        raise errors.DatabaseUnavailable(f"the database reported a conflict {CONFLICT_ATTEMPTS} times in a row")

    def _attempt(self, work: Callable[[Cursor], T], end: float) -> T:
        with translated(), deadline.until(end):
            connection = self._connect()
            with deadline.within(STATEMENT_SECONDS + 1), connection.cursor() as cursor:
                return work(cursor)

    def _connect(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        with deadline.within(CONNECT_SECONDS):
            self._connection = self._opened()
        log.info("connected to the database", extra={"action": "database.connected"})
        return self._connection

    def _opened(self) -> Connection:
        connection = connect(resolved(self._keywords))
        try:
            with connection.cursor() as cursor:
                cursor.execute(SESSION)
                self._check_schema(cursor)
                for sql in self._preparations:
                    cursor.execute(sql)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_schema(self, cursor: Cursor) -> None:
        needed = migrations()
        cursor.execute("SELECT count(*) FROM _yoyo_migration WHERE migration_id = ANY(%s)", [needed])
        row = cursor.fetchone()
        if row is None or row[0] < len(needed):
            raise errors.SchemaOutdated(OUTDATED)

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
        cursor.execute("SELECT current_setting('transaction_read_only') = 'on'")
        if cursor.fetchone() == (True,):
            raise errors.DatabaseUnavailable("the database is read-only, such as a standby")
        for probe in self._preparations.values():
            cursor.execute(probe)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()
