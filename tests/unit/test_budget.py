"""What the requests in flight hold together, and how a body is read out of it."""

from __future__ import annotations

import contextlib
import io
import threading
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import errors, turns
from function.web import bodies, budget

MOST = 1_000_000


def left(memory: budget.Budget) -> int:
    """How much a budget still has: what a request can draw of it beyond its free bytes."""
    found = 0
    for size in (1 << bit for bit in range(30, -1, -1)):
        with contextlib.suppress(errors.Unavailable), memory.share() as share:
            share.hold(budget.FREE_BYTES + found + size)
            found += size
    return found


def test_small_requests_draw_nothing() -> None:
    """However many there are, and however full it is."""
    memory = budget.Budget(0)
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(memory.share()).hold(budget.FREE_BYTES)


def test_a_request_beyond_the_budget_is_503_and_fits_once_another_is_done() -> None:
    """Knative sends it again."""
    memory = budget.Budget(MOST)
    with memory.share() as first:
        first.hold(budget.FREE_BYTES + MOST)
        with memory.share() as second, pytest.raises(errors.Unavailable, match="send it again"):
            second.hold(budget.FREE_BYTES + 1)
    with memory.share() as second:
        second.hold(budget.FREE_BYTES + MOST)


@hypothesis.given(st.lists(st.lists(st.integers(0, 300_000), max_size=6), max_size=6))
def test_whatever_was_drawn_is_given_back(requests: list[list[int]]) -> None:
    """Refused or not."""
    memory = budget.Budget(MOST)
    with contextlib.ExitStack() as stack:
        for sizes in requests:
            share = stack.enter_context(memory.share())
            with contextlib.suppress(errors.Unavailable):
                for size in sizes:
                    share.hold(size)
    assert left(memory) == MOST


def read(source: Any, announced: int | None = None, *, memory: int = MOST, most: int = 500_000) -> bytes:
    """Read a body."""
    environ = {"wsgi.input": source, "CONTENT_LENGTH": "" if announced is None else str(announced)}
    with budget.Budget(memory).share() as share:
        return bodies.read(environ, share, most=most)


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 500_000])
def test_a_body_is_read_whole(size: int) -> None:
    """Its length announced or not."""
    body = b"x" * size
    assert read(io.BytesIO(body), size) == body
    assert read(io.BytesIO(body)) == body


def test_a_body_past_its_limits_is_refused() -> None:
    """Too large, too short, without room."""
    with pytest.raises(errors.TooLarge):
        read(io.BytesIO(b""), 500_001)
    with pytest.raises(errors.TooLarge):
        read(io.BytesIO(b"x" * 500_001))
    with pytest.raises(errors.BadEvent, match="ends after 5 of 100000 bytes"):
        read(io.BytesIO(b"x" * 5), 100_000)
    for announced in (400_000, None):
        source = io.BytesIO(b"x" * 400_000)
        with pytest.raises(errors.Unavailable):
            read(source, announced, memory=100_000)
        assert source.tell() < 300_000, "it is not read on"


class Broken:
    """A source that raises what a server raises."""

    def __init__(self, exc: Exception) -> None:
        self._exc = exc

    def read(self, _: int) -> bytes:
        """Raise it."""
        raise self._exc


def test_what_a_server_raises_becomes_an_error_of_ours() -> None:
    """A body that is late is sent again; one that is broken is not."""
    with pytest.raises(errors.TooSlow):
        read(Broken(TimeoutError()), 5)
    with pytest.raises(errors.BadEvent):
        read(Broken(ValueError()), 5)


def test_large_requests_are_read_one_by_one() -> None:
    """And small ones at once."""
    memory = budget.Budget(MOST)
    at_once: list[int] = []
    running = 0

    def large() -> None:
        nonlocal running
        with memory.share() as share:
            share.hold(budget.FREE_BYTES + 1)
            with share.turn():
                running += 1
                at_once.append(running)
                threading.Event().wait(0.001)
                running -= 1

    threads = [threading.Thread(target=large) for _ in range(10)]
    for thread in threads:
        thread.start()
    with memory.share() as share, share.turn():
        share.hold(5)
    for thread in threads:
        thread.join()
    assert at_once == [1] * 10


@hypothesis.given(st.lists(st.integers(), max_size=100))
def test_sharing_a_loop_changes_nothing_about_it(items: list[int]) -> None:
    """All items, in their order."""
    assert list(turns.shared(items)) == items


def test_a_long_loop_lets_others_run() -> None:
    """Here, another thread."""
    ran = threading.Event()
    threading.Thread(target=ran.set).start()
    assert any(ran.is_set() for _ in turns.shared(range(100_000_000)))
