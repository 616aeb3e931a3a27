"""``python -m function prune``: keeps the histories small, and has a month ready for what comes.

What goes, machine by machine, in short transactions that keep the writers of those machines waiting:

- versions that are older than ``older_than``, but for the one that was in force then;
- earlier already, versions that say nothing new: no fact differs from the version before, or they were never in force;
- machines and instances that are gone for longer than ``older_than``, whole, where a complete list speaks for it.

The newest version of every other machine and of its instances stays, however old.
So whatever is asked of the kept span, by ``virtual_machines_at`` or ``vm_changes``, has the same facts as before.
What was looked through before is not looked through again: :mod:`function.inventory.due`.
A month that is past ``older_than`` goes as a table: what was kept of it moves to the table before the first month,
which takes over its span, so an event that comes late still has a place.

Tables are made and dropped, so this runs as their owner, as ``migrate`` does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import pathlib
from collections.abc import Iterator

import psycopg2.errors

from function import errors, progress, settings
from function.clients import postgres, postgres_session, statements
from function.inventory import days, due, portions
from function.inventory.storage import refusals

MONTHS_AHEAD = 3
MOST_LOCKED = 20
"""Machines that a run leaves out because another transaction holds their rows; with more it is not worth going on."""
LOCK_NUMBER = 7_682_013_520
"""Of the advisory lock that keeps a second prune away; beside the one of ``migrate``."""
DENIED = "the database role may not prune: log in as the owner of the tables, the role that ran `migrate`"
NEEDS = postgres_session.Needs(
    statement=600,
    lock=4,
    planner={"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"},
)
"""Plans go by index, machine by machine: on a history that was filled since it was analyzed, others read all of it."""

SQL = statements.load(pathlib.Path(__file__).parent / "sql", "prune")
HISTORIES = {"machines": "vm_history", "instances": "vm_runtime_history"}
"""The tables of the histories; the statements of each end with its word."""

_VACUUM_MONTH = "VACUUM {month}"
"""So that what follows reads what is left, not what was dropped."""
_DROP_MONTH = """
LOCK TABLE {history} IN ACCESS EXCLUSIVE MODE;
ALTER TABLE {history} DETACH PARTITION {head};
ALTER TABLE {history} DETACH PARTITION {month};
INSERT INTO {head} SELECT * FROM {month} ORDER BY cluster, namespace, name;
DROP TABLE {month};
ALTER TABLE {history} ATTACH PARTITION {head} FOR VALUES FROM (MINVALUE) TO (%(until)s);
"""
"""Drops the table of a month; the table before the first month takes over what is left of it, and its span.

It stands here because Postgres prepares no statement with the name of a table as a parameter.
"""


@dataclasses.dataclass(kw_only=True)
class Pruned:
    """What a run dropped, or in a dry run would drop: versions, and whole months.

    dead: machines and instances that were let go with all their versions, because they are gone for so long.
    locked: machines and instances that were left to the next run, because another transaction held their rows.
    days: past days of fleet_days that were computed, before anything was dropped.
    """

    dry_run: bool
    old: int = 0
    redundant: int = 0
    dead: int = 0
    locked: int = 0
    days: int = 0
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
    if not dry_run:
        limits = {"seconds": days.PRUNE_SECONDS, "wait": days.PRUNE_WAIT}
        # What today is, each reconcile computes anew; here only the history counts that is about to go.
        filled = days.fill(configuration, **limits, denied=DENIED, again=False, talk=talk)
        done.days = filled.filled
    with _connected(configuration) as cursor:
        [(now, _)] = SQL.run(cursor, "find_times", {"months": MONTHS_AHEAD})
        cuts = due.Cuts(now=now, old=now - older_than, redundant=now - min(redundant_after, older_than))
        if not dry_run:
            add_months(cursor)
            days.keep(cursor, cuts.old)
        for kind, history in HISTORIES.items():
            _prune(cursor, kind, cuts, done, talk or progress.Progress())
            if not dry_run:
                done.months += _drop_months(cursor, history, cuts.old)
        if not dry_run:
            SQL.run(cursor, "drop_old_runs", {"old": cuts.old})
            refusals.merge_writers(cursor)
            SQL.run(cursor, "note_prune", {"old": done.old, "redundant": done.redundant})
    return done


def add_months(cursor: postgres.Cursor) -> list[str]:
    """Make the tables of the months to come; return their names."""
    made = []
    [(_, ahead)] = SQL.run(cursor, "find_times", {"months": MONTHS_AHEAD})
    for history in HISTORIES.values():
        while _months(cursor, history)[-1].until <= ahead:
            [(name,)] = SQL.run(cursor, "add_month", {"history": history})
            made.append(name)
    return made


@contextlib.contextmanager
def _connected(configuration: settings.Settings) -> Iterator[postgres.Cursor]:
    """Yield a cursor while no other prune runs; a failure becomes one sentence for a person."""
    with postgres_session.for_command(configuration.database.connection(), NEEDS, denied=DENIED) as session:
        if not session.alone(LOCK_NUMBER):
            raise errors.Refused("another prune of this database is running: leave it to that one")
        try:
            with session.cursor() as cursor:
                yield cursor
        except errors.Locked as exc:
            raise errors.Locked("another session holds a lock on the tables: run it again later") from exc


def _prune(cursor: postgres.Cursor, kind: str, cuts: due.Cuts, done: Pruned, talk: progress.Progress) -> None:
    """Drop what goes of one history, some machines at a time, in the order of their keys."""
    objects = due.Due(SQL, cursor, kind, cuts)
    if not done.dry_run:  # a dry run looks at all, and remembers nothing
        objects.find()
    portion, after, count = portions.Portion(), due.FIRST[kind], 0
    most = objects.count()
    while True:
        batch = portion.begin()
        try:
            keys = _prune_some(cursor, objects, after, batch, done)
        except psycopg2.errors.LockNotAvailable:
            cursor.execute("ROLLBACK")
            if portion.size > 1:  # the writers of the others must not wait for the one that is locked
                portion.size = 1
                continue
            keys = _leave_out(objects, after, done)
        if not keys:
            break
        portion.end()
        after = keys[-1]
        count += len(keys)
        talk.at(HISTORIES[kind], count, most)
    if not done.dry_run:
        objects.close()


def _prune_some(cursor: postgres.Cursor, objects: due.Due, after: due.Key, batch: int, done: Pruned) -> list[due.Key]:
    """Drop what goes of the next machines after a key, in one transaction; return their keys."""
    cursor.execute("BEGIN;" + SQL.call("wait_shortly"))
    keys, kind = objects.next(after, batch), objects.kind
    if keys:
        parameters = {**dataclasses.asdict(objects.cuts), "rows": due.rows(kind, keys), "dry_run": done.dry_run}
        if not done.dry_run:
            SQL.run(cursor, f"lock_pruned_{kind}", parameters)
        dead = {*SQL.run(cursor, f"forget_dead_{kind}", parameters)}
        parameters["rows"] = due.rows(kind, [key for key in keys if key not in dead])
        [(old,)] = SQL.run(cursor, f"drop_old_{kind}", parameters)
        [(redundant,)] = SQL.run(cursor, f"drop_redundant_{kind}", parameters)
        if not done.dry_run:
            if dead and kind == "machines":
                SQL.run(cursor, "leave_instances_of", {"rows": due.rows(kind, dead)})
            objects.end(keys)
        done.old, done.redundant, done.dead = done.old + old, done.redundant + redundant, done.dead + len(dead)
    cursor.execute("COMMIT")
    return keys


def _leave_out(objects: due.Due, after: due.Key, done: Pruned) -> list[due.Key]:
    """Leave the next machine to the next run; return its key."""
    done.locked += 1
    if done.locked > MOST_LOCKED:
        raise errors.Locked("another session holds a lock on the tables: run it again later")
    keys = objects.next(after, 1)
    if not done.dry_run:
        objects.leave(keys)
    return keys


def _months(cursor: postgres.Cursor, history: str) -> list[_Month]:
    """Return the months of a history, the first one first; without the tables before and after them."""
    return [_Month(*row) for row in SQL.run(cursor, "find_months", {"history": history})]


def _drop_months(cursor: postgres.Cursor, history: str, old: datetime.datetime) -> list[str]:
    """Drop the tables of months that ended before ``old``; return their names."""
    dropped = []
    for month in _months(cursor, history)[:-1]:
        if month.until > old:
            break
        names = {"history": history, "head": f"{history}_before", "month": month.name}
        cursor.execute(_VACUUM_MONTH.format(**names))
        cursor.execute(_DROP_MONTH.format(**names), {"until": month.until})
        dropped.append(month.name)
    return dropped
