"""The ledger's tables hold what they promise."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import psycopg2.extensions
import pytest

from function import errors, events
from function.clients import postgres
from function.inventory.mapping import versions, vm
from function.inventory.storage import store

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
Query = Callable[..., list[tuple[Any, ...]]]
Outcome = store.Outcome

PUBLISHED = "type, id, kind, name, namespace, time, cpucores, cpusockets, memory, storageclass, network"
OURS = (
    "cluster, uid, resource_version, generation, cputhreads, vcpus, memory_bytes, instancetype, preference,"
    " run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, created_at, updated_at,"
    " node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at, cpu_source, memory_source,"
    " owner"
)
COLUMNS = "FROM information_schema.columns WHERE table_name = 'virtual_machines'"


def change(kind: str = ADD, version: int | None = 1, *, uid: str = "u1", **attributes: Any) -> versions.Change:
    """A change of the VM team/a."""
    metadata = {"name": "a", "namespace": "team", "uid": uid, "labels": {"x": "y"}}
    if version is not None:
        metadata["resourceVersion"] = str(version)
    time = events.parse_time(f"2026-11-22T10:00:{(version or 0) % 60:02d}Z", "time")
    known = {"id": f"e{version}", "type": kind, "time": time, "specversion": "1.0", "source": "s", **attributes}
    return vm.change(events.Event(known, {"metadata": metadata}), cluster_name="east")


def flat(kind: str, second: int) -> versions.Change:
    """A flat change of the same VM, which carries no resource version."""
    time = events.parse_time(f"2026-11-23T10:00:{second:02d}Z", "time")
    known = {"id": f"f{second}", "type": kind, "time": time, "name": "a", "namespace": "team"}
    return vm.change(events.Event(known, None), cluster_name="east")


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The store over a fresh database."""
    return store.Store(db)


def test_the_view_has_the_published_columns_first(query: Query) -> None:
    """Whoever read the published example's table reads this one."""
    [(names,)] = query(f"SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) {COLUMNS}")
    assert names == f"{PUBLISHED}, {OURS}"


def test_times_sizes_and_labels_have_their_types(query: Query) -> None:
    """timestamptz, bigint, jsonb."""
    rows: dict[str, str] = dict(query(f"SELECT column_name, data_type {COLUMNS}"))
    for name in ("time", "created_at", "updated_at"):
        assert rows[name] == "timestamp with time zone"
    for name in ("resource_version", "generation", "memory_bytes", "disk_bytes"):
        assert rows[name] == "bigint"
    assert rows["labels"] == "jsonb"


def test_a_life_is_told(tables: store.Store, query: Query) -> None:
    """Add, update, delete: the row lives, changes and goes; the history keeps all three."""
    assert tables.write([change(ADD, 1)]) == [Outcome.STORED]
    assert tables.write([change(UPDATE, 2)]) == [Outcome.STORED]
    assert query("SELECT resource_version, type, labels FROM virtual_machines") == [(2, UPDATE, {"x": "y"})]
    assert tables.write([change(DELETE, 3)]) == [Outcome.STORED]
    assert query("SELECT * FROM virtual_machines") == []
    [(deleted_at,)] = query("SELECT deleted_at FROM vm_state")
    assert deleted_at == datetime.datetime(2026, 11, 22, 10, 0, 3, tzinfo=datetime.UTC)
    assert query("SELECT resource_version FROM vm_history ORDER BY 1") == [(1,), (2,), (3,)]


def test_an_update_after_the_delete_raises_nobody(tables: store.Store, query: Query) -> None:
    """The tombstone keeps the late update out of the state; the history has it."""
    tables.write([change(DELETE, 3)])
    before = query("SELECT * FROM vm_state")
    assert tables.write([change(UPDATE, 2)]) == [Outcome.LATE]
    assert query("SELECT * FROM vm_state") == before
    assert query("SELECT count(*) FROM vm_history") == [(2,)]


def test_the_old_vm_s_late_delete_does_not_touch_the_new(tables: store.Store, query: Query) -> None:
    """Same name, new uid: a new VM."""
    tables.write([change(ADD, 1, uid="old")])
    tables.write([change(ADD, 9, uid="new")])
    assert tables.write([change(DELETE, 5, uid="old")]) == [Outcome.LATE]
    assert query("SELECT uid FROM virtual_machines") == [("new",)]
    assert query("SELECT uid, resource_version FROM vm_history ORDER BY 2") == [("old", 1), ("old", 5), ("new", 9)]


def test_the_same_event_twice_is_one(tables: store.Store, query: Query) -> None:
    """And the second says that it was one."""
    assert tables.write([change(ADD, 1)]) == [Outcome.STORED]
    assert tables.write([change(ADD, 1), change(ADD, 1)]) == [Outcome.DUPLICATE] * 2
    assert query("SELECT count(*) FROM vm_history") == [(1,)]


def test_twice_in_one_batch_is_one(tables: store.Store, query: Query) -> None:
    """Of two sends of one change, with different ids, the smaller id is kept."""
    outcomes = tables.write([change(ADD, 1, id="b"), change(ADD, 1, id="a")])
    assert outcomes == [Outcome.DUPLICATE, Outcome.STORED]
    assert query("SELECT id FROM vm_history") == [("a",)]


def test_an_object_replaces_the_flat_form_of_the_same_version(tables: store.Store, query: Query) -> None:
    """The shape that carries more is kept, whichever came first."""
    thin = vm.change(
        events.Event({"id": "0", "type": ADD, "name": "a", "namespace": "team", "resourceversion": "1"}, None),
        cluster_name="east",
    )
    assert tables.write([thin]) == [Outcome.STORED]
    assert tables.write([change(ADD, 1)]) == [Outcome.STORED]
    assert tables.write([thin]) == [Outcome.DUPLICATE]
    assert query("SELECT uid FROM virtual_machines") == query("SELECT uid FROM vm_history") == [("u1",)]


def test_events_without_a_resource_version_do_not_move_a_vm_that_has_one(tables: store.Store, query: Query) -> None:
    """They are outranked, however late their time; before it is tracked they count by time."""
    assert tables.write([flat(ADD, 1)]) == [Outcome.STORED]
    assert tables.write([flat(UPDATE, 2)]) == [Outcome.STORED]
    assert tables.write([change(UPDATE, 1)]) == [Outcome.STORED]
    assert tables.write([flat(DELETE, 9)]) == [Outcome.OUTRANKED]
    assert query("SELECT id FROM virtual_machines") == [("e1",)]
    assert query("SELECT count(*) FROM vm_history") == [(4,)]


def test_clusters_stand_side_by_side(tables: store.Store, query: Query) -> None:
    """The same namespace and name in two clusters are two VMs."""
    tables.write([change(ADD, 1), change(ADD, 1, cluster="west")])
    tables.write([change(DELETE, 2, cluster="west")])
    assert query("SELECT cluster FROM virtual_machines") == [("east",)]


def test_a_batch_is_stored_all_or_none(tables: store.Store, query: Query, url: str) -> None:
    """A value that the database refuses takes its whole transaction with it."""
    query("ALTER TABLE vm_history ADD CHECK (id <> 'poison')")
    with pytest.raises(errors.BadEvent, match="SQLSTATE 23514"):
        tables.write([change(ADD, 1), change(UPDATE, 2, id="poison", cluster="west")])
    assert query("SELECT count(*) FROM vm_state") == [(0,)]
    assert query("SELECT count(*) FROM vm_history") == [(0,)]


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_batch_is_one_round_trip(db: postgres.Database, size: int) -> None:
    """Whatever its size."""
    tables = store.Store(db)
    tables.write([change(ADD, 1)])
    sent = []
    run = db.run

    class Counting(psycopg2.extensions.cursor):
        def execute(self, *arguments: Any) -> None:
            sent.append(arguments)
            super().execute(*arguments)

    def counting(work: Callable[[Any], Any], **options: Any) -> Any:
        return run(lambda cursor: work(cursor.connection.cursor(cursor_factory=Counting)), **options)

    db.run = counting  # type: ignore[method-assign]
    outcomes = tables.write([change(ADD, 2, cluster=f"c{number}") for number in range(size)])
    assert outcomes == [Outcome.STORED] * size
    assert len(sent) == 1


def test_a_name_that_is_sql_is_a_name(tables: store.Store, query: Query) -> None:
    """Nothing of an event is ever part of a statement's text."""
    name = "'); DROP TABLE vm_state; --"
    event = events.Event({"id": "\\'", "type": ADD, "name": name, "namespace": '"%s', "resourceversion": "1"}, None)
    tables.write([vm.change(event, cluster_name="east")])
    assert query("SELECT name, namespace, id FROM virtual_machines") == [(name, '"%s', "\\'")]


def test_updates_stay_on_their_page(tables: store.Store, query: Query) -> None:
    """An update of a VM touches no index (HOT), because nothing that is indexed changes."""
    tables.write([change(ADD, 1)])
    for version in range(2, 22):
        tables.write([change(UPDATE, version)])
    query("SELECT pg_stat_force_next_flush()")
    tables.write([change(UPDATE, 30)])
    [(updates, hot)] = query("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'vm_state'")
    assert updates == hot
