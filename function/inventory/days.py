"""``fleet_days``: how large the fleet was at the end of each day, kept so that a year can be drawn in an instant.

A day (UTC) is computed whole, from ``virtual_machines_at`` of its last microsecond; today, from that of now.
It is computed again where a version that was recorded later covers its end: from the version's effective time to that
of the next version in force. So whatever the order of the events, the days are what ``virtual_machines_at`` says.

Two things stay as they were: sizes from instancetypes, which have no history, are those that were known when the day
was computed; and days of which the history was pruned are not computed again.

:func:`fill` is called by each reconcile, each prune and each migration. One at a time fills.
"""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import time

from function import errors, progress, settings
from function.clients import postgres, postgres_session, statements

MOST_DAYS = 400
"""How far back days are computed at most: as long as the CronJob keeps the history. A day that is computed stays."""
LOCK_NUMBER = 7_682_013_521
"""Of the advisory lock that keeps a second run away; beside those of ``migrate`` and ``prune``."""
NEEDS = postgres_session.Needs(statement=600, lock=4)
RECONCILE_SECONDS = 10.0
"""How long a reconcile goes on with days that are due; the next one has the rest."""
MIGRATE_SECONDS = 60.0
PRUNE_SECONDS = 3600.0
"""Half of what the CronJob gives a prune: what is due should be computed while the history is whole."""
PRUNE_WAIT = 60.0

SQL = statements.load(pathlib.Path(__file__).parent / "sql", "days")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filled:
    """What became of a run: how many past days were computed, and how many are left to the next run."""

    filled: int = 0
    left: int = 0


def fill(
    configuration: settings.Settings,
    *,
    seconds: float,
    wait: float = 0.0,
    denied: str = "the database role may not write fleet_days: run `migrate` with DB_APP_ROLE again",
    again: bool = True,
    talk: progress.Progress | None = None,
) -> Filled:
    """Bring the days up to date, the newest first; begin none after ``seconds``.

    again: compute today also where it was computed before, which takes as long as the fleet is large.
    wait: seconds to wait for another run to end; by default its work is left to it.
    Raises :class:`errors.VmledgerError` with one sentence.
    """
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    with postgres_session.for_command(configuration.database.connection(), NEEDS, denied=denied) as session:
        if not session.alone(LOCK_NUMBER, seconds=wait):
            return Filled()
        with session.cursor() as cursor:
            return _fill(cursor, time.monotonic() + seconds, talk or progress.Progress(), again=again)


def keep(cursor: postgres.Cursor, old: datetime.datetime) -> None:
    """Let the days that ended before ``old`` stay as they are, because their history is about to be pruned."""
    SQL.run(cursor, "keep_days", {"old": old})


def _fill(cursor: postgres.Cursor, end: float, talk: progress.Progress, *, again: bool) -> Filled:
    """Compute today, and the days that are due until the time ``end`` of the monotonic clock."""
    today = _mark(cursor)
    if again or SQL.run(cursor, "is_filled", {"day": today}) != [(True,)]:
        _compute(cursor, today)
    [(due,)] = SQL.run(cursor, "count_due", {"today": today})
    count = 0
    while time.monotonic() < end and (found := SQL.run(cursor, "next_due", {"today": today})):
        _compute(cursor, found[0][0])
        count += 1
        talk.at("days", count, max(due, count))
    return Filled(filled=count, left=max(due - count, 0))


def _mark(cursor: postgres.Cursor) -> datetime.date:
    """Let the days that changed be due, in one transaction; return today."""
    cursor.execute("BEGIN;" + SQL.call("go_by_index"))
    [(since, today)] = SQL.run(cursor, "find_looked")
    for first, last in _late(cursor, since, today):
        SQL.run(cursor, "mark_days", {"first": first, "last": last, "most": MOST_DAYS})
    for name in ("add_days", "note_looked"):
        SQL.run(cursor, name)
    cursor.execute("COMMIT")
    return today  # type: ignore[no-any-return]


def _late(
    cursor: postgres.Cursor, since: datetime.datetime | None, today: datetime.date
) -> list[tuple[datetime.date, datetime.date]]:
    """Return the spans of days that changed; at the first run, all since the history's first version."""
    yesterday = today - datetime.timedelta(days=1)
    if since is not None:
        return [(first, last) for first, last in SQL.run(cursor, "late_days", {"since": since, "today": today})]
    [(first,)] = SQL.run(cursor, "first_day")
    return [(first, yesterday)] if first is not None else []


def _compute(cursor: postgres.Cursor, day: datetime.date) -> None:
    """Compute a day, in one transaction."""
    cursor.execute("BEGIN")
    for name in ("empty_day", "fill_day", "note_filled"):
        SQL.run(cursor, name, {"day": day})
    cursor.execute("COMMIT")
