"""The page's door to Postgres: one connection for each worker, and transactions that only read.

A person can try again, so nothing is repeated here except on a connection that had died while it was idle.
"""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg2.errors

from function import errors
from function.clients import deadline, postgres_errors, postgres_session, statements

Cursor = postgres_session.Cursor
T = TypeVar("T")

STATEMENT_SECONDS = 5.0
TURN_SECONDS = 5.0
"""How long a request waits for the worker's connection."""
NEEDS = postgres_session.Needs(
    statement=STATEMENT_SECONDS,
    lock=1.0,
    planner={
        "default_transaction_read_only": "on",
        # A filter that is not asked for is a NULL among the parameters: planned with it, the condition is gone.
        "plan_cache_mode": "force_custom_plan",
        # The facets of 100,000 VMs are counted in memory, which takes half the time.
        "work_mem": "32MB",
        # A second process that computes takes the receiver's core.
        "max_parallel_workers_per_gather": "0",
    },
)

SQL = statements.load(pathlib.Path(__file__).parent / "sql")
MOST_SECONDS = 15.0
"""How long all statements of a request may take together."""
BUSY = "other people's questions take all the time of the database connection now"
TOO_LONG = "the database did not finish in time: ask for less, such as one cluster or one namespace"
CONFLICT = "the database had to end this question in favour of other work: ask again"
DENIED = "the page's database role may not read this: run `python -m function migrate` with DB_READ_ROLE set to it"


class Reader:
    """The worker's one connection to Postgres.

    keywords: libpq's, or ``dsn``.
    """

    def __init__(self, keywords: Mapping[str, Any]) -> None:
        self._keywords = dict(keywords)
        self._turn = threading.Lock()
        self._session: postgres_session.Session | None = None

    def read(self, work: Callable[[Cursor], T]) -> T:
        """Return what ``work`` returns, given a cursor in a transaction that sees one moment of the ledger.

        Raises :class:`errors.DatabaseUnavailable` or :class:`errors.SchemaOutdated`, with a sentence.
        """
        if not self._turn.acquire(timeout=TURN_SECONDS):
            raise errors.DatabaseUnavailable(BUSY)
        try:
            return self._read(work)
        finally:
            self._turn.release()

    def _read(self, work: Callable[[Cursor], T]) -> T:
        reused = self._session is not None
        while True:
            try:
                return self._attempt(work)
            except BaseException as exc:
                died = reused and self._session is not None and self._session.closed
                self.close()  # with the transaction that is open in it
                if not died or not isinstance(exc, errors.DatabaseUnavailable):
                    _say(exc)
                    raise
                reused = False

    def _attempt(self, work: Callable[[Cursor], T]) -> T:
        if self._session is None:
            self._session = postgres_session.Session(self._keywords, NEEDS)
        with deadline.within(MOST_SECONDS), self._session.cursor() as cursor:
            cursor.execute("BEGIN")
            SQL.run(cursor, "read_one_moment")
            found = work(cursor)
            cursor.execute("COMMIT")
            return found

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _say(exc: BaseException) -> None:
    """Raise the error again with the sentence that helps who looks at the page, where there is a better one."""
    if isinstance(exc, postgres_errors.Conflict):
        raise errors.DatabaseUnavailable(CONFLICT) from exc
    if isinstance(exc.__cause__, psycopg2.errors.QueryCanceled):
        raise errors.DatabaseUnavailable(TOO_LONG) from exc
    if isinstance(exc.__cause__, psycopg2.errors.InsufficientPrivilege):
        raise errors.DatabaseUnavailable(DENIED) from exc


def dicts(cursor: Cursor, name: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Run a statement of the page, and return its rows by the names of their columns."""
    rows = SQL.run(cursor, name, parameters)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows]
