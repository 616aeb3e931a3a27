"""The past has its own time: whatever the delays, if the objects carry their times, it is the same."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import events, settings, wiring
from function.clients import postgres
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]
Object = dict[str, Any]

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
START = datetime.datetime(2026, 11, 2, 10, tzinfo=datetime.UTC)
OUTAGE = 173
"""Seconds for which the source stands still in the example."""


def stamp(second: float) -> str:
    """A time as the API server writes it."""
    return f"{START + datetime.timedelta(seconds=int(second)):%Y-%m-%dT%H:%M:%SZ}"


def thing(kind: str, name: str, version: int, second: int, **more: Any) -> Object:
    """An object that came to be in that second; it was created in the first."""
    metadata: Object = {"name": name, "namespace": "shop", "uid": f"{kind} {name}", "resourceVersion": str(version)}
    metadata |= {"creationTimestamp": stamp(0), "managedFields": [{"manager": "m", "time": stamp(second)}]}
    if kind == instance.KIND:
        owner = {"apiVersion": "kubevirt.io/v1", "kind": vm.KIND, "name": name, "uid": f"{vm.KIND} {name}"}
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "kubevirt.io/v1", "kind": kind, "metadata": {**metadata, **more.pop("metadata", {})}, **more}


def change(step: str, data: Object, sent: float) -> versions.Change:
    """The change that an event about it makes, sent at that second."""
    time = START + datetime.timedelta(seconds=sent)
    name = f"{data['metadata']['resourceVersion']} {sent}"
    made = {vm.KIND: vm.change, instance.KIND: instance.change}[data["kind"]](
        events.Event({"id": name, "type": step, "time": time}, data), cluster_name="east"
    )
    assert made is not None
    return made


def past(query: Query) -> list[Any]:
    """All that can be asked about the past, but for the events' own times and ids."""
    told = "cluster, namespace, name, uid, changed_at, type, resource_version, what, changes, changed_by"
    rows = query("SELECT version_number, effective_at, overtaken FROM vm_history ORDER BY 1")
    rows += query("SELECT version_number, effective_at, overtaken FROM vm_runtime_history ORDER BY 1")
    rows += query(f"SELECT {told} FROM vm_changes ORDER BY changed_at, resource_version")
    for second in range(0, 40, 3):
        moment = START + datetime.timedelta(seconds=second)
        fleet = "SELECT name, uid, resource_version, status, node, phase FROM virtual_machines_at(%s) ORDER BY name"
        rows += query(fleet, [moment])
    return rows


LIVES = st.lists(
    st.tuples(
        st.sampled_from([vm.KIND, instance.KIND]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 3),
        st.sampled_from([ADD, UPDATE, UPDATE, DELETE]),
        st.tuples(st.floats(0, 40_000), st.floats(0, 40_000)),
        st.integers(-2, 0),
    ),
    max_size=10,
)
"""Kind, name, seconds since the version before, step, two delays, and how far a lagging clock of another API server is
behind."""


@hypothesis.given(lives=LIVES, order=st.randoms(use_true_random=False))
def test_any_delay_and_any_order_give_the_same_past(
    lives: Sequence[tuple[str, str, int, str, tuple[float, float], int]],
    order: random.Random,
    db: postgres.Database,
    query: Query,
) -> None:
    """A source that was prompt, and one that stood still for as long as it liked.

    The same are: since when each version counts, what was when, and the story.
    """
    tables = store.Store(db)
    pasts = []
    for which in (0, 1):
        query(conftest.emptying("vm_state", "vm_history", "vm_runtime", "vm_runtime_history"))
        made, second = [], 3
        for version, (kind, name, seconds, step, delays, behind) in enumerate(lives, start=1):
            second += seconds
            asked = {"deletionTimestamp": stamp(second)} if step == DELETE else {}
            status = {"printableStatus": f"of {version}", "phase": f"of {version}", "nodeName": f"node-{version % 3}"}
            data = thing(kind, name, version, second + behind, metadata=asked, status=status, spec={"template": {}})
            made.append(change(step, data, second + delays[which] + 1))
        order.shuffle(made)
        for each in made:
            tables.write([each])
        pasts.append(past(query))
    assert pasts[0] == pasts[1]


def write(query: Query, db: postgres.Database, *made: versions.Change) -> list[tuple[Any, ...]]:
    """Store changes of machines one by one; return since when each version counts, in seconds, in their order."""
    for each in made:
        store.Store(db).write([each])
    seconds = "extract(epoch FROM effective_at - %s)::float"
    return query(f"SELECT version_number, {seconds}, overtaken FROM vm_history ORDER BY version_number", [START])


def test_a_version_never_counts_before_the_one_before_it(db: postgres.Database, query: Query) -> None:
    """Two API servers' clocks differ by seconds: both versions are told, in their order."""
    first, second = thing(vm.KIND, "a", 1, 10), thing(vm.KIND, "a", 2, 8)
    expected = [(1, 10.0, False), (2, 10.0, False)]
    assert write(query, db, change(ADD, first, 11), change(UPDATE, second, 12)) == expected
    query(conftest.emptying("vm_state", "vm_history"))
    assert write(query, db, change(UPDATE, second, 200), change(ADD, first, 11)) == expected


def test_nothing_counts_after_it_was_known(db: postgres.Database, query: Query) -> None:
    """A version of a wrong clock, which would count after a newer one was known, was never in force."""
    late = change(UPDATE, {**thing(vm.KIND, "a", 2, 0), "status": {}}, 500)
    assert late.row.object_time == START
    wrong = vm.change(
        events.Event(
            {
                "id": "w",
                "type": UPDATE,
                "time": START + datetime.timedelta(seconds=300),
                "name": "a",
                "namespace": "shop",
                "resourceversion": 2,
            },
            None,
        ),
        cluster_name="east",
    )
    newer = change(UPDATE, thing(vm.KIND, "a", 3, 20), 30)
    assert write(query, db, change(ADD, thing(vm.KIND, "a", 1, 10), 11), newer, wrong) == [
        (1, 10.0, False),
        (2, 300.0, True),
        (3, 20.0, False),
    ]


def test_versions_of_one_second_are_all_told(db: postgres.Database, query: Query) -> None:
    """The API server's times are whole seconds, and a machine changes several times in its first one."""
    made = [thing(vm.KIND, "a", number, 5, status={"printableStatus": f"of {number}"}) for number in (1, 2, 3)]
    found = write(query, db, *[change(UPDATE, each, 5 + number / 10) for number, each in enumerate(made)])
    assert found == [(1, 5.0, False), (2, 5.0, False), (3, 5.0, False)]
    told = query("SELECT resource_version, what FROM vm_changes ORDER BY changed_at, resource_version")
    assert told == [(1, "appeared"), (2, "changed"), (3, "changed")]
    assert query("SELECT status FROM virtual_machines_at(%s)", [START + datetime.timedelta(seconds=5)]) == [("of 3",)]


@pytest.mark.parametrize("kind", [vm.KIND, instance.KIND])
@pytest.mark.parametrize("shown_first", [True, False])
def test_the_own_time_of_a_version_stays_where_a_copy_lacks_it(
    kind: str, shown_first: bool, db: postgres.Database, query: Query
) -> None:
    """The copy without managedFields was sent before the other: it says what the version holds, and not since when."""
    tables = store.Store(db)
    first = [change(ADD, thing(each, "a", 1, 3), 4) for each in (vm.KIND, instance.KIND)]
    copies = [
        change(UPDATE, thing(kind, "a", 2, 10), 100),
        change(UPDATE, thing(kind, "a", 2, 10, metadata={"managedFields": []}), 90),
    ]
    for each in [*first, *(copies if shown_first else copies[::-1])]:
        tables.write([each])
    history = {vm.KIND: "vm_history", instance.KIND: "vm_runtime_history"}[kind]
    found = query(f"SELECT effective_at, object_time, time FROM {history} WHERE resource_version = 2")
    own, sent = START + datetime.timedelta(seconds=10), START + datetime.timedelta(seconds=90)
    assert found == [(own, own, sent)]


def test_what_the_object_does_not_say_the_event_does(db: postgres.Database, query: Query) -> None:
    """A delete without a deletionTimestamp, and the machine that is made anew within the same second."""
    anew = thing(vm.KIND, "a", 3, 20, metadata={"uid": "another"})
    gone = change(DELETE, thing(vm.KIND, "a", 2, 10), 20.25)
    assert write(query, db, change(ADD, thing(vm.KIND, "a", 1, 10), 11), gone, change(ADD, anew, 20.5)) == [
        (1, 10.0, False),
        (2, 20.25, False),
        (3, 20.25, False),
    ]
    told = query("SELECT what FROM vm_changes ORDER BY changed_at, resource_version")
    assert told == [("appeared",), ("deleted",), ("recreated",)]


@pytest.mark.parametrize("outage", [0.2, OUTAGE], ids=["prompt", "after an outage"])
def test_after_an_outage_each_machine_is_there_since_it_was_created(outage: float, url: str, query: Query) -> None:
    """The source stands still while its channel does, and sends all with the time of then; over HTTP.

    Nine machines are created in the first 16 seconds of an outage of 173; each starts two seconds later.
    """
    service = wiring.Service(settings.Settings.from_env({"DATABASE_URL": url}))
    client = service.app.test_client()
    for number in range(9):
        made = thing(vm.KIND, f"vm-{number}", 10 * number + 1, 2 * number, spec={"template": {}})
        made["metadata"]["creationTimestamp"] = stamp(2 * number)
        runs = thing(instance.KIND, f"vm-{number}", 10 * number + 2, 2 * number + 2, status={"phase": "Running"})
        for data, late in ((runs, 0.1), (made, 0.2)):
            sent = START + datetime.timedelta(seconds=max(outage, 2 * number + 2.5) + late)
            event = {"specversion": "1.0", "id": f"{number} {late}", "source": "s", "type": ADD, "kind": data["kind"]}
            said = {**event, "time": sent.isoformat(), "data": data, "datacontenttype": "application/json"}
            answer = client.post("/", data=json.dumps(said), content_type="application/cloudevents+json")
            assert answer.status_code == 204, answer.get_data(as_text=True)
    service.close()
    for second in (0, 1, 2, 7, 16, 100):
        moment = START + datetime.timedelta(seconds=second)
        fleet = query("SELECT name, phase FROM virtual_machines_at(%s) ORDER BY name", [moment])
        there = min(second // 2 + 1, 9)
        assert fleet == [(f"vm-{n}", "Running" if 2 * n + 2 <= second else None) for n in range(there)]
    story = "SELECT what FROM vm_changes WHERE name = %s ORDER BY changed_at"
    assert {tuple(query(story, [f"vm-{number}"])) for number in range(9)} == {(("appeared",), ("started",))}
    sent_at = query("SELECT min(time) FROM vm_history")
    assert sent_at > [(START + datetime.timedelta(seconds=min(outage, 2)),)]
