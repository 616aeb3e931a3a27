"""Group commit where rows are locked: who needs one waits, and nobody else does."""

from __future__ import annotations

import concurrent.futures
import random
import threading
import time
from collections.abc import Hashable, Mapping, Sequence

import hypothesis
import hypothesis.strategies as st
import pytest

from function import errors
from function.inventory.storage import group_commit, set_aside, shared_write


class Rows:
    """A table in memory: an item is its own row's name, without the digits at its end.

    shown: rows that are locked. hidden: locked as well, and the table does not show it. absent: rows that are not there
    yet. closed: the whole table is locked.
    """

    def __init__(self) -> None:
        self.shown: set[str] = set()
        self.hidden: set[str] = set()
        self.absent: set[str] = set()
        self.closed = False
        self.stored: list[str] = []
        self.attempts: list[list[str]] = []
        self.guard = threading.Lock()

    @property
    def table(self) -> shared_write.Table[str, str]:
        """The table as a group commit has it."""
        return shared_write.Table(self.write, self.not_free, lambda _: None, self.row, lambda _: ["table"])

    @staticmethod
    def row(item: str) -> str:
        """The name of an item's row."""
        return item.rstrip("0123456789")

    def write(self, items: Sequence[str], seconds: float, /, *, lock_wait: float) -> Sequence[str]:
        """Store all items, or none."""
        with self.guard:
            self.attempts.append(list(items))
            rows = {self.row(item) for item in items}
            if self.closed or rows & (self.shown | self.hidden):
                raise errors.Locked("locked")
            if any(item.startswith("bad") for item in items):
                raise errors.BadEvent("bad")
            self.stored += items
            return [item.upper() for item in items]

    def not_free(self, items: Sequence[str], seconds: float, /, *, lock_wait: float) -> Mapping[Hashable, bool]:
        """Which rows cannot be locked."""
        with self.guard:
            if self.closed:
                raise errors.Locked("locked")
            rows = {self.row(item) for item in items}
            return {row: row in self.shown for row in rows & (self.absent | self.shown)}


@pytest.fixture
def pool() -> concurrent.futures.ThreadPoolExecutor:
    """Threads, as many as requests."""
    return concurrent.futures.ThreadPoolExecutor(64)


def together(rows: Rows, items: Sequence[str]) -> list[shared_write.Request[str, str]]:
    """Write some items in one group; return their requests."""
    requests = [shared_write.Request[str, str]([item], time.monotonic() + 5) for item in items]
    shared_write.SharedWrite(rows.table).store(requests, time.monotonic() + 5)
    return requests


@pytest.mark.parametrize("count", [1, 4, 20])
def test_a_locked_row_is_set_aside_and_the_rest_is_stored(count: int) -> None:
    """However many there are, in two writes."""
    rows = Rows()
    rows.shown = {f"locked-{chr(97 + number)}" for number in range(count)}
    free = [f"free-{number}" for number in range(40)]
    requests = together(rows, [*free[:20], *sorted(rows.shown), *free[20:]])
    assert rows.stored == free
    assert [request.items[0] for request in requests if request.lock] == sorted(rows.shown)
    assert len(rows.attempts) == 2


@pytest.mark.parametrize("place", range(9))
def test_a_lock_that_does_not_show_is_found(place: int) -> None:
    """Wherever it stands in the group; nothing else is held up."""
    rows = Rows()
    items = [*"abcdefghi"]
    rows.hidden = {items[place]}
    requests = together(rows, items)
    assert sorted(rows.stored) == sorted({*items} - rows.hidden)
    assert [request.items[0] for request in requests if request.lock is shared_write.Lock.HIDDEN] == [items[place]]


def test_what_is_not_there_yet_is_set_aside_first() -> None:
    """Another transaction may have inserted it; so the rest is stored with the next write."""
    rows = Rows()
    rows.hidden, rows.absent = {"new-a"}, {"new-a", "new-b"}
    requests = together(rows, ["old-a", "new-a", "old-b", "new-b"])
    assert rows.stored == ["old-a", "old-b"]
    assert [request.lock for request in requests] == [None, shared_write.Lock.UNSURE] * 2
    assert len(rows.attempts) == 2


def test_a_bad_item_and_a_locked_row_do_not_hide_each_other() -> None:
    """Each fails or waits by itself."""
    rows = Rows()
    rows.shown = {"locked"}
    requests = together(rows, ["a", "bad", "b", "locked", "c"])
    assert sorted(rows.stored) == ["a", "b", "c"]
    assert [type(request.failure) for request in requests if request.failure] == [errors.BadEvent]
    assert [request.items[0] for request in requests if request.lock] == ["locked"]


@pytest.mark.parametrize("how", ["shown", "hidden"])
def test_who_waits_is_stored_when_the_lock_ends(how: str, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """Others are answered meanwhile, also those that come later."""
    rows = Rows()
    setattr(rows, how, {"locked"})
    commit = group_commit.GroupCommit(rows.table, patience=30)
    waiting = [pool.submit(commit.submit, [f"locked{number}"]) for number in range(4)]
    while not rows.attempts:
        time.sleep(0.001)
    for item in [*"abcdef"]:
        assert commit.submit([item]) == [item.upper()]
    assert not any(future.done() for future in waiting)
    with rows.guard:
        setattr(rows, how, set())
    assert sorted(future.result(20)[0] for future in waiting) == ["LOCKED0", "LOCKED1", "LOCKED2", "LOCKED3"]
    assert len(rows.stored) == 10


def test_a_request_of_several_rows_waits_for_all(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """They are stored all or none."""
    rows = Rows()
    rows.shown = {"locked"}
    commit = group_commit.GroupCommit(rows.table, patience=30)
    waiting = pool.submit(commit.submit, ["a", "locked", "b"])
    while not rows.attempts:
        time.sleep(0.001)
    assert commit.submit(["a2"]) == ["A2"]
    assert rows.stored == ["a2"]
    rows.shown = set()
    assert waiting.result(20) == ["A", "LOCKED", "B"]


@pytest.mark.parametrize("how", ["shown", "hidden"])
def test_who_has_no_time_left_is_refused(how: str) -> None:
    """Within its patience; and the next one too, without a write that could hold others up."""
    rows = Rows()
    setattr(rows, how, {"locked"})
    commit = group_commit.GroupCommit(rows.table, patience=0.5)
    for _ in range(2):
        with pytest.raises(errors.Locked, match="another transaction holds a lock"):
            commit.submit(["locked1"])
    assert rows.stored == []
    assert commit.submit(["a"]) == ["A"]


def test_a_row_that_was_locked_is_asked_about_before_it_is_written() -> None:
    """For a while: its next event costs others no wait; once it is stored, it is a row like any other."""
    rows = Rows()
    rows.shown = {"locked"}
    commit = group_commit.GroupCommit(rows.table, patience=0.3)
    with pytest.raises(errors.Locked):
        commit.submit(["locked1"])
    before = len(rows.attempts)
    with pytest.raises(errors.Locked):
        commit.submit(["locked2"])
    assert len(rows.attempts) == before
    rows.shown = set()
    assert commit.submit(["locked3"]) == ["LOCKED3"]
    rows.shown = {"locked"}
    with pytest.raises(errors.Locked):
        commit.submit(["locked4"])
    assert rows.attempts[-1] == ["locked4"]


@pytest.mark.parametrize("how", ["shown", "hidden"])
def test_so_many_wait_and_the_others_are_refused_at_once(how: str, pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """A pod takes only so many requests at a time; those of other rows need places too."""
    rows = Rows()
    setattr(rows, how, {"locked"})
    commit = group_commit.GroupCommit(rows.table, patience=30)
    waiting = [pool.submit(commit.submit, [f"locked{number}"]) for number in range(set_aside.MOST + 20)]
    done, left = concurrent.futures.wait(waiting, timeout=2)
    assert (len(done), len(left)) == (20, set_aside.MOST)
    for future in done:
        assert isinstance(future.exception(), errors.Locked)
    setattr(rows, how, set())
    for future in left:
        future.result(20)
    assert len(rows.stored) == set_aside.MOST


def test_nobody_is_refused_because_others_are_locked(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """New rows may be locked by an insert that does not show; those that are not are stored, however many wait."""
    rows = Rows()
    rows.hidden = {"locked"}
    rows.absent = {"locked", *(f"new-{chr(97 + number)}" for number in range(20))}
    commit = group_commit.GroupCommit(rows.table, patience=3)
    waiting = [pool.submit(commit.submit, [f"locked{number}"]) for number in range(20)]
    new = [pool.submit(commit.submit, [item]) for item in sorted(rows.absent - rows.hidden)]
    for future in new:
        future.result(20)
    for future in waiting:
        assert isinstance(future.exception(20), errors.Locked)


def test_a_whole_table_that_is_locked_is_waited_for(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    """By all, in their groups: nobody could be stored before."""
    rows = Rows()
    rows.closed = True
    commit = group_commit.GroupCommit(rows.table, patience=30)
    waiting = [pool.submit(commit.submit, [item]) for item in [*"abcdefgh"]]
    time.sleep(0.3)
    assert not any(future.done() for future in waiting)
    rows.closed = False
    assert sorted(future.result(20)[0] for future in waiting) == [*"ABCDEFGH"]


def test_a_whole_table_that_stays_locked_is_an_answer_in_time() -> None:
    """When the patience is over."""
    rows = Rows()
    rows.closed = True
    commit = group_commit.GroupCommit(rows.table, patience=0.3)
    with pytest.raises(errors.DatabaseUnavailable):
        commit.submit(["a"])
    rows.closed = False
    assert commit.submit(["a"]) == ["A"]


def test_a_leader_that_is_killed_hands_on(
    pool: concurrent.futures.ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gunicorn ends a worker's requests: the others that wait aside are still told."""
    rows = Rows()
    rows.shown = {"locked"}
    commit = group_commit.GroupCommit(rows.table, patience=30)
    asked = threading.Event()
    killed = threading.Event()
    show = shared_write.SharedWrite.show

    def kill(self: shared_write.SharedWrite[str, str], *arguments: object) -> None:
        asked.set()
        if killed.is_set():
            killed.clear()
            raise SystemExit
        show(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shared_write.SharedWrite, "show", kill)
    first = pool.submit(commit.submit, ["locked1"])
    assert asked.wait(10)
    others = [pool.submit(commit.submit, [f"locked{number}"]) for number in (2, 3)]
    killed.set()
    with pytest.raises(SystemExit):
        first.result(20)
    rows.shown = set()
    assert sorted(future.result(20)[0] for future in others) == ["LOCKED2", "LOCKED3"]


@hypothesis.given(seed=st.integers(0, 2**32))
@hypothesis.settings(max_examples=5)
def test_whoever_is_told_that_it_is_stored_is_stored_once(seed: int) -> None:
    """While rows are locked and freed in any way, shown or not; and whoever is not told can send again."""
    order = random.Random(seed)
    rows = Rows()
    names = [f"row-{letter}" for letter in "abcdefgh"]
    rows.absent = {*order.sample(names, 3)}
    commit = group_commit.GroupCommit(rows.table, patience=1)
    stop = threading.Event()

    def lock() -> None:
        while not stop.is_set():
            with rows.guard:
                rows.shown = {*order.sample(names, order.randrange(4))}
                rows.hidden = {*order.sample(names, order.randrange(3))}
                rows.closed = order.random() < 0.1
            stop.wait(0.02)
        with rows.guard:
            rows.shown, rows.hidden, rows.closed = set(), set(), False

    def send(number: int) -> str:
        item = f"{names[number % len(names)]}{number}"
        while True:
            try:
                [told] = commit.submit([item])
            except errors.Unavailable:
                continue
            assert told == item.upper()
            return item

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        locker = pool.submit(lock)
        sent = [pool.submit(send, number) for number in range(300)]
        concurrent.futures.wait(sent, timeout=2)
        stop.set()
        locker.result(10)
        items = sorted(future.result(30) for future in sent)
    assert sorted(rows.stored) == items
    assert commit.waiting == 0
