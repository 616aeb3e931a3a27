"""Machines and their running instances: events of both, in any order, give the same ledger."""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from function import errors, events
from function.clients import postgres
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import shared_write, store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
RUNTIME = "node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at"
TABLES = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history")


def attributes(kind: str, version: int, place: str) -> dict[str, Any]:
    """The attributes of an event that was sent when the cluster was at ``version``."""
    time = events.parse_time(f"2026-11-22T10:{version // 60 % 60:02d}:{version % 60:02d}Z", "time")
    return {"id": f"{place}{version}", "type": kind, "time": time, "specversion": "1.0", "source": "s"}


def machine(kind: str, version: int, *, name: str = "a", uid: str = "u1", sized: bool = False) -> versions.Change:
    """A change of the VM team/``name``: of an instancetype, or with sizes of its own."""
    metadata = {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version)}
    domain = {"cpu": {"cores": 2}, "memory": {"guest": "1Gi"}}
    spec = {"template": {"spec": {"domain": domain}}} if sized else {"instancetype": {"name": "u1.small"}}
    found = {"metadata": metadata, "spec": spec}
    return vm.change(events.Event(attributes(kind, version, "m"), found), cluster_name="east")


def running(
    kind: str, version: int, *, name: str = "a", owner: str = "u1", node: str | None = "node-1", **status: Any
) -> versions.Change:
    """A change of the instance of the VM team/``name``."""
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"i{owner}",
        "resourceVersion": str(version),
        "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": owner}],
    }
    known = {"nodeName": node, "phase": "Running", "interfaces": [{"ipAddress": f"10.0.0.{version % 250}"}], **status}
    found = {
        "metadata": metadata,
        "spec": {"domain": {"cpu": {"cores": 4}, "memory": {"guest": "8Gi"}}},
        "status": known,
    }
    change = instance.change(events.Event(attributes(kind, version, "i"), found), cluster_name="east")
    assert change is not None
    return change


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The store over a fresh database."""
    return store.Store(db)


def write(tables: store.Store, change: versions.Change) -> store.Outcome:
    """Store one change, of whichever kind."""
    [outcome] = tables.write([change])
    return outcome


def ledger(query: Query) -> tuple[list[tuple[Any, ...]], ...]:
    """What the two tables say, but for when it was written."""
    return (
        query(f"SELECT name, uid, version_number, {RUNTIME} FROM vm_state ORDER BY 1"),
        query("SELECT name, vcpus, memory_bytes, cpu_source FROM virtual_machines ORDER BY 1"),
        query("SELECT name, owner_uid, version_number, node, phase FROM vm_runtime ORDER BY 1, 2"),
    )


def test_an_instance_says_where_its_machine_runs(tables: store.Store, query: Query) -> None:
    """In the state and in the view; the sizes of an instancetype's machine come from there."""
    write(tables, machine(ADD, 1))
    write(tables, running(ADD, 2, guestOSInfo={"prettyName": "Fedora Linux 42"}))
    assert query(f"SELECT {RUNTIME}, vcpus, memory_bytes, cpu_source, memory_source FROM virtual_machines") == query(
        "SELECT 'node-1', '{10.0.0.2}'::text[], 'Fedora Linux 42', 'Running', 4, 8589934592,"
        " '2026-11-22 10:00:02+00'::timestamptz, 4, 8589934592, 'instance', 'instance'"
    )


def test_the_sizes_of_the_machine_itself_come_first(tables: store.Store, query: Query) -> None:
    """What the machine asks for stays apart from what runs, as while sockets are plugged in."""
    write(tables, machine(ADD, 1, sized=True))
    write(tables, running(ADD, 2))
    assert query("SELECT vcpus, live_vcpus, cpu_source, memory_bytes, memory_source FROM virtual_machines") == [
        (2, 4, "spec", 2**30, "spec")
    ]


def test_what_is_gone_leaves_what_was_known(tables: store.Store, query: Query) -> None:
    """Node and addresses stay, and when they were seen."""
    write(tables, machine(ADD, 1))
    write(tables, running(ADD, 2))
    write(tables, running(DELETE, 5))
    assert query("SELECT phase, node, ip_addresses, runtime_seen_at::text FROM virtual_machines") == [
        ("Gone", "node-1", ["10.0.0.5"], "2026-11-22 10:00:05+00")
    ]


@pytest.mark.parametrize("order", range(4))
def test_what_is_gone_keeps_what_was_last_known(order: int, tables: store.Store, query: Query) -> None:
    """Also where the delete does not repeat it, and whatever came last."""
    given = [
        machine(ADD, 1),
        running(ADD, 2, guestOSInfo={"prettyName": "Fedora Linux 42"}),
        running(UPDATE, 4, node="node-2", interfaces=[]),
        running(DELETE, 5, node=None, interfaces=None, phase="Succeeded"),
    ]
    for change in [*given[order:], *given[:order]]:
        write(tables, change)
    assert query("SELECT phase, node, ip_addresses, guest_os, live_vcpus FROM virtual_machines") == [
        ("Gone", "node-2", ["10.0.0.2"], "Fedora Linux 42", 4)
    ]
    then = "SELECT phase, node, ip_addresses FROM virtual_machines_at('2026-11-22 10:00:05Z')"
    assert query(then) == [("Gone", "node-2", ["10.0.0.2"])]
    write(tables, running(ADD, 9, owner="u1", node="node-3"))
    assert query("SELECT phase, node FROM virtual_machines") == [("Running", "node-3")]
    assert query(then) == [("Gone", "node-2", [])], "as the version before it said"


def test_what_no_list_held_is_gone_with_what_was_known(tables: store.Store, query: Query) -> None:
    """Its events come after the list that did not hold it."""
    write(tables, machine(ADD, 1))
    query(
        "INSERT INTO clusters (cluster, instances_version, instances_time) VALUES ('east', 20, '2026-11-22 10:00:20Z')"
    )
    for late in (running(UPDATE, 7, node="node-2"), running(ADD, 5), running(UPDATE, 9, node="node-3")):
        write(tables, late)
    assert query("SELECT phase, node, ip_addresses FROM virtual_machines") == [("Gone", "node-3", ["10.0.0.9"])]


def test_what_is_gone_keeps_nothing_of_the_former_machine(tables: store.Store, query: Query) -> None:
    """Where all that is known of it is that a list did not hold it, and that it had no node."""
    for change in (machine(ADD, 1), running(ADD, 2), machine(UPDATE, 5, uid="u2")):
        write(tables, change)
    query(
        "INSERT INTO clusters (cluster, instances_version, instances_time) VALUES ('east', 20, '2026-11-22 10:00:20Z')"
    )
    for change in (running(UPDATE, 7, owner="u2", node=None, interfaces=None), running(UPDATE, 8)):
        write(tables, change)
    write(tables, machine(UPDATE, 40, uid="u3"))
    then = "SELECT uid, phase, node, ip_addresses FROM virtual_machines_at('2026-11-22 10:00:25Z')"
    assert query(then) == [("u2", "Gone", None, None)]


def test_an_instance_comes_before_its_machine(tables: store.Store, query: Query) -> None:
    """Its facts wait for the machine."""
    assert write(tables, running(ADD, 2)) is store.Outcome.STORED
    assert query("SELECT count(*) FROM vm_state") == [(0,)]
    write(tables, machine(ADD, 1))
    assert query("SELECT node, phase FROM virtual_machines") == [("node-1", "Running")]


def test_a_machine_of_the_same_name_has_nothing_of_the_former(tables: store.Store, query: Query) -> None:
    """By uid, not by name; the former's late events change nothing."""
    for change in (machine(ADD, 1), running(ADD, 2), machine(UPDATE, 5, uid="u2"), running(DELETE, 6)):
        write(tables, change)
    assert query("SELECT uid, node, phase FROM virtual_machines") == [("u2", None, None)]
    write(tables, running(ADD, 7, owner="u2", node="node-2"))
    write(tables, running(UPDATE, 8))
    assert query("SELECT uid, node, phase FROM virtual_machines") == [("u2", "node-2", "Running")]


def test_late_news_of_an_instance_changes_nothing(tables: store.Store, query: Query) -> None:
    """By its own resource version."""
    write(tables, machine(ADD, 1))
    write(tables, running(UPDATE, 9, node="node-2"))
    assert write(tables, running(UPDATE, 8, node="node-1")) is store.Outcome.LATE
    assert write(tables, running(UPDATE, 9, node="node-2")) is store.Outcome.DUPLICATE
    assert query("SELECT node FROM virtual_machines") == [("node-2",)]
    assert query("SELECT node FROM vm_runtime_history ORDER BY version_number") == [("node-1",), ("node-2",)]


LIVES = st.lists(
    st.builds(
        lambda make, step, version, name, owner: make(step, version, name, owner),
        st.sampled_from(
            [
                lambda step, version, name, owner: machine(step, version, name=name, uid=owner),
                lambda step, version, name, owner: machine(step, version, name=name, uid=owner, sized=True),
                lambda step, version, name, owner: running(
                    step, version, name=name, owner=owner, node=f"node-{version % 3}"
                ),
                lambda step, version, name, owner: running(
                    step, version, name=name, owner=owner, guestOSInfo={"prettyName": f"Fedora Linux {version}"}
                ),
            ]
        ),
        st.sampled_from([ADD, UPDATE, DELETE]),
        st.integers(1, 30),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["u1", "u2"]),
    ),
    max_size=14,
)


@hypothesis.given(given=LIVES, order=st.randoms(use_true_random=False))
def test_events_of_both_in_any_order_give_the_same_ledger(
    given: list[versions.Change], order: random.Random, db: postgres.Database, query: Query
) -> None:
    """However many at once. And the state of each machine is what the newest instance of its uid says."""
    tables = store.Store(db)
    query(conftest.emptying(*TABLES))
    for change in given:
        write(tables, change)
    first = ledger(query)
    again = [*given, *order.choices(given, k=len(given))] if given else []
    order.shuffle(again)
    query(conftest.emptying(*TABLES))
    while again:
        size = order.randint(1, 5)
        tables.write(again[:size])
        del again[:size]
    assert ledger(query) == first
    assert query(
        "SELECT count(*) FROM vm_state AS s LEFT JOIN vm_runtime AS i"
        " ON (i.cluster, i.namespace, i.name, i.owner_uid) = (s.cluster, s.namespace, s.name, s.uid)"
        " WHERE (s.node, s.phase, s.ip_addresses) IS DISTINCT FROM (i.node, i.phase, i.ip_addresses)"
    ) == [(0,)]


def test_of_each_change_of_both_kinds_it_is_told_what_became_of_it(tables: store.Store) -> None:
    """In the order in which they were given; whatever their names are."""
    odd = "b\"\\\u00fc', null]"
    stored, late, duplicate = store.Outcome.STORED, store.Outcome.LATE, store.Outcome.DUPLICATE
    first = [running(ADD, 3), machine(ADD, 2), running(ADD, 4, name=odd), machine(ADD, 5, name=odd)]
    assert tables.write(first) == [stored] * 4
    assert tables.write(first) == [duplicate] * 4
    second = [
        *(machine(UPDATE, 9), running(UPDATE, 2), running(UPDATE, 6), machine(UPDATE, 2), running(ADD, 3)),
        *(machine(UPDATE, 7), running(UPDATE, 8, name=odd), machine(UPDATE, 9, name=odd, uid="u2")),
    ]
    assert tables.write(second) == [stored, late, stored, duplicate, duplicate, late, stored, stored]
    assert tables.write(second) == [duplicate] * 8
    assert tables.write([]) == []


def test_what_is_newer_of_both_kinds_is_one_round_trip_of_two_transactions(
    db: postgres.Database, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance finds the machine that came with it."""
    works = []
    run = postgres.Database.run

    def counted(*given: Any, **named: Any) -> Any:
        works.append(given)
        return run(*given, **named)

    monkeypatch.setattr(postgres.Database, "run", counted)
    assert store.Store(db).write([running(ADD, 2), machine(ADD, 1)]) == [store.Outcome.STORED] * 2
    assert len(works) == 1
    assert query("SELECT node, phase FROM virtual_machines") == [("node-1", "Running")]
    [(written,)] = query("SELECT (SELECT xmin FROM vm_history) = (SELECT xmin FROM vm_runtime_history)")
    assert not written


def test_two_that_write_both_kinds_never_wait_for_each_other(url: str, query: Query) -> None:
    """Each stores a machine, and the instance of the machine that the other stores."""
    doors = [postgres.Database({"dsn": url}, timeout=20) for _ in range(2)]

    def work(door: postgres.Database, one: str, other: str) -> None:
        tables = store.Store(door)
        for version in range(1, 300):
            tables.write([machine(UPDATE, version, name=one), running(UPDATE, version, name=other)], lock_wait=10)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        pairs = [pool.submit(work, doors[0], "a", "b"), pool.submit(work, doors[1], "b", "a")]
        for done in pairs:
            done.result()
    for door in doors:
        door.close()
    time.sleep(0.1)  # a server process says what it counted when it ends
    assert query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]
    assert query("SELECT name, version_number, node FROM vm_state ORDER BY 1") == [
        (name, 299, "node-1") for name in ("a", "b")
    ]


def test_machines_are_told_as_stored_where_an_instance_is_locked(url: str, tables: store.Store, query: Query) -> None:
    """They are committed already; of the locked one nothing is."""
    tables.write([machine(ADD, 1), running(ADD, 2)])
    with contextlib.closing(conftest.session(url)) as other:
        other.cursor().execute("BEGIN; SELECT FROM vm_runtime FOR UPDATE")
        with pytest.raises(shared_write.PartlyLocked) as raised:
            tables.write([running(UPDATE, 6), machine(UPDATE, 5), machine(ADD, 1)], lock_wait=0.01)
        assert raised.value.results == [None, store.Outcome.STORED, store.Outcome.DUPLICATE]
        other.cursor().execute("ROLLBACK; BEGIN; SELECT FROM vm_state FOR UPDATE")
        for changes in ([running(UPDATE, 6), machine(UPDATE, 7)], [running(UPDATE, 6)], [machine(UPDATE, 7)]):
            with pytest.raises(errors.Locked) as neither:
                tables.write(changes, lock_wait=0.01)
            assert not isinstance(neither.value, shared_write.PartlyLocked)
        other.rollback()
    assert query("SELECT version_number FROM vm_history ORDER BY 1") == [(1,), (5,)]
    assert query("SELECT version_number FROM vm_runtime_history") == [(2,)]


SAYS_ALL: dict[str, Any] = {"guestOSInfo": {"prettyName": "Fedora Linux 42"}}
PLAIN = [
    ([machine(ADD, 1)], running(ADD, 2), True),
    ([machine(ADD, 1), running(ADD, 2)], running(UPDATE, 3), True),
    ([machine(ADD, 1), running(ADD, 2)], running(DELETE, 3, **SAYS_ALL), True),
    ([machine(ADD, 1), running(ADD, 2)], running(DELETE, 3), False),
    ([machine(ADD, 1), running(ADD, 3)], running(UPDATE, 2), False),
    ([machine(ADD, 1), running(ADD, 3)], running(ADD, 3), False),
    ([machine(ADD, 1, uid="u2")], running(ADD, 2), False),
    ([], running(ADD, 2), False),
]


@pytest.mark.parametrize(("before", "change", "appended"), PLAIN)
def test_what_is_plainly_newer_of_a_known_machine_is_appended(
    before: list[versions.Change], change: versions.Change, *, appended: bool, db: postgres.Database, query: Query
) -> None:
    """In one statement, which the machine shows; it leaves all else to the merge, and changes nothing."""
    tables = store.Store(db)
    for each in before:
        write(tables, each)
    kept = ledger(query)
    rows = {"rows": f"[{change.payload.decode()}]", "lists": True, "given": 1, "batch": ""}

    def append(cursor: postgres.Cursor) -> list[tuple[Any, ...]]:
        cursor.execute(store.SQL.ready(cursor, *store.APPEND_INSTANCES), rows)
        return cursor.fetchall()

    assert (db.run(append), ledger(query) != kept) == ([("" if appended else "[]",)], appended)
    merged = write(tables, change)
    assert (merged is store.Outcome.DUPLICATE) or not appended


@pytest.mark.parametrize("attempt", range(2))
def test_a_machine_that_is_made_again_shows_its_own_instance(attempt: int, url: str, query: Query) -> None:
    """Also where one process changes the machine's uid while others store the instances of each."""
    names = [f"vm-{number}" for number in range(3)]
    doors = [postgres.Database({"dsn": url}, timeout=20) for _ in range(3)]
    turns = [(f"u{number % 2}", number) for number in range(1, 200)]
    given = [
        [machine(UPDATE, number, name=name, uid=uid) for uid, number in turns for name in names],
        *([running(UPDATE, number, name=name, owner=owner) for _, number in turns for name in names]
          for owner in ("u0", "u1")),
    ]  # fmt: skip

    def work(door: postgres.Database, changes: Sequence[versions.Change]) -> None:
        tables = store.Store(door)
        for change in changes:
            write(tables, change)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(work, *each) for each in zip(doors, given, strict=True)]:
            done.result()
    for door in doors:
        door.close()
    assert query("SELECT uid, node, ip_addresses, runtime_seen_at::text FROM vm_state ORDER BY name") == [
        ("u1", "node-1", ["10.0.0.199"], "2026-11-22 10:03:19+00")
    ] * len(names)


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_events_of_both_may_meet(attempt: int, url: str, query: Query) -> None:
    """Two processes store a machine and its instance at the same moment: neither misses the other."""
    names = [f"vm-{number}" for number in range(150)]
    doors = [postgres.Database({"dsn": url}, timeout=20) for _ in range(2)]

    def work(door: postgres.Database, changes: Sequence[versions.Change]) -> None:
        tables = store.Store(door)
        for change in changes:
            write(tables, change)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = [
            pool.submit(work, doors[0], [machine(ADD, 1, name=name) for name in names]),
            pool.submit(work, doors[1], [running(ADD, 2, name=name) for name in names]),
        ]
        for each in done:
            each.result()
    for door in doors:
        door.close()
    assert query("SELECT count(*) FROM vm_state WHERE node IS NULL") == [(0,)]
    assert query("SELECT count(*) FROM vm_state") == [(len(names),)]


def test_an_instance_waits_for_a_machine_that_is_under_way(url: str, tables: store.Store, query: Query) -> None:
    """The machine did not see the instance, which is stored after it and committed before it."""
    rows = {"rows": f"[{machine(ADD, 1).payload.decode()}]", "lists": True, "given": 1, "batch": ""}
    with contextlib.closing(conftest.session(url)) as other, concurrent.futures.ThreadPoolExecutor() as pool:
        cursor = other.cursor()
        cursor.execute("BEGIN;" + store.SQL.ready(cursor, "together", *store.APPEND_MACHINES), rows)
        running_too = pool.submit(tables.write, [running(ADD, 2)])
        while query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            assert not running_too.done()
        assert query("SELECT node FROM vm_runtime") == [("node-1",)]
        cursor.execute("COMMIT")
        assert running_too.result(60) == [store.Outcome.STORED]
    assert query("SELECT node FROM virtual_machines") == [("node-1",)]
