"""The past: the fleet as it was, and the story of each machine."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from function import events
from function.clients import postgres
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
TABLES = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history")
PAST = pathlib.Path(__file__).parents[2] / "docs" / "past.md"


def attributes(kind: str, version: int, hour: float | None) -> dict[str, Any]:
    """The attributes of an event of that hour."""
    time = None if hour is None else START + hour * HOUR
    return {"id": f"{version}-{hour}", "type": kind, "time": time, "specversion": "1.0", "source": "s"}


def machine(
    kind: str,
    version: int,
    hour: float | None,
    *,
    name: str = "a",
    uid: str = "u1",
    cores: int | None = 1,
    said: dict[str, Any] | None = None,
) -> versions.Change:
    """A change of the VM team/``name``; without cores it has an instancetype. said: more of its metadata."""
    metadata = {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version), **(said or {})}
    sized: dict[str, Any] = {"template": {"spec": {"domain": {"cpu": {"cores": cores}, "memory": {"guest": "1Gi"}}}}}
    spec = sized if cores else {"instancetype": {"name": "u1.small"}}
    return vm.change(
        events.Event(attributes(kind, version, hour), {"metadata": metadata, "spec": spec}), cluster_name="east"
    )


def running(kind: str, version: int, hour: float, node: str, *, name: str = "a", owner: str = "u1") -> versions.Change:
    """A change of its instance."""
    owners = [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": owner}]
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": "i",
        "resourceVersion": str(version),
        "ownerReferences": owners,
    }
    status = {"nodeName": node, "phase": "Running", "currentCPUTopology": {"cores": 4, "sockets": 1, "threads": 1}}
    change = instance.change(
        events.Event(attributes(kind, version, hour), {"metadata": metadata, "status": status}), cluster_name="east"
    )
    assert change is not None
    return change


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The store over a fresh database."""
    return store.Store(db)


def write(tables: store.Store, *changes: versions.Change) -> None:
    """Store changes, one by one."""
    for change in changes:
        tables.write([change])


def at(query: Query, hour: float, columns: str = "name, vcpus, node, phase") -> list[tuple[Any, ...]]:
    """The fleet at that hour."""
    return query(f"SELECT {columns} FROM virtual_machines_at(%s) ORDER BY name", [START + hour * HOUR])


def test_it_has_the_columns_of_the_view(tables: store.Store, query: Query) -> None:
    """In their order, with their types; now it says what the view says."""
    write(tables, machine(ADD, 1, 1), running(ADD, 2, 2, "node-1"), machine(ADD, 3, 3, name="b", cores=None))
    now = query("SELECT * FROM virtual_machines ORDER BY name")
    assert query("SELECT * FROM virtual_machines_at(now()) ORDER BY name") == now
    assert len(now) == 2


def test_the_fleet_as_it_was(tables: store.Store, query: Query) -> None:
    """By the events' times, whatever came when: with the nodes of then, and without what was deleted."""
    write(
        tables,
        machine(UPDATE, 30, 30, cores=3),
        running(UPDATE, 25, 25, "node-2"),
        machine(DELETE, 40, 40),
        machine(ADD, 10, 10),
        running(ADD, 15, 15, "node-1"),
        running(DELETE, 39, 39, "node-2"),
        machine(ADD, 50, 50, uid="u2"),
    )
    assert at(query, 9) == []
    assert at(query, 10) == [("a", 1, None, None)]
    assert at(query, 24) == [("a", 1, "node-1", "Running")]
    assert at(query, 25) == [("a", 1, "node-2", "Running")]
    assert at(query, 39.5) == [("a", 3, "node-2", "Gone")]
    assert at(query, 45) == []
    assert at(query, 55) == [("a", 1, None, None)]


@pytest.mark.parametrize("hours", [0, 1, 23.9, 24, 24.1, 30, 167.9, 168, 168.1, 180, 900])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_what_was_last_known_is_found_however_old_it_was(
    hours: float, zone: str, tables: store.Store, query: Query
) -> None:
    """Of the machine and of what ran, whatever changed since; also where the clocks were set back that week."""
    write(
        tables,
        machine(ADD, 1, 1, cores=3),
        running(ADD, 2, 1, "node-1"),
        machine(UPDATE, 3, 1000),
        running(UPDATE, 4, 1000, "node-2"),
    )
    query(f"SET TIME ZONE '{zone}'")
    assert at(query, 1 + hours) == [("a", 3, "node-1", "Running")]


@pytest.mark.parametrize("order", [1, -1], ids=["the first first", "the first last"])
def test_what_is_told_again_counts_since_it_was_told_first(order: int, tables: store.Store, query: Query) -> None:
    """A list, or a second event, says more of a version than the first did, and later; it was true before."""
    flat = {**attributes(ADD, 1, 1), "name": "a", "namespace": "team", "uid": "u1", "resourceversion": "1"}
    told = vm.change(events.Event(flat, None), cluster_name="east")
    write(tables, *[told, machine(ADD, 1, 5, cores=7)][::order], machine(UPDATE, 9, 9, cores=8))
    assert [at(query, hour, "name, vcpus") for hour in (0.9, 1, 4, 6)] == [[], *[[("a", 7)]] * 3]
    assert query("SELECT name, effective_at, id FROM vm_history WHERE version_number = 1") == [
        ("a", START + HOUR, "1-5")
    ]


def test_an_instancetype_s_sizes_are_those_of_the_instance_of_then(tables: store.Store, query: Query) -> None:
    """As vm_state's generated columns choose."""
    write(tables, machine(ADD, 1, 1, cores=None), running(ADD, 5, 5, "node-1"), machine(UPDATE, 9, 9, cores=2))
    columns = "vcpus, cpu_source"
    assert [at(query, hour, columns) for hour in (2, 6, 10)] == [[(None, None)], [(4, "instance")], [(2, "spec")]]


LIVES = st.lists(
    st.tuples(
        st.sampled_from([ADD, UPDATE, UPDATE, DELETE]),
        st.integers(1, 30),
        st.none() | st.integers(0, 2000),
        st.sampled_from(["a", "b"]),
        st.booleans(),
    ),
    max_size=14,
)


@hypothesis.given(lives=LIVES, moments=st.lists(st.integers(-1, 2001), min_size=5, max_size=5))
def test_it_is_the_newest_version_of_then_whatever_the_order_of_times(
    lives: list[tuple[str, int, int | None, str, bool]], moments: list[int], db: postgres.Database, query: Query
) -> None:
    """Against a plain search of the histories; the times span three months."""
    tables = store.Store(db)
    query(conftest.emptying(*TABLES))
    for kind, version, hour, name, runs in lives:
        if not runs:
            write(tables, machine(kind, version, hour, name=name, uid=f"u{version % 2}", cores=version))
        elif hour is not None:
            write(tables, running(kind, version, hour, f"node-{version}", name=name, owner=f"u{version % 2}"))
    order = "version_epoch DESC, version_number DESC, version_time DESC, version_step DESC"
    plain = f"""
        SELECT m.name, m.resource_version, m.vcpus, i.node, i.phase
        FROM (
            SELECT DISTINCT ON (name) * FROM vm_history WHERE effective_at <= %(at)s ORDER BY name, {order}
        ) AS m
        LEFT JOIN (
            SELECT DISTINCT ON (name, owner_uid) * FROM vm_runtime_history WHERE effective_at <= %(at)s
            ORDER BY name, owner_uid, {order}
        ) AS i ON i.name = m.name AND i.owner_uid = m.uid
        WHERE m.deleted_at IS NULL ORDER BY m.name"""
    for moment in moments:
        expected = query(plain, {"at": START + moment * HOUR})
        assert at(query, moment, "name, resource_version, vcpus, node, phase") == expected


def story(query: Query) -> list[tuple[Any, ...]]:
    """What is told of team/a, without what a machine brings when it appears."""
    sql = "SELECT what, changes FROM vm_changes WHERE name = 'a' ORDER BY changed_at"
    return [(what, changes if what != "appeared" else {}) for what, changes in query(sql)]


def test_the_story_tells_each_change_once(tables: store.Store, query: Query) -> None:
    """What changed, from what to what; a version that says nothing new is not told."""
    write(
        tables,
        machine(ADD, 10, 10),
        machine(UPDATE, 11, 11),
        machine(UPDATE, 30, 30, cores=3),
        machine(UPDATE, 20, 20, cores=2),
        machine(UPDATE, 31, 31, cores=3),
        machine(DELETE, 40, 40, cores=3),
        machine(ADD, 50, 50, uid="u2", cores=3),
    )
    told = story(query)
    assert [what for what, _ in told] == ["appeared", "changed", "changed", "deleted", "recreated"]
    assert told[1][1] == {key: {"old": 1, "new": 2} for key in ("cpucores", "vcpus")}
    assert told[2][1]["vcpus"] == {"old": 2, "new": 3}
    assert set(told[3][1]) == {"deleted_at"}
    assert told[4][1]["uid"] == {"old": "u1", "new": "u2"}


def test_a_flat_event_takes_nothing_back(tables: store.Store, query: Query) -> None:
    """What it does not carry it says nothing of; so nothing went, and nothing came back."""

    def flat(version: int, cores: int) -> versions.Change:
        known = {"name": "a", "namespace": "team", "uid": "u1", "resourceversion": version, "cpucores": cores}
        event = events.Event({**attributes(UPDATE, version, version), **known, "memory": "1Gi"}, None)
        return vm.change(event, cluster_name="east")

    write(
        tables,
        machine(ADD, 10, 10),
        flat(11, 1),
        flat(12, 2),
        flat(13, 2),
        machine(UPDATE, 14, 14, cores=2),
        flat(15, 2),
        machine(UPDATE, 16, 16, cores=3),
    )
    told = story(query)
    assert [what for what, _ in told] == ["appeared", "changed", "changed"]
    assert told[1][1] == {key: {"old": 1, "new": 2} for key in ("cpucores", "vcpus")}
    assert told[2][1] == {key: {"old": 2, "new": 3} for key in ("cpucores", "vcpus")}


def test_flat_events_alone_tell_a_story(tables: store.Store, query: Query) -> None:
    """Of the published example: no uid, no version; a delete without a time counts from when it was recorded."""

    def flat(kind: str, hour: float | None, cores: int) -> versions.Change:
        known = {"name": "a", "namespace": "team", "cpucores": str(cores)}
        return vm.change(events.Event({**attributes(kind, 0, hour), **known}, None), cluster_name="east")

    write(tables, flat(ADD, 1, 1), flat(UPDATE, 2, 1), flat(UPDATE, 3, 2), flat(DELETE, 4, 2), flat(ADD, 5, 2))
    assert [what for what, _ in story(query)] == ["appeared", "changed", "deleted", "recreated"]
    write(tables, machine(ADD, 8, 8), machine(DELETE, 9, None))
    what, changes = story(query)[-1]
    assert what == "deleted"
    assert changes["deleted_at"]["new"] > "2026"


def test_what_was_never_in_force_is_not_told(tables: store.Store, query: Query) -> None:
    """An event from the future, and one that a later version was dated before."""
    write(tables, machine(ADD, 1, 1), machine(UPDATE, 2, 9000, cores=9), machine(UPDATE, 3, 3, cores=3))
    assert [what for what, _ in story(query)] == ["appeared", "changed"]
    assert story(query)[1][1]["vcpus"] == {"old": 1, "new": 3}


def test_the_story_tells_where_a_machine_ran(tables: store.Store, query: Query) -> None:
    """Started, moved, stopped."""
    write(
        tables,
        machine(ADD, 1, 1),
        running(ADD, 2, 2, "node-1"),
        running(UPDATE, 3, 3, "node-1"),
        running(UPDATE, 4, 4, "node-2"),
        running(DELETE, 5, 5, "node-2"),
    )
    told = story(query)
    assert [what for what, _ in told] == ["appeared", "started", "moved", "stopped"]
    assert told[2][1] == {"node": {"old": "node-1", "new": "node-2"}}
    assert told[3][1] == {"phase": {"old": "Running", "new": "Gone"}}
    again = running(ADD, 7, 7, "node-2")
    write(tables, dataclasses.replace(again, row=again.row, payload=again.payload.replace(b'"uid":"i"', b'"uid":"j"')))
    assert story(query)[4][0] == "started"
    assert story(query)[4][1]["uid"] == {"old": "i", "new": "j"}


def by(manager: str) -> dict[str, Any]:
    """Metadata of a version that a field manager made."""
    return {"managedFields": [{"manager": manager, "time": "2026-11-01T00:00:00Z"}]}


def test_the_story_names_who_made_each_change(tables: store.Store, query: Query) -> None:
    """Who made a version is no fact of the machine: another one alone is no change. A delete names nobody."""
    write(
        tables,
        machine(ADD, 1, 1, said=by("kubectl-create")),
        machine(UPDATE, 2, 2, cores=2, said=by("kubectl-edit")),
        machine(UPDATE, 3, 3, cores=2, said=by("virt-controller")),
        machine(UPDATE, 4, 4, cores=4),
        machine(DELETE, 5, 5, cores=4, said=by("virt-controller")),
    )
    assert query("SELECT what, changed_by, changes ? 'changed_by' FROM vm_changes ORDER BY changed_at") == [
        ("appeared", "kubectl-create", False),
        ("changed", "kubectl-edit", False),
        ("changed", None, False),
        ("deleted", None, False),
    ]
    assert query("SELECT changed_by FROM vm_history ORDER BY version_number") == [
        ("kubectl-create",),
        ("kubectl-edit",),
        ("virt-controller",),
        (None,),
        (None,),
    ]


def test_both_go_by_index(tables: store.Store, query: Query) -> None:
    """Whatever the planner's settings are: a fleet's history is not read whole."""
    columns = "type, id, kind, name, namespace, cluster, version_number, version_time, version_step, shape, digest"
    values = "'t', 'i', 'k', 'vm-' || n, 'team', 'east'"
    query(
        f"INSERT INTO vm_state ({columns}, effective_at) SELECT {values}, 9, '-infinity', 1, 1, 0, now()"
        " FROM generate_series(1, 300) AS n"
    )
    query(
        f"INSERT INTO vm_history ({columns}, effective_at) SELECT {values}, v, '-infinity', 1, 1, 0,"
        " now() - (9 - v) * interval '1 hour' FROM generate_series(1, 300) AS n, generate_series(1, 9) AS v"
    )
    query("ANALYZE vm_state, vm_history")
    query("SELECT pg_stat_reset()")
    assert len(query("SELECT * FROM vm_changes WHERE (cluster, namespace, name) = ('east', 'team', 'vm-7')")) == 1
    assert query("SELECT count(*) FROM virtual_machines_at(now() - interval '90 minutes')") == [(300,)]
    read = "SELECT sum(seq_tup_read), sum(idx_scan) >= 300 FROM pg_stat_user_tables WHERE relname ~ '^vm_history'"
    for _ in range(100):  # a session tells its numbers when it ends, which may be after the client has gone
        [(rows, looked_up)] = query(read)
        if looked_up:
            break
        time.sleep(0.05)
    assert (rows, looked_up) == (0, True)


def test_what_the_document_shows_runs(tables: store.Store, query: Query) -> None:
    """Each statement of docs/past.md, by the role that one of them makes a reader of."""
    write(tables, machine(ADD, 1, 1))
    *asked, grant = re.findall(r"```sql\n(.*?)```", PAST.read_text(), re.DOTALL)
    assert len(asked) == 4
    query("CREATE ROLE dashboard")
    try:
        query(grant)
        for sql in asked:
            query(f"SET LOCAL ROLE dashboard; {sql}")
        assert query("SET LOCAL ROLE dashboard; SELECT count(*) FROM virtual_machines_at(now())") == [(1,)]
    finally:
        query("DROP OWNED BY dashboard; DROP ROLE dashboard")
