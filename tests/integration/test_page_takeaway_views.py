"""The lists of the views that tell of the past: changes, one VM's story, capacity."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import flask.testing
import pytest

from function.page import capacity, changes
from tests import page
from tests.integration.test_past import ADD, DELETE, START, UPDATE, machine, running

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def asked(url: str) -> Iterator[flask.testing.FlaskClient]:
    """A page over the test's database."""
    client = page.client(url)
    yield client
    page.close(client)


def as_csv(reply: page.Reply) -> list[dict[str, str]]:
    """The rows of a list in CSV."""
    assert reply.status_code == 200
    return list(csv.DictReader(io.StringIO(reply.get_data(as_text=True), newline="")))


def test_the_changes_are_all_that_the_pages_show_one_after_the_other(
    url: str, asked: flask.testing.FlaskClient
) -> None:
    """More than a page has, newest first, with what changed as JSON; the filters hold."""
    count = 2 * changes.PAGE + 7
    page.store(url, *(machine(UPDATE, 100 + number, number, cores=1 + number) for number in range(count)))
    page.store(url, machine(ADD, 90, 0, name="b", uid="u2"))
    rows = as_csv(asked.get("/changes.csv?name=a"))
    assert len(rows) == count
    assert [row["changed_at"] for row in rows] == sorted((row["changed_at"] for row in rows), reverse=True)
    assert json.loads(rows[0]["changes"])["cpucores"] == {"old": count - 1, "new": count}
    assert list(rows[0]) == list(changes.COLUMNS)
    assert [row["what"] for row in as_csv(asked.get("/changes.csv?name=b"))] == ["appeared"]
    found = json.loads(asked.get("/changes.json?what=appeared").get_data())
    assert sorted(row["name"] for row in found) == ["a", "b"]


def test_the_story_of_a_vm_can_be_taken_away(url: str, asked: flask.testing.FlaskClient) -> None:
    """All of it, also of a VM that is deleted; of one that never was it is a page that says so."""
    page.store(url, machine(ADD, 1, 0), running(ADD, 2, 1, "node-1"), machine(DELETE, 9, 2))
    page.store(url, machine(ADD, 3, 0, name="b", uid="u2"))
    body = asked.get("/vm/east/team/a").get_data(as_text=True)
    assert 'href="/vm/east/team/a.csv?' in body
    rows = as_csv(asked.get("/vm/east/team/a.csv"))
    assert {row["name"] for row in rows} == {"a"}
    assert [row["what"] for row in rows] == ["deleted", "started", "appeared"]
    assert json.loads(asked.get("/vm/east/team/b.json").get_data())[0]["what"] == "appeared"
    assert asked.get("/vm/east/team/none.csv").status_code == 404


def test_a_vm_whose_name_ends_like_a_list_has_its_page(url: str, asked: flask.testing.FlaskClient) -> None:
    """Its name is what it is; the list of another VM is taken away only where that VM is."""
    page.store(url, machine(ADD, 1, 0, name="x.csv"))
    reply = asked.get("/vm/east/team/x.csv")
    assert (reply.status_code, reply.content_type) == (200, "text/html; charset=utf-8")
    assert [row["name"] for row in as_csv(asked.get("/vm/east/team/x.csv.csv"))] == ["x.csv"]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_vm_whose_name_ends_like_the_list_of_another_is_not_hidden_by_it(
    url: str, asked: flask.testing.FlaskClient, form: str
) -> None:
    """Its page comes first, from when on it is there; the other's story is a list of changes then."""
    page.store(url, machine(ADD, 1, 0, name="x"), machine(ADD, 2, 9, name=f"x.{form}", uid="u2"))
    reply = asked.get(f"/vm/east/team/x.{form}")
    assert (reply.status_code, reply.content_type) == (200, "text/html; charset=utf-8")
    assert f">x.{form}</h1>" in reply.get_data(as_text=True)
    assert [row["name"] for row in as_csv(asked.get(f"/vm/east/team/x.{form}.csv"))] == [f"x.{form}"]
    assert [row["name"] for row in as_csv(asked.get("/changes.csv?cluster=east&namespace=team&name=x"))] == ["x"]
    before = asked.get(f"/vm/east/team/x.{form}?at=2026-11-01T05:00")
    assert before.content_type.partition(";")[0] == {"csv": "text/csv", "json": "application/json"}[form]


def test_the_capacity_is_by_day_and_part(url: str, asked: flask.testing.FlaskClient, query: Query) -> None:
    """All parts, not only those that the chart tells apart, in whole bytes."""
    today = datetime.datetime.now(datetime.UTC).date()
    query(
        "INSERT INTO fleet_days (day, cluster, namespace, guest_os, vms, running, vcpus, memory_bytes, disk_bytes)"
        " SELECT %s, 'east', 'team-' || n, 'Fedora', n, 1, 2, 2147483648, NULL FROM generate_series(1, %s) AS n",
        [today, capacity.MOST_PARTS + 5],
    )
    filled = "INSERT INTO fleet_days_filled VALUES (%s, now()) ON CONFLICT (day) DO UPDATE SET filled_at = now()"
    query(filled, [today])  # the migration filled it: some time ago, where many tests ran since
    rows = json.loads(asked.get("/capacity.json?by=namespace").get_data())
    assert len(rows) == capacity.MOST_PARTS + 5
    one = next(row for row in rows if row["namespace"] == "team-3")
    assert one == {
        "day": today.isoformat(),
        "namespace": "team-3",
        "vms": 3,
        "running": 1,
        "vcpus": 2,
        "memory": 2147483648,
        "disk": None,
    }
    assert START.date() < today
