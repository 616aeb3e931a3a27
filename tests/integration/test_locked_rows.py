"""A transaction of somebody else that stays open: it stops what needs its rows, and nothing else."""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from function import errors, events, settings
from function.clients import postgres
from function.inventory import capability
from function.inventory.mapping import instance, versions, vm
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]
ADD, UPDATE = list(versions.STEPS)[:2]
PATIENCE = 2.0
STATE = (
    "INSERT INTO vm_state (cluster, namespace, name, uid, type, id, kind, version_number, version_time, version_step,"
    " shape, digest, effective_at) SELECT 'c', 'team', 'vm-' || n, 'u', 't', 'i', 'VirtualMachine', 1, '-infinity', 0,"
    " 0, 0, now() FROM generate_series(0, {}) AS n"
)


def machine(number: int, version: int = 5) -> events.Event:
    """An event about a VM."""
    metadata = {"name": f"vm-{number}", "namespace": "team", "uid": f"u{number}", "resourceVersion": str(version)}
    return event(f"m{number}-{version}", vm.KIND, {"metadata": metadata, "spec": {}})


def running(number: int, version: int = 5) -> events.Event:
    """An event about its instance."""
    owner = {"apiVersion": "kubevirt.io/v1", "kind": vm.KIND, "name": f"vm-{number}", "uid": f"u{number}"}
    metadata = {"name": f"vm-{number}", "namespace": "team", "uid": f"i{number}", "resourceVersion": str(version)}
    status = {"nodeName": f"node-{version}", "phase": "Running"}
    data = {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": {}, "status": status}
    return event(f"i{number}-{version}", instance.KIND, data)


def event(name: str, kind: str, data: dict[str, Any]) -> events.Event:
    """An event as the source sends it."""
    time_ = events.parse_time("2026-11-22T10:00:00Z", "time")
    attributes = {"id": name, "type": UPDATE, "time": time_, "source": "s", "specversion": "1.0", "kind": kind}
    return events.Event(attributes, data)


@pytest.fixture
def db(url: str) -> Iterator[postgres.Database]:
    """The door to the database; who waits for it does not for long."""
    opened = postgres.Database({"dsn": url}, timeout=PATIENCE)
    yield opened
    opened.close()


@pytest.fixture
def ledger(db: postgres.Database) -> capability.Ledger:
    """The inventory over that door."""
    return capability.Ledger(settings.Ledger(cluster_name="c"), db=db)


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Threads, as many as requests."""
    with concurrent.futures.ThreadPoolExecutor(80) as threads:
        yield threads


@contextlib.contextmanager
def held(url: str, sql: str) -> Iterator[psycopg2.extensions.connection]:
    """Run SQL in a transaction that stays open until the block ends."""
    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute(sql)
        yield other


def perform(ledger: capability.Ledger, given: events.Event) -> str:
    """Handle an event as a request does."""
    prepared = ledger.prepare(given)
    assert prepared is not None
    [done] = ledger.perform([prepared])
    return done


def awaited(found: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 20
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_locked(query: Query) -> bool:
    """Whether somebody waits for a lock."""
    return query("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)]


LOCKS = {
    "machine": ("SELECT FROM vm_state WHERE name = ANY(%s) FOR UPDATE", machine),
    "machine of an instance": ("SELECT FROM vm_state WHERE name = ANY(%s) FOR SHARE", running),
    "instance": ("SELECT FROM vm_runtime WHERE name = ANY(%s) FOR UPDATE", running),
    "deleted machine": ("DELETE FROM vm_state WHERE name = ANY(%s)", machine),
    "late machine's history": (
        "UPDATE vm_history SET recorded_at = now() WHERE name = ANY(%s)",
        lambda number, _=0: machine(number, 3),
    ),
}


@pytest.mark.parametrize("count", [1, 4, 20])
@pytest.mark.parametrize("what", LOCKS)
def test_a_locked_row_stops_its_own_events_only(
    what: str, count: int, url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Others of both kinds are stored while it is held; its own are refused in time, and stored once it ends."""
    sql, about = LOCKS[what]
    for number in range(40):
        perform(ledger, machine(number, 3))
        perform(ledger, running(number, 3))
    names = [f"vm-{number}" for number in range(count)]
    late = what == "late machine's history"
    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute(sql, [names])
        waiting = [pool.submit(perform, ledger, about(number, 4)) for number in range(count)]
        others = [
            pool.submit(perform, ledger, make(number, version))
            for version in (5, 6)
            for number in range(20, 40)
            for make in (machine, running)
        ]
        assert {future.result(20) for future in others} <= {"stored", "late"}
        if not late:
            assert not [future for future in waiting if future.done() and future.exception() is None]
            for future in waiting:
                assert isinstance(future.exception(20), errors.Locked)
            refused = time.monotonic()
            with pytest.raises(errors.Locked):
                perform(ledger, about(0, 5))
            assert time.monotonic() - refused < PATIENCE + 5
    for number in range(count):
        assert perform(ledger, about(number, 7)) in ("stored", "duplicate", "late")


def test_a_row_that_is_not_committed_stops_its_own_events_only(
    url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Nobody can see it, but for the wait; new VMs are stored meanwhile."""
    with held(url, STATE.format(3)) as other:
        waiting = [pool.submit(perform, ledger, machine(number)) for number in range(4)]
        others = [pool.submit(perform, ledger, machine(number)) for number in range(4, 40)]
        assert {future.result(20) for future in others} == {"stored"}
        assert not [future for future in waiting if future.done() and future.exception() is None]
        other.rollback()
        for number, future in enumerate(waiting):
            if future.exception(20) is not None:
                assert isinstance(future.exception(), errors.Locked)
                assert perform(ledger, machine(number)) == "stored"


def test_a_lock_that_ends_in_time_is_not_noticed_by_the_sender(
    url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor, query: Query
) -> None:
    """The event waits, and is stored."""
    perform(ledger, machine(0, 3))
    with held(url, "SELECT FROM vm_state FOR UPDATE"):
        waiting = pool.submit(perform, ledger, machine(0))
        awaited(lambda: is_locked(query))
        time.sleep(0.3)
        assert not waiting.done()
    assert waiting.result(20) == "stored"


def test_a_locked_row_costs_no_second_connection(
    url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor, query: Query
) -> None:
    """Whoever waits keeps none."""
    perform(ledger, machine(0, 3))
    with held(url, "SELECT FROM vm_state FOR UPDATE"):
        waiting = pool.submit(perform, ledger, machine(0))
        for number in range(1, 20):
            perform(ledger, machine(number))
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vmledger' AND datname = %s"
        [(name,)] = query("SELECT current_database()")
        assert query(count, [name]) == [(1,)]
        assert isinstance(waiting.exception(20), errors.Locked)


@pytest.mark.parametrize(
    "sql",
    [
        "LOCK TABLE vm_state IN SHARE MODE",
        "LOCK TABLE vm_history IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE clusters IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE ledger_heard IN EXCLUSIVE MODE",
    ],
)
def test_a_locked_table_is_waited_for(
    sql: str, url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor, query: Query
) -> None:
    """By all who need it; when it is free, all go on."""
    with held(url, sql) as other:
        waiting = [pool.submit(perform, ledger, machine(number)) for number in range(30)]
        awaited(lambda: is_locked(query))
        time.sleep(0.3)
        other.rollback()
        assert {future.result(20) for future in waiting} == {"stored"}


def test_a_table_that_stays_locked_is_an_answer_in_time(
    url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor, query: Query
) -> None:
    """Whoever wants the whole table, as ALTER TABLE does, waits for a reader, and everybody else for that."""
    with held(url, "SELECT count(*) FROM vm_state") as reader:
        changing = pool.submit(conftest.execute, url, "BEGIN; LOCK TABLE vm_state IN ACCESS EXCLUSIVE MODE; COMMIT")
        awaited(lambda: is_locked(query))
        waiting = [pool.submit(perform, ledger, machine(number)) for number in range(30)]
        for future in waiting:
            assert isinstance(future.exception(20), errors.Unavailable)
        reader.rollback()
        changing.result(20)
    assert perform(ledger, machine(0)) == "stored"


def test_a_lock_on_a_row_of_clusters_stops_no_machine(
    url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor, query: Query
) -> None:
    """Nor the instance of a machine that is known; only who must keep all writers away waits.

    An instance that shared the stranger's write was stored by it, and is its own duplicate where that is tried again.
    """
    query("INSERT INTO clusters (cluster) VALUES ('c')")
    for number in range(20):
        perform(ledger, machine(number, 3))
    with held(url, "SELECT FROM clusters FOR UPDATE"):
        stranger = pool.submit(perform, ledger, running(99))
        others = [pool.submit(perform, ledger, make(number)) for number in range(20) for make in (machine, running)]
        assert {future.result(20) for future in others} <= {"stored", "duplicate"}
        for kind in ("vm_history WHERE id LIKE 'm%-5'", "vm_runtime_history WHERE id <> 'i99-5'"):
            assert query(f"SELECT count(*) FROM {kind}") == [(20,)]
        assert isinstance(stranger.exception(20), errors.Unavailable)
    assert perform(ledger, running(99)) == "duplicate"


@pytest.mark.parametrize("seed", range(3))
def test_locks_that_come_and_go_change_nothing(
    seed: int, url: str, ledger: capability.Ledger, pool: concurrent.futures.ThreadPoolExecutor, query: Query
) -> None:
    """Each event is sent until it is stored; the ledger has the newest version of each, and each version once."""
    order = random.Random(seed)
    given = [make(number, version) for number in range(12) for version in range(1, 6) for make in (machine, running)]
    order.shuffle(given)
    tables = ("vm_state", "vm_runtime", "vm_history")

    def lock() -> None:
        for _ in range(12):
            names = [f"vm-{number}" for number in order.sample(range(12), 4)]
            with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
                sql = f"SELECT FROM {order.choice(tables)} WHERE name = ANY(%s) FOR UPDATE"
                with contextlib.suppress(psycopg2.errors.DeadlockDetected):
                    cursor.execute(sql, [names])
                    time.sleep(order.uniform(0, 0.3))

    def send(each: events.Event) -> None:
        for _ in range(100):
            with contextlib.suppress(errors.Unavailable):
                perform(ledger, each)
                return
        raise AssertionError("it was never stored")

    locker = pool.submit(lock)
    for future in [pool.submit(send, each) for each in given]:
        future.result(60)
    locker.result(60)
    assert query("SELECT count(*), min(version_number), max(version_number) FROM vm_state") == [(12, 5, 5)]
    assert query("SELECT count(*), min(node), max(node) FROM virtual_machines") == [(12, "node-5", "node-5")]
    for history in ("vm_history", "vm_runtime_history"):
        assert query(f"SELECT count(*), count(DISTINCT (name, version_number)) FROM {history}") == [(60, 60)]
