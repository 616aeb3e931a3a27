"""What a complete list says counts against late events: they fill the history and raise nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from function import events
from function.clients import postgres
from function.inventory.mapping import versions, vm
from function.inventory.storage import store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
LISTED = "vmledger.reconcile.update"
FLOOR = 20
TABLES = ("vm_state", "vm_history", "clusters")


def machine(kind: str, version: int | None, *, name: str = "a", second: int | None = None) -> versions.Change:
    """A change of the VM team/``name``, sent in the second of its version."""
    metadata: dict[str, Any] = {"name": name, "namespace": "team", "uid": "u1"}
    at = second if second is not None else (version or 0)
    if version is not None:
        metadata["resourceVersion"] = str(version)
    time = events.parse_time(f"2026-11-22T10:00:{at:02d}Z", "time")
    known = {"id": f"e{version}-{at}", "type": kind, "time": time, "specversion": "1.0", "source": "s"}
    return vm.change(events.Event(known, {"metadata": metadata}), cluster_name="east")


def flat(kind: str, second: int, name: str = "a") -> versions.Change:
    """The same without a resource version."""
    time = events.parse_time(f"2026-11-22T10:00:{second:02d}Z", "time")
    known = {"id": f"f{second}", "type": kind, "time": time, "name": name, "namespace": "team"}
    return vm.change(events.Event(known, None), cluster_name="east")


def complete(query: Query, version: int = FLOOR, epoch: int = 0) -> None:
    """Note a complete list of that version, which began in the second of the same number."""
    query(
        "INSERT INTO clusters (cluster, machines_epoch, machines_version, machines_time)"
        " VALUES ('east', %(epoch)s, %(version)s, %(time)s) ON CONFLICT (cluster) DO UPDATE"
        " SET machines_epoch = %(epoch)s, machines_version = %(version)s, machines_time = %(time)s",
        {"epoch": epoch, "version": version, "time": f"2026-11-22T10:00:{version:02d}Z"},
    )


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The store over a fresh database."""
    return store.Store(db)


def live(query: Query) -> list[str]:
    """The names of the machines that live."""
    return [name for (name,) in query("SELECT name FROM virtual_machines ORDER BY 1")]


@pytest.mark.parametrize("before", [[], [machine(DELETE, 3)], [machine(ADD, 1), machine(DELETE, 3)]])
def test_a_late_event_cannot_raise_what_the_list_did_not_hold(
    before: list[versions.Change], tables: store.Store, query: Query
) -> None:
    """Whether the VM was unknown or known as deleted: it lived and went before the list."""
    for change in before:
        tables.write([change])
    complete(query)
    assert tables.write([machine(ADD, 7)]) == [store.Outcome.LATE]
    assert live(query) == []
    assert query("SELECT type, version_number, deleted_at::text FROM vm_state") == [
        ("vmledger.reconcile.delete", FLOOR, "2026-11-22 10:00:20+00")
    ]
    assert (7,) in query("SELECT version_number FROM vm_history")


def test_what_the_list_held_is_not_held_against_it(tables: store.Store, query: Query) -> None:
    """Another event about the version that it held, and a delete that is dated later than it."""
    tables.write([machine(ADD, 7)])
    complete(query)
    assert tables.write([machine(UPDATE, 7, second=15)]) == [store.Outcome.DUPLICATE]
    assert live(query) == ["a"]
    tables.write([machine(DELETE, 7, second=30)])
    assert query("SELECT type, version_number, deleted_at::text FROM vm_state") == [
        (DELETE, 7, "2026-11-22 10:00:30+00")
    ]


def test_an_event_after_the_list_counts(tables: store.Store, query: Query) -> None:
    """By its version, and by its time where it has none."""
    complete(query)
    tables.write([machine(ADD, FLOOR + 1), flat(ADD, 30, "b"), flat(ADD, 10, "c")])
    assert live(query) == ["a", "b"]


def test_what_comes_from_a_list_is_not_held_against_it(tables: store.Store, query: Query) -> None:
    """A later list may hold what is old and was never told."""
    complete(query)
    assert tables.write([machine(LISTED, 7)], listed=True) == [store.Outcome.STORED]
    assert live(query) == ["a"]
    assert tables.write([machine(UPDATE, 7, second=5)]) == [store.Outcome.STORED], "the same version, told earlier"
    assert live(query) == ["a"]


def test_a_later_epoch_outranks_higher_versions(tables: store.Store, query: Query) -> None:
    """After a restore the cluster counts from lower again; what was sent before still belongs to the past."""
    tables.write([machine(ADD, 50, second=5)])
    complete(query)
    query("UPDATE clusters SET epochs = '{2026-11-22T10:00:30Z}'")
    assert tables.write([machine(UPDATE, 8, second=40)]) == [store.Outcome.STORED]
    assert tables.write([machine(UPDATE, 55, second=25)]) == [store.Outcome.LATE]
    assert query("SELECT version_epoch, version_number FROM vm_state") == [(1, 8)]
    assert query("SELECT version_epoch, version_number FROM vm_history ORDER BY 1, 2") == [(0, 50), (0, 55), (1, 8)]


LATE = st.lists(
    st.builds(
        machine,
        st.sampled_from([ADD, UPDATE, DELETE]),
        st.none() | st.integers(1, 40),
        name=st.sampled_from(["a", "b"]),
        second=st.integers(0, 59),
    ),
    min_size=1,
    max_size=10,
)


@hypothesis.given(before=LATE, given=LATE, order=st.randoms(use_true_random=False), together=st.booleans())
def test_in_any_order_after_a_list_the_ledger_is_the_same(
    before: list[versions.Change],
    given: list[versions.Change],
    order: random.Random,
    together: bool,
    db: postgres.Database,
    query: Query,
) -> None:
    """The state is the newest of the history, nothing is twice in it, and nothing below the list was raised."""
    tables = store.Store(db)
    ledgers = []
    for attempt in range(2):
        query(conftest.emptying(*TABLES))
        tables.write(before)
        complete(query)
        was_live = set(live(query))
        again = [*given, *order.choices(given, k=len(given))] if attempt else given
        if attempt:
            order.shuffle(again)
        for batch in [again] if together else [[change] for change in again]:
            tables.write(batch)
        columns = "name, version_epoch, version_number, version_time, version_step, type, id, deleted_at"
        received = "(SELECT * FROM vm_history WHERE type <> 'vmledger.reconcile.delete') AS received"
        ledgers.append(
            [query(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3, 4, 5, 6, 7") for table in ("vm_state", received)]
        )
        raised = {
            change.row.name
            for change in given
            if (change.version.number > FLOOR)
            or (change.row.time is not None and change.version.number < 0 and change.row.time.second > FLOOR)
        }
        assert set(live(query)) <= was_live | raised
    assert ledgers[0] == ledgers[1]
    newest = query(
        "SELECT DISTINCT ON (name) name, version_number, version_step, id FROM vm_history"
        " ORDER BY name, version_epoch DESC, version_number DESC, version_time DESC, version_step DESC"
    )
    assert newest == query("SELECT name, version_number, version_step, id FROM vm_state ORDER BY name")
    assert (
        query(
            "SELECT count(*) FROM vm_history GROUP BY name, version_epoch, version_number, version_time, version_step"
            " HAVING count(*) > 1"
        )
        == []
    )
