"""What is drawn: marks, areas, names and spans."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from function.page import areas, charts, story, wording

START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@hypothesis.given(most=st.integers(0, 2**70), is_size=st.booleans())
def test_marks_begin_at_nothing_and_reach_above_all(most: int, is_size: bool) -> None:
    """In even steps, and not too many of them."""
    marks = areas.steps(most, is_size=is_size)
    assert marks[0] == 0
    assert marks[-1] >= most
    assert marks == sorted(set(marks))
    assert 2 <= len(marks) <= 8


@hypothesis.given(sums=st.lists(st.integers(0, 10**6), min_size=1, max_size=8), days=st.integers(1, 5))
def test_areas_stay_in_the_chart_and_no_name_stands_on_another(sums: list[int], days: int) -> None:
    """Whatever the sizes of the parts."""
    moments = {(START + number * 24 * HOUR).date(): START for number in range(days)}
    rows = [
        {"day": day, "part": f"p{number}", "is_rest": False, "vms": vms}
        for day in moments
        for number, vms in enumerate(sums)
    ]
    chart = areas.chart(areas.Table.of(moments, rows), "vms", step=1, is_size=False)
    names = sorted(area.name_y for area in chart.areas)
    assert all(after - before >= areas.LINE - 0.02 for before, after in itertools.pairwise(names))
    assert names[0] >= 0
    assert names[-1] <= areas.HEIGHT
    assert all(0 <= area.middle_y <= areas.HEIGHT for area in chart.areas)


def test_a_life_is_told_by_the_phase_and_before_any_by_the_status() -> None:
    """A VM that is made again has not run yet."""
    statuses: list[dict[str, Any]] = [
        {"effective_at": START, "status": "Provisioning", "deleted": False},
        {"effective_at": START + 4 * HOUR, "status": None, "deleted": True},
        {"effective_at": START + 5 * HOUR, "status": "Stopped", "deleted": False},
    ]
    runs: list[dict[str, Any]] = [
        {"effective_at": START + 1 * HOUR, "phase": "Running", "node": "n1"},
        {"effective_at": START + 2 * HOUR, "phase": "Running", "node": "n2"},
        {"effective_at": START + 3 * HOUR, "phase": "Gone", "node": None},
    ]
    found = story.life(statuses[::-1], runs[::-1])
    assert [(span.state, (span.begin - START) // HOUR) for span in found] == [
        *(("Provisioning", 0), ("Running", 1), ("Not running", 3), ("Deleted", 4), ("Stopped", 5))
    ]
    assert [(span.state, span.end) for span in story.stays(runs[::-1])] == [
        ("n2", START + 3 * HOUR),
        ("n1", START + 2 * HOUR),
    ]


@hypothesis.given(hours=st.lists(st.integers(-100, 900), min_size=1, max_size=9, unique=True))
def test_a_window_is_covered_from_its_beginning_to_its_end(hours: list[int]) -> None:
    """By spans that follow one another."""
    spans = story.spans((START + hour * HOUR, f"phase {number}") for number, hour in enumerate(sorted(hours)))
    end = START + 720 * HOUR
    cut = story.window(spans, START, end)
    assert (cut[0].begin, cut[-1].end) == (START, end) or cut == [story.Span(story.NOT_YET, START, end)]
    assert all(before.end == after.begin for before, after in itertools.pairwise(cut))
    strip = charts.strip(cut, START, end)
    assert all(0 <= box.x <= charts.WIDTH for box in strip.boxes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ('{"memory_bytes": {"old": 1073741824, "new": null}}', [("memory", "1\u00a0GiB", wording.UNKNOWN)]),
        (
            '{"labels": {"old": {"a": "1", "b": "2"}, "new": {"b": "3"}}}',
            [("label a", "1", wording.UNKNOWN), ("label b", "2", "3")],
        ),
        ('{"ip_addresses": {"new": ["10.0.0.1", "fe80::1"]}}', [("addresses", wording.UNKNOWN, "10.0.0.1, fe80::1")]),
    ],
)
def test_a_change_is_said_as_people_read_it(changes: str, expected: list[tuple[str, str, str]]) -> None:
    """Sizes in their unit, labels one by one, lists with commas."""
    assert [(fact.name, fact.old, fact.new) for fact in story.facts(changes)] == expected
