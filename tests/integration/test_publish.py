"""Each change of the ledger is read once it is committed: none is missed, in order for each VM, the past as such."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import psycopg2
import pytest
from hypothesis import strategies as st

from function.clients import postgres
from function.inventory.mapping import versions
from function.inventory.storage import store
from function.publish import message, position
from tests import conftest, publishing
from tests.integration import test_convergence, test_past

Query = Callable[..., list[tuple[Any, ...]]]

ADD, UPDATE, DELETE = test_past.ADD, test_past.UPDATE, test_past.DELETE
machine, running, write = test_past.machine, test_past.running, test_past.write
TABLES = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history", "publish_position")


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The ledger's tables."""
    return store.Store(db)


def story(messages: Sequence[message.Message]) -> list[tuple[str, str]]:
    """The names and what happened, in the order of sending."""
    return [(each.key[2], each.attributes["type"].removeprefix(message.TYPE)) for each in messages]


def rows(query: Query) -> list[publishing.Json]:
    """All of vm_changes, as JSON."""
    return sorted((row for (row,) in query("SELECT to_jsonb(c) FROM vm_changes AS c")), key=json.dumps)


def test_every_kind_of_change_has_its_type(url: str, tables: store.Store, query: Query) -> None:
    """As vm_changes names it, of the VM and of what runs of it; the data is the row, with the VM's present row."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0), running(ADD, 11, 1, "n1"), running(UPDATE, 12, 2, "n2"))
    write(tables, running(DELETE, 13, 3, "n2"), machine(UPDATE, 20, 4, cores=2), machine(DELETE, 21, 5))
    write(tables, machine(ADD, 30, 6, uid="u2"), machine(DELETE, 31, 7, uid="u2"), machine(UPDATE, 32, 8, uid="u2"))
    found = reader.read()
    assert [what for _, what in story(found)] == [
        *("appeared", "started", "moved", "stopped", "changed", "deleted", "recreated", "deleted", "returned")
    ]
    [present] = [row for (row,) in query("SELECT to_jsonb(v) FROM virtual_machines AS v")]
    sent = [json.loads(each.body) for each in found]
    assert {json.dumps(each.pop("virtual_machine")) for each in sent} == {json.dumps(present)}
    assert sorted(sent, key=json.dumps) == rows(query)


def test_the_attributes_are_those_of_the_document(url: str, tables: store.Store) -> None:
    """Type, source, subject and time of the change, and the extensions by which others route."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0))
    [found] = reader.read()
    assert {name: value for name, value in found.attributes.items() if name != "id"} == {
        "specversion": "1.0",
        "type": "dev.vmledger.vm.appeared",
        "source": "vmledger/east",
        "subject": "team/a",
        "time": test_past.START.isoformat(),
        "partitionkey": "east/team/a",
        "cluster": "east",
    }


def test_a_version_without_a_change_is_not_told(url: str, tables: store.Store) -> None:
    """Most of what KubeVirt sends changes no fact; nor does what was never in force."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0), machine(UPDATE, 11, 1), machine(UPDATE, 12, 2, cores=2))
    assert story(reader.read()) == [("a", "appeared"), ("a", "changed")]
    write(tables, machine(UPDATE, 11, 3, cores=4))
    assert reader.read() == []


@contextlib.contextmanager
def held_open(url: str) -> Any:
    """A transaction that has written something of its own and is not ended."""
    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("INSERT INTO reconcile_seen (cluster, kind, namespace, name) VALUES ('x', 'x', 'x', 'x')")
        yield other


def stored_by(connection: Any, change: versions.Change) -> None:
    """Append a change in an open transaction, by the store's own statement."""
    with connection.cursor() as cursor:
        cursor.execute(store.SQL.by_name["append_machines"].sql)
        rows = {"rows": f"[{change.payload.decode()}]", "lists": True, "given": 1, "batch": ""}
        cursor.execute(store.SQL.call(*store.APPEND_MACHINES), rows)
        cursor.execute("DEALLOCATE append_machines")


def test_a_transaction_that_is_committed_late_is_not_missed(url: str, tables: store.Store) -> None:
    """It began, and got its number, before others that were committed and published meanwhile."""
    reader = publishing.Reader(url)
    with held_open(url) as slow:
        stored_by(slow, machine(ADD, 10, 0, name="slow"))
        write(tables, machine(ADD, 11, 1, name="quick"))
        assert story(reader.read()) == [("quick", "appeared")]
        write(tables, machine(UPDATE, 12, 2, name="quick", cores=2))
        assert story(reader.read()) == [("quick", "changed")]
        slow.commit()
        assert story(reader.read()) == [("slow", "appeared")]
        assert reader.read() == []


def test_a_transaction_that_was_open_at_the_start_is_not_missed(url: str, tables: store.Store) -> None:
    """Also where `publish` begins with now: what was not committed then is news."""
    with held_open(url) as slow:
        stored_by(slow, machine(ADD, 10, 0, name="slow"))
        write(tables, machine(ADD, 11, 1, name="before"))
        reader = publishing.Reader(url, publishing.NOW)
        slow.commit()
        write(tables, machine(ADD, 12, 2, name="after"))
        assert story(reader.read()) == [("after", "appeared"), ("slow", "appeared")]


def test_a_transaction_held_open_elsewhere_delays_nothing(url: str, tables: store.Store) -> None:
    """What others committed is told, however long one that has written stays open."""
    reader = publishing.Reader(url)
    with held_open(url):
        for number in range(3):
            write(tables, machine(UPDATE, 10 + number, number, cores=1 + number))
            assert len(reader.read()) == 1


def test_the_order_of_a_vm_is_that_of_its_versions_whoever_committed_first(url: str, tables: store.Store) -> None:
    """A transaction with the lower number stored the newer version."""
    reader = publishing.Reader(url)
    with held_open(url) as slow:
        write(tables, machine(ADD, 10, 0))
        stored_by(slow, machine(UPDATE, 11, 1, cores=2))
        slow.commit()
    found = reader.read()
    assert story(found) == [("a", "appeared"), ("a", "changed")]
    assert [each.attributes["time"] for each in found] == sorted(each.attributes["time"] for each in found)


def test_changes_of_one_second_come_in_the_order_of_their_versions(url: str, tables: store.Store) -> None:
    """Those of a VM and of its instance among each other: a cluster counts the versions of both together."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0), machine(UPDATE, 12, 0, cores=2), machine(DELETE, 14, 0))
    write(tables, running(ADD, 11, 0, "n1"), running(DELETE, 13, 0, "n1"))
    assert [what for _, what in story(reader.read())] == ["appeared", "started", "changed", "stopped", "deleted"]


def test_a_late_version_is_a_correction_of_the_past(url: str, tables: store.Store, query: Query) -> None:
    """It is told with the changes at its place: its own, and the one after it, which is another now."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0), machine(UPDATE, 12, 2, cores=4))
    assert len(reader.read()) == 2
    write(tables, machine(UPDATE, 11, 1, cores=2))
    [found] = reader.read()
    data = json.loads(found.body)
    assert found.attributes["type"] == "dev.vmledger.vm.corrected"
    assert (data["what"], data["changes"]["vcpus"]) == ("changed", {"old": 1, "new": 2})
    assert [row["changes"]["vcpus"] for row in data["past"]["rows"]] == [{"old": 1, "new": 2}, {"old": 2, "new": 4}]
    assert (data["past"]["from"], data["past"]["until"]) == (data["changed_at"], rows(query)[-1]["changed_at"])
    assert data["virtual_machine"]["vcpus"] == 4


def test_a_late_version_that_changes_nothing_is_not_told(url: str, tables: store.Store) -> None:
    """It has the facts of the version before it."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0), machine(UPDATE, 12, 2, cores=4))
    reader.read()
    write(tables, machine(UPDATE, 11, 1))
    assert reader.read() == []


def test_a_late_version_that_comes_before_it_was_published_is_news(url: str, tables: store.Store) -> None:
    """Nobody was told anything else: so all is told in its order."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0))
    write(tables, machine(UPDATE, 12, 2, cores=4))
    write(tables, machine(UPDATE, 11, 1, cores=2))
    found = reader.read()
    assert story(found) == [("a", "appeared"), ("a", "changed"), ("a", "changed")]
    assert [json.loads(each.body)["changes"]["vcpus"]["new"] for each in found] == [1, 2, 4]


def test_a_version_that_turns_out_never_in_force_is_taken_back(url: str, tables: store.Store) -> None:
    """A newer version counts since before it: it is corrected, without a change at its place."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0), machine(UPDATE, 11, 2, cores=2))
    reader.read()
    write(tables, machine(UPDATE, 12, 1, cores=4))
    news, taken_back = reader.read()
    assert story([news, taken_back]) == [("a", "changed"), ("a", "corrected")]
    data = json.loads(taken_back.body)
    assert (data["what"], data["changes"], data["resource_version"], data["past"]["rows"]) == (None, None, 11, [])


def test_a_version_that_a_list_refutes_is_taken_back(url: str, tables: store.Store, query: Query) -> None:
    """The history keeps it, and whoever was told of it is told that it is not true."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 0), machine(UPDATE, 99, 2, cores=64))
    follower = publishing.Follower()
    follower.take(reader.read())
    key = json.dumps([{"cluster": "east", "namespace": "team", "name": "a"}])
    with contextlib.closing(conftest.session(url)) as connection, connection.cursor() as cursor:
        from function.inventory.reconcile import snapshot

        parameters = {"rows": key, "epoch": 0, "version": 50, "began": datetime.datetime.now(datetime.UTC)}
        snapshot.SQL.run(cursor, "refute_machines", parameters)
        snapshot.SQL.run(cursor, "restore_machines", {"rows": key})
    found = reader.read()
    assert story(found) == [("a", "corrected")]
    follower.take(found)
    assert sorted(follower.rows.values(), key=json.dumps) == rows(query)


def test_the_id_is_the_same_whenever_a_change_is_sent(url: str, tables: store.Store) -> None:
    """Another reader, from the beginning, at another time."""
    reader = publishing.Reader(url)
    first = []
    for number in range(6):
        write(
            tables,
            machine(UPDATE, 10 + number, number, cores=1 + number),
            running(UPDATE, 50 + number, number, f"{number}"),
        )
        first += reader.read()
    again = publishing.Reader(url, batch=2).read()
    assert [each.attributes["id"] for each in again] == [each.attributes["id"] for each in first]
    assert len({each.attributes["id"] for each in first}) == len(first) == 12


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_portions_of_any_size_tell_the_same(batch: int, url: str, tables: store.Store) -> None:
    """Also where several changes of a VM count since the same moment."""
    for number in range(4):
        for name in ("a", "b"):
            write(tables, machine(UPDATE, 10 + number, number, name=name, cores=1 + number))
            write(tables, running(UPDATE, 50 + number, number, f"n{number}", name=name))
    assert story(publishing.Reader(url, batch=batch).read()) == story(publishing.Reader(url).read())
    reader = publishing.Reader(url, publishing.NOW, batch=batch)
    write(tables, *(machine(UPDATE, 20, 20, name=name, cores=9) for name in "abcdef"))
    assert [name for name, _ in story(reader.read())] == list("abcdef")


def test_a_time_begins_with_the_changes_since_then(url: str, tables: store.Store) -> None:
    """By the time of the change."""
    write(tables, machine(ADD, 10, 0), machine(UPDATE, 11, 1, cores=2), machine(UPDATE, 12, 2, cores=4))
    since = (test_past.START + test_past.HOUR).isoformat()
    reader = publishing.Reader(url, position.Start(since=since))
    assert [each.attributes["time"][11:13] for each in reader.read()] == ["01", "02"]


def test_what_was_stored_before_the_migration_is_part_of_the_beginning(
    url: str, tables: store.Store, query: Query
) -> None:
    """Its versions have no transaction; they are never news."""
    write(tables, machine(ADD, 10, 0))
    query("UPDATE vm_history SET recorded_xid = NULL")
    assert story(publishing.Reader(url).read()) == [("a", "appeared")]
    reader = publishing.Reader(url, publishing.NOW)
    write(tables, machine(UPDATE, 11, 1, cores=2))
    assert story(reader.read()) == [("a", "changed")]
    write(tables, machine(UPDATE, 10, -1, cores=1))
    assert story(reader.read()) == [("a", "corrected")]


def test_a_month_that_is_made_later_moves_rows_and_tells_nothing(url: str, tables: store.Store, query: Query) -> None:
    """The rows beyond the last month are moved into it, as they are."""
    reader = publishing.Reader(url)
    write(tables, machine(ADD, 10, 24 * 200))
    assert len(reader.read()) == 1
    for _ in range(8):
        query("SELECT ledger_add_month('vm_history')")
    assert reader.read() == []


def as_sent(change: versions.Change) -> bool:
    """Whether an API server can have sent it: an object that says when it was changed has a resource version."""
    return change.row.object_time is None or change.row.resource_version is not None


EVENTS = test_convergence.changes(versioned=st.booleans()).filter(as_sent)
HISTORIES = st.lists(st.lists(EVENTS, min_size=1, max_size=4), min_size=1, max_size=8)


@hypothesis.given(
    batches=HISTORIES, reads=st.lists(st.booleans(), min_size=8, max_size=8), batch=st.sampled_from([1, 1000])
)
def test_whoever_follows_has_the_past_as_it_is(
    batches: list[list[versions.Change]], reads: list[bool], batch: int, url: str, tables: store.Store, query: Query
) -> None:
    """Whatever comes, in whatever order: late, twice, flat, deleted. The rows are those of vm_changes."""
    query(conftest.emptying(*TABLES))
    reader, follower = publishing.Reader(url, publishing.NOW, batch=batch), publishing.Follower()
    for changes, reads_now in zip(batches, reads, strict=False):
        tables.write(changes)
        if reads_now:
            follower.take(reader.read())
    follower.take(reader.read())
    reader.session.close()
    assert sorted(follower.rows.values(), key=json.dumps) == rows(query)


STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["cores", "node", "same", "delete", "stop"]), st.booleans()),
    min_size=1,
    max_size=20,
)


@hypothesis.given(steps=STEPS)
def test_what_comes_in_order_is_told_as_vm_changes_has_it(
    steps: list[tuple[str, str, bool]], url: str, tables: store.Store, query: Query
) -> None:
    """The same changes, each once, none as a correction, and each VM's in the order of their times."""
    query(conftest.emptying(*TABLES))
    reader, found = publishing.Reader(url, publishing.NOW), list[message.Message]()
    for number, (name, step, reads_now) in enumerate(steps):
        if step in ("node", "stop"):
            kind = DELETE if step == "stop" else UPDATE
            write(tables, running(kind, 10 + number, number, f"n{number}", name=name))
        else:
            kind = DELETE if step == "delete" else UPDATE
            write(tables, machine(kind, 10 + number, number, name=name, cores=1 + number if step == "cores" else 1))
        found += reader.read() if reads_now else []
    found += reader.read()
    reader.session.close()
    sent = [json.loads(each.body) for each in found]
    for each in sent:
        del each["virtual_machine"]
    assert sorted(sent, key=json.dumps) == rows(query)
    assert [each.attributes["type"] for each in found] == [message.TYPE + each["what"] for each in sent]
    for name in "ab":
        times = [each.attributes["time"] for each in found if each.key[2] == name]
        assert times == sorted(times)
