"""The same events give the same ledger, whatever their order, number, split and writers."""

from __future__ import annotations

import concurrent.futures
import datetime
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from function import events
from function.clients import postgres
from function.inventory.mapping import versions, vm
from function.inventory.storage import group_commit, store
from tests import conftest

Rows = list[tuple[Any, ...]]
Query = Callable[..., Rows]

TYPES = list(versions.STEPS)[:3]
COLUMNS = ", ".join([*vm.COLUMNS, "version_number", "version_time", "version_step", "shape", "digest"])
OF_STATE = COLUMNS.replace("vcpus", "spec_vcpus").replace("memory_bytes", "spec_memory_bytes")
START = datetime.datetime(2026, 8, 20, 9, 0, tzinfo=datetime.UTC)
LATER = datetime.datetime.max.replace(tzinfo=datetime.UTC)


@st.composite
def changes(draw: st.DrawFn, *, versioned: st.SearchStrategy[bool]) -> versions.Change:
    """One event about one of a few VMs: few names, versions, times and ids, so that they collide."""
    number = draw(st.integers(1, 5)) if draw(versioned) else None
    uid = draw(st.sampled_from([None, "first", "second"]))
    cores = draw(st.integers(1, 3))
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": draw(st.sampled_from(["a", "b", "B", "é"])),
        "source": "https://10.96.0.1:443",
        "type": draw(st.sampled_from(TYPES)),
        "kind": "VirtualMachine",
        "cluster": draw(st.sampled_from(["east", "west"])),
    }
    if (seconds := draw(st.none() | st.integers(0, 4))) is not None:
        attributes["time"] = START + datetime.timedelta(seconds=seconds)
    name = draw(st.sampled_from(["alpha", "beta"]))
    if draw(st.booleans()):
        metadata: dict[str, Any] = {"name": name, "namespace": "team", "uid": uid}
        metadata["resourceVersion"] = number and str(number)
        if (written := draw(st.none() | st.integers(0, 4))) is not None:
            metadata["managedFields"] = [{"manager": "m", "time": f"2026-08-20T09:00:0{written}Z"}]
        spec = {"template": {"spec": {"domain": {"cpu": {"cores": cores}, "memory": {"guest": "1Gi"}}}}}
        event = events.Event(attributes, {"metadata": metadata, "spec": spec})
    else:
        flat = {"name": name, "namespace": "team", "uid": uid, "resourceversion": number, "cpucores": cores}
        event = events.Event({**attributes, **flat}, None)
    return vm.change(event, cluster_name="default")


SOME = st.lists(
    changes(versioned=st.booleans()) | changes(versioned=st.just(True)) | changes(versioned=st.just(False)),
    min_size=1,
    max_size=12,
)


def expected(given: Iterable[versions.Change]) -> tuple[dict[Any, versions.Change], dict[Any, versions.Change]]:
    """What the design says the history and the state are, by identity and by key."""
    history: dict[Any, versions.Change] = {}
    for change in given:
        identity = (*change.key, change.version)
        if identity not in history or change.rank < history[identity].rank:
            history[identity] = change
    state: dict[Any, versions.Change] = {}
    for change in history.values():
        if change.key not in state or change.version.order > state[change.key].version.order:
            state[change.key] = change
    return history, state


def as_set(kept: Iterable[versions.Change]) -> set[tuple[Any, ...]]:
    """What tells rows apart: the key, the version, and the digest of all that the event said."""
    return {(*change.key, change.version.number, change.version.step, change.rank[-1]) for change in kept}


def stored(query: Query, table: str) -> set[tuple[Any, ...]]:
    """The same of a table."""
    rows = query(f"SELECT cluster, namespace, name, version_number, version_step, digest FROM {table}")
    assert len(rows) == len(set(rows))
    return set(rows)


def dated(given: Sequence[versions.Change]) -> dict[tuple[Any, ...], datetime.datetime]:
    """Since when each version counts of which every event has a time.

    It claims the earliest time of its object, or else of its events. A version that claims a time after that at which
    a newer one was known keeps it; any other counts since the greatest claim of those up to it.
    """
    claims: dict[tuple[Any, ...], dict[versions.Version, tuple[datetime.datetime, datetime.datetime]]] = {}
    for change in given:
        known = change.row.time or LATER
        claim, before = claims.setdefault(change.key, {}).get(change.version, (LATER, LATER))
        claims[change.key][change.version] = min(claim, change.row.object_time or known), min(known, before)
    found = {}
    for key, of in claims.items():
        ordered, since = sorted(of, key=lambda version: version.order), START
        for place, version in enumerate(ordered):
            claim = of[version][0]
            if claim <= min(of[newer][1] for newer in ordered[place:]):
                claim = since = max(since, claim)
            found[(*key, version.number, version.step, version.time)] = claim
    for change in given:
        if change.row.time is None:
            found.pop((*change.key, change.version.number, change.version.step, change.version.time), None)
    return found


def counted(query: Query, table: str) -> dict[tuple[Any, ...], datetime.datetime]:
    """The same of a table."""
    timed = "CASE WHEN version_number < 0 THEN nullif(version_time, '-infinity') END"
    rows = query(f"SELECT cluster, namespace, name, version_number, version_step, {timed}, effective_at FROM {table}")
    return {row[:-1]: row[-1] for row in rows}


OVERTAKEN = """
SELECT h.cluster, h.name, h.version_number, h.overtaken FROM vm_history AS h
WHERE h.overtaken <> EXISTS (
    SELECT FROM vm_history AS n
    WHERE (n.cluster, n.namespace, n.name) = (h.cluster, h.namespace, h.name)
      AND n.known_at < least(h.object_time, h.known_at)
      AND (n.version_number, n.version_time, n.version_step) > (h.version_number, h.version_time, h.version_step)
)"""
"""The versions that are called overtaken and are not, or the other way round."""


def ledger(query: Query) -> tuple[Rows, Rows, Rows]:
    """All that the ledger says, but for when it was written."""
    [(names,)] = query(
        "SELECT string_agg(column_name, ', ') FROM information_schema.columns"
        " WHERE table_name = 'virtual_machines' AND column_name <> 'updated_at'"
    )
    return (
        query(f"SELECT {OF_STATE} FROM vm_state ORDER BY cluster, namespace, name"),
        query(f"SELECT {COLUMNS} FROM vm_history ORDER BY {COLUMNS}"),
        query(f"SELECT {names} FROM virtual_machines ORDER BY cluster, namespace, name"),
    )


def batches(given: Sequence[versions.Change], cuts: Iterable[int]) -> list[Sequence[versions.Change]]:
    """Split a sequence at the given places."""
    places = sorted({0, len(given), *(cut % (len(given) + 1) for cut in cuts)})
    return [given[start:end] for start, end in itertools.pairwise(places)]


@hypothesis.given(given=SOME, order=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 30), max_size=6))
def test_any_order_duplicates_and_split_give_the_same_ledger(
    given: list[versions.Change], order: random.Random, cuts: list[int], db: postgres.Database, query: Query
) -> None:
    """One by one, or shuffled with duplicates in batches: the ledger is the same, and what was designed."""
    tables = store.Store(db)
    query(conftest.emptying("vm_state", "vm_history"))
    for change in given:
        tables.write([change])
        assert query(OVERTAKEN) == []
    first = ledger(query)
    history, state = expected(given)
    assert stored(query, "vm_history") == as_set(history.values())
    assert stored(query, "vm_state") == as_set(state.values())

    query(conftest.emptying("vm_state", "vm_history"))
    again = [*given, *order.choices(given, k=len(given))]
    order.shuffle(again)
    for batch in batches(again, cuts):
        tables.write(batch)
        assert query(OVERTAKEN) == []
    assert ledger(query) == first
    since = counted(query, "vm_history")
    assert dated(given).items() <= since.items()
    assert counted(query, "vm_state").items() <= since.items()


@hypothesis.given(given=SOME)
def test_the_state_is_the_newest_version_of_the_history(
    given: list[versions.Change], db: postgres.Database, query: Query
) -> None:
    """SQL agrees with Python about what is newest."""
    query(conftest.emptying("vm_state", "vm_history"))
    store.Store(db).write(given)
    newest = query(
        f"SELECT DISTINCT ON (cluster, namespace, name) {COLUMNS} FROM vm_history"
        " ORDER BY cluster, namespace, name, version_number DESC, version_time DESC, version_step DESC"
    )
    assert query(f"SELECT {OF_STATE} FROM vm_state ORDER BY cluster, namespace, name") == newest


@hypothesis.given(given=SOME)
def test_writing_again_changes_nothing(given: list[versions.Change], db: postgres.Database, query: Query) -> None:
    """A redelivery leaves even the times of writing as they were, and says that it was one."""
    query(conftest.emptying("vm_state", "vm_history"))
    tables = store.Store(db)
    tables.write(given)
    before = query("SELECT * FROM vm_state ORDER BY 12, 5, 4"), query("SELECT * FROM vm_history ORDER BY 36, 35, 1, 2")
    assert set(tables.write(given)) == {store.Outcome.DUPLICATE}
    after = query("SELECT * FROM vm_state ORDER BY 12, 5, 4"), query("SELECT * FROM vm_history ORDER BY 36, 35, 1, 2")
    assert after == before


@pytest.mark.parametrize("grouped", [False, True], ids=["each thread a connection", "grouped in one process"])
def test_sixteen_threads_at_once_give_the_same_ledger(grouped: bool, url: str, query: Query) -> None:
    """Batches over the same VMs in every order, from 16 threads: no deadlock, no lost change, the designed ledger."""
    order = random.Random(7)
    given = [_life(order) for _ in range(400)]
    history, state = expected(given)
    doors = [postgres.Database({"dsn": url}, timeout=30) for _ in range(1 if grouped else 16)]
    together: group_commit.GroupCommit[versions.Change, store.Outcome]
    together = group_commit.GroupCommit(store.Store(doors[0]).table, patience=30)
    writers = [together.submit] * 16 if grouped else [store.Store(door).write for door in doors]

    def deliver(number: int) -> None:
        mine = random.Random(number)
        shuffled = mine.sample(given, len(given))
        for start in range(0, len(shuffled), 5):
            writers[number](shuffled[start : start + 5])

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(deliver, range(16)))
    for door in doors:
        door.close()
    assert stored(query, "vm_history") == as_set(history.values())
    assert stored(query, "vm_state") == as_set(state.values())


def _life(order: random.Random) -> versions.Change:
    """One change out of the lives of 20 VMs, each deleted and made again now and then."""
    number = order.randint(1, 60)
    attributes = {
        "id": str(order.random()),
        "type": order.choice(TYPES),
        "time": START + datetime.timedelta(seconds=number),
        "name": f"vm-{order.randint(1, 20)}",
        "namespace": "team",
        "uid": f"uid-{number // 20}",
    }
    if order.random() < 0.8:
        attributes["resourceversion"] = str(number)
    return vm.change(events.Event(attributes, None), cluster_name="east")


def test_python_and_postgres_order_ids_alike(db: postgres.Database, query: Query) -> None:
    """Ids are compared by code point in both, in whatever locale the database was made."""
    base = events.Event(
        {"id": "x", "type": TYPES[0], "name": "a", "namespace": "n", "resourceversion": "1", "time": START}, None
    )
    ids = ["B", "a", "Z", "_", "é", "ß", "\uff5a", "🐧", "10", "9", " ", "a "]
    for name in ids:
        renamed = msgspec.structs.replace(base, attributes={**base.attributes, "id": name})
        store.Store(db).write([vm.change(renamed, cluster_name="c")])
    assert query("SELECT id FROM vm_state") == [(min(ids),)]
