"""Capacity over time: the table below the chart is what fleet_days has."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import flask.testing
import pytest

from function.page import capacity, wording
from tests import conftest, page
from tests.integration import test_days

Client = flask.testing.FlaskClient
FILL = """
DELETE FROM fleet_days_filled;
INSERT INTO fleet_days_filled SELECT (now() AT TIME ZONE 'UTC')::date - ago, now() FROM generate_series(0, 400) AS ago;
INSERT INTO fleet_days
SELECT (now() AT TIME ZONE 'UTC')::date - ago, cluster, 'team-' || team, CASE WHEN team > 0 THEN 'os-' || team END,
       10 * team + 1, team, CASE WHEN team > 0 THEN 100 * team END, 1024 ^ 3 * team, NULL
FROM generate_series(0, 400) AS ago, unnest('{east, west}'::text[]) AS cluster, generate_series(0, %s) AS team
"""


@pytest.fixture
def ask(url: str) -> Iterator[Client]:
    """A client of the page over a fresh database."""
    client = page.client(url)
    yield client
    page.close(client)


def headings(reply: page.Reply) -> list[str]:
    """The headings of the table."""
    found = re.search(r"<thead>(.*?)</thead>", reply.get_data(as_text=True), re.DOTALL)
    assert found is not None
    cells = re.findall(r"<th\b[^>]*>(.*?)</th>", found[1], re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in cells]


def test_the_table_has_the_sums_of_each_day(ask: Client, url: str) -> None:
    """Newest first, for the parts and for all."""
    conftest.execute(url, FILL, [2])
    reply = ask.get("/capacity?by=namespace&show=vms")
    assert headings(reply) == ["Day", "All", "team-2", "team-1", "team-0"]
    rows = page.rows(reply)
    assert len(rows) == 31
    assert {tuple(row[1:]) for row in rows} == {("66", "42", "22", "2")}
    assert rows == sorted(rows, reverse=True)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("show=running", ("6", "3", "3")),
        ("show=memory", ("6 GiB", "3 GiB", "3 GiB")),
        ("show=disk", (wording.UNKNOWN,) * 3),
        ("show=vcpus&by=guest_os", ("600", "400", "200", wording.UNKNOWN)),
        ("show=vms&by=namespace&cluster=east", ("33", "21", "11", "1")),
        ("show=vms&namespace=team-1", ("22", "11", "11")),
        ("show=vms&guest_os=os-2&by=cluster", ("42", "21", "21")),
        ("range=90d", ("66", "33", "33")),
    ],
)
def test_measure_parts_and_filters_can_be_chosen(
    ask: Client, url: str, question: str, expected: tuple[str, ...]
) -> None:
    """What is not known is no 0."""
    conftest.execute(url, FILL, [2])
    assert {tuple(row[1:]) for row in page.rows(ask.get(f"/capacity?{question}"))} == {expected}


def test_a_year_is_shown_by_weeks(ask: Client, url: str) -> None:
    """53 days, a week between two."""
    conftest.execute(url, FILL, [2])
    assert len(page.rows(ask.get("/capacity?range=1y"))) == 53


def test_what_is_beyond_the_largest_is_one_part(ask: Client, url: str) -> None:
    """And the sum of all stays the sum of all."""
    conftest.execute(url, FILL, [20])
    reply = ask.get("/capacity?by=namespace&show=vms")
    assert headings(reply)[2:] == [*(f"team-{number}" for number in range(20, 13, -1)), "all others"]
    [row] = {tuple(row[1:]) for row in page.rows(reply)}
    assert int(row[0].replace(" ", "")) == sum(int(cell.replace(" ", "")) for cell in row[1:])


def test_each_link_is_a_view(ask: Client, url: str) -> None:
    """Measures, ranges, parts and single parts are addresses; a part alone has the part's own sum."""
    conftest.execute(url, FILL, [2])
    links = set(re.findall(r'href="(\?[^"]*)"', ask.get("/capacity").get_data(as_text=True)))
    assert len(links) == 13
    for link in links:
        assert ask.get(f"/capacity{html.unescape(link)}").status_code == 200
    alone = ask.get("/capacity?by=namespace&cluster=east")
    assert page.rows(alone)[0][1] == "33"


def test_a_day_that_was_not_computed_is_a_gap(ask: Client, url: str) -> None:
    """Not a day without VMs: the areas end before it and begin after it."""
    conftest.execute(url, FILL, [0])
    gap = "day = (now() AT TIME ZONE 'UTC')::date - 10"
    conftest.execute(
        url, f"DELETE FROM fleet_days WHERE {gap}; UPDATE fleet_days_filled SET filled_at = NULL WHERE {gap}"
    )
    reply = ask.get("/capacity")
    assert len(page.rows(reply)) == 30
    assert len(re.findall(r'<path class="area part-0"', reply.get_data(as_text=True))) == 2


def test_the_past_ends_the_chart(ask: Client, url: str) -> None:
    """at= names the last day."""
    conftest.execute(url, FILL, [1])
    day = (test_days.TODAY - 100 * test_days.DAY).date()
    rows = page.rows(ask.get(f"/capacity?at={day}T12:00"))
    assert rows[0][0] == str(day)
    assert len(rows) == 31


def test_a_fleet_without_a_day_says_so(ask: Client, url: str) -> None:
    """And so does one without a VM."""
    assert "No VM was there" in page.text(ask.get("/capacity"))
    conftest.execute(url, "DELETE FROM fleet_days_filled")
    assert "No day was computed yet" in page.text(ask.get("/capacity?at=2026-11-01"))


def test_today_is_counted_anew_where_no_run_has_done_it_lately(ask: Client, url: str) -> None:
    """As a run counts it, which the next one shows."""
    page.store(
        url,
        test_days.machine(test_days.ADD, 1, 3, name="one", uid="u1", status="Running"),
        test_days.machine(test_days.ADD, 2, 3, name="two", uid="u2", status="Stopped"),
        test_days.machine(test_days.ADD, 3, 3, name="ran", uid="u3", status="Running"),
        test_days.running(test_days.ADD, 4, 2, name="ran", uid="u3", phase="Succeeded", guest="Fedora"),
    )
    conftest.execute(url, "UPDATE fleet_days_filled SET filled_at = now() - interval '1 hour'")
    questions = [f"/capacity?by={by}&show={show}" for by in capacity.BY for show in capacity.MEASURES]
    anew = [page.rows(ask.get(question))[0] for question in questions]
    assert anew[0][1] == "3"
    test_days.fill(url)
    assert [page.rows(ask.get(question))[0] for question in questions] == anew
