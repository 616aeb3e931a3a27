"""The page over a real Postgres: what every view keeps to."""

from __future__ import annotations

from collections.abc import Iterator

import flask.testing
import pytest

from function.page import app, views
from tests import conftest, page
from tests.integration import test_past

Client = flask.testing.FlaskClient
ADDRESSES = [view.rule for view in app.VIEWS if "<" not in view.rule]
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


@every
def test_a_view_keeps_the_browser_safe(ask: Client, address: str) -> None:
    """No script but ours, no cookie, nothing kept, nobody frames it."""
    headers = ask.get(address).headers
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers


@every
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_answered(ask: Client, address: str, method: str) -> None:
    """405 else, as a page."""
    reply = ask.open(address, method=method)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert "nothing can be changed here" in page.text(reply)


def test_a_vm_is_shown_in_the_fleet(ask: Client, url: str) -> None:
    """With its name, namespace and cluster."""
    page.store(url, test_past.machine(test_past.ADD, 1, 0, name="web-1"))
    assert page.rows(ask.get("/"))[0][:3] == ["web-1", "team", "east"]
    assert conftest.execute(url, "SELECT count(*) FROM virtual_machines") == [(1,)]


def test_each_view_has_its_module_and_template() -> None:
    """One name for all of a view."""
    for view in app.VIEWS:
        assert isinstance(view, views.View)
        assert view.answer.__module__ == f"function.page.{view.name}"
