"""The schema comes up to date from anything that was there before, and nothing is lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2.extensions
import pytest

from dev import embedded_postgres
from function import errors, events, grants, migrate, settings
from function.cli import migrate as migrate_command
from function.clients import postgres
from function.inventory import prune
from function.inventory.mapping import versions, vm
from function.inventory.storage import store
from tests import conftest

Make = Callable[..., str]
ADD, UPDATE, DELETE = list(versions.STEPS)[:3]


def run(url: str, **environ: str) -> str:
    """Migrate; return what the command says."""
    done = migrate.run(settings.Settings.from_env({"DATABASE_URL": url, **environ}))
    return "".join(f"{line}\n" for line in migrate_command.lines(done))


def test_from_nothing_and_again(new_database: Make) -> None:
    """The first run applies, the second says that there is nothing to do."""
    url = new_database()
    assert "applied 0001.ledger" in run(url)
    assert run(url) == "the schema is up to date\n"


def test_from_every_earlier_version(new_database: Make, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that stopped after any number of migrations comes up to date, with its rows."""
    names, stopped = postgres.migrations(), new_database()
    for name in names:
        url = new_database(psycopg2.extensions.parse_dsn(stopped)["dbname"])
        run(url)
        applied = conftest.execute(url, "SELECT migration_id FROM _yoyo_migration ORDER BY 1")
        assert [name for (name,) in applied] == names
        (tmp_path / f"{name}.sql").symlink_to(postgres.MIGRATIONS / f"{name}.sql")
        with monkeypatch.context() as patch:
            patch.setattr(postgres, "MIGRATIONS", tmp_path)
            patch.setattr(prune, "add_months", lambda _: [])  # as these versions had none
            assert f"applied {name}" in run(stopped)


def test_what_was_overtaken_before_is_marked(
    new_database: Make, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A history from before the months: what a later version was dated before was never in force."""
    url = new_database()
    for name in postgres.migrations()[:3]:
        (tmp_path / f"{name}.sql").symlink_to(postgres.MIGRATIONS / f"{name}.sql")
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "MIGRATIONS", tmp_path)
        patch.setattr(prune, "add_months", lambda _: [])
        run(url)
    conftest.execute(
        url,
        "INSERT INTO vm_history (type, id, kind, name, namespace, cluster, version_number, version_time, version_step,"
        " shape, digest, time) SELECT 't', v::text, 'k', 'web', 'shop', 'east', v, '-infinity', 1, 1, v,"
        " now() - days * interval '1 day' FROM (VALUES (1, 9), (2, 5), (3, 7), (4, 5), (5, 1)) AS given (v, days)",
    )
    run(url)
    assert conftest.execute(url, "SELECT version_number FROM vm_history WHERE overtaken") == [(2,)]


@pytest.mark.parametrize(("before", "after"), [("SELECT", "off"), ("ALTER DATABASE {} SET jit = on", "on")])
def test_the_database_does_not_compile_queries(before: str, after: str, new_database: Make) -> None:
    """Unless somebody has decided about that."""
    url = new_database()
    name = psycopg2.extensions.parse_dsn(url)["dbname"]
    conftest.execute(url, before.format(name))
    run(url)
    assert conftest.execute(url, "SHOW jit") == [(after,)]


def test_two_at_once_take_turns(new_database: Make) -> None:
    """Both succeed, and each migration is applied once."""
    url = new_database()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: _process(url), range(4)))
    assert [process.returncode for process in said] == [0] * 4, [process.stderr for process in said]
    assert sum("applied 0001.ledger" in process.stdout for process in said) == 1


def _process(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "function", "migrate"]
    return subprocess.run(command, env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, check=False)


def test_a_lock_left_by_a_killed_migration_does_not_hold(new_database: Make) -> None:
    """Yoyo's own lock is a row that outlives its process."""
    url = new_database()
    run(url)
    conftest.execute(url, "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")
    assert run(url) == "the schema is up to date\n"


def test_a_user_without_a_name_migrates(new_database: Make) -> None:
    """In a container the user is a number, of the image or of OpenShift's choice, that /etc/passwd does not know."""
    url = new_database()
    nobody = {name: value for name, value in os.environ.items() if name not in ("LOGNAME", "USER", "LNAME", "USERNAME")}
    nameless = "import pwd, runpy; pwd.getpwuid = {}.__getitem__; runpy.run_module('function', run_name='__main__')"
    process = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['function', 'migrate']; {nameless}"],
        env={**nobody, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "applied 0001.ledger" in process.stdout


def test_a_migration_that_is_not_noted_is_not_applied(new_database: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended between the two, it can be run again: both are one transaction."""
    url = new_database()

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(migrate._Backend, "mark_one", ended)
        with pytest.raises(KeyboardInterrupt):
            run(url)
    assert "applied 0001.ledger" in run(url)


@pytest.fixture
def role(server: embedded_postgres.Postgres) -> Iterator[str]:
    """A role that may log in and nothing else."""
    conftest.execute(server.url(), "CREATE ROLE ledger_app LOGIN")
    yield "ledger_app"
    conftest.execute(server.url(), "DROP OWNED BY ledger_app")
    conftest.execute(server.url(), "DROP ROLE ledger_app")


def test_the_application_s_role_can_do_its_work_and_no_more(new_database: Make, role: str) -> None:
    """It stores events; it cannot delete, truncate, drop or create."""
    url = new_database()
    run(url, DB_APP_ROLE=role)
    mine = url.replace("postgres@", f"{role}@")
    event = events.Event({"id": "1", "type": ADD, "name": "a", "namespace": "b", "resourceversion": "1"}, None)
    db = postgres.Database({"dsn": mine}, timeout=5)
    assert store.Store(db).write([vm.change(event, cluster_name="c")]) == [store.Outcome.STORED]
    db.close()
    for sql in (
        "DELETE FROM vm_history",
        "TRUNCATE vm_state",
        "DROP VIEW virtual_machines",
        "CREATE TABLE x ()",
        "ALTER TABLE vm_state ADD x int",
        "DELETE FROM _yoyo_migration",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            conftest.execute(mine, sql)
    conftest.execute(url, f"DROP OWNED BY {role}")


def test_the_application_s_role_reads_what_people_read(new_database: Make, role: str) -> None:
    """The view, and the function that shows it as it was; also where functions are not for everybody."""
    url = new_database()
    conftest.execute(url, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM public")
    run(url, DB_APP_ROLE=role)
    mine = url.replace("postgres@", f"{role}@")
    assert conftest.execute(mine, "SELECT count(*) FROM virtual_machines") == [(0,)]
    assert conftest.execute(mine, "SELECT count(*) FROM virtual_machines_at(now())") == [(0,)]
    conftest.execute(url, f"DROP OWNED BY {role}")
    conftest.execute(url, "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO public")


def test_the_application_s_role_loses_what_it_does_not_need(new_database: Make, role: str) -> None:
    """Whatever it was given before, on tables, on columns and on the months."""
    url = new_database()
    run(url)
    month = "vm_history_before"
    for rights in (
        "DELETE, TRUNCATE ON vm_state",
        "SELECT ON _yoyo_log",
        f"INSERT ON {month}",
        "UPDATE (error) ON reconcile_runs",
        "DELETE ON _yoyo_migration",
    ):
        conftest.execute(url, f"GRANT {rights} TO {role}")
    run(url, DB_APP_ROLE=role)
    held = "SELECT relname FROM pg_class, aclexplode(relacl) WHERE grantee = %s::regrole AND privilege_type = %s"
    assert (month,) not in conftest.execute(url, held, [role, "INSERT"])
    assert ("_yoyo_log",) not in conftest.execute(url, held, [role, "SELECT"])
    assert conftest.execute(url, held, [role, "TRUNCATE"]) == []
    deletable = {name for (name,) in conftest.execute(url, held, [role, "DELETE"])}
    assert deletable == {table for table, rights in grants.RIGHTS.items() if "DELETE" in rights}
    columns = "SELECT count(*) FROM pg_attribute WHERE attacl::text LIKE %s"
    assert conftest.execute(url, columns, [f"%{role}%"]) == [(0,)]
    conftest.execute(url, f"DROP OWNED BY {role}")


@pytest.fixture
def owner(server: embedded_postgres.Postgres, new_database: Make) -> Iterator[str]:
    """The URL of an empty database, as its owner, who is no superuser."""
    url = new_database()
    conftest.execute(server.url(), "CREATE ROLE ledger_owner LOGIN")
    conftest.execute(url, "ALTER SCHEMA public OWNER TO ledger_owner")
    yield url.replace("postgres@", "ledger_owner@")
    conftest.execute(url, "DROP OWNED BY ledger_owner")
    conftest.execute(server.url(), "DROP ROLE ledger_owner")


@pytest.mark.parametrize("first", [True, False])
def test_the_owner_is_not_the_application_s_role(owner: str, *, first: bool) -> None:
    """It would lose rights by that; at the first migration and at a later one, and nothing is done."""
    if not first:
        run(owner)
    with pytest.raises(errors.Refused, match="DB_APP_ROLE names the owner of the tables"):
        run(owner, DB_APP_ROLE="ledger_owner")
    found = "SELECT has_table_privilege('ledger_owner', to_regclass('vm_state'), 'DELETE, TRUNCATE')"
    assert conftest.execute(owner, found) == [(None,)] if first else [(True,)]


def test_the_owner_gets_back_what_was_taken(owner: str, role: str) -> None:
    """By an earlier version, to which the owner was a role like any other."""
    run(owner)
    tables = conftest.execute(owner, "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v')"
        " AND relnamespace = 'public'::regnamespace")  # fmt: skip
    for table in ("vm_state", "vm_history", "clusters", "_yoyo_migration"):
        conftest.execute(owner, f"REVOKE ALL ON {table} FROM ledger_owner; GRANT SELECT ON {table} TO ledger_owner")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        conftest.execute(owner, "INSERT INTO _yoyo_migration (migration_hash) VALUES ('x')")
    assert "gave the tables' owner back" in run(owner, DB_APP_ROLE=role)
    for (table,) in tables:
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
            held = conftest.execute(owner, "SELECT has_table_privilege(%s, %s)", [f"public.{table}", right])
            assert held == [(True,)], (table, right)
    assert run(owner) == "the schema is up to date\n"
    conftest.execute(owner.replace("ledger_owner@", "postgres@"), f"DROP OWNED BY {role}")


@pytest.mark.parametrize("name", ["public", "PUBLIC", "none", "pg_write_all_data"])
def test_everybody_is_not_the_application_s_role(new_database: Make, name: str) -> None:
    """Nor is another role that Postgres has by itself."""
    url = new_database()
    with pytest.raises(errors.Refused, match="DB_APP_ROLE names a role of Postgres itself"):
        run(url, DB_APP_ROLE=name)
    assert conftest.execute(url, "SELECT to_regclass('vm_state')") == [(None,)]


def test_public_loses_what_an_earlier_migration_gave(new_database: Make, role: str) -> None:
    """Only where it could write: that everybody may read the ledger can be somebody's wish."""
    url = new_database()
    run(url)
    mine = url.replace("postgres@", f"{role}@")
    conftest.execute(url, "GRANT SELECT ON vm_state TO public")
    assert run(url) == "the schema is up to date\n"
    assert conftest.execute(mine, "SELECT count(*) FROM vm_state") == [(0,)]
    conftest.execute(url, "GRANT SELECT, INSERT, UPDATE ON vm_state, vm_history TO public")
    assert "took the rights on the tables from public" in run(url)
    for sql in ("SELECT count(*) FROM vm_state", "UPDATE vm_history SET id = 'x'"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            conftest.execute(mine, sql)


def test_a_role_that_may_not_create_is_told_what_it_needs(new_database: Make, role: str) -> None:
    """Not in the words of the database."""
    with pytest.raises(errors.Refused, match="the database role may not migrate"):
        run(new_database().replace("postgres@", f"{role}@"))


def test_a_database_that_cannot_hold_every_text_is_refused(server: embedded_postgres.Postgres) -> None:
    """Its encoding would refuse names, and order them otherwise."""
    conftest.execute(server.url(), "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(errors.Refused, match="LATIN1"):
        run(server.url(database="latin"))
    conftest.execute(server.url(), "DROP DATABASE latin")


def test_a_role_that_does_not_exist_is_a_sentence(new_database: Make) -> None:
    """It names the variable."""
    with pytest.raises(errors.Refused, match="DB_APP_ROLE names a role that does not exist"):
        run(new_database(), DB_APP_ROLE="nobody-here")


PUBLISHED = """
CREATE TABLE virtual_machines (type {text}, id {text}, kind {text}, name {text}, namespace {text}, time {time},
    cpucores {number}, cpusockets {number}, memory {text}, storageclass {text}, network {text})
"""


@pytest.mark.parametrize(
    ("text", "time", "number"),
    [("varchar(255)", "timestamptz", "int"), ("text", "text", "text"), ("text", "timestamp", "bigint")],
)
def test_the_published_table_is_kept_and_imported(new_database: Make, text: str, time: str, number: str) -> None:
    """Its rows are the history's beginning; the state is the newest of them; what names no VM is counted."""
    url = new_database()
    conftest.execute(url, PUBLISHED.format(text=text, time=time, number=number))
    rows = [
        (ADD, "1", "VirtualMachine", "a", "ns", "2025-04-10T08:59:25.407Z", "1", "2", "2Gi", "", "default"),
        (ADD, "1", "VirtualMachine", "a", "ns", "2025-04-10T08:59:25.407Z", "1", "2", "2Gi", "", "default"),
        (DELETE, "3", "VirtualMachine", "b", "ns", "2025-04-10T09:09:48.276Z", "1", "1", "2Gi", None, "default"),
        (ADD, "2", "VirtualMachine", "b", "ns", "2025-04-10T08:59:26.695Z", "0", "0", "", "", ""),
        (ADD, "4", None, None, None, None, "0", "0", None, None, None),
        (ADD, "5", "Pod", "pod", "ns", "2025-04-10T08:59:26.695Z", "0", "0", None, None, None),
    ]
    for row in rows:
        conftest.execute(url, f"INSERT INTO virtual_machines VALUES ({', '.join(['%s'] * 11)})", row)
    said = run(url, CLUSTER_NAME="old")
    assert "imported 4 rows of the published table" in said
    assert "left out 2 rows" in said
    assert conftest.execute(url, "SELECT count(*) FROM virtual_machines_published") == [(6,)]
    columns = "cluster, name, cpucores, cpusockets, vcpus, memory_bytes, storageclass, network, extract(year from time)"
    assert conftest.execute(url, f"SELECT {columns} FROM virtual_machines") == [
        ("old", "a", 1, 2, 2, 2**31, None, "default", 2025)
    ]
    history = conftest.execute(url, "SELECT id, vcpus FROM vm_history ORDER BY id")
    assert history == [("1", 2), ("2", None), ("3", 1)]
    assert run(url) == "the schema is up to date\n"


def test_a_large_published_table_is_imported_in_pages(new_database: Make) -> None:
    """More rows than fit a page, and none is forgotten."""
    url = new_database()
    conftest.execute(url, PUBLISHED.format(text="text", time="text", number="int"))
    count = 3 * migrate.PAGE + 7
    conftest.execute(
        url,
        "INSERT INTO virtual_machines SELECT %s, n::text, 'VirtualMachine', 'vm-' || n, 'ns',"
        " '2025-04-10 08:59:25.407', 1, 1, '1Gi', NULL, 'default' FROM generate_series(1, %s) n",
        [ADD, count],
    )
    run(url)
    assert conftest.execute(url, "SELECT count(*) FROM virtual_machines") == [(count,)]


def test_months_wait_for_nobody(new_database: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody reads the history for an hour, and a month has gone by: events would wait behind the new one's table."""
    url = new_database()
    run(url)
    monkeypatch.setattr(prune, "MONTHS_AHEAD", prune.MONTHS_AHEAD + 1)
    with contextlib.closing(conftest.session(url)) as reader, reader.cursor() as cursor:
        cursor.execute("BEGIN; SELECT count(*) FROM vm_history")
        assert "left the tables of the coming months to the next prune" in run(url)
    assert "left" not in run(url)
    following = (datetime.datetime.now(datetime.UTC).replace(day=1) + datetime.timedelta(days=125)).strftime("%Y_%m")
    assert conftest.execute(url, f"SELECT to_regclass('vm_history_{following}') IS NOT NULL") == [(True,)]


def test_another_table_of_that_name_stops_the_migration(new_database: Make) -> None:
    """What is not the published table is not touched."""
    url = new_database()
    conftest.execute(url, "CREATE TABLE virtual_machines (mine int)")
    with pytest.raises(errors.DatabaseUnavailable, match="rename it, then migrate again"):
        run(url)
    assert conftest.execute(url, "SELECT count(*) FROM virtual_machines") == [(0,)]


def test_an_older_schema_is_503_until_it_is_migrated(new_database: Make) -> None:
    """The sentence says what to do; afterwards the same door works, without a restart."""
    url = new_database()
    db = postgres.Database({"dsn": url}, timeout=5)
    tables = store.Store(db)
    event = events.Event({"id": "1", "type": ADD, "name": "a", "namespace": "b", "resourceversion": "1"}, None)
    change = vm.change(event, cluster_name="c")
    with pytest.raises(errors.SchemaOutdated, match="run `python -m function migrate`"):
        tables.write([change])
    assert "older than this function needs" in db.state()
    run(url)
    assert tables.write([change]) == [store.Outcome.STORED]
    assert db.state() == "ok"
    db.close()


def test_the_command_says_in_one_line_what_is_wrong() -> None:
    """No database named, or none there: a sentence and exit code 1, without a traceback or a password."""
    for environ, sentence in (
        ({}, "no database is configured"),
        ({"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, "connection refused"),
        ({"DB_PORT": "x"}, "DB_PORT must be a whole number"),
    ):
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("DB_", "DATABASE_", "PG"))}
        command = [sys.executable, "-m", "function", "migrate"]
        done = subprocess.run(command, env={**clean, **environ}, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "hunter2" not in done.stderr
