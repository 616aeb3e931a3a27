"""Brings the schema up to date, from an empty database or from any earlier version: ``python -m function migrate``.

The migrations are plain SQL files, run by yoyo; each is one transaction.
Two runs at once take turns by an advisory lock, which Postgres releases when the connection ends. yoyo's own lock is a
row, which a process that is killed leaves behind.
Then the rows of the published example's table, if there is one, are imported by the same mapping and the same store as
events, and the application's role is granted only the rights that the function needs.
Nothing here prints; :mod:`function.cli.migrate` does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2.errors
import yoyo
import yoyo.backends.core.postgresql
import yoyo.connections

from function import errors, events, grants, progress, settings
from function.clients import postgres, postgres_session
from function.inventory import days, prune
from function.inventory.mapping import versions, vm
from function.inventory.storage import store

ADVISORY_LOCK = 7_682_013_519
"""Any number that no other program uses; "vmledger" on a telephone's keys, shortened."""
PAGE = 500
IMPORTED = "imported into vm_history by vmledger; vmledger does not use this table any more"

DAYS = "0011.fleet_days"
"""The migration after which the days are computed from the history."""

IN_THE_WAY = "virtual_machines exists and is not the published table: rename it, then migrate again"
"""The error that 0001.ledger.sql raises; the only words of the database that are shown, because they are ours."""
DENIED = "the database role may not migrate: it must own the tables, and be allowed to create in their schema"
NEEDS = postgres_session.Needs(statement=0, lock=0, idle=0)
MONTHS_LOCK_SECONDS = 2.0


class _Backend(yoyo.backends.core.postgresql.PostgresqlBackend):  # type: ignore[misc]  # yoyo is not typed
    """yoyo on our own connections, so that a setting means the same here as elsewhere."""

    def connect(self, dburi: yoyo.connections.DatabaseURI) -> postgres_session.Connection:
        return postgres_session.Session(dburi.args, NEEDS).connection

    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:  # noqa: ARG002
        """Apply a migration and mark it, in one transaction: as two, a kill between them would apply it twice."""
        with self.transaction():
            migration.process_steps(self, "apply", force=force)
            self.mark_one(migration)

    def log_migration(self, migration: Any, operation: str) -> None:
        """Write no log: yoyo's needs the name of the system's user, and a user id that a cluster assigns has none."""


@dataclasses.dataclass(kw_only=True)
class Migrated:
    """The result of a run.

    applied: names of migrations, in their order. imported, skipped: rows of the published example's table, None where
    there was none to import. months_left: the tables of the coming months are left to prune. granted: the variables
    whose roles have their rights. owner_repaired: the tables' owner has got back the rights that an earlier run with
    DB_APP_ROLE took. public_closed: the role public, which is everybody, can no longer write the tables. days: what
    became of fleet_days.
    """

    applied: list[str] = dataclasses.field(default_factory=list)
    imported: int | None = None
    skipped: int = 0
    months_left: bool = False
    granted: list[str] = dataclasses.field(default_factory=list)
    owner_repaired: bool = False
    public_closed: bool = False
    days: days.Filled = dataclasses.field(default_factory=days.Filled)


def run(configuration: settings.Settings, talk: progress.Progress | None = None) -> Migrated:
    """Migrate, import and grant. Raises :class:`errors.VmledgerError` with one sentence."""
    talk = talk or progress.Progress()
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    done = Migrated()
    roles = _roles(configuration.database)
    with _session(configuration) as session:
        _wait_alone(session, talk)
        with session.cursor() as cursor:
            _check_encoding(cursor)
            _check_right(cursor)
            for role, variable, _ in roles:
                grants.check(cursor, role, variable)
            done.owner_repaired, done.public_closed = grants.repair(cursor)
            done.applied = _apply(configuration)
            _import_published(configuration, cursor, done, talk)
        done.months_left = not _add_months(session)
        for role, variable, rights in roles:
            with session.cursor(lock_wait=NEEDS.lock) as cursor:
                grants.grant(cursor, role, rights)
            done.granted.append(variable)
        if DAYS in done.applied or done.imported is not None:
            done.days = _fill_days(configuration, talk)
    return done


def _roles(part: settings.Database) -> list[tuple[str, str, Mapping[str, str]]]:
    """Return the roles that get rights, each with the variable that names it."""
    if part.read_role is not None and part.read_role == part.app_role:
        raise errors.Refused("DB_READ_ROLE names the function's role, which writes: name another role, or none")
    named = ((part.app_role, "DB_APP_ROLE", grants.RIGHTS), (part.read_role, "DB_READ_ROLE", grants.READS))
    return [(role, variable, rights) for role, variable, rights in named if role]


def _fill_days(configuration: settings.Settings, talk: progress.Progress) -> days.Filled:
    """Compute days of fleet_days from the history; the schema is up to date, even where this fails."""
    try:
        return days.fill(configuration, seconds=days.MIGRATE_SECONDS, denied=DENIED, talk=talk)
    except errors.VmledgerError as exc:
        talk.note(f"fleet_days is left to the next reconcile: {exc}")
        return days.Filled()


def _add_months(session: postgres_session.Session) -> bool:
    """Make the tables of the months to come; return whether they were made.

    They are not made while a query reads the history: the lock would wait for the query, and all events for the lock.
    """
    try:
        with session.cursor(lock_wait=MONTHS_LOCK_SECONDS) as cursor:
            prune.add_months(cursor)
    except errors.Locked:
        return False
    return True


@contextlib.contextmanager
def _session(configuration: settings.Settings) -> Iterator[postgres_session.Session]:
    """Yield a session; a failure of the database becomes one sentence for the person who runs the command."""
    try:
        with postgres_session.for_command(configuration.database.connection(), NEEDS, denied=DENIED) as session:
            yield session
    except errors.DatabaseUnavailable as exc:
        cause = exc.__cause__
        if isinstance(cause, psycopg2.errors.RaiseException) and cause.diag.message_primary == IN_THE_WAY:
            raise errors.DatabaseUnavailable(IN_THE_WAY) from exc
        raise


def _check_encoding(cursor: postgres.Cursor) -> None:
    """Refuse a database that cannot hold every text, or that compares texts otherwise than by code point."""
    cursor.execute("SELECT current_setting('server_encoding')")
    [encoding] = cursor.fetchone() or [""]
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise errors.Refused(
            f"the database's encoding is {encoding}: make one with CREATE DATABASE ... ENCODING 'UTF8'"
        )


def _check_right(cursor: postgres.Cursor) -> None:
    """Refuse a role that could not make the first table, because yoyo would not report it."""
    cursor.execute(
        "SELECT to_regclass('_yoyo_migration') IS NULL"
        " AND NOT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
    )
    if cursor.fetchone() == (True,):
        raise errors.Refused(DENIED)


def _wait_alone(session: postgres_session.Session, talk: progress.Progress) -> None:
    """Take the advisory lock; wait for another migration that runs."""
    if not session.alone(ADVISORY_LOCK):
        talk.note("another migration is running: waiting for it")
        session.alone(ADVISORY_LOCK, seconds=float("inf"))


def _apply(configuration: settings.Settings) -> list[str]:
    """Apply the missing migrations, oldest first; return their names."""
    uri = yoyo.connections.DatabaseURI("postgresql", None, None, None, None, "", configuration.database.connection())
    with _Backend(uri, "_yoyo_migration") as backend:
        backend.init_database()
        backend.break_lock()  # yoyo's own lock outlives a killed process; ours is held, so nobody else holds it
        with backend.lock():
            missing = backend.to_apply(yoyo.read_migrations(str(postgres.MIGRATIONS)))
            backend.apply_migrations(missing)
    return [migration.id for migration in missing]


def _import_published(
    configuration: settings.Settings,
    cursor: postgres.Cursor,
    done: Migrated,
    talk: progress.Progress,
) -> None:
    """Import the published example's rows, once, and count them."""
    cursor.execute(
        "SELECT obj_description(c.oid, 'pg_class') FROM pg_class c"
        " WHERE c.oid = to_regclass('virtual_machines_published')"
    )
    if cursor.fetchone() != (None,):
        return
    cursor.execute("SELECT count(*) FROM virtual_machines_published")
    [total] = cursor.fetchone() or [0]
    db = postgres.Database(configuration.database.connection(), timeout=60)
    ledger = store.Store(db)
    done.imported = 0
    try:
        for page in _pages(cursor):
            changes = [change for row in page if (change := _published(row, configuration.ledger.cluster_name))]
            if changes:
                ledger.write(changes, listed=True)
            done.imported += len(changes)
            done.skipped += len(page) - len(changes)
            talk.at("rows of the published table", done.imported + done.skipped, total)
    finally:
        db.close()
    cursor.execute("COMMENT ON TABLE virtual_machines_published IS %s", [IMPORTED])


def _pages(cursor: postgres.Cursor) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the published table's rows in pages, so that memory does not grow with the table."""
    cursor.execute("BEGIN")
    cursor.execute("DECLARE published CURSOR FOR SELECT to_jsonb(p) FROM virtual_machines_published p")
    while True:
        cursor.execute(f"FETCH {PAGE} FROM published")
        rows: Sequence[tuple[Mapping[str, Any]]] = cursor.fetchall()
        if not rows:
            break
        yield [row for (row,) in rows]
    cursor.execute("COMMIT")


def _published(row: Mapping[str, Any], cluster_name: str) -> versions.Change | None:
    """Return the change that a row of the published table records; None where it records none.

    The example wrote 0 and '' for what an event did not carry.
    """
    attributes = {name: value for name, value in row.items() if value not in (None, "", 0, "0")}
    if (
        attributes.get("type") not in versions.STEPS
        or attributes.get("kind", vm.KIND) != vm.KIND
        or "id" not in attributes
    ):
        return None
    try:
        if "time" in attributes:
            attributes["time"] = _time(str(attributes["time"]))
        return vm.change(events.Event(attributes, None), cluster_name=cluster_name)
    except (errors.BadEvent, ValueError):
        return None


def _time(text: str) -> datetime.datetime:
    """Return a time from the text of any column type; UTC where it has no zone."""
    time = datetime.datetime.fromisoformat(text.strip())
    return time.replace(tzinfo=time.tzinfo or datetime.UTC)
