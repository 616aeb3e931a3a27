"""Group commit: one write for many, each told the truth about its own."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from function import errors
from function.inventory.storage import group_commit, shared_write


class Gate:
    """A write that waits until it is let through, and remembers its groups."""

    def __init__(self, poison: str | None = None) -> None:
        self.groups: list[list[str]] = []
        self.stored: list[str] = []
        self.seconds: list[float] = []
        self.open = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Semaphore(0)
        self.poison = poison
        self.failure: Exception | None = None

    @property
    def table(self) -> shared_write.Table[str, str]:
        """What the groups are written to; an item is its own key."""
        return shared_write.Table(self.write, lambda *_, **__: {}, self.wait, lambda item: item, lambda _: ["table"])

    def wait(self, end: float) -> None:
        """Wait until the connection is free."""
        self.free.wait(end - time.monotonic())

    def write(self, items: Sequence[str], seconds: float, /, *, lock_wait: float) -> Sequence[str]:
        """Store the items, all or none."""
        self.groups.append(list(items))
        self.seconds.append(seconds)
        self.entered.release()
        assert self.open.wait(10)
        if self.failure:
            raise self.failure
        if self.poison in items:
            raise errors.BadEvent("poison")
        self.stored.extend(items)
        return [item.upper() for item in items]


Submit = Callable[[str], "concurrent.futures.Future[Sequence[str]]"]


def held(
    gate: Gate, commit: group_commit.GroupCommit[str, str], pool: concurrent.futures.Executor, items: str
) -> list[concurrent.futures.Future[Sequence[str]]]:
    """Submit a first item, and the others while it is being written."""
    first = pool.submit(commit.submit, ["first"])
    assert gate.entered.acquire(timeout=10)
    rest = []
    for item in items:
        rest.append(pool.submit(commit.submit, [item]))
        while commit.waiting < len(rest):
            threading.Event().wait(0.001)
    return [first, *rest]


@pytest.fixture
def pool() -> concurrent.futures.ThreadPoolExecutor:
    """Threads, as many as requests."""
    return concurrent.futures.ThreadPoolExecutor(32)


def test_a_single_request_is_written_at_once() -> None:
    """By its own thread, without a wait."""
    gate = Gate()
    gate.open.set()
    commit = group_commit.GroupCommit(gate.table, patience=5)
    assert commit.submit(["a", "b"]) == ["A", "B"]
    assert commit.submit(["c"]) == ["C"]
    assert gate.groups == [["a", "b"], ["c"]]


def test_what_comes_during_a_write_shares_the_next(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """Two writes for six requests, and each gets its own results."""
    gate = Gate()
    commit = group_commit.GroupCommit(gate.table, patience=10)
    waiting = held(gate, commit, pool, "abcde")
    gate.open.set()
    assert [list(future.result(10)) for future in waiting] == [["FIRST"], ["A"], ["B"], ["C"], ["D"], ["E"]]
    assert gate.groups == [["first"], ["a", "b", "c", "d", "e"]]


def test_what_comes_while_another_table_is_written_shares_the_write(
    pool: concurrent.futures.ThreadPoolExecutor,
) -> None:
    """A group is open until the connection is free: one write, where each of the three would have had one."""
    gate = Gate()
    gate.open.set()
    gate.free.clear()
    commit = group_commit.GroupCommit(gate.table, patience=10)
    waiting = []
    for item in "abc":
        waiting.append(pool.submit(commit.submit, [item]))
        while commit.waiting < len(waiting):
            threading.Event().wait(0.001)
    gate.free.set()
    assert [list(future.result(10)) for future in waiting] == [["A"], ["B"], ["C"]]
    assert gate.groups == [["a", "b", "c"]]


def test_a_leader_lets_others_join_as_long_as_more_come(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """Each time that it looks whether the connection is free another request has come, and they share the write."""
    coming = list("abc")
    futures = []

    def wait(_: float) -> None:
        if coming:
            futures.append(pool.submit(commit.submit, [coming.pop(0)]))
            while commit.waiting < 1 + len(futures):
                threading.Event().wait(0.001)

    gate = Gate()
    gate.open.set()
    commit = group_commit.GroupCommit(dataclasses.replace(gate.table, wait=wait), patience=10)
    assert commit.submit(["first"]) == ["FIRST"]
    assert [list(future.result(10)) for future in futures] == [["A"], ["B"], ["C"]]
    assert gate.groups == [["first", "a", "b", "c"]]


def test_a_leader_that_waits_for_the_connection_in_vain_fails_alone(
    pool: concurrent.futures.ThreadPoolExecutor,
) -> None:
    """Who came later has patience left: it leads, and is written."""
    gate = Gate()
    gate.open.set()
    gate.free.clear()
    commit = group_commit.GroupCommit(gate.table, patience=3)
    first = pool.submit(commit.submit, ["first"])
    time.sleep(2)
    second = pool.submit(commit.submit, ["second"])
    with pytest.raises(errors.DatabaseUnavailable):
        first.result(10)
    gate.free.set()
    assert list(second.result(10)) == ["SECOND"]
    assert gate.groups == [["second"]]


@pytest.mark.parametrize("place", range(5))
def test_a_poisoned_request_fails_alone(pool: concurrent.futures.ThreadPoolExecutor, place: int) -> None:
    """Wherever it stands in the group."""
    gate = Gate(poison="abcde"[place])
    commit = group_commit.GroupCommit(gate.table, patience=10)
    waiting = held(gate, commit, pool, "abcde")
    gate.open.set()
    for letter, future in zip(["first", *"abcde"], waiting, strict=True):
        if letter == gate.poison:
            with pytest.raises(errors.BadEvent):
                future.result(10)
        else:
            assert list(future.result(10)) == [letter.upper()]
    assert gate.stored == ["first", *(letter for letter in "abcde" if letter != gate.poison)]


def test_a_failed_write_fails_its_group_and_not_the_next(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """503 for all that was in it; the next request tries anew."""
    gate = Gate()
    commit = group_commit.GroupCommit(gate.table, patience=10)
    waiting = held(gate, commit, pool, "abc")
    gate.failure = errors.DatabaseUnavailable("gone")
    gate.open.set()
    for future in waiting:
        with pytest.raises(errors.DatabaseUnavailable):
            future.result(10)
    gate.failure = None
    assert commit.submit(["d"]) == ["D"]


def test_a_request_waits_no_longer_than_its_patience(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """While somebody else's write hangs; and what it gave up is not written behind its back."""
    gate = Gate()
    commit = group_commit.GroupCommit(gate.table, patience=0.2)
    first, impatient = held(gate, commit, pool, "a")
    with pytest.raises(errors.DatabaseUnavailable):
        impatient.result(10)
    gate.open.set()
    assert list(first.result(10)) == ["FIRST"]
    assert commit.submit(["b"]) == ["B"]
    assert gate.stored == ["first", "b"]


def test_a_leader_that_waited_has_less_time_left(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """The patience is for the whole wait: for others' writes and for one's own."""
    gate = Gate()
    commit = group_commit.GroupCommit(gate.table, patience=10)
    waiting = held(gate, commit, pool, "a")
    threading.Event().wait(0.2)
    gate.open.set()
    for future in waiting:
        future.result(10)
    assert gate.seconds[0] > 9.9
    assert gate.seconds[1] < 9.8


def test_a_leader_with_no_time_left_leaves_the_lead(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """Its end would be the end of its whole group."""
    gate = Gate()
    commit = group_commit.GroupCommit(gate.table, patience=1)
    first, tired = held(gate, commit, pool, "a")
    threading.Event().wait(0.95)
    fresh = pool.submit(commit.submit, ["b"])
    while commit.waiting < 2:
        threading.Event().wait(0.001)
    gate.open.set()
    with pytest.raises(errors.DatabaseUnavailable):
        tired.result(10)
    assert list(fresh.result(10)) == ["B"]
    assert list(first.result(10)) == ["FIRST"]


def test_a_group_has_an_end(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """No group is larger than asked; a single request may be."""
    gate = Gate()
    commit = group_commit.GroupCommit(gate.table, most=2, patience=10)
    waiting = held(gate, commit, pool, "abcde")
    gate.open.set()
    for future in waiting:
        future.result(10)
    assert [len(items) for items in gate.groups] == [1, 2, 2, 1]
    assert len(commit.submit(["x", "y", "z"])) == 3


def test_many_threads_are_all_told(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """Nobody is forgotten, nothing is written twice."""
    gate = Gate()
    gate.open.set()
    commit = group_commit.GroupCommit(gate.table, patience=10)
    results = list(pool.map(lambda number: commit.submit([f"v{number}"]), range(2000)))
    assert [list(result) for result in results] == [[f"V{number}"] for number in range(2000)]
    assert sorted(gate.stored) == sorted(f"v{number}" for number in range(2000))


def test_a_large_request_is_written_in_portions_and_others_between_them(
    pool: concurrent.futures.ThreadPoolExecutor,
) -> None:
    """Nobody waits for all of it; its results are in its order."""
    gate = Gate()
    commit = group_commit.GroupCommit(gate.table, patience=10)
    items = [f"v{number}" for number in range(3 * group_commit.PORTION)]
    large = pool.submit(commit.submit, items)
    assert gate.entered.acquire(timeout=10)
    small = pool.submit(commit.submit, ["small"])
    while commit.waiting < 1:
        threading.Event().wait(0.001)
    gate.open.set()
    assert small.result(10) == ["SMALL"]
    assert large.result(10) == [item.upper() for item in items]
    assert [group[0] for group in gate.groups[:2]] == ["v0", "small"]
    assert max(map(len, gate.groups)) <= group_commit.PORTION + 1
