"""``python -m function migrate``: brings the schema up to date, from nothing or from any earlier version.

The migrations are plain SQL files, run by yoyo; each is one transaction.
Two that run at once take turns by an advisory lock, which ends with its connection whatever is killed.
Then the rows of the published example's table, if there was one, are imported into the ledger through the same mapping
and the same store as events, and the application's role is granted just what the function needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.sql
import yoyo
import yoyo.backends.core.postgresql
import yoyo.connections

from function import errors, events, progress, settings
from function.clients import postgres
from function.inventory import prune
from function.inventory.mapping import versions, vm
from function.inventory.storage import store

ADVISORY_LOCK = 7_682_013_519
"""Any number that no other program uses; "vmledger" on a telephone's keys, shortened."""
PAGE = 500
IMPORTED = "imported into vm_history by vmledger; vmledger does not use this table any more"

GRANTS = {
    "vm_state": "SELECT, INSERT, UPDATE",
    "vm_history": "SELECT, INSERT, UPDATE",
    "scaling_notices": "SELECT, INSERT, UPDATE, DELETE",
    "scaling_excess": "SELECT, INSERT, UPDATE, DELETE",
    "vsphere_applied": "SELECT, INSERT, UPDATE",
    "vsphere_turns": "SELECT, INSERT, UPDATE, DELETE",
    "vm_runtime": "SELECT, INSERT, UPDATE",
    "vm_runtime_history": "SELECT, INSERT, UPDATE",
    "clusters": "SELECT, INSERT, UPDATE",
    "reconcile_runs": "SELECT, INSERT",
    "reconcile_seen": "SELECT, INSERT, DELETE",
    "ledger_heard": "SELECT, INSERT, UPDATE, DELETE",
    "ledger_health": "SELECT",
    "_yoyo_migration": "SELECT",
}
"""What the function itself needs, by table."""


class _Backend(yoyo.backends.core.postgresql.PostgresqlBackend):  # type: ignore[misc]  # yoyo is not typed
    """yoyo on connections of ours, so that the settings mean here what they mean elsewhere."""

    def connect(self, dburi: yoyo.connections.DatabaseURI) -> psycopg2.extensions.connection:
        return postgres.connect(dburi.args)

    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:  # noqa: ARG002
        """Apply a migration and note it, in one transaction: killed in between, it would be applied a second time."""
        with self.transaction():
            migration.process_steps(self, "apply", force=force)
            self.mark_one(migration)

    def log_migration(self, migration: Any, operation: str) -> None:
        """Write no log: yoyo's holds the user's name, and the user that a cluster picks for a container has none."""


@dataclasses.dataclass(kw_only=True)
class Migrated:
    """What a run did.

    applied: names of migrations, in their order. imported, skipped: rows of the published example's table, None where
    there was none to import. months_left: the tables of the coming months are left to prune. granted: DB_APP_ROLE has
    its rights.
    """

    applied: list[str] = dataclasses.field(default_factory=list)
    imported: int | None = None
    skipped: int = 0
    months_left: bool = False
    granted: bool = False


def run(configuration: settings.Settings, talk: progress.Progress | None = None) -> Migrated:
    """Migrate, import, grant; return what was done. Raises :class:`errors.VmledgerError` with one sentence."""
    talk = talk or progress.Progress()
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    done = Migrated()
    with _connected(configuration) as connection, _alone(connection, talk):
        _check_encoding(connection)
        done.applied = _apply(configuration)
        _import_published(configuration, connection, done, talk)
        done.months_left = not _add_months(connection)
        if configuration.database.app_role:
            _grant(connection, configuration.database.app_role)
            done.granted = True
    return done


def _add_months(connection: psycopg2.extensions.connection) -> bool:
    """Make the tables of the months to come; return whether they were made.

    They are not while somebody reads the history: every event would wait behind us.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '2s'")
        try:
            prune.add_months(cursor)
        except psycopg2.errors.LockNotAvailable:
            return False
        finally:
            cursor.execute("RESET lock_timeout")
    return True


@contextlib.contextmanager
def _connected(configuration: settings.Settings) -> Iterator[psycopg2.extensions.connection]:
    """Yield a connection; a failure of the database becomes one sentence for the person who runs the command."""
    try:
        connection = postgres.connect({"connect_timeout": 10, **configuration.database.connection()})
        try:
            yield connection
        finally:
            connection.close()
    except psycopg2.Error as exc:
        first = str(exc).strip().partition("\n")[0]
        if not first or "connection option" in first:  # which would quote a value
            first = type(exc).__name__
        raise errors.DatabaseUnavailable(f"the database says: {first}") from exc


def _check_encoding(connection: psycopg2.extensions.connection) -> None:
    """Refuse a database that cannot hold every text, or that compares texts otherwise than by code point."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_encoding')")
        [encoding] = cursor.fetchone() or [""]
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise errors.Refused(
            f"the database's encoding is {encoding}: make one with CREATE DATABASE ... ENCODING 'UTF8'"
        )


@contextlib.contextmanager
def _alone(connection: psycopg2.extensions.connection, talk: progress.Progress) -> Iterator[None]:
    """Hold the advisory lock; wait for another migration that runs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
        if cursor.fetchone() != (True,):
            talk.note("another migration is running: waiting for it")
            cursor.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
    yield


def _apply(configuration: settings.Settings) -> list[str]:
    """Apply what is missing, oldest first; return the names."""
    uri = yoyo.connections.DatabaseURI("postgresql", None, None, None, None, "", configuration.database.connection())
    with _Backend(uri, "_yoyo_migration") as backend:
        backend.init_database()
        backend.break_lock()  # yoyo's own lock outlives a killed process; ours is held, so nobody else holds it
        with backend.lock():
            missing = backend.to_apply(yoyo.read_migrations(str(postgres.MIGRATIONS)))
            backend.apply_migrations(missing)
    return [migration.id for migration in missing]


def _grant(connection: psycopg2.extensions.connection, role: str) -> None:
    """Give ``role`` what :data:`GRANTS` says on our tables, and nothing else on them."""
    name = psycopg2.sql.Identifier(role)
    statements: list[psycopg2.sql.Composable] = [psycopg2.sql.SQL("BEGIN")]
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        [schema] = cursor.fetchone() or ["public"]
        usage = psycopg2.sql.SQL("GRANT USAGE ON SCHEMA {} TO {}")
        statements.append(usage.format(psycopg2.sql.Identifier(schema), name))
        for table, rights in GRANTS.items():
            what = psycopg2.sql.Identifier(table)
            statements.append(psycopg2.sql.SQL("REVOKE ALL ON {} FROM {}").format(what, name))
            grant = psycopg2.sql.SQL(f"GRANT {rights} ON {{}} TO {{}}")
            statements.append(grant.format(what, name))
        statements.append(psycopg2.sql.SQL("COMMIT"))
        try:
            cursor.execute(psycopg2.sql.SQL("; ").join(statements))
        except psycopg2.errors.UndefinedObject as exc:
            raise errors.Refused("DB_APP_ROLE names a role that does not exist: create it first") from exc


def _import_published(
    configuration: settings.Settings,
    connection: psycopg2.extensions.connection,
    done: Migrated,
    talk: progress.Progress,
) -> None:
    """Import the published example's rows, once, and count them."""
    with connection.cursor() as cursor:
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


def _pages(cursor: psycopg2.extensions.cursor) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the published table's rows, some at a time, so that memory does not grow with the table."""
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
    """Read a time as any column type shows it; UTC where it names no zone."""
    time = datetime.datetime.fromisoformat(text.strip())
    return time.replace(tzinfo=time.tzinfo or datetime.UTC)
