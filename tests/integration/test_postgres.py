"""The door to Postgres: its errors become ours, its waits end, and it heals."""

from __future__ import annotations

import contextlib
import inspect
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg2
import psycopg2.errorcodes
import psycopg2.errors
import psycopg2.extensions
import pytest

from dev import embedded_postgres
from function import errors, events
from function.clients import postgres, postgres_errors, postgres_session
from function.inventory.mapping import versions, vm
from function.inventory.storage import store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]
DRIVER = [
    error
    for _, error in [
        *inspect.getmembers(psycopg2, inspect.isclass),
        *inspect.getmembers(psycopg2.errors, inspect.isclass),
    ]
    if issubclass(error, psycopg2.Error)
]


SLOW_TO_END = """
DO $$ BEGIN
    FOR number IN 1..200 LOOP
        EXECUTE format('CREATE TEMPORARY TABLE made_%s (id integer PRIMARY KEY)', number);
    END LOOP;
END $$
"""
"""What a session must remove when it ends, which the server does some time after the client is gone."""


@pytest.mark.parametrize("key", [7, "seven"])
def test_a_lock_is_free_once_its_session_is_closed(url: str, key: int | str) -> None:
    """Who comes next finds it free, although the server has not ended the session yet."""
    for _ in range(3):
        session = postgres_session.Session({"dsn": url}, postgres.NEEDS)
        assert session.alone(key)
        with session.cursor() as cursor:
            cursor.execute(SLOW_TO_END)
        session.close()


@pytest.mark.parametrize("error", DRIVER, ids=lambda error: error.__name__)
def test_each_error_of_the_driver_becomes_one_of_ours(error: type[psycopg2.Error]) -> None:
    """Whatever psycopg2 can raise, and without its words: they may quote data."""
    translated = postgres_errors.translate(error("secret words"))
    assert isinstance(translated, errors.BadEvent | errors.Unavailable | postgres_errors.Conflict)
    assert "secret" not in str(translated)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (psycopg2.errors.NumericValueOutOfRange, errors.BadEvent),
        (psycopg2.errors.UntranslatableCharacter, errors.BadEvent),
        (psycopg2.errors.CheckViolation, errors.BadEvent),
        (psycopg2.errors.ProgramLimitExceeded, errors.BadEvent),
        (psycopg2.errors.DeadlockDetected, postgres_errors.Conflict),
        (psycopg2.errors.SerializationFailure, postgres_errors.Conflict),
        (psycopg2.errors.UndefinedTable, errors.SchemaOutdated),
        (psycopg2.errors.AdminShutdown, errors.DatabaseUnavailable),
        (psycopg2.errors.ReadOnlySqlTransaction, errors.DatabaseUnavailable),
        (psycopg2.errors.DiskFull, errors.DatabaseUnavailable),
        (psycopg2.errors.TooManyConnections, errors.DatabaseUnavailable),
        (psycopg2.errors.InvalidPassword, errors.DatabaseUnavailable),
        (psycopg2.errors.QueryCanceled, errors.DatabaseUnavailable),
        (psycopg2.OperationalError, errors.DatabaseUnavailable),
        (psycopg2.InterfaceError, errors.DatabaseUnavailable),
    ],
)
def test_what_to_do_next_decides(error: type[psycopg2.Error], ours: type[Exception]) -> None:
    """Never again, once more at once, or later."""
    assert type(postgres_errors.translate(error())) in (ours, *ours.__subclasses__())


def change(name: str) -> versions.Change:
    """A change of the VM team/name."""
    attributes = {
        "id": "1",
        "type": next(iter(versions.STEPS)),
        "name": name,
        "namespace": "team",
        "resourceversion": "1",
    }
    return vm.change(events.Event(attributes, None), cluster_name="c")


def test_a_connection_that_was_cut_is_replaced_unnoticed(db: postgres.Database, query: Query) -> None:
    """The caller's work runs on the new one."""
    tables = store.Store(db)
    tables.write([change("a")])
    query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vmledger'")
    assert tables.write([change("b")]) == [store.Outcome.STORED]


def test_a_process_holds_one_connection(db: postgres.Database, query: Query) -> None:
    """However many threads write."""
    tables = store.Store(db)
    threads = [threading.Thread(target=tables.write, args=[[change(f"vm-{number}")]]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vmledger' AND datname = current_database()"
    assert query(count) == [(1,)]
    assert query("SELECT count(*) FROM virtual_machines") == [(20,)]


def test_a_deadlock_is_tried_again_inside(db: postgres.Database, url: str, query: Query) -> None:
    """Somebody else's locks, in another order: the work is done, and the caller sees nothing of it."""
    store.Store(db).write([change("a"), change("b")])
    lock = "SELECT FROM vm_state WHERE name = %s FOR UPDATE"
    other = psycopg2.connect(url)
    with other.cursor() as cursor:
        cursor.execute(lock, ["b"])
        work = threading.Thread(
            target=db.run, args=[lambda mine: mine.execute(f"{lock}; {lock}", ["a", "b"])], kwargs={"lock_wait": 30}
        )
        work.start()
        _wait_for_lock(query)
        cursor.execute("SET deadlock_timeout = '10s'")  # the other one finds the deadlock, and gives way
        cursor.execute(lock, ["a"])
    other.commit()
    other.close()
    work.join(10)
    assert not work.is_alive()
    query("SELECT pg_stat_force_next_flush()")
    db.run(lambda cursor: cursor.execute("SELECT 1"))
    end = time.monotonic() + 10
    while query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") != [(1,)]:
        assert time.monotonic() < end, "there was no deadlock"


def test_locks_in_another_order_are_waited_for(db: postgres.Database, url: str, query: Query) -> None:
    """The batch gives way, and is stored once the other transaction has ended."""
    tables = store.Store(db)
    tables.write([change("a"), change("b")])
    outcomes: list[Any] = []
    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM vm_state WHERE name = 'b' FOR UPDATE")
        writer = threading.Thread(target=lambda: outcomes.extend(tables.write([change("a"), change("b")])))
        writer.start()
        _wait_for_lock(query)
        cursor.execute("SELECT FROM vm_state WHERE name = 'a' FOR UPDATE")
        other.commit()
        writer.join(10)
    assert outcomes == [store.Outcome.DUPLICATE] * 2


def _wait_for_lock(query: Query) -> None:
    end = time.monotonic() + 10
    while query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
        assert time.monotonic() < end, "nobody waits for a lock"


def test_a_statement_that_does_not_end_is_given_up(db: postgres.Database) -> None:
    """By the server, after its statement timeout; the next one finds the connection in order."""
    with pytest.raises(errors.DatabaseUnavailable, match="did not finish in time"):
        db.run(lambda cursor: cursor.execute("SELECT pg_sleep(60)"), timeout=20)
    assert store.Store(db).write([change("a")]) == [store.Outcome.STORED]


def test_a_lock_is_waited_for_until_the_end(url: str, query: Query) -> None:
    """And others have the connection in between."""
    db = postgres.Database({"dsn": url}, timeout=2)
    tables = store.Store(db)
    tables.write([change("a")])
    failures: list[Exception] = []

    def write() -> None:
        try:
            tables.write([change("a")])
        except errors.Locked as exc:
            failures.append(exc)

    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE vm_state")
        writer = threading.Thread(target=write)
        writer.start()
        _wait_for_lock(query)
        for _ in range(3):
            db.run(lambda mine: mine.execute("SELECT 1"))
        assert writer.is_alive()
        writer.join(20)
    assert [str(failure) for failure in failures] == [postgres_errors.LOCKED]
    assert tables.write([change("a")]) == [store.Outcome.DUPLICATE]
    db.close()


def test_a_turn_is_not_waited_for_longer_than_told(db: postgres.Database) -> None:
    """While another thread holds the connection."""
    entered, leave = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        entered.set()
        leave.wait(10)

    holder = threading.Thread(target=db.run, args=[hold])
    holder.start()
    entered.wait(10)
    with pytest.raises(errors.DatabaseUnavailable, match="busy"):
        db.run(lambda cursor: cursor.execute("SELECT 1"), timeout=0.1)
    leave.set()
    holder.join()


@pytest.fixture
def careless(url: str) -> str:
    """A database whose defaults would break the ledger's promises."""
    [(name,)] = conftest.execute(url, "SELECT current_database()")
    for setting in (
        "synchronous_commit = off",
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = 0",
        "timezone = 'Asia/Kathmandu'",
    ):
        conftest.execute(url, f"ALTER DATABASE {name} SET {setting}")
    return url


def test_a_session_is_what_the_ledger_needs(careless: str) -> None:
    """Whatever the database's own defaults are."""
    db = postgres.Database({"dsn": careless}, timeout=5)

    def shown(cursor: Any) -> dict[str, str]:
        names = ("synchronous_commit", "transaction_isolation", "statement_timeout", "TimeZone")
        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        return dict(zip(names, cursor.fetchone(), strict=True))

    assert db.run(shown) == {
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "statement_timeout": "5s",
        "TimeZone": "UTC",
    }
    db.close()


def test_the_state_names_a_standby(server: embedded_postgres.Postgres, tmp_path: pathlib.Path) -> None:
    """A real one, which follows the server; it can be read, and an event cannot be stored there."""
    conftest.execute(server.url(), "CREATE DATABASE followed TEMPLATE vmledger_template")
    copy = server.standby(tmp_path)
    copy.start()
    db = postgres.Database({"dsn": copy.url(database="followed")}, timeout=5)
    assert db.state() == postgres_errors.STANDBY
    with pytest.raises(errors.DatabaseUnavailable, match="it takes no writes"):
        store.Store(db).write([change("a")])
    assert db.state() == postgres_errors.STANDBY
    db.close()
    copy.stop()
    conftest.execute(server.url(), "DROP DATABASE followed")


def test_the_state_names_a_full_disk(db: postgres.Database, server: embedded_postgres.Postgres) -> None:
    """The file that Postgres would write is the device that is always full; and ok again once there is room."""
    pids: list[Any] = []

    def ask(cursor: Any) -> None:
        cursor.execute("SELECT pg_backend_pid()")
        pids.extend(cursor.fetchone())

    db.run(ask)
    folder = server.data / "base" / "pgsql_tmp"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    file = folder / f"pgsql_tmp{pids[0]}.0"
    file.symlink_to("/dev/full")
    assert db.state() == postgres_errors.DISK_FULL
    file.unlink(missing_ok=True)
    assert db.state() == "ok"


def test_the_state_is_a_word_or_a_sentence(server: embedded_postgres.Postgres, url: str) -> None:
    """For readiness."""
    assert postgres.Database({"dsn": url}, timeout=5).state() == "ok"
    nobody = postgres.Database({"dsn": server.url(user="nobody_here")}, timeout=5)
    assert nobody.state().startswith("the database cannot be used now")


def test_the_state_says_what_an_event_would_meet(url: str) -> None:
    """A schema that went away, a database that turned read-only: also on a connection that is open."""
    db = postgres.Database({"dsn": url}, timeout=5)
    assert db.state() == "ok"
    conftest.execute(url, "ALTER TABLE _yoyo_migration RENAME TO gone")
    assert db.state() == postgres_errors.OUTDATED
    conftest.execute(url, "ALTER TABLE gone RENAME TO _yoyo_migration")
    [(name,)] = conftest.execute(url, "SELECT current_database()")
    conftest.execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    db.close()
    assert db.state() == postgres_errors.READ_ONLY
    with pytest.raises(errors.DatabaseUnavailable, match="it takes no writes"):
        store.Store(db).write([change("a")])
    db.close()


@pytest.mark.parametrize("table", ["vm_state", "vm_history"])
def test_the_state_misses_a_table_and_a_right(url: str, table: str) -> None:
    """What any batch needs, an empty one needs too; and the ledger is as it was."""
    db = postgres.Database({"dsn": url}, timeout=5)
    store.Store(db).write([change("a")])
    assert db.state() == "ok"
    conftest.execute(url, f"ALTER TABLE {table} RENAME TO hidden")
    assert db.state() == postgres_errors.OUTDATED
    conftest.execute(url, f"ALTER TABLE hidden RENAME TO {table}")
    assert db.state() == "ok"
    assert conftest.execute(url, "SELECT count(*) FROM vm_state, vm_history") == [(1,)]
    db.close()


def test_hosts_are_looked_up_before_libpq_would() -> None:
    """Names become addresses beside the name; sockets, addresses that are given and libpq's own are left alone."""
    found = postgres_session.resolved({"dsn": "postgresql://u:p@localhost:5433/n?sslmode=prefer"})
    assert "127.0.0.1" in found["hostaddr"].split(",")
    assert set(found["host"].split(",")) == {"localhost"}
    assert set(found["port"].split(",")) == {"5433"}
    assert (found["user"], found["password"], found["dbname"], found["sslmode"]) == ("u", "p", "n", "prefer")
    two = postgres_session.resolved({"host": "localhost,127.0.0.1", "port": "1,2"})
    assert list(zip(two["host"].split(","), two["port"].split(","), strict=True))[-1] == ("127.0.0.1", "2")
    for given in ({"host": "/run/postgres"}, {"host": "x", "hostaddr": "10.0.0.1"}, {"dbname": "n"}):
        assert postgres_session.resolved(given) == given


def test_a_name_that_is_none_is_an_error_in_time() -> None:
    """And no address is asked for longer than told."""
    db = postgres.Database({"host": "nowhere.invalid"}, timeout=3)
    started = time.monotonic()
    with pytest.raises(errors.DatabaseUnavailable):
        db.run(lambda cursor: cursor.execute("SELECT 1"))
    assert time.monotonic() - started < 15


def test_a_role_without_rights_is_told_what_to_run(url: str) -> None:
    """503, because a migration mends it."""
    conftest.execute(url, "CREATE ROLE powerless LOGIN")
    db = postgres.Database({"dsn": url.replace("postgres@", "powerless@")}, timeout=5)
    with pytest.raises(errors.DatabaseUnavailable, match="migrate` with DB_APP_ROLE"):
        store.Store(db).write([change("a")])
    db.close()
    conftest.execute(url, "DROP ROLE powerless")
