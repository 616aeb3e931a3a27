"""Table ``ledger_heard``: what each process heard, beside the time of the last event that the store writes there.

Here are the dead letters: the requests that were refused for good, for Knative sends those to the dead letter sink.
They are counted in memory and written down a moment later, by somebody else than who answers the request.
Nothing of a refused request is kept, as anybody may send one; only that there was one.
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
"""How long refusals are gathered before they are written; and how long the writing may take."""
STINT_SECONDS = 24 * 3600.0
GONE_DAYS = 30
"""After so many days of silence a process is gone, and the row of what it heard is one with those of others."""

SQL = statements.load(pathlib.Path(__file__).parent / "sql", "dead_letters")


def merge_writers(cursor: postgres.Cursor) -> None:
    """Make one row, of the writer 'gone', of the rows of all writers that are gone; what they say stays the same."""
    SQL.run(cursor, "merge_writers", {"days": GONE_DAYS})


class DeadLetters:
    """Counts what this process refused for good."""

    def __init__(self, db: postgres.Database, *, cluster: str) -> None:
        self._database = db
        self._cluster = cluster
        self._lock = threading.Lock()
        self._awaited = False
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._writer = uuid.uuid4().hex
        self._began = time.monotonic()
        self._counted = self._written = 0

    def count(self) -> None:
        """Count one; it is written soon."""
        with self._lock:
            # A row that is merged starts again from nothing, so this process leaves its own long before that.
            if self._counted == self._written and time.monotonic() - self._began > STINT_SECONDS:
                self._begin()
            self._counted += 1
            awaited, self._awaited = self._awaited, True
        if not awaited:
            threading.Thread(target=self._write_soon, daemon=True).start()

    def _write_soon(self) -> None:
        time.sleep(WRITE_SECONDS)
        with self._lock:
            self._awaited = False
        if not self._closed:
            self.write()

    def write(self) -> None:
        """Write down what is not yet; without the database it stays in memory, for the next time."""
        with self._lock:
            writer, counted = self._writer, self._counted
            if counted == self._written:
                return
        try:
            row = {"writer": writer, "cluster": self._cluster, "count": counted}
            self._database.run(lambda cursor: SQL.run(cursor, "count_dead_letters", row), timeout=WRITE_SECONDS)
        except errors.VmledgerError as exc:
            log.info("dead letters are counted later: %s", exc, extra={"action": "heard.deferred"})
            return
        with self._lock:
            if writer == self._writer:
                self._written = max(self._written, counted)

    def close(self) -> None:
        """Write what is left."""
        self._closed = True
        self.write()
