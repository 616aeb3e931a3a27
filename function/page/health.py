"""The health of the ledger: whether events and reconciles arrive, what the reconciles found, and the dead letters."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from function.inventory import health
from function.page import database, views

MOST_RUNS = 50
MOST_LETTERS = 50


def answer(request: views.Request) -> Mapping[str, Any]:
    """Return the health in words, the reconciles of the last days and the newest dead letters."""
    found = request.reader.read(_read)
    own = request.configuration.ledger
    verdict = health.judge(found["rows"], own.max_silence, own=own.cluster_name)
    return {**found, "verdict": verdict, "summary": summary(found["days"])}


def listing(request: views.Request) -> views.Listing:
    """Return a row for each cluster and kind, as ``ledger_health`` has them; spans are in seconds."""
    found = [dataclasses.asdict(row) for row in request.reader.read(health.rows)]
    rows = [{name: _seconds(value) for name, value in row.items()} for row in found]
    return views.Listing(columns=[field.name for field in dataclasses.fields(health.Row)], portions=[rows])


def _seconds(value: Any) -> Any:
    return round(value.total_seconds()) if isinstance(value, datetime.timedelta) else value


def _read(cursor: database.Cursor) -> dict[str, Any]:
    return {
        "rows": health.rows(cursor),
        "days": database.dicts(cursor, "reconciles_by_day"),
        "runs": database.dicts(cursor, "unclean_reconciles", {"most": MOST_RUNS}),
        "letters": database.dicts(cursor, "recent_dead_letters", {"most": MOST_LETTERS}),
    }


def summary(days: Sequence[Mapping[str, Any]]) -> str:
    """Return what the reconciles found, in a sentence."""
    runs, clean = (sum(day[name] for day in days) for name in ("runs", "clean"))
    missed = sum(day[name] for day in days for name in ("missed_adds", "missed_updates", "missed_deletes"))
    found = f"They found {missed} changes that no event had brought" if missed else "No change was missed by the events"
    return f"{runs} reconciles ran in the last seven days, and {clean} of them found nothing to do. {found}."


VIEW = views.View(name="health", rule="/health", title="Health", answer=answer, has_past=False, listing=listing)
