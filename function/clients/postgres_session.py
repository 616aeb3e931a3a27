"""A session with Postgres: how it is opened, what it is set to, and how its waits end; the same for all who need one.

psycopg2 waits for the server through :func:`_wait`, which gevent can interrupt and which has an end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import select
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from function import errors
from function.clients import deadline, postgres_errors, resolver, statements

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor

CONNECT_SECONDS = 3.0
COMMAND_CONNECT_SECONDS = 10.0
"""For commands, which nothing else waits for."""
ADVISORY_PAUSE = 0.1
"""Between two attempts to take an advisory lock."""
UNLOCK_SECONDS = 1.0
"""For giving it back, where the server still answers."""
TCP = {"keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 10_000}

SQL = statements.load(pathlib.Path(__file__).parent / "sql")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What a session needs, whatever the server's defaults; in seconds, 0 for no end.

    statement: how long a statement may take. lock: how long it may wait for a lock. idle: how long a transaction may
    stay open with nothing to do. planner: settings of the planner, by name.
    """

    statement: float
    lock: float
    idle: float = 30
    planner: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """Return the settings, by name."""
        return {
            "statement_timeout": f"{int(self.statement * 1000)}ms",
            "lock_timeout": f"{int(self.lock * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{int(self.idle * 1000)}ms",
            "default_transaction_isolation": "read committed",
            "synchronous_commit": "on",
            "TimeZone": "UTC",
            "jit": "off",
            **self.planner,
        }


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


class Session:
    """An open session in autocommit mode, set to what it needs.

    keywords: libpq's, or ``dsn``; what they leave out, libpq reads from its own variables. seconds: for all of opening.
    Raises :class:`errors.DatabaseUnavailable` with a sentence of ours.
    """

    def __init__(self, keywords: Mapping[str, Any], needs: Needs, *, seconds: float = CONNECT_SECONDS) -> None:
        self._lock_wait = needs.lock
        self._has_lock = False
        with postgres_errors.translated(), deadline.within(seconds):
            given = {**TCP, **resolved(keywords)}
            self.connection: Connection = psycopg2.connect(**given, client_encoding="UTF8", application_name="vmledger")
            try:
                self.connection.autocommit = True
                with self.connection.cursor() as cursor:
                    SQL.run(cursor, "apply_settings", {"settings": json.dumps(needs.settings())})
            except BaseException:
                self.close()
                raise

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return bool(self.connection.closed)

    @contextlib.contextmanager
    def cursor(self, *, lock_wait: float | None = None) -> Iterator[Cursor]:
        """Yield a cursor; the driver's errors become ours.

        lock_wait: seconds to wait for a lock, from now on; by default as before.
        """
        with postgres_errors.translated(), self.connection.cursor() as cursor:
            if lock_wait is not None and lock_wait != self._lock_wait:
                SQL.run(cursor, "wait_for_locks", {"limit": f"{int(lock_wait * 1000)}ms"})
                self._lock_wait = lock_wait
            yield cursor

    def alone(self, key: int | str, *, seconds: float = 0.0) -> bool:
        """Take the advisory lock of that key until the session ends; return whether it was free within ``seconds``."""
        end = time.monotonic() + seconds
        lock = "lock_name" if isinstance(key, str) else "lock_number"
        while True:
            with self.cursor() as cursor:
                if SQL.run(cursor, lock, {"key": key}) == [(True,)]:
                    self._has_lock = True
                    return True
            if time.monotonic() >= end:
                return False
            time.sleep(ADVISORY_PAUSE)

    def close(self) -> None:
        """End the session; what it has locked is free afterwards.

        Postgres ends a session some time after its client is gone, so an advisory lock is given back before.
        """
        with contextlib.suppress(psycopg2.Error), contextlib.closing(self.connection):
            if self._has_lock and not self.closed:
                with deadline.within(UNLOCK_SECONDS), self.connection.cursor() as cursor:
                    SQL.run(cursor, "unlock")


@contextlib.contextmanager
def for_command(keywords: Mapping[str, Any], needs: Needs, *, denied: str) -> Iterator[Session]:
    """Open a session for a command; whatever fails in the block becomes one sentence for the person who runs it.

    denied: the sentence where the role may not do what the command does.
    """
    with contextlib.closing(Session(keywords, needs, seconds=COMMAND_CONNECT_SECONDS)) as session:
        try:
            with postgres_errors.translated():
                yield session
        except postgres_errors.Conflict as exc:
            raise errors.DatabaseUnavailable("another transaction was in the way: run it again") from exc
        except errors.DatabaseUnavailable as exc:
            if isinstance(exc.__cause__, psycopg2.errors.InsufficientPrivilege):
                raise errors.Refused(denied) from exc
            raise


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
    if len(ports) == 1:
        ports = ports * len(hosts)
    if len(ports) != len(hosts):
        raise psycopg2.OperationalError("could not match ports to hosts")
    found = [(host, address, port) for host, port in zip(hosts, ports, strict=True) for address in _addresses(host)]
    if not found:
        raise psycopg2.OperationalError("could not translate host name" if deadline.left() else "no answer in time")
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
