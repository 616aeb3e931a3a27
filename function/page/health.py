"""The health of the ledger: whether events and reconciles arrive, what the reconciles found, and the dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from function.inventory import health
from function.page import database, views

MOST_RUNS = 100
MOST_LETTERS = 100


def answer(request: views.Request) -> Mapping[str, Any]:
    """Return the health in words, the runs of the last days and the newest dead letters."""
    rows, runs, letters = request.reader.read(_read)
    own = request.configuration.ledger
    verdict = health.judge(rows, own.max_silence, own=own.cluster_name)
    return {"rows": rows, "verdict": verdict, "runs": runs, "letters": letters}


def _read(cursor: database.Cursor) -> tuple[list[health.Row], list[dict[str, Any]], list[dict[str, Any]]]:
    rows = health.rows(cursor)
    runs = database.dicts(cursor, "recent_runs", {"most": MOST_RUNS})
    return rows, runs, database.dicts(cursor, "recent_dead_letters", {"most": MOST_LETTERS})


VIEW = views.View(name="health", rule="/health", title="Health", answer=answer)
