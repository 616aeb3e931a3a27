"""Each statement of each file, on a real Postgres with long histories."""

from __future__ import annotations

import contextlib
import pathlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

import function
from dev import embedded_postgres
from function.clients import postgres, statements
from function.inventory import prune
from function.inventory.reconcile import snapshot
from tests import conftest

ROOM = pathlib.Path(function.__file__).parent
FOLDERS = sorted(path for path in ROOM.rglob("sql") if path.is_dir())
SESSIONS = {"inventory/reconcile/sql": snapshot.NEEDS, "inventory/sql": prune.NEEDS}
"""What a room needs of its sessions, where it has some of its own."""
ABOUT_ALL = {"page"}
"""Rooms that may read all VMs, because people ask about all; planned with the values of each call."""
PREPARED = [
    (folder, each)
    for folder in FOLDERS
    if folder.parent.name not in ABOUT_ALL
    for each in statements.load(folder).by_name.values()
    if each.is_prepared
]
VALUES = {
    "json": '[{"cluster": "east", "namespace": "team", "name": "a"}]',
    "boolean": "true",
    "timestamp with time zone": "2026-11-22 10:00:00+00",
    "text[]": "{a}",
    "bigint[]": "{1}",
    "text": "a",
    "interval": "1 day",
    "pg_snapshot": "10:20:10,14",
    "date": "2026-11-22",
    "smallint": "1",
    "integer": "1",
    "integer[]": "{1}",
    "timestamp with time zone[]": "{2026-11-22 10:00:00+00}",
    "bigint": "1",
    "double precision": "1",
}
NAMED = {"history": "vm_history"}
STATES = ("vm_state", "vm_runtime")
READ_A_STATE = {
    *("count_machines", "count_instances", "read_health", "read_clusters", "count_live", "first_day", "fill_day"),
}
"""They count all rows of a state, or begin at the first one."""
FILL = """
INSERT INTO vm_history (cluster, namespace, name, type, id, kind, version_number, version_time, version_step, shape,
                        digest, effective_at)
SELECT 'east', 'team', 'vm-' || number % 1000, 'x', number::text, 'VirtualMachine', number, '-infinity', 1, 1, 1,
       now() - number * interval '5 minutes'
FROM generate_series(1, 100000) AS number;
INSERT INTO vm_runtime_history (cluster, namespace, name, owner_uid, type, id, version_number, version_time,
                                version_step, shape, digest, effective_at)
SELECT cluster, namespace, name, 'u', type, id, version_number, version_time, version_step, shape, digest, effective_at
FROM vm_history;
INSERT INTO vm_state (cluster, namespace, name, uid, type, id, kind, version_number, version_time, version_step, shape,
                      digest, effective_at)
SELECT cluster, namespace, name, 'u', type, id, kind, version_number, version_time, version_step, shape, digest,
       effective_at
FROM vm_history WHERE version_number <= 1000;
INSERT INTO vm_runtime (cluster, namespace, name, owner_uid, type, id, version_number, version_time, version_step,
                        shape, digest, effective_at)
SELECT cluster, namespace, name, 'u', type, id, version_number, version_time, version_step, shape, digest, effective_at
FROM vm_history WHERE version_number <= 1000;
ANALYZE;
"""
"""1,000 machines and their instances, with 100 versions of each."""


@pytest.fixture(scope="module")
def databases(server: embedded_postgres.Postgres, template: str) -> Iterator[dict[str, str]]:
    """The URLs of a database that was just migrated, and of one with 100,000 rows in each history."""
    urls = {}
    for name, filling in (("fresh", "SELECT"), ("filled", FILL)):
        conftest.execute(server.url(), f"CREATE DATABASE statements_{name} TEMPLATE {template}")
        urls[name] = server.url(database=f"statements_{name}")
        conftest.execute(urls[name], filling)
    yield urls
    for name in urls:
        conftest.execute(server.url(), f"DROP DATABASE statements_{name} WITH (FORCE)")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a plan."""
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def explained(folder: pathlib.Path, statement: statements.Statement, url: str) -> list[dict[str, Any]]:
    """The nodes of the plan, in a session as the statement's room sets it up, which scan a table that is not empty."""
    needs = SESSIONS.get(str(folder.relative_to(ROOM)), postgres.NEEDS)
    with contextlib.closing(conftest.session(url, needs)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DEALLOCATE ALL; {statement.sql}")
        cursor.execute("SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %s", [statement.name])
        [(types,)] = cursor.fetchall()
        given = {name: VALUES[kind] for name, kind in zip(statement.parameters, types, strict=True)} | NAMED
        cursor.execute("EXPLAIN (FORMAT JSON) " + statement.call, given)
        [([found],)] = cursor.fetchall()
        return scans(cursor, found)


def scans(cursor: Any, found: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a plan which scan a table of the ledger that is not empty."""
    cursor.execute("SELECT relname FROM pg_class WHERE reltuples = 0")
    empty = {name for (name,) in cursor.fetchall()}
    every_scan = [node for node in nodes(found["Plan"]) if "Scan" in node["Node Type"]]
    return [
        node
        for node in every_scan
        if node.get("Relation Name", "").startswith("vm_") and node["Relation Name"] not in empty
    ]


@pytest.mark.parametrize("database", ["fresh", "filled"])
@pytest.mark.parametrize(("folder", "statement"), PREPARED, ids=[each.name for _, each in PREPARED])
def test_no_statement_reads_a_table_from_end_to_end(
    folder: pathlib.Path, statement: statements.Statement, database: str, databases: dict[str, str]
) -> None:
    """Each scan of a state or a history has a condition on an index, also where it was planned on empty tables."""
    for node in explained(folder, statement, databases[database]):
        if statement.name in READ_A_STATE and node["Relation Name"] in STATES:
            continue
        assert "Index Cond" in node or "Recheck Cond" in node, node


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOM)))
def test_a_file_can_be_pasted_into_psql(folder: pathlib.Path, url: str, server: embedded_postgres.Postgres) -> None:
    """As it stands; LOCK TABLE wants a transaction, which the end of one within a message ends."""
    for path in folder.glob("*.sql"):
        command = [str(server.binaries / "psql"), url, "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        done = subprocess.run(command, input=path.read_text(), capture_output=True, text=True, check=False)
        said = re.sub(r".*WARNING:  there is (already a|no) transaction in progress\n", "", done.stderr)
        assert (done.returncode, said) == (0, "")
        assert said == done.stderr or "next_transaction" in path.read_text()


def test_a_generic_plan_is_forced_but_not_where_citus_is(url: str) -> None:
    """Citus' coordinator ends where an INSERT ... SELECT on its tables has a generic plan."""
    mode = "SELECT current_setting('plan_cache_mode')"
    install = (
        "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
        " VALUES (999999, 'citus', 10, 2200, false, '14.0')"
    )
    for expected in ("force_generic_plan", "auto"):
        with contextlib.closing(conftest.session(url)) as connection, connection.cursor() as cursor:
            cursor.execute(mode)
            assert cursor.fetchall() == [(expected,)]
        if expected != "auto":
            conftest.execute(url, install)


PAST = {
    "one machine": "virtual_machines_at(now() - interval '180 days')"
    " WHERE cluster = 'east' AND namespace = 'team' AND name = 'vm-7'",
    "one namespace": "virtual_machines_at(now() - interval '180 days') WHERE cluster = 'east' AND namespace = 'shop'",
    "the changes of one machine": "vm_changes WHERE cluster = 'east' AND namespace = 'team' AND name = 'vm-7'",
}


@pytest.mark.parametrize("asked", PAST.values(), ids=list(PAST))
def test_a_filter_on_the_past_reaches_the_indexes(asked: str, databases: dict[str, str]) -> None:
    """In anybody's session: the function is planned as part of the query that names it."""
    with contextlib.closing(psycopg2.connect(databases["filled"])) as connection, connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT * FROM {asked}")
        [([found],)] = cursor.fetchall()
        read = scans(cursor, found)
    conditions = [node.get("Index Cond", node.get("Recheck Cond", "")) for node in read]
    assert all("namespace" in condition for condition in conditions), read
    assert conditions
