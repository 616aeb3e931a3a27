"""Hours counted: how long each machine existed and ran, and what it had meanwhile."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import pathlib
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import events
from function.clients import postgres
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]
Object = dict[str, Any]

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
START = datetime.datetime(2025, 3, 30, tzinfo=datetime.UTC)
"""The day on which Berlin loses an hour; the month ends a day later."""
HOUR = 3600
GIB = 2**30
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "usage.md"


def change(kind: str, step: str, second: float, version: int, uid: str, facts: Object) -> versions.Change:
    """A change of the VM shop/``name`` of the facts, or of its instance, at that second."""
    name = facts.get("name", "a")
    metadata: Object = {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": str(version)}
    metadata["labels"] = facts.get("labels", {})
    if kind == instance.KIND:
        owner = {"apiVersion": "kubevirt.io/v1", "kind": vm.KIND, "name": name, "uid": uid}
        metadata |= {"uid": f"ran {uid}", "ownerReferences": [owner]}
        status = {"phase": facts.get("phase", "Running"), "nodeName": facts.get("node")}
        if facts.get("live"):
            status |= {"currentCPUTopology": {"cores": facts["live"]}, "memory": {"guestCurrent": f"{facts['live']}Gi"}}
        data: Object = {"metadata": metadata, "status": status}
    else:
        sized = {"cpu": {"cores": facts.get("cores")}, "memory": {"guest": f"{facts.get('cores')}Gi"}}
        disk = {"spec": {"storage": {"resources": {"requests": {"storage": f"{facts.get('disk', 10)}Gi"}}}}}
        spec: Object = {"template": {"spec": {"domain": sized if facts.get("cores") else {}}}}
        spec |= {"dataVolumeTemplates": [disk]} | ({} if facts.get("cores") else {"instancetype": {"name": "u1"}})
        data = {"metadata": metadata, "spec": spec, "status": {"printableStatus": facts.get("status", "Running")}}
    time = START + datetime.timedelta(seconds=second)
    event = events.Event({"id": f"{kind} {version}", "type": step, "time": time}, data)
    made = {vm.KIND: vm.change, instance.KIND: instance.change}[kind](event, cluster_name="east")
    assert made is not None
    return made


def machine(second: float, version: int, *, step: str = UPDATE, uid: str = "u1", **facts: Any) -> versions.Change:
    """A change of a VM; without cores it has an instancetype."""
    return change(vm.KIND, step, second, version, uid, facts)


def running(second: float, version: int, *, step: str = UPDATE, uid: str = "u1", **facts: Any) -> versions.Change:
    """A change of its instance."""
    return change(instance.KIND, step, second, version, uid, facts)


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The store over a fresh database."""
    return store.Store(db)


def write(tables: store.Store, *changes: versions.Change) -> None:
    """Store changes, one by one."""
    for each in changes:
        tables.write([each])


def usage(query: Query, columns: str, since: float, until: float) -> list[tuple[Any, ...]]:
    """Columns of the usage between two seconds."""
    times = [START + datetime.timedelta(seconds=second) for second in (since, until)]
    return query(f"SELECT {columns} FROM vm_usage(%s, %s)", times)


def hours(*numbers: float) -> tuple[Decimal, ...]:
    """Hours as the function rounds them."""
    return tuple(round(Decimal(number), 6) for number in numbers)


def test_a_machine_that_is_resized_has_what_it_had_at_each_time(tables: store.Store, query: Query) -> None:
    """It exists for ten hours and runs for six of them, two on one node and four on another."""
    write(
        tables,
        machine(1 * HOUR, 1, step=ADD, cores=2, disk=10, labels={"team": "a"}),
        running(2 * HOUR, 2, node="node-1"),
        running(4 * HOUR, 3, node="node-2"),
        machine(6 * HOUR, 4, cores=4, disk=30, labels={"team": "b"}),
        running(8 * HOUR, 5, step=DELETE, node="node-2"),
        machine(11 * HOUR, 6, step=DELETE, cores=4, disk=30),
    )
    columns = "name, uid, labels, hours, hours_running, running_by, vcpu_hours, vcpu_hours_running"
    assert usage(query, columns, 0, 24 * HOUR) == [
        ("a", "u1", {"team": "b"}, *hours(10, 6), "phase", *hours(2 * 5 + 4 * 5, 2 * 4 + 4 * 2))
    ]
    columns = "memory_gib_hours, memory_gib_hours_running, disk_gib_hours, node_hours, hours_unsized"
    assert usage(query, columns, 0, 24 * HOUR) == [
        (*hours(30, 16, 10 * 5 + 30 * 5), {"node-1": 2, "node-2": 4}, *hours(0))
    ]
    assert usage(query, "hours, hours_running, vcpu_hours", 5 * HOUR, 7 * HOUR) == [hours(2, 2, 6)]
    assert usage(query, "hours", 12 * HOUR, 24 * HOUR) == usage(query, "hours", 0, HOUR) == []


def test_a_machine_that_was_made_again_is_two(tables: store.Store, query: Query) -> None:
    """Each has its own hours, whatever their name."""
    write(
        tables,
        machine(0, 1, step=ADD, cores=1),
        machine(2 * HOUR, 2, step=DELETE, cores=1),
        machine(3 * HOUR, 3, step=ADD, uid="u2", cores=2),
        machine(4 * HOUR, 4, uid="u3", cores=4),
    )
    assert usage(query, "uid, hours, vcpu_hours", 0, 6 * HOUR) == [
        ("u1", *hours(2, 2)),
        ("u2", *hours(1, 2)),
        ("u3", *hours(2, 8)),
    ]


def test_without_any_instance_the_status_says_whether_it_ran(tables: store.Store, query: Query) -> None:
    """As fleet_days has it: a VM that is paused or migrates has its CPUs and its memory."""
    for version, status in enumerate(["Running", "Paused", "Migrating", "Stopped", "Starting"]):
        write(tables, machine(version * HOUR, version + 1, cores=2, status=status))
    assert usage(query, "hours, hours_running, running_by, vcpu_hours_running, node_hours", 0, 5 * HOUR) == [
        (*hours(5, 3), "status", *hours(6), {})
    ]


def test_an_instancetype_s_size_is_that_of_the_instance(tables: store.Store, query: Query) -> None:
    """Before one ran nobody knows it: these hours are counted apart."""
    write(tables, machine(0, 1, step=ADD), running(HOUR, 2, live=4), running(3 * HOUR, 3, step=DELETE, live=4))
    columns = "hours, vcpu_hours, vcpu_hours_running, memory_gib_hours, hours_unsized"
    assert usage(query, columns, 0, 5 * HOUR) == [hours(5, 16, 8, 16, 1)]
    assert usage(query, "hours, vcpu_hours, memory_gib_hours, hours_unsized", 0, HOUR) == [
        (*hours(1), None, None, *hours(1))
    ]


def test_a_month_has_its_hours_whatever_the_zone(tables: store.Store, query: Query) -> None:
    """March has 743 hours in Berlin, the day on which it loses one has 23, and two halves make a whole."""
    write(tables, machine(-90 * 24 * HOUR, 1, step=ADD, cores=2), running(-90 * 24 * HOUR, 2))
    asked = "SELECT (SELECT vcpu_hours FROM vm_usage('{} Europe/Berlin', '{} Europe/Berlin'))"
    for since, until, expected in (
        ("2025-03-01", "2025-04-01", 743),
        ("2025-03-30", "2025-03-31", 23),
        ("2025-02-01", "2025-03-01", 28 * 24),
        ("2025-03-01", "2025-03-30 12:00", 29 * 24 + 11),
        ("2025-03-30 12:00", "2025-04-01", 36),
    ):
        assert query(asked.format(since, until)) == [hours(2 * expected)]


def test_what_is_still_to_come_is_not_counted(tables: store.Store, query: Query) -> None:
    """A month that is asked for on its first day has what was until now."""
    write(tables, machine(0, 1, step=ADD, cores=1))
    [(until_now, forever)] = query(
        "SELECT (SELECT hours FROM vm_usage(%s, now())), (SELECT hours FROM vm_usage(%s, 'infinity'))", [START, START]
    )
    assert until_now == forever > 0


@dataclasses.dataclass
class Machine:
    """A VM of the simulation: what was last said of it, and of what ran of it."""

    uid: str = ""
    facts: Object | None = None
    ran: dict[str, Object] = dataclasses.field(default_factory=dict)
    said: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The size that was said last of each: what is gone keeps it."""


FACTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b"]),
        "cores": st.sampled_from([None, 1, 2, 3]),
        "disk": st.integers(1, 3),
        "status": st.sampled_from(["Running", "Stopped", "Migrating"]),
        "phase": st.sampled_from(["Running", "Scheduling", "Succeeded"]),
        "node": st.sampled_from(["node-1", "node-2"]),
        "live": st.sampled_from([None, 2, 5]),
    }
)
LIVES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["vm", "vm", "vmi", "vmi", "end", "gone"]), FACTS), max_size=14
)
"""Seconds since what was before, what it is, and facts."""


def played(lives: Sequence[tuple[int, str, Object]], since: int, until: int) -> tuple[list[versions.Change], Any]:
    """The changes, and what a simulation by the second counts of them between two seconds, by uid."""
    machines = {name: Machine() for name in "ab"}
    changes: list[versions.Change] = []
    told: set[str] = set()
    counted: dict[str, collections.Counter[str]] = {}
    second = version = 0
    for after, what, facts in [*lives, (200, "", {})]:
        for now in range(second, second + after):
            for each in machines.values() if since <= now < until else ():
                if each.facts is not None:
                    _count(counted.setdefault(each.uid, collections.Counter()), each, told)
        second, version = second + after, version + 1
        each = machines[facts.get("name", "a")]
        if what == "vm":
            each.uid = each.uid if each.facts else f"{facts['name']}-{version}"
            each.facts = facts
            changes.append(machine(second, version, uid=each.uid, **facts))
        elif what == "gone" and each.facts:
            each.facts = None
            changes.append(machine(second, version, step=DELETE, uid=each.uid, **facts))
        elif what in ("vmi", "end") and each.uid:
            told.add(each.uid)
            gone = {"phase": "Gone"} if what == "end" else {}
            said = facts["live"] or each.said.get(each.uid)
            each.said[each.uid] = said
            each.ran[each.uid] = {**facts, **gone, "live": said if gone else facts["live"]}
            changes.append(running(second, version, step=DELETE if gone else UPDATE, uid=each.uid, **facts))
    return changes, counted


def _count(counted: collections.Counter[str], each: Machine, told: set[str]) -> None:
    """Count a second of a machine."""
    assert each.facts is not None
    ran = each.ran.get(each.uid, {})
    size = each.facts["cores"] or ran.get("live")
    counted["hours"] += 1
    counted["disk_gib_hours"] += each.facts["disk"]
    counted["vcpu_hours"] += size or 0
    counted["hours_unsized"] += size is None
    runs = ran.get("phase") == "Running"
    counted["by phase"] += runs
    counted["by status"] += each.facts["status"] in ("Running", "Migrating")
    counted["vcpus by phase"] += runs * (size or 0)
    counted["vcpus by status"] += (each.facts["status"] in ("Running", "Migrating")) * (size or 0)
    if runs:
        counted[ran["node"]] += 1


@hypothesis.given(
    lives=LIVES, since=st.integers(0, 60), span=st.integers(1, 80), order=st.randoms(use_true_random=False)
)
def test_any_history_is_counted_as_a_simulation_by_the_second_does(
    lives: Sequence[tuple[int, str, Object]],
    since: int,
    span: int,
    order: random.Random,
    db: postgres.Database,
    query: Query,
) -> None:
    """Whatever changes when, and in whatever order it arrives."""
    query(conftest.emptying("vm_state", "vm_history", "vm_runtime", "vm_runtime_history"))
    changes, expected = played(lives, since, since + span)
    order.shuffle(changes)
    write(store.Store(db), *changes)
    columns = "hours, hours_running, vcpu_hours, vcpu_hours_running, disk_gib_hours, hours_unsized"
    found = usage(query, f"uid, running_by, node_hours, {columns}", since, since + span)
    assert {uid for uid, *_ in found} == set(expected)
    assert len(found) == len(expected)
    told = {uid for (uid,) in query("SELECT owner_uid FROM vm_runtime")}
    for uid, by, nodes, *numbers in found:
        how = "phase" if uid in told else "status"
        names = ("hours", f"by {how}", "vcpu_hours", f"vcpus by {how}", "disk_gib_hours", "hours_unsized")
        seconds = [float(number or 0) * HOUR for number in numbers]
        assert by == how
        assert seconds == pytest.approx([expected[uid][name] for name in names], abs=0.01)
        there = {node: expected[uid][node] for node in ("node-1", "node-2") if expected[uid][node]}
        assert {node: number * HOUR for node, number in nodes.items()} == pytest.approx(there, abs=0.01)
