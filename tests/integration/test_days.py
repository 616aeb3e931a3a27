"""fleet_days: whatever came in whatever order, a day is what the fleet was at its end."""

from __future__ import annotations

import concurrent.futures
import datetime
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import hypothesis.strategies as st
import psycopg2
import pytest

from function import events, migrate, settings
from function.clients import postgres
from function.inventory import days, prune
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]
Row = tuple[Any, ...]

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
DAY = datetime.timedelta(days=1)
TODAY = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
"""The midnight before the tests; a test that runs over the next one has a day more, which changes nothing."""
TABLES = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history", "fleet_days", "fleet_days_filled")
COLUMNS = "cluster, namespace, guest_os, vms, running, vcpus, memory_bytes, disk_bytes"
FLEET = """
SELECT cluster, namespace, coalesce(guest_os, os), count(*)::int,
       (count(*) FILTER (
           WHERE phase = 'Running' OR phase IS NULL AND status IN ('Running', 'Paused', 'Migrating')
       ))::int,
       sum(vcpus)::bigint, sum(memory_bytes)::bigint, sum(disk_bytes)::bigint
FROM virtual_machines_at(%s) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 NULLS LAST
"""
"""What a day must say."""


def attributes(kind: str, version: int, ago: float) -> dict[str, Any]:
    """The attributes of an event, so many days before today began."""
    return {"id": f"{version}-{ago}", "type": kind, "time": TODAY - ago * DAY, "specversion": "1.0", "source": "s"}


def machine(
    kind: str,
    version: int,
    ago: float,
    *,
    name: str = "a",
    uid: str = "u1",
    cores: int | None = 1,
    status: str | None = None,
    cluster: str = "east",
) -> versions.Change:
    """A change of the VM team/``name``."""
    metadata = {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version)}
    domain = {"cpu": {"cores": cores}, "memory": {"guest": "1Gi"}}
    sized = {"template": {"spec": {"domain": domain}}} if cores else {"instancetype": {"name": "u1.small"}}
    found: dict[str, Any] = {"metadata": metadata, "spec": sized}
    if status:
        found["status"] = {"printableStatus": status}
    return vm.change(events.Event(attributes(kind, version, ago), found), cluster_name=cluster)


def running(
    kind: str, version: int, ago: float, *, phase: str = "Running", name: str = "a", uid: str = "u1", guest: str = ""
) -> versions.Change:
    """A change of the VM's instance."""
    owners = [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": uid}]
    metadata = {"name": name, "namespace": "team", "uid": "i", "resourceVersion": str(version)}
    found = {
        "metadata": {**metadata, "ownerReferences": owners},
        "status": {"nodeName": "n1", "phase": phase, "guestOSInfo": {"prettyName": guest} if guest else {}},
    }
    change = instance.change(events.Event(attributes(kind, version, ago), found), cluster_name="east")
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


def fill(url: str, seconds: float = 3600) -> days.Filled:
    """Fill, as each reconcile does; by default all that is due, however slow the machine is."""
    return days.fill(settings.Settings.from_env({"DATABASE_URL": url}), seconds=seconds)


def kept(query: Query, ago: int) -> list[Row]:
    """What fleet_days has of the day that was so many days ago."""
    day = (TODAY - ago * DAY).date()
    return query(f"SELECT {COLUMNS} FROM fleet_days WHERE day = %s ORDER BY 1, 2, 3 NULLS LAST", [day])


def sizes(query: Query, *ago: int) -> list[int | None]:
    """The vCPUs of those days; None for a day without a row."""
    return [sum(row[5] for row in rows) if (rows := kept(query, each)) else None for each in ago]


def settle(query: Query) -> None:
    """Let what was recorded until now be older than what is looked at twice."""
    query("UPDATE vm_history SET recorded_at = now() - interval '1 hour'")


def filled_at(query: Query) -> dict[int, datetime.datetime]:
    """When each past day was computed, by how many days ago it was."""
    found = query("SELECT day, filled_at FROM fleet_days_filled")
    return {(TODAY.date() - day).days: at for day, at in found if day < TODAY.date()}


def test_a_day_says_how_large_the_fleet_was_at_its_end(url: str, tables: store.Store, query: Query) -> None:
    """By cluster, namespace and guest OS; what is not known is NULL."""
    write(tables, machine(ADD, 1, 2.5, cores=2), machine(ADD, 2, 2.4, name="b", cores=None))
    write(tables, running(ADD, 3, 2.3, guest="Fedora 42"), machine(UPDATE, 4, 0.5, cores=8))
    fill(url)
    gib = 2**30
    assert kept(query, 3) == [
        ("east", "team", "Fedora 42", 1, 1, 2, gib, None),
        ("east", "team", None, 1, 0, None, None, None),
    ]
    assert [kept(query, ago)[0][5] for ago in (3, 2, 1)] == [2, 2, 8]
    assert kept(query, 4) == []
    assert query("SELECT count(*) FROM fleet_days_filled WHERE filled_at IS NULL") == [(0,)]


def test_today_is_as_of_now_and_follows(url: str, tables: store.Store, query: Query) -> None:
    """Each run computes today again, and no day before it that nothing touched."""
    write(tables, machine(ADD, 1, 1.5, cores=2))
    fill(url)
    before = filled_at(query)
    assert sizes(query, 0) == [2]
    settle(query)
    write(tables, machine(UPDATE, 2, -0.00001, cores=4))
    assert fill(url).filled == 0
    assert sizes(query, 1, 0) == [2, 4]
    assert filled_at(query) == before


def test_what_ran_is_told_by_the_instance_and_without_one_by_the_status(
    url: str, tables: store.Store, query: Query
) -> None:
    """A VM whose instance is gone does not run, whatever its status was."""
    write(tables, machine(ADD, 1, 3, status="Running"), running(ADD, 2, 2.5), running(DELETE, 3, 1.5))
    write(tables, machine(ADD, 4, 3, name="b", status="Paused"), machine(ADD, 5, 3, name="c", status="Stopped"))
    write(tables, running(ADD, 6, 1.2, name="c", phase="Scheduling"))
    fill(url)
    assert [sum(row[4] for row in kept(query, ago)) for ago in (3, 2, 1)] == [2, 1, 1]


def test_a_late_event_corrects_the_days_that_it_covers_and_no_others(
    url: str, tables: store.Store, query: Query
) -> None:
    """From its effective time to the next version's."""
    write(tables, machine(ADD, 1, 9.5, cores=1), machine(UPDATE, 9, 3.5, cores=9))
    fill(url)
    assert sizes(query, 10, 7, 6, 5, 4, 1) == [1, 1, 1, 1, 9, 9]
    assert fill(url).filled == 10, "what was recorded in the last minutes is looked at twice"
    settle(query)
    before = filled_at(query)
    write(tables, machine(UPDATE, 5, 6.5, cores=5))
    assert fill(url).filled == 3
    assert sizes(query, 8, 7, 6, 5, 4, 1) == [1, 5, 5, 5, 9, 9]
    assert {ago for ago, at in filled_at(query).items() if at != before[ago]} == {7, 6, 5}


def test_a_version_of_a_time_before_the_first_day_adds_days(url: str, tables: store.Store, query: Query) -> None:
    """As far back as the history is kept."""
    write(tables, machine(ADD, 3, 2.5, cores=3))
    fill(url)
    write(tables, machine(ADD, 1, 5.5, name="b", cores=1), machine(ADD, 2, 5000, name="c", cores=1))
    fill(url)
    assert sizes(query, 6, 5, 4, 3) == [2, 2, 2, 5]
    assert max(filled_at(query)) == days.MOST_DAYS


def test_a_machine_that_was_made_again_counts_once(url: str, tables: store.Store, query: Query) -> None:
    """The day between counts none."""
    write(tables, machine(ADD, 1, 4.5, cores=1), machine(DELETE, 2, 3.5), machine(ADD, 3, 2.5, uid="u2", cores=4))
    fill(url)
    assert sizes(query, 5, 4, 3, 1) == [1, None, 4, 4]


def test_a_version_of_just_midnight_belongs_to_the_day_that_begins(url: str, tables: store.Store, query: Query) -> None:
    """A day's end is its last microsecond; a late version is found likewise."""
    write(tables, machine(ADD, 1, 2, cores=1))
    fill(url)
    assert sizes(query, 3, 2, 1) == [None, 1, 1]
    write(tables, machine(ADD, 2, 5, name="b", cores=2), machine(DELETE, 3, 3, name="b"))
    fill(url)
    assert sizes(query, 6, 5, 4, 3, 2) == [None, 2, 2, None, 1]


def test_what_a_list_refutes_leaves_its_days(url: str, tables: store.Store, query: Query) -> None:
    """As a reconcile refutes: the version moves to epoch -1, and the list's word about the machine follows."""
    write(tables, machine(ADD, 1, 6.5, cores=1), machine(UPDATE, 99, 4.5, cores=64))
    fill(url)
    assert sizes(query, 6, 5, 1) == [1, 64, 64]
    settle(query)
    query("UPDATE vm_history SET version_epoch = -1, version_time = now(), overtaken = true WHERE version_number = 99")
    query("UPDATE vm_state SET version_epoch = -1")
    write(tables, machine("vmledger.reconcile.correct", 50, -0.00001, cores=1))
    fill(url)
    assert sizes(query, 6, 5, 1, 0) == [1, 1, 1, 1]


def test_a_sum_that_no_column_holds_ends_at_the_greatest(url: str, tables: store.Store, query: Query) -> None:
    """So a VM of an impossible size does not keep a day from being filled."""
    write(tables, machine(ADD, 1, 2.5), machine(ADD, 2, 2.5, name="b"))
    query("UPDATE vm_history SET memory_bytes = 9223372036854775807")
    query("UPDATE vm_state SET spec_memory_bytes = 9223372036854775807")
    fill(url)
    assert [row[6] for row in kept(query, 1)] == [9223372036854775807]


def test_days_stay_when_their_history_is_pruned(url: str, tables: store.Store, query: Query) -> None:
    """And a late event of that time does not change them: what they were computed from is gone."""
    write(tables, machine(ADD, 1, 40.5, cores=1), machine(DELETE, 2, 30.5), machine(ADD, 3, 30.5, name="b", cores=2))
    configuration = settings.Settings.from_env({"DATABASE_URL": url})
    done = prune.run(configuration, 20 * DAY, 20 * DAY)
    assert (done.days, done.old) == (41, 1)
    assert sizes(query, 41, 32, 31, 20, 1) == [1, 1, 2, 2, 2]
    write(tables, machine(ADD, 4, 45, name="c", cores=4))
    fill(url)
    assert sizes(query, 41, 32, 31, 22, 20, 1) == [1, 1, 2, 2, 6, 6]


def test_a_run_does_what_fits_in_its_time_and_the_next_one_the_rest(
    url: str, tables: store.Store, query: Query
) -> None:
    """Today always; then the newest days first."""
    write(tables, machine(ADD, 1, 4.5, cores=1))
    assert fill(url, seconds=0) == days.Filled(filled=0, left=5)
    assert sizes(query, 1, 0) == [None, 1]
    assert fill(url) == days.Filled(filled=5, left=0)


def test_two_at_once_fill_each_day_once(url: str, tables: store.Store, query: Query) -> None:
    """The second leaves it to the first."""
    write(tables, machine(ADD, 1, 20.5, cores=1))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: fill(url), range(4)))
    assert max(each.filled for each in done) == 21
    assert query("SELECT max(vms)::int, count(*)::int FROM fleet_days") == [(1, 22)]


def test_the_functions_own_role_can_fill(url: str, tables: store.Store, query: Query) -> None:
    """A reconcile logs in as it."""
    query("CREATE ROLE days_filler LOGIN")
    try:
        migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_APP_ROLE": "days_filler"}))
        write(tables, machine(ADD, 1, 1.5))
        as_role = psycopg2.extensions.make_dsn(url, user="days_filler")
        assert fill(as_role).filled == 2
    finally:
        query("DROP OWNED BY days_filler")
        query("DROP ROLE days_filler")


def test_the_migration_fills_the_days_from_the_history(
    new_database: Callable[..., str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger of an earlier version has its days at once."""
    url = new_database()
    for name in postgres.migrations():
        if name != migrate.DAYS:
            (tmp_path / f"{name}.sql").symlink_to(postgres.MIGRATIONS / f"{name}.sql")
    configuration = settings.Settings.from_env({"DATABASE_URL": url})
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "MIGRATIONS", tmp_path)
        patch.setattr(days, "fill", lambda *_, **__: days.Filled())
        migrate.run(configuration)
        db = postgres.Database({"dsn": url}, timeout=10)
        write(store.Store(db), machine(ADD, 1, 30.5, cores=1), machine(UPDATE, 2, 10.5, cores=3))
        db.close()
    assert migrate.run(configuration).days == days.Filled(filled=31)
    query = lambda sql, parameters=None: conftest.execute(url, sql, parameters)  # noqa: E731
    assert sizes(query, 32, 31, 11, 1, 0) == [None, 1, 3, 3, 3]
    assert migrate.run(configuration).days.left == 0


@st.composite
def changes(draw: st.DrawFn) -> versions.Change:
    """A change of one of two VMs, or of an instance of theirs, of the last days."""
    name, uid = draw(st.sampled_from("ab")), draw(st.sampled_from(["u1", "u2"]))
    version, ago = draw(st.integers(1, 30)), draw(st.integers(0, 20)) / 4
    kind = draw(st.sampled_from([ADD, UPDATE, UPDATE, DELETE]))
    if draw(st.booleans()):
        cores, status = draw(st.sampled_from([None, 1, 2, 4])), draw(st.sampled_from([None, "Running", "Stopped"]))
        return machine(kind, version, ago, name=name, uid=uid, cores=cores, status=status)
    phase, guest = draw(st.sampled_from(["Running", "Scheduling", "Failed"])), draw(st.sampled_from(["", "Fedora"]))
    return running(kind, version, ago, name=name, uid=uid, phase=phase, guest=guest)


def assert_true(query: Query) -> list[Row]:
    """Each of the last days is what the fleet was at its end; return all days."""
    for ago in range(1, 7):
        end = TODAY - (ago - 1) * DAY - datetime.timedelta(microseconds=1)
        assert kept(query, ago) == query(FLEET, [end]), f"{ago} days ago"
    return query(f"SELECT day, {COLUMNS} FROM fleet_days ORDER BY day, cluster, namespace, guest_os")


@hypothesis.given(
    given=st.lists(st.lists(changes(), min_size=1, max_size=5), min_size=1, max_size=3), order=st.randoms()
)
def test_any_order_of_events_gives_the_same_days(
    url: str, tables: store.Store, query: Query, given: Sequence[Sequence[versions.Change]], order: Any
) -> None:
    """Filled between portions, the days are those of a ledger that was filled once, at the end, in another order."""
    looked = "UPDATE fleet_days_looked SET looked_until = '-infinity', kept_from = '-infinity'"
    empty = f"{conftest.emptying(*TABLES)}; {looked}"
    query(empty)
    for portion in given:
        write(tables, *portion)
        fill(url)
    first = assert_true(query)
    query(empty)
    again = [change for portion in given for change in portion]
    order.shuffle(again)
    write(tables, *again)
    fill(url)
    assert assert_true(query) == first
