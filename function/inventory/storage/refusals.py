"""Counts refusals: the requests that this process answered with 400, 401, 403, 413 or 422.

Knative sends such an event to the dead letter sink, so a count that rises means that events are lost.
A count stays in memory and is flushed about a second later by a background thread: one transaction for each refusal
would let anybody who sends broken requests load the database.
For the same reason nothing of a refused request is kept here. The dead letters themselves are in
:mod:`function.dead_letters`.

The counts are in the table ``ledger_heard``, a row for each writer, beside the times of the last events, which the
store writes. The words are those of docs/concepts.md.
"""

from __future__ import annotations

import logging
import pathlib
import threading
import time
import uuid

from function import errors
from function.clients import postgres, statements

log = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
"""How long refusals are gathered before they are flushed; and how long the flush may take."""
WRITER_SECONDS = 24 * 3600.0
"""After this time a process goes on as another writer, whose count begins at zero."""
GONE_DAYS = 30
"""A row that was not written for so many days is merged into the row of the writer 'gone'."""

SQL = statements.load(pathlib.Path(__file__).parent / "sql", "refusals")


def merge_writers(cursor: postgres.Cursor) -> None:
    """Merge the rows of all writers that are gone into one, of the writer 'gone'; the sums stay the same."""
    SQL.run(cursor, "merge_writers", {"days": GONE_DAYS})


class Refusals:
    """The count of this process's refusals, in memory and in Postgres."""

    def __init__(self, db: postgres.Database, *, cluster: str) -> None:
        self._database = db
        self._cluster = cluster
        self._lock = threading.Lock()
        self._flush_is_due = False
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._writer = uuid.uuid4().hex
        self._began = time.monotonic()
        self._counted = self._flushed = 0

    def count(self) -> None:
        """Count one refusal; a background thread flushes the count soon."""
        with self._lock:
            # The row of a writer that is gone is merged and removed, and a total that is flushed later would count the
            # same refusals twice. So a process changes its writer long before its row can be merged.
            if self._counted == self._flushed and time.monotonic() - self._began > WRITER_SECONDS:
                self._begin()
            self._counted += 1
            was_due, self._flush_is_due = self._flush_is_due, True
        if not was_due:
            threading.Thread(target=self._flush_soon, daemon=True).start()

    def _flush_soon(self) -> None:
        time.sleep(WRITE_SECONDS)
        with self._lock:
            self._flush_is_due = False
        if not self._closed:
            self.flush()

    def flush(self) -> None:
        """Write the count if it has changed; where the database fails, it stays in memory for the next time."""
        with self._lock:
            writer, counted = self._writer, self._counted
            if counted == self._flushed:
                return
        try:
            row = {"writer": writer, "cluster": self._cluster, "count": counted}
            self._database.run(lambda cursor: SQL.run(cursor, "count_dead_letters", row), timeout=WRITE_SECONDS)
        except errors.VmledgerError as exc:
            log.info("refusals are counted later: %s", exc, extra={"action": "refusals.deferred"})
            return
        with self._lock:
            if writer == self._writer:
                self._flushed = max(self._flushed, counted)

    def close(self) -> None:
        """Flush what is left."""
        self._closed = True
        self.flush()
