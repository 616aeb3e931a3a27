"""The fleet's view over a believable fleet: search, facets, totals, order and pages agree with the table."""

from __future__ import annotations

import dataclasses
import datetime
import html
import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import flask.testing
import pytest

from dev import embedded_postgres, fleet
from function.page import counts, database, filters
from function.page import fleet as view
from function.page import query as question
from tests import conftest, page

Client = flask.testing.FlaskClient
NOW = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
NAME = "page_fleet"


@pytest.fixture(scope="module")
def url(server: embedded_postgres.Postgres, template: str) -> Iterator[str]:
    """The URL of a ledger with a believable fleet."""
    conftest.execute(server.url(), f"CREATE DATABASE {NAME} TEMPLATE {template}")
    filled = server.url(database=NAME)
    fleet.fill(filled, NOW)
    yield filled
    conftest.execute(server.url(), f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture(scope="module")
def ask(url: str) -> Iterator[Client]:
    """A client of the page."""
    client = page.client(url)
    yield client
    page.close(client)


Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def query(url: str) -> Query:
    """Run SQL on the ledger."""
    return lambda sql, parameters=None: conftest.execute(url, sql, parameters)


def names(reply: page.Reply) -> list[tuple[str, str, str]]:
    """The VMs of a page: cluster, namespace and name."""
    return [(row[2], row[1], row[0]) for row in page.rows(reply)]


def totals(reply: page.Reply) -> list[str]:
    """VMs, running, vCPUs, memory and disk, as they are shown."""
    return [html.unescape(value) for value in re.findall(r"<dd>(.*?)</dd>", reply.get_data(as_text=True))]


def link(reply: page.Reply, rel: str) -> str | None:
    """The address of the next or the previous page."""
    found = re.search(rf'<a href="([^"]*)" rel="{rel}"', reply.get_data(as_text=True))
    return "/" + html.unescape(found[1]) if found else None


CONDITIONS = [
    ("q=web", "name LIKE '%%web%%' OR labels::text LIKE '%%web%%'"),
    ("q=WEB-1", "name LIKE '%%web-1%%'"),
    ("q=label:app=web", "labels ->> 'app' = 'web'"),
    ("q=label:nothing", "false"),
    ("q=label:app", "labels ? 'app'"),
    ("q=node:node-03+ns:shop", "node LIKE '%%node-03%%' AND namespace = 'shop'"),
    ("q=10.20.0.7", "array_to_string(ip_addresses, ' ') LIKE '%%10.20.0.7%%'"),
    ("q=%25", "false"),
    ("cluster=lab", "cluster = 'lab'"),
    ("cluster=lab&cluster=osl-prod", "cluster IN ('lab', 'osl-prod')"),
    ("namespace=ci&status=Running", "namespace = 'ci' AND status = 'Running'"),
    ("phase=", "phase IS NULL"),
    ("guest_os=Ubuntu+24.04.1+LTS", "guest_os = 'Ubuntu 24.04.1 LTS'"),
    ("instancetype=u1.medium&q=ns:shop", "instancetype = 'u1.medium' AND namespace = 'shop'"),
    ("owner=VirtualMachinePool/desk&cluster=lab", "owner = 'VirtualMachinePool/desk' AND cluster = 'lab'"),
    ("owner=&namespace=ci", "owner IS NULL AND namespace = 'ci'"),
    ("node=fra-prod-node-05", "node = 'fra-prod-node-05'"),
]


@pytest.mark.parametrize(("asked", "condition"), CONDITIONS)
def test_a_filter_leaves_what_sql_leaves(ask: Client, query: Query, asked: str, condition: str) -> None:
    """The first rows, and the totals, which are of all that the filter leaves."""
    expected = query(
        f"SELECT cluster, namespace, name FROM virtual_machines WHERE {condition} ORDER BY 1, 2, 3".replace("%%", "%")
    )
    reply = ask.get(f"/?{asked}")
    if not expected:
        assert "No VM is like this" in page.text(reply)
        return
    assert names(reply) == expected[: view.PAGE]
    assert totals(reply)[0] == str(len(expected))


@pytest.mark.parametrize("at", ["", "2026-11-20T10:00:00Z"])
def test_the_totals_are_the_sums_of_what_is_left(ask: Client, query: Query, at: str) -> None:
    """Of all VMs that match, not only of those on the page; also of the past."""
    source = f"virtual_machines_at('{at}')" if at else "virtual_machines"
    [(count, running, vcpus)] = query(
        "SELECT count(*), count(*) FILTER (WHERE phase = 'Running'), sum(vcpus)"
        f" FROM {source} WHERE cluster = 'fra-prod'"
    )
    shown = totals(ask.get(f"/?cluster=fra-prod&at={at}"))
    assert [text.replace("\u202f", "") for text in shown[:3]] == [str(count), str(running), str(vcpus)]


@pytest.mark.parametrize("asked", ["q=web", "cluster=lab", "phase=", "namespace=nowhere", "q=label:app=desk"])
def test_what_is_at_hand_is_counted_as_sql_counts(url: str, asked: str) -> None:
    """Where all VMs that a filter leaves are on the page, they are not read again."""
    wanted = filters.Filter.parsed(question.Query.parsed(asked))
    reader = database.Reader({"dsn": url})
    rows = reader.read(lambda cursor: view.listed(cursor, wanted, filters.Order(), at=None, most=None))
    expected = reader.read(lambda cursor: view.counted(cursor, wanted, None))
    assert counts.of_machines(rows, filters.FACETS, view.MOST_VALUES) == expected
    reader.close()


def test_a_facet_counts_what_its_link_shows(ask: Client) -> None:
    """Each link of the filters leads to as many VMs as stand beside it."""
    reply = ask.get("/?cluster=fra-prod")
    links = re.findall(
        r'<a href="(\?[^"]*)"><span>[^<]*</span> <span class="count">([^<]*)</span>', reply.get_data(as_text=True)
    )
    assert len(links) > 20
    for address, count in links[::4]:
        assert totals(ask.get("/" + html.unescape(address)))[0] == count


def test_a_chosen_value_removes_itself(ask: Client) -> None:
    """The link of a value that is chosen leads back."""
    text = ask.get("/?cluster=lab&namespace=ci").get_data(as_text=True)
    assert '<a class="chosen" aria-current="true" href="?namespace=ci">' in text
    assert '<a class="chosen" aria-current="true" href="?cluster=lab">' in text


@pytest.mark.parametrize("at", ["", "2026-11-20T10:00:00Z"])
@pytest.mark.parametrize("falling", ["", "-"])
@pytest.mark.parametrize("sort", list(filters.SORTS))
def test_the_pages_of_any_order_hold_each_vm_once(ask: Client, query: Query, sort: str, falling: str, at: str) -> None:
    """Forwards to the end and backwards to the beginning, the unknown last, and in the order of the column."""
    source = f"virtual_machines_at('{at}')" if at else "virtual_machines"
    column = {"memory": "memory_bytes", "disk": "disk_bytes", "created": "created_at", "updated": "updated_at"}.get(
        sort, sort
    )
    direction = "DESC" if falling else "ASC"
    collation = ' COLLATE "C"' if filters.SORTS[sort] == "text" else ""
    expected = query(
        f"SELECT cluster, namespace, name FROM {source}"
        f" ORDER BY {column}{collation} {direction} NULLS LAST,"
        f" cluster {direction}, namespace {direction}, name {direction}"
    )
    reply = ask.get("/?" + urllib.parse.urlencode({"sort": falling + sort, "at": at}))
    pages = [names(reply)]
    while (address := link(reply, "next")) is not None:
        reply = ask.get(address)
        pages.append(names(reply))
    assert [name for each in pages for name in each] == expected
    for before in reversed(pages[:-1]):
        address = link(reply, "prev")
        assert address is not None
        reply = ask.get(address)
        assert names(reply) == before
    assert link(reply, "prev") is None


def test_the_columns_are_those_that_are_chosen(ask: Client) -> None:
    """In their own order, with the name always; another is refused."""
    text = ask.get("/?columns=labels,vcpus&columns=created").get_data(as_text=True)
    heads = re.findall(r'<th scope="col"[^>]*>(?:<a [^>]*>)?([^<]*)', text)
    assert heads == ["Name", "vCPUs", "Labels", "Created"]
    assert ask.get("/?columns=colour").status_code == 400


def test_the_past_shows_what_lived_then(ask: Client, query: Query) -> None:
    """And the page says so."""
    moment = "2026-11-10T08:00:00Z"
    then = query("SELECT cluster, namespace, name FROM virtual_machines_at(%s) ORDER BY 1, 2, 3", [moment])
    now = query("SELECT cluster, namespace, name FROM virtual_machines ORDER BY 1, 2, 3")
    assert then != now
    reply = ask.get(f"/?at={moment}")
    assert names(reply) == then[: view.PAGE]
    assert "This is the past: the ledger as it was at 2026-11-10 08:00:00 UTC" in page.text(reply)
    assert f"at={urllib.parse.quote(moment)}" in (link(reply, "next") or "")
    assert "This is the past" not in page.text(ask.get("/"))


@pytest.mark.parametrize("asked", ["", "sort=-cluster", "q=web", "namespace=ci&namespace=shop&sort=-cluster"])
def test_the_past_is_the_same_from_stretch_to_stretch(asked: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As read at once: from the beginning and from the middle on, also where few of a stretch lived or pass."""
    monkeypatch.setattr(view, "STRETCH", 1)
    monkeypatch.setattr(view, "GROWTH", 1)
    at, parsed = datetime.datetime(2026, 11, 10, 8, tzinfo=datetime.UTC), question.Query.parsed(asked)
    wanted, order = filters.Filter.parsed(parsed), filters.Order.parsed(parsed)
    reader = database.Reader({"dsn": url})

    def read(order: filters.Order, most: int | None) -> list[tuple[str, str, str]]:
        found = reader.read(lambda cursor: view.listed(cursor, wanted, order, at=at, most=most))
        return [(row["cluster"], row["namespace"], row["name"]) for row in found]

    every = read(order, None)
    assert len(every) > 20
    assert [read(order, most) for most in (1, 7, len(every) + 1)] == [every[:1], every[:7], every]
    middle = dataclasses.replace(order, key=("", 0, *every[9]))
    assert read(middle, 7) == every[10:17]
    assert read(dataclasses.replace(middle, backwards=True), 5) == every[8:3:-1]
    reader.close()


def test_what_is_not_known_is_refused(ask: Client) -> None:
    """A filter with a typing error in its name would show everything."""
    reply = ask.get("/?clutser=lab")
    assert reply.status_code == 400
    assert "'clutser' is not known here: this view takes after, at, before, cluster" in page.text(reply)
