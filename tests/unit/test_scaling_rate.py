"""How many occurrences of an HPA can be true."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function.scaling import rate

NOW = datetime.datetime(2026, 5, 11, 6, 30, tzinfo=datetime.UTC)


def at(seconds: float) -> datetime.datetime:
    """Return a time so many seconds from now."""
    return NOW + datetime.timedelta(seconds=seconds)


def admitted(seconds: list[float]) -> list[float]:
    """Return those of the occurrences that are let through, as they come."""
    found: list[float] = []
    for one in seconds:
        if rate.fits(map(at, found), at(one)):
            found.append(one)
    return found


def controller(seconds: list[int]) -> list[int]:
    """Return those that client-go's own filter lets through: a bucket of 25 tokens that gets one in 300 seconds."""
    tokens, last, sent = 25 * 300, 0, []  # in seconds, so that no fraction is rounded
    for one in sorted(seconds):
        tokens, last = min(25 * 300, tokens + one - last), one
        if tokens >= 300:
            tokens -= 300
            sent.append(one)
    return sent


def test_25_at_once_then_one_in_300_seconds() -> None:
    """To the second."""
    assert admitted([0] * 300) == [0] * 25
    assert admitted([*[0] * 25, 299, 300, 301, 599, 600]) == [*[0] * 25, 300, 600]
    assert admitted([float(one) for one in range(300)]) == [float(one) for one in range(25)]


@given(
    st.lists(st.integers(0, 20_000), max_size=80).flatmap(
        lambda found: st.tuples(st.just(found), st.permutations(found))
    )
)
def test_what_a_controller_sends_is_let_through_in_any_order(case: tuple[list[int], list[int]]) -> None:
    """Events arrive late and out of order; none that the controller's filter has let through is taken for untrue."""
    tried, order = case
    left = controller(tried)
    sent = []
    for one in order:
        if one in left:
            left.remove(one)
            sent.append(one)
    assert admitted([float(one) for one in sent]) == sent


@given(st.lists(st.integers(0, 5_000), max_size=60))
def test_no_order_lets_more_through_than_the_rate(seconds: list[int]) -> None:
    """In no span of time are there more than 25 and one for each 300 seconds of it."""
    found = sorted(admitted([float(one) for one in seconds]))
    for first, start in enumerate(found):
        for last in range(first, len(found)):
            assert last - first + 1 <= 25 + (found[last] - start) / 300


@given(st.lists(st.integers(0, 100_000), min_size=26, max_size=60))
def test_in_their_order_the_rate_is_the_controllers(seconds: list[int]) -> None:
    """What comes in the order in which it happened is let through as the controller's own filter does."""
    assert admitted([float(one) for one in sorted(seconds)]) == controller(seconds)


@pytest.mark.parametrize(
    ("occurred", "counted"), [(-1, -1), (0, 0), (-3600, -3600), (-3601, 0), (-1e8, 0), (1, 0), (1e8, 0)]
)
def test_a_time_that_is_far_away_counts_as_now(occurred: float, counted: float) -> None:
    """More than an hour ago, and any time that is yet to come."""
    assert rate.counted_at(at(occurred), NOW) == at(counted)


@given(st.lists(st.floats(-1e8, 1e8), min_size=100, max_size=300))
def test_made_up_times_gain_next_to_nothing(seconds: list[float]) -> None:
    """At most the 12 tokens of the last hour, however they are spread; nothing outside of it."""
    found: list[datetime.datetime] = []
    for one in seconds:
        counted = rate.counted_at(at(one), NOW)
        if rate.fits(found, counted):
            found.append(counted)
    outside = [time for time in found if time == NOW]
    assert len(outside) <= 25
    assert len(found) <= 25 + 12
