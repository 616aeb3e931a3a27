"""What changed, newest first, as a page and as a feed."""

from __future__ import annotations

import datetime
import html
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import flask.testing
import pytest

from function.page import changes, wording
from tests import conftest, page
from tests.integration import test_past
from tests.integration.test_past import ADD, DELETE, UPDATE, machine, running

Client = flask.testing.FlaskClient
ATOM = "{http://www.w3.org/2005/Atom}"
KEYS = "SELECT changed_at, cluster, namespace, name, what FROM vm_changes"


@pytest.fixture
def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of the page over a fresh database, which looks further back however slow the machine is."""
    monkeypatch.setattr(changes, "SECONDS", 3600)
    monkeypatch.setattr(changes, "MOST_SECONDS", 3600)
    client = page.client(url)
    yield client
    page.close(client)


def shown(reply: page.Reply) -> list[tuple[str, str]]:
    """Kind and name of each change of a page."""
    text = reply.get_data(as_text=True)
    return re.findall(r'<li class="what-(\w+)">.*?<a href="/vm/east/team/([^"?]*)', text, re.DOTALL)


def all_pages(ask: Client, address: str) -> list[tuple[str, str]]:
    """The changes of a view and of all pages that follow it."""
    found, following = [], address
    while following:
        reply = ask.get(following)
        assert reply.status_code == 200
        found += shown(reply)
        link = re.search(r'<a href="(\?[^"]*)" rel="next"', reply.get_data(as_text=True))
        following = "/changes" + html.unescape(link[1]) if link else ""
    return found


def fill(url: str) -> None:
    """A fleet of which something changed, over some days."""
    page.store(url, machine(ADD, 1, 0), running(ADD, 2, 1, "n1"), running(UPDATE, 3, 2, "n2"))
    page.store(url, machine(ADD, 4, 30, name="b"), machine(UPDATE, 5, 50, cores=4), machine(DELETE, 6, 70, name="b"))
    page.store(url, machine(UPDATE, 7, 80, cores=4))


def test_what_changed_last_is_first_and_what_says_nothing_new_is_not_there(ask: Client, url: str) -> None:
    """As vm_changes tells it."""
    fill(url)
    assert shown(ask.get("/changes")) == [
        *(("deleted", "b"), ("changed", "a"), ("appeared", "b")),
        *(("moved", "a"), ("started", "a"), ("appeared", "a")),
    ]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("what=moved", [("moved", "a")]),
        ("what=deleted", [("deleted", "b")]),
        ("what=stopped", []),
        ("name=b", [("deleted", "b"), ("appeared", "b")]),
        ("cluster=east&namespace=team&name=a&what=changed", [("changed", "a")]),
        ("cluster=west", []),
        ("namespace=team&what=appeared", [("appeared", "b"), ("appeared", "a")]),
        ("from=2026-11-02T06:00&to=2026-11-03T02:00", [("changed", "a"), ("appeared", "b")]),
        ("at=2026-11-01T01:30:00Z", [("started", "a"), ("appeared", "a")]),
    ],
)
def test_the_filters_hold_together(ask: Client, url: str, question: str, expected: list[tuple[str, str]]) -> None:
    """Time, kind, cluster, namespace and name, and the past."""
    fill(url)
    assert all_pages(ask, f"/changes?{question}") == expected


@pytest.mark.parametrize(
    "question",
    [
        "what=exploded",
        "from=yesterday",
        "to=2026-13-01",
        "before=x",
        "before=[1]",
        'before=["2026-11-01",1,2,3]',
        "unknown=1",
    ],
)
def test_what_cannot_be_asked_is_said(ask: Client, question: str) -> None:
    """400, with a sentence that names the word."""
    reply = ask.get(f"/changes?{question}")
    assert reply.status_code == 400
    assert question.partition("=")[0] in page.text(reply).lower()


@pytest.mark.parametrize("same", [0, 1])
def test_the_pages_have_each_change_once(ask: Client, url: str, same: int) -> None:
    """By key, whatever comes together: many VMs at one time, as after a first list, or one after another."""
    given = [machine(ADD, number, 0 if same else number * 7 / 3, name=f"vm-{number}") for number in range(1, 161)]
    given += [running(ADD, 500 + number, 0 if same else number, "n1", name=f"vm-{number}") for number in range(1, 31)]
    random.Random(1).shuffle(given)
    page.store(url, *given)
    found = all_pages(ask, "/changes")
    assert len(found) == 190
    assert sorted(found) == sorted((what, name) for *_, name, what in conftest.execute(url, KEYS))


def test_a_page_that_looks_no_further_says_how_far_it_looked(
    ask: Client, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its next page goes on from there."""
    fill(url)
    monkeypatch.setattr(changes, "SECONDS", 0)
    monkeypatch.setattr(changes, "MOST_SECONDS", 0)
    monkeypatch.setattr(changes, "BATCH", 1)
    monkeypatch.setattr(changes, "FIRST_STEP", datetime.timedelta(days=3))
    since = "/changes?from=2026-10-30"
    assert "Look further back" in page.text(ask.get(since))
    assert [what for what, _ in all_pages(ask, since)] == [
        *("deleted", "changed", "appeared", "moved", "started", "appeared")
    ]


def entries(reply: page.Reply) -> list[ET.Element]:
    """The entries of a feed, once an XML parser has read it."""
    assert reply.content_type == "application/atom+xml; charset=utf-8"
    return ET.fromstring(reply.get_data()).findall(f"{ATOM}entry")


def text(element: ET.Element, name: str) -> str:
    """The text of a child of an element."""
    return element.findtext(f"{ATOM}{name}") or ""


def test_the_feed_has_the_changes_of_the_same_filters(ask: Client, url: str) -> None:
    """Valid Atom: ids, times, titles and links; the page names it."""
    fill(url)
    reply = ask.get("/changes.atom?what=changed")
    feed = ET.fromstring(reply.get_data())
    assert text(feed, "id").startswith("urn:uuid:")
    assert text(feed, "updated") == "2026-11-03T02:00:00Z"
    assert feed.findtext(f"{ATOM}author/{ATOM}name") == "vmledger"
    [entry] = entries(reply)
    assert text(entry, "title").startswith("team/a changed: cores 1 → 4")
    link = entry.find(f"{ATOM}link")
    assert link is not None
    assert ask.get(link.attrib["href"]).status_code == 200
    named = re.search(
        r'<link rel="alternate" type="application/atom\+xml"[^>]*href="([^"]*)"', ask.get("/changes?name=a").text
    )
    assert named is not None
    assert len(entries(ask.get(html.unescape(named[1])))) == 4


def test_the_ids_of_the_feed_are_stable_and_tell_entries_apart(ask: Client, url: str) -> None:
    """Whatever came since, and whatever is filtered."""
    fill(url)
    before = {text(entry, "id"): text(entry, "updated") for entry in entries(ask.get("/changes.atom"))}
    assert len(before) == 6
    page.store(url, machine(UPDATE, 9, 90, cores=9))
    after = {text(entry, "id"): text(entry, "updated") for entry in entries(ask.get("/changes.atom?namespace=team"))}
    assert len(after) == 7
    assert before.items() <= after.items()


def test_the_feed_of_nothing_is_a_feed(ask: Client) -> None:
    """With all that Atom wants of one."""
    reply = ask.get("/changes.atom")
    assert entries(reply) == []
    assert datetime.datetime.fromisoformat(text(ET.fromstring(reply.get_data()), "updated"))


def test_whatever_the_ledger_has_the_feed_is_xml(ask: Client, url: str) -> None:
    """Markup, and characters that no XML document may have."""
    page.store(url, machine(ADD, 1, 0, name="<a>&\"']]>", uid="u&<"))
    labels: Any = '{"a\\u0001<b>": "\\u001b[31m]]>&", "é\\uffff": "\\ud83d\\ude00"}'
    conftest.execute(url, "UPDATE vm_history SET labels = %s", [labels])
    [entry] = entries(ask.get("/changes.atom?name=%3Ca%3E%26%22%27%5D%5D%3E"))
    assert text(entry, "title") == "team/<a>&\"']]> appeared"
    assert f"label a <b>: {wording.UNKNOWN} →  [31m]]>&" in text(entry, "content")
    assert ask.get("/changes").status_code == 200


def test_a_years_old_change_is_found(ask: Client, url: str) -> None:
    """However long nothing was since."""
    moment = test_past.START - datetime.timedelta(days=900)
    page.store(url, machine(ADD, 1, (moment - test_past.START) / test_past.HOUR))
    assert shown(ask.get("/changes")) == [("appeared", "a")]
