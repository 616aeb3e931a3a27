"""The hours of a month on the page: what vm_usage says, summed by namespace and of each VM."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator

import flask.testing
import pytest

from function.page import usage, wording
from tests import conftest, page
from tests.integration import test_days

Client = flask.testing.FlaskClient


@pytest.fixture
def ask(url: str) -> Iterator[Client]:
    """A client of the page over a fresh database."""
    client = page.client(url)
    yield client
    page.close(client)


@pytest.fixture
def month(url: str) -> str:
    """Store four VMs that lived in the month before this one, one of them made again; return the month."""
    now = datetime.datetime.now(datetime.UTC)
    first = usage.before(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    ago = (test_days.TODAY - first) / test_days.DAY
    page.store(
        url,
        test_days.machine(test_days.ADD, 1, ago, name="one", uid="u1", cores=2, status="Running"),
        test_days.machine(test_days.ADD, 2, ago, name="two", uid="u2", cores=1, status="Stopped"),
        test_days.machine(test_days.DELETE, 3, ago - 2, name="two", uid="u2", cores=1),
        test_days.machine(test_days.ADD, 4, ago - 3, name="two", uid="u3", cores=1, status="Running"),
        test_days.machine(test_days.DELETE, 5, ago - 4, name="two", uid="u3", cores=1),
        test_days.machine(test_days.ADD, 6, ago, name="far", uid="u4", cluster="west", status="Running"),
    )
    return f"{first:%Y-%m}"


def length(month: str) -> float:
    """The hours of a month."""
    since = datetime.datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    return (usage.after(since) - since) / datetime.timedelta(hours=1)


def hours(value: float) -> str:
    """As the page shows it; the space between thousands is any."""
    return f"{value:,.1f}".replace(",", " ")


def test_the_sums_are_by_namespace_and_each_leads_to_its_vms(ask: Client, month: str) -> None:
    """A VM that was made again is two."""
    whole = length(month)
    rows = page.rows(ask.get(f"/usage?month={month}"))
    assert [row[:6] for row in rows] == [
        ["team", "east", "3", hours(whole + 72), hours(whole + 24), hours(2 * whole + 72)],
        ["team", "west", "1", hours(whole), hours(whole), hours(whole)],
    ]
    shown = page.rows(ask.get(f"/usage?month={month}&cluster=east&namespace=team"), 1)
    assert [(row[0], row[1]) for row in shown] == [("one", hours(whole)), ("two", hours(48)), ("two", hours(24))]
    assert shown[0][-1] == "status"
    assert shown[0][-2] == wording.UNKNOWN, "no disk is known"


def test_the_list_has_each_vm_of_every_namespace_once(ask: Client, month: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a namespace takes more than one portion."""
    monkeypatch.setattr(usage, "PORTION", 1)
    text = ask.get(f"/usage.csv?month={month}").get_data(as_text=True)
    found = [(row["cluster"], row["name"], row["uid"]) for row in csv.DictReader(io.StringIO(text))]
    assert found == [("east", "one", "u1"), ("east", "two", "u2"), ("east", "two", "u3"), ("west", "far", "u4")]


def test_a_namespace_is_paged_by_key(ask: Client, month: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its end, with each VM once."""
    monkeypatch.setattr(usage, "PAGE", 2)
    first = ask.get(f"/usage?month={month}&cluster=east&namespace=team")
    assert [row[0] for row in page.rows(first, 1)] == ["one", "two"]
    assert "More VMs" in page.text(first)
    second = ask.get(f"/usage?month={month}&cluster=east&namespace=team&name=two&uid=u2")
    assert [row[0] for row in page.rows(second, 1)] == ["two"]
    assert "More VMs" not in page.text(second)


@pytest.mark.parametrize("month", ["2026-13", "yesterday", "2026-1", "1026-01"])
def test_a_month_that_is_none_is_refused(ask: Client, month: str) -> None:
    """With a sentence that says what a month is."""
    reply = ask.get(f"/usage?month={month}")
    assert reply.status_code == 400
    assert "such as 2026-11" in page.text(reply)


def test_a_month_without_a_vm_says_so(ask: Client, url: str) -> None:
    """Neither the past nor the future gives an error."""
    assert conftest.execute(url, "SELECT count(*) FROM vm_state") == [(0,)]
    for month in ("2000-01", "2999-12"):
        assert "No VM was there in this month." in page.text(ask.get(f"/usage?month={month}"))
