"""The line at the top of every view: how fresh the ledger is, in words, with a mark where it is not."""

from __future__ import annotations

import dataclasses
import threading
import time

from function import errors, settings
from function.inventory import health
from function.page import database

KEPT_SECONDS = 5.0
"""How long a line is repeated: every view asks for it."""


@dataclasses.dataclass(frozen=True)
class Line:
    """What the line says. state: fresh, stale or unknown. details: the problems, a sentence each."""

    state: str
    words: str
    details: tuple[str, ...] = ()


class Freshness:
    """The freshness of the ledger, by the rules of ``python -m function health``."""

    def __init__(self, reader: database.Reader, part: settings.Ledger) -> None:
        self._reader = reader
        self._part = part
        self._turn = threading.Lock()
        self._read_at = float("-inf")
        self._line = Line("unknown", "How fresh the ledger is was not asked yet.")

    def now(self) -> Line:
        """Return the line; it never raises."""
        with self._turn:
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                self._line = self._read()
                self._read_at = time.monotonic()
            return self._line

    def _read(self) -> Line:
        try:
            rows = self._reader.read(health.rows)
        except errors.VmledgerError as exc:
            return Line("unknown", f"How fresh the ledger is cannot be read: {exc}.")
        return line(rows, health.judge(rows, self._part.max_silence, own=self._part.cluster_name))


def line(rows: list[health.Row], verdict: health.Verdict) -> Line:
    """Return the line for the rows of ``ledger_health`` and what they were judged to be."""
    if verdict.problems:
        count = len(verdict.problems)
        words = "1 problem makes it" if count == 1 else f"{count} problems make it"
        return Line("stale", f"The ledger may be out of date: {words} so.", verdict.problems)
    heard = min((row.silence for row in rows if row.last_event_at and row.silence is not None), default=None)
    listed = max((row.unreconciled for row in rows if row.unreconciled is not None), default=None)
    events = "no event yet" if heard is None else f"last event {health.short(heard)} ago"
    return Line("fresh", f"Up to date: {events}, complete list {health.short(listed)} old.")
