"""The page over a real Postgres: what every view keeps to, and what it says when something is wrong."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from typing import Any

import flask.testing
import psycopg2.errors
import pytest

from dev import embedded_postgres, fleet
from function import errors, migrate, settings
from function.clients import statements
from function.page import app, database
from tests import conftest, page
from tests.integration import test_past

Client = flask.testing.FlaskClient
ADDRESSES = [view.rule for view in app.VIEWS if "<" not in view.rule]
HOSTILE = "<script>alert(1)</script>"
every = pytest.mark.parametrize("address", ADDRESSES)


@pytest.fixture
def ask(url: str) -> Iterator[Client]:
    """A client of the page over a fresh database."""
    client = page.client(url)
    yield client
    page.close(client)


@every
def test_a_view_of_an_empty_ledger_is_a_page(ask: Client, address: str) -> None:
    """Nothing in the ledger is no error."""
    reply = ask.get(address)
    assert (reply.status_code, reply.content_type) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("address", [*ADDRESSES, "/nowhere", "/?sort=colour", "/static/page.css", "/health/liveness"])
def test_an_answer_keeps_the_browser_safe(ask: Client, address: str) -> None:
    """No script but ours, no cookie, nobody frames it; only the style sheet and the script are kept."""
    reply = ask.get(address)
    headers = reply.headers
    reply.close()
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    assert headers["Cache-Control"] == ("private, max-age=3600" if address.startswith("/static/") else "no-store")
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("address", [*ADDRESSES, "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_answered(ask: Client, address: str, method: str) -> None:
    """405 else, as a page."""
    reply = ask.open(address, method=method)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert "nothing can be changed here" in page.text(reply)


@every
def test_head_answers_as_get_does(ask: Client, address: str) -> None:
    """Without the body."""
    reply = ask.head(address)
    assert (reply.status_code, reply.get_data()) == (200, b"")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8081", 200),
        ("LocalHost", 200),
        ("[::1]:8081", 200),
        ("127.0.0.1:9", 200),
        ("ledger.example.org", 400),
        ("localhost.example.org", 400),
        ("", 400),
        ("[::1", 400),
    ],
)
def test_only_its_own_host_names_are_answered_for(ask: Client, host: str, status: int) -> None:
    """So a name that another site points here shows nothing."""
    reply = ask.get("/", headers={"Host": host})
    assert reply.status_code == status
    assert status == 200 or "PAGE_HOSTS lists those" in page.text(reply)


def test_the_host_names_are_a_setting(url: str) -> None:
    """PAGE_HOSTS replaces the default."""
    ask = page.client(url, PAGE_HOSTS="Ledger.example.org")
    assert ask.get("/", headers={"Host": "ledger.example.org"}).status_code == 200
    assert ask.get("/", headers={"Host": "localhost"}).status_code == 400
    page.close(ask)


@pytest.mark.parametrize("address", ["/nowhere", "/vm", "/static/nothing.js", "/static/../app.py", "/a//b", "/health/"])
def test_an_unknown_address_is_a_page_with_a_sentence(ask: Client, address: str) -> None:
    """404, and a way back."""
    reply = ask.get(address)
    assert reply.status_code == 404
    assert "There is nothing under this address in the ledger." in page.text(reply)


@pytest.mark.parametrize(
    "question",
    ["q=%00", "q=%ff", "q=" + "a" * 301, "x=1", "at=yesterday", "after=%5B%5D", "q=a&q=b", "q=" + "a" * 4000],
)
def test_a_question_that_cannot_be_asked_is_a_page_with_a_sentence(ask: Client, question: str) -> None:
    """400, in words."""
    reply = ask.get(f"/?{question}")
    assert reply.status_code == 400
    assert "That cannot be asked" in page.text(reply)


def test_a_hostile_name_is_text(ask: Client, url: str) -> None:
    """In a cell, in a link, in a filter and in a search."""
    for number, name in enumerate((HOSTILE, "javascript:alert(1)", '" onmouseover="x', "{{ 7*7 }}"), 1):
        page.store(url, test_past.machine(test_past.ADD, number, number, name=name, uid=f"u{number}"))
    reply = ask.get("/", query_string={"q": HOSTILE, "namespace": HOSTILE})
    assert HOSTILE in page.text(reply)
    text = reply.get_data(as_text=True) + ask.get("/").get_data(as_text=True)
    assert "<script>alert" not in text
    assert 'href="javascript:' not in text
    assert ' onmouseover="' not in text
    assert [row[0] for row in page.rows(ask.get("/"))] == sorted(
        [HOSTILE, "javascript:alert(1)", '" onmouseover="x', "{{ 7*7 }}"]
    )


def test_nothing_can_be_written_through_the_page(url: str) -> None:
    """Its transactions only read, whatever the role may do."""
    reader = database.Reader({"dsn": url})
    with pytest.raises(errors.DatabaseUnavailable, match="it is read-only"):
        reader.read(lambda cursor: cursor.execute("DELETE FROM vm_state"))
    reader.close()


def test_a_statement_that_takes_too_long_is_a_page_with_a_sentence(
    ask: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and the next question is answered."""
    with monkeypatch.context() as slow:
        slow.setattr(database, "NEEDS", dataclasses.replace(database.NEEDS, statement=0.1))
        slow.setattr(database, "SQL", statements.Statements({**database.SQL.by_name, "read_one_moment": SLEEP}))
        reply = ask.get("/")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")
    assert "The database did not finish in time" in page.text(reply)
    assert ask.get("/").status_code == 200


SLEEP = statements.Statement("read_one_moment", (), "", "SELECT pg_sleep(2);")


def test_the_database_away_is_a_page_that_comes_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    """503 with a sentence while it is away; then the view again, on a new connection."""
    server = embedded_postgres.Postgres(tmp_path_factory.mktemp("away"))
    server.start()
    try:
        migrate.run(settings.Settings.from_env({"DATABASE_URL": server.url()}))
        ask = page.client(server.url())
        assert ask.get("/").status_code == 200
        server.stop()
        for address in ADDRESSES:
            reply = ask.get(address)
            assert reply.status_code == 503
            assert "Not available now" in page.text(reply)
            assert "postgresql://" not in reply.get_data(as_text=True)
        assert ask.get("/health/liveness").status_code == 200
        server.start()
        assert ask.get("/").status_code == 200
        page.close(ask)
    finally:
        server.stop()


@pytest.fixture
def reader_role(server: embedded_postgres.Postgres, url: str) -> Iterator[str]:
    """A role with what `migrate` grants to DB_READ_ROLE, and nothing else."""
    conftest.execute(url, "CREATE ROLE page_reader LOGIN")
    migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_READ_ROLE": "page_reader"}))
    yield "page_reader"
    conftest.execute(url, "DROP OWNED BY page_reader")
    conftest.execute(url, "DROP ROLE page_reader")


def test_the_reading_role_is_all_that_the_page_needs(url: str, reader_role: str) -> None:
    """Every view is there, and the past; the role cannot write, and cannot see the data of a dead letter."""
    fleet.fill(url, datetime.datetime.now(datetime.UTC))
    ask = page.client(url, PAGE_DB_USER=reader_role)
    for address in (*ADDRESSES, "/?at=2026-11-20T10:00:00Z", "/?sort=-memory"):
        assert ask.get(address).status_code == 200
    page.close(ask)
    mine = url.replace("postgres@", f"{reader_role}@")
    for sql in (
        "SELECT data FROM dead_letters",
        "DELETE FROM vm_state",
        "UPDATE vm_state SET name = 'x'",
        "CREATE TABLE x ()",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            conftest.execute(mine, sql)


def test_a_role_without_rights_is_told_which_setting_gives_them(url: str, server: embedded_postgres.Postgres) -> None:
    """A page with a sentence, not an error."""
    conftest.execute(server.url(), "CREATE ROLE page_stranger LOGIN")
    ask = page.client(url, PAGE_DB_USER="page_stranger")
    reply = ask.get("/")
    assert reply.status_code == 503
    assert "with DB_READ_ROLE set to it" in page.text(reply)
    page.close(ask)
    conftest.execute(server.url(), "DROP ROLE page_stranger")


def test_the_two_roles_of_migrate_are_two(url: str) -> None:
    """The rights of the second would replace those of the first."""
    with pytest.raises(errors.Refused, match="DB_READ_ROLE names the function's role"):
        migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_APP_ROLE": "a", "DB_READ_ROLE": "a"}))


def test_the_health_says_what_the_command_says(ask: Client, url: str, query: Callable[..., Any]) -> None:
    """In words; the reconciles and the dead letters below, without their data."""
    assert "nothing was ever stored: no event, and no reconcile" in page.text(ask.get("/health"))
    query(
        "INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome, missed_updates, error)"
        " VALUES ('east', now() - interval '2 hours', 1.5, 'repaired', 3, NULL),"
        " ('east', now() - interval '1 hour', 0.5, 'failed', 0, 'the API said <no>')"
    )
    query(
        "INSERT INTO dead_letters"
        " (key, delivery, count, first_at, last_at, code, sentence, type, attributes, data, form)"
        " VALUES ('k', 'd', 7, now(), now(), 422, 'the host is unknown', 'some.type',"
        """ '{"namespace": "shop", "name": "web-1"}', '{"secret": "hunter2"}', 'masked')"""
    )
    reply = page.client(url).get("/health")
    shown = page.text(reply)
    assert "the last reconcile of cluster 'east' failed: the API said <no>" in shown
    assert "2 reconciles ran in the last seven days, and 0 of them found nothing to do. They found 3 changes" in shown
    letters = page.rows(reply, 3)
    assert letters[0][1:] == ["7", "422", "the host is unknown", "some.type", "shop/web-1", "no"]
    assert "hunter2" not in reply.get_data(as_text=True)


@every
def test_every_view_says_how_fresh_the_ledger_is(url: str, query: Callable[..., Any], address: str) -> None:
    """In words and with a mark; what makes it stale is named."""
    empty = page.client(url)
    assert "The ledger may be out of date: 1 problem makes it so. nothing was ever stored" in page.text(
        empty.get(address)
    )
    page.close(empty)
    page.store(url, test_past.machine(test_past.ADD, 1, 0))
    query("INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome) VALUES ('east', now(), 1, 'clean')")
    fresh = page.client(url)
    reply = fresh.get(address)
    assert "Up to date: last event" in page.text(reply)
    assert '<p class="fresh fresh" role="status">' in reply.get_data(as_text=True)
    page.close(fresh)


def test_each_view_has_its_module_and_template() -> None:
    """One name for all of a view."""
    for view in app.VIEWS:
        assert view.answer.__module__ == f"function.page.{view.name}"
