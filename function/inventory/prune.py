"""``python -m function prune``: keeps the histories small, and has a month ready for what comes.

What goes, machine by machine, in short transactions that keep the writers of those machines waiting:

- versions that are older than ``older_than``, but for the one that was in force then;
- earlier already, versions that say nothing new: no fact differs from the version before, or they were never in force.

The newest version of each machine and of its instances stays, however old.
So whatever is asked of the kept span, by ``virtual_machines_at`` or ``vm_changes``, has the same facts as before.
A month that is past ``older_than`` goes as a table: what was kept of it moves to the table before the first month,
which takes over its span, so an event that comes late still has a place.

Tables are made and dropped, so this runs as their owner, as ``migrate`` does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator
from typing import Any

from function import errors, progress, settings
from function.clients import postgres, postgres_session
from function.inventory.storage import dead_letters, store, tables

MONTHS_AHEAD = 3
FEWEST, MOST = 20, 500
"""Machines in a transaction: the first has so few, and none has more."""
SECONDS = 0.2
"""How long a transaction should take, because the writers of its machines wait for it."""
LOCK_NUMBER = 7_682_013_520
"""Of the advisory lock that keeps a second prune away; beside the one of ``migrate``."""
NEEDS = postgres_session.Needs(
    statement=600,
    lock=4,
    planner={"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"},
)
"""Plans go by index, machine by machine: on a history that was filled since it was analyzed, others read all of it."""

_NO_FACTS = ("type", "id", "time", "resource_version", "generation")
_PAIRS = (store.MACHINES, store.INSTANCES)


@dataclasses.dataclass(kw_only=True)
class Pruned:
    """What a run dropped, or in a dry run would drop: versions, and whole months."""

    dry_run: bool
    old: int = 0
    redundant: int = 0
    months: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Month:
    """The table of a month, and the month's end."""

    name: str
    until: datetime.datetime


def run(
    configuration: settings.Settings,
    older_than: datetime.timedelta,
    redundant_after: datetime.timedelta,
    *,
    dry_run: bool = False,
    talk: progress.Progress | None = None,
) -> Pruned:
    """Prune; return what was dropped.

    Raises :class:`errors.VmledgerError` with one sentence.
    """
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    done = Pruned(dry_run=dry_run)
    with _connected(configuration) as cursor:
        now = _one(cursor, "SELECT now()")
        cuts = {"old": now - older_than, "redundant": now - min(redundant_after, older_than)}
        if not dry_run:
            add_months(cursor)
        for pair in _PAIRS:
            _prune(cursor, pair, cuts, done, talk or progress.Progress())
            if not dry_run:
                done.months += _drop_months(cursor, pair.history, cuts["old"])
        if not dry_run:
            cursor.execute(_OLD_RUNS, cuts)
            dead_letters.merge_writers(cursor)
    return done


def add_months(cursor: postgres.Cursor) -> list[str]:
    """Make the tables of the months to come; return their names."""
    made = []
    for pair in _PAIRS:
        ahead = _one(cursor, f"SELECT date_trunc('month', now()) + interval '{MONTHS_AHEAD} months'")
        while _months(cursor, pair.history)[-1].until <= ahead:
            made.append(_one(cursor, "SELECT ledger_add_month(%s)", [pair.history]))
    return made


@contextlib.contextmanager
def _connected(configuration: settings.Settings) -> Iterator[postgres.Cursor]:
    """Yield a cursor of a connection that nobody else prunes over; failures become one sentence for a person."""
    denied = "the database role may not prune: log in as the owner of the tables, the role that ran `migrate`"
    with postgres_session.for_command(configuration.database.connection(), NEEDS, denied=denied) as session:
        if not session.alone(LOCK_NUMBER):
            raise errors.Refused("another prune of this database is running: leave it to that one")
        try:
            with session.cursor() as cursor:
                yield cursor
        except errors.Locked as exc:
            raise errors.Locked("somebody else holds a lock on the tables: run it again later") from exc


def _one(cursor: postgres.Cursor, sql: str, parameters: Any = None) -> Any:
    cursor.execute(sql, parameters)
    row = cursor.fetchone()
    return row[0] if row else None


def _prune(
    cursor: postgres.Cursor, pair: tables.Pair, cuts: dict[str, Any], done: Pruned, talk: progress.Progress
) -> None:
    """Drop what goes of one history, some machines at a time, in the order of their keys."""
    batch, after = FEWEST, ("",) * len(pair.key)
    most, count = _one(cursor, f"SELECT count(*) FROM {pair.state}"), 0
    while True:
        began = time.monotonic()
        keys = _prune_some(cursor, pair, {**cuts, "after": after, "batch": batch}, done)
        if not keys:
            break
        spent = time.monotonic() - began
        batch = min(batch * 2, MOST) if spent < SECONDS / 2 else max(batch // 2, 1) if spent > SECONDS else batch
        after = keys[-1]
        count += len(keys)
        talk.at(pair.history, count, most)


def _prune_some(cursor: postgres.Cursor, pair: tables.Pair, known: dict[str, Any], done: Pruned) -> list[Any]:
    """Drop what goes of the next machines, in one transaction; return their keys.

    Their writers wait meanwhile: a version that came in between would not be seen.
    """
    names = _names(pair)
    cursor.execute("BEGIN")
    cursor.execute(_NEXT.format(**names) + ("" if done.dry_run else " FOR NO KEY UPDATE OF s"), known)
    keys = cursor.fetchall()
    if keys:
        known = {**known, "after": keys[0], "last": keys[-1]}
        done.old += _drop(cursor, pair, _OLD, known, dry_run=done.dry_run)
        done.redundant += _drop(cursor, pair, _REDUNDANT, known, dry_run=done.dry_run)
    cursor.execute("COMMIT")
    return keys


def _drop(cursor: postgres.Cursor, pair: tables.Pair, doomed: str, known: dict[str, Any], *, dry_run: bool) -> int:
    """Drop the rows that ``doomed`` selects; return how many."""
    rows = doomed.format(**_names(pair))
    if dry_run:
        return int(_one(cursor, f"SELECT count(*) FROM ({rows}) AS doomed", known))
    same = " AND ".join(f"h.{name} = doomed.{name}" for name in _identity(pair))
    cursor.execute(f"DELETE FROM {pair.history} AS h USING ({rows}) AS doomed WHERE {same}", known)
    return cursor.rowcount


def _identity(pair: tables.Pair) -> tuple[str, ...]:
    """Return the columns of a history's primary key."""
    return (*pair.key, "effective_at", *tables.VERSION)


def _names(pair: tables.Pair) -> dict[str, str]:
    facts = [name for name in pair.facts if name not in (*_NO_FACTS, *pair.key)]
    return {
        "history": pair.history,
        "state": pair.state,
        "identity": tables.columns(_identity(pair), "h."),
        "key": tables.columns(pair.key, "s."),
        "same": " AND ".join(f"h.{name} = s.{name}" for name in pair.key),
        "version": tables.columns(tables.VERSION, "h."),
        "newest": tables.columns(tables.VERSION, "s."),
        "backwards": ", ".join(f"h.{name} DESC" for name in tables.VERSION),
        "facts": tables.columns(facts, "h."),
    }


_NEXT = "SELECT {key} FROM {state} AS s WHERE ({key}) > %(after)s ORDER BY {key} LIMIT %(batch)s"

_OLD = """
SELECT h.*
FROM {state} AS s
CROSS JOIN LATERAL (
    SELECT {identity} FROM {history} AS h
    WHERE {same} AND h.effective_at <= %(old)s
    ORDER BY {backwards} OFFSET 1
) AS h
WHERE ({key}) BETWEEN %(after)s AND %(last)s
"""
"""A later version was in force by then."""

_REDUNDANT = """
SELECT h.*
FROM {state} AS s
CROSS JOIN LATERAL (
    SELECT {identity}, h.overtaken OR
           ROW ({facts}) IS NOT DISTINCT FROM lag(ROW ({facts})) OVER versions AND lag(1) OVER versions = 1 AS silent
    FROM {history} AS h
    WHERE {same} AND h.effective_at <= %(redundant)s
    WINDOW versions AS (PARTITION BY h.overtaken ORDER BY h.effective_at)
    OFFSET 0
) AS h
WHERE ({key}) BETWEEN %(after)s AND %(last)s
  AND h.silent AND h.effective_at > %(old)s AND ({version}) < ({newest})
"""
"""It was never in force, or says what the version before says; and is not the newest."""

_OLD_RUNS = """
DELETE FROM reconcile_runs AS r WHERE started_at < %(old)s
AND EXISTS (SELECT FROM reconcile_runs AS n WHERE n.cluster = r.cluster AND n.run > r.run AND NOT n.dry_run)
"""


def _months(cursor: postgres.Cursor, history: str) -> list[_Month]:
    """Return the months of a history, the first one first; without the tables before and after them."""
    cursor.execute(
        r"""
        SELECT p.relname, substring(pg_get_expr(p.relpartbound, p.oid) FROM $re$TO \('([^']+)'\)$re$)::timestamptz
        FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhrelid
        WHERE i.inhparent = %(history)s::regclass
          AND p.relname NOT IN (%(history)s || '_before', %(history)s || '_after')
        ORDER BY 2
        """,
        {"history": history},
    )
    return [_Month(*row) for row in cursor.fetchall()]


def _drop_months(cursor: postgres.Cursor, history: str, old: datetime.datetime) -> list[str]:
    """Drop the tables of months that ended before ``old``; return their names."""
    dropped = []
    for month in _months(cursor, history)[:-1]:
        if month.until > old:
            break
        head = f"{history}_before"
        cursor.execute(f"VACUUM {month.name}")  # so that what follows reads what is left, not what was dropped
        cursor.execute(
            f"""
            LOCK TABLE {history} IN ACCESS EXCLUSIVE MODE;
            ALTER TABLE {history} DETACH PARTITION {head};
            ALTER TABLE {history} DETACH PARTITION {month.name};
            INSERT INTO {head} SELECT * FROM {month.name} ORDER BY cluster, namespace, name;
            DROP TABLE {month.name};
            ALTER TABLE {history} ATTACH PARTITION {head} FOR VALUES FROM (MINVALUE) TO (%(until)s);
            """,
            {"until": month.until},
        )
        dropped.append(month.name)
    return dropped
