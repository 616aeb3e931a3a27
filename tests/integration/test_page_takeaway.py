"""The lists of the page's views: the same filters as the page, all rows, as CSV and JSON."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import flask.testing
import pytest

from function.page import app, fleet, takeaway
from tests import fleet as stored
from tests import page

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def asked(url: str) -> Iterator[flask.testing.FlaskClient]:
    """A page over the test's database."""
    client = page.client(url)
    yield client
    page.close(client)


def as_csv(reply: page.Reply) -> list[dict[str, str]]:
    """The rows of a list in CSV."""
    assert (reply.status_code, reply.content_type) == (200, takeaway.FORMS["csv"])
    return list(csv.DictReader(io.StringIO(reply.get_data(as_text=True), newline="")))


def as_json(reply: page.Reply) -> list[dict[str, Any]]:
    """The objects of a list in JSON."""
    assert (reply.status_code, reply.content_type) == (200, takeaway.FORMS["json"])
    found: list[dict[str, Any]] = json.loads(reply.get_data())
    return found


@pytest.mark.parametrize(
    "view", [view for view in app.VIEWS if "<" not in view.rule and view.listing], ids=lambda v: v.name
)
def test_a_view_links_to_its_lists(view: Any, asked: flask.testing.FlaskClient) -> None:
    """And both are there, with the headers of every answer."""
    body = asked.get(view.rule).get_data(as_text=True)
    links = re.findall(r'href="([^"?]*\.(?:csv|json))\?', body)
    assert [link.rpartition(".")[2] for link in links] == ["csv", "json"]
    for link in links:
        reply = asked.get(link)
        assert reply.status_code == 200
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Content-Disposition"].startswith(f"attachment; filename=vmledger-{view.name}.")
        reply.close()
        with asked.head(link) as head:
            assert head.data == b""
        assert asked.post(link).status_code == 405


def test_the_list_has_all_rows_and_the_pages_filters(url: str, asked: flask.testing.FlaskClient) -> None:
    """More than a page and more than a portion of them, each once, whatever order the page was in."""
    stored.fill(url, fleet.PORTION + 500)
    rows = as_csv(asked.get("/fleet.csv?sort=-vcpus"))
    keys = [(row["cluster"], row["namespace"], row["name"]) for row in rows]
    assert len(keys) == fleet.PORTION + 500
    assert keys == sorted(set(keys))
    body = asked.get("/?cluster=east&namespace=team-4&q=label:env=prod").get_data(as_text=True)
    [link] = re.findall(r'href="(/fleet\.csv\?[^"]*)"', body)
    rows = as_csv(asked.get(link.replace("&amp;", "&")))
    assert rows
    assert {(row["cluster"], row["namespace"], json.loads(row["labels"])["env"]) for row in rows} == {
        ("east", "team-4", "prod")
    }


def test_both_forms_have_the_same_rows(url: str, asked: flask.testing.FlaskClient) -> None:
    """Labels are an object in JSON and JSON in a cell; what is not known is null, and an empty cell."""
    stored.fill(url, 2)
    stored.store(
        url, {"cluster": "west", "name": "=cmd()", "guest_os": "a;=cmd()", "ip_addresses": ["10.0.0.1", "::1"]}
    )
    cells, objects = as_csv(asked.get("/fleet.csv")), as_json(asked.get("/fleet.json"))
    assert list(objects[0]) == list(cells[0]) == list(fleet.FIELDS)
    assert [each["name"] for each in objects] == ["vm-2", "=cmd()", "vm-1"]
    objects.append(objects.pop(1))
    cells.append(cells.pop(1))
    assert (cells[-1]["name"], cells[-1]["guest_os"], cells[-1]["ip_addresses"]) == (
        "'=cmd()",
        "a;=cmd()",
        "10.0.0.1,::1",
    )
    assert (objects[-1]["vcpus"], cells[-1]["vcpus"]) == (None, "")
    assert objects[0]["labels"] == json.loads(cells[0]["labels"])
    assert datetime.datetime.fromisoformat(cells[0]["created_at"]) == datetime.datetime.fromisoformat(
        objects[0]["created_at"]
    )


def test_chosen_columns_are_those_of_the_list(url: str, asked: flask.testing.FlaskClient) -> None:
    """Beside what names a VM."""
    stored.fill(url, 1)
    [row] = as_json(asked.get("/fleet.json?columns=memory,name"))
    assert list(row) == ["cluster", "namespace", "name", "memory_bytes"]


def test_the_past_can_be_taken_away(url: str, asked: flask.testing.FlaskClient) -> None:
    """As the page shows it."""
    stored.store(url, {"name": "a"}, {"name": "b", "effective_at": "2026-11-20 00:00:00+00"})
    assert [row["name"] for row in as_csv(asked.get("/fleet.csv?at=2026-11-10T00:00"))] == ["a"]
    assert [row["name"] for row in as_csv(asked.get("/fleet.csv"))] == ["a", "b"]


def test_what_is_wrong_with_the_question_is_a_page(url: str, asked: flask.testing.FlaskClient, query: Query) -> None:
    """With the status of an error, before anything of a list is sent; and a place for the next one is free again."""
    for number in range(takeaway.AT_ONCE + 1):
        assert asked.get(f"/fleet.csv?sort=x{number}").status_code == 400
    assert asked.get("/fleet.csv?clustre=east").status_code == 400
    assert asked.get("/fleet.pdf").status_code == 404
    query("ALTER VIEW virtual_machines RENAME TO away")
    for _ in range(takeaway.AT_ONCE + 1):
        reply = asked.get("/fleet.csv")
        assert (reply.status_code, reply.content_type) == (503, "text/html; charset=utf-8")
        assert takeaway.BUSY not in reply.get_data(as_text=True)
    query("ALTER VIEW away RENAME TO virtual_machines")
    assert as_csv(asked.get("/fleet.csv")) == []


def test_more_lists_at_once_are_told_to_come_again(url: str, asked: flask.testing.FlaskClient) -> None:
    """Those that nobody reads keep threads of the worker; the views have the others."""
    stored.fill(url, 1)
    open_ones = [asked.get("/fleet.csv", buffered=False) for _ in range(takeaway.AT_ONCE)]
    refused = asked.get("/fleet.csv")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, app.RETRY_SECONDS)
    assert asked.get("/").status_code == 200
    for reply in open_ones:
        reply.close()
    assert len(as_csv(asked.get("/fleet.csv"))) == 1


def test_a_list_wants_a_protocol_that_shows_its_end(asked: flask.testing.FlaskClient) -> None:
    """HTTP/1.0 ends an answer by closing the connection, as a failure does."""
    reply = asked.get("/fleet.csv", environ_overrides={"SERVER_PROTOCOL": "HTTP/1.0"})
    assert reply.status_code == 400
    assert "HTTP/1.1" in page.text(reply)


def test_an_unknown_kind_of_value_is_its_text() -> None:
    """Whatever a later view has in its rows, a cell holds it."""
    shown = {"a": datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)}
    assert takeaway.cell(shown) == '{"a":"2026-11-01T00:00:00Z"}'
    assert takeaway.cell(["a", None]) == '["a",null]'
    assert takeaway.cell(datetime.date(2026, 11, 1)) == "2026-11-01"
    assert takeaway.cell(datetime.timedelta(hours=1)) == "1:00:00"
