"""The page for the tests: over a test's database, asked without a browser."""

from __future__ import annotations

import html
import re
from typing import Any

import flask.testing
import werkzeug.test

from function import settings
from function.clients import postgres
from function.inventory.storage import store as storage
from function.page import app

Reply = werkzeug.test.TestResponse


def client(url: str, **environ: str) -> flask.testing.FlaskClient:
    """Return a client of a page over that database."""
    page = app.create_app(settings.Settings.from_env({"DATABASE_URL": url, **environ}))
    page.testing = False  # errors are answered as in production
    return page.test_client(use_cookies=False)


def close(asked: flask.testing.FlaskClient) -> None:
    """Close the page's connection."""
    asked.application.extensions["vmledger.close"]()


def text(reply: Reply) -> str:
    """Return what a reader sees of a page: no tags, and one space between words."""
    shown = re.sub(r"<(script|style|head)\b.*?</\1>", " ", reply.get_data(as_text=True), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def rows(reply: Reply, number: int = 0) -> list[list[str]]:
    """Return the cells of a page's table, without its headings."""
    table = re.findall(r"<table\b.*?</table>", reply.get_data(as_text=True), re.DOTALL)[number]
    body = re.search(r"<tbody>(.*?)</tbody>", table, re.DOTALL)
    lines = re.findall(r"<tr\b.*?</tr>", body[1] if body else "", re.DOTALL)
    return [[_cell(cell) for cell in re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", line, re.DOTALL)] for line in lines]


def _cell(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


def store(url: str, *changes: Any) -> None:
    """Store changes of VMs and of their instances, in that order."""
    db = postgres.Database({"dsn": url}, timeout=10)
    tables = storage.Store(db)
    for change in changes:
        tables.write([change])
    db.close()
