"""A short session with Postgres for a process that others are forked from: gunicorn's master.

It is apart from :mod:`postgres_session`, whose deadlines belong to a thread. gevent replaces the threads in a worker
only, so a worker that inherited that module from the master would have one deadline for all its requests.
Here libpq waits by itself. Its waits have an end too, but a long one where a server stops answering: who calls must
not wait for the caller.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2
import psycopg2.extensions

from function.clients import postgres_errors, statements

Cursor = psycopg2.extensions.cursor

CONNECT_SECONDS = 3
TCP = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 5_000}
NEEDS = {
    "statement_timeout": "2s",
    "lock_timeout": "200ms",
    "idle_in_transaction_session_timeout": "5s",
    "default_transaction_read_only": "on",
    "TimeZone": "UTC",
    "jit": "off",
}
"""What the session is set to, whatever the server's defaults."""

SQL = statements.load(pathlib.Path(__file__).parent / "sql", "session")


@contextlib.contextmanager
def reading(keywords: Mapping[str, Any]) -> Iterator[Cursor]:
    """Open a session that only reads, and yield its cursor; it is closed at the end.

    keywords: libpq's, or ``dsn``. Raises :class:`errors.DatabaseUnavailable` with a sentence of ours.
    """
    with postgres_errors.translated():
        given = {**TCP, **keywords, "connect_timeout": CONNECT_SECONDS}
        connection = psycopg2.connect(**given, client_encoding="UTF8", application_name="vmledger metrics")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                SQL.run(cursor, "apply_settings", {"settings": json.dumps(NEEDS)})
                yield cursor
        finally:
            with contextlib.suppress(psycopg2.Error):
                connection.close()
