"""The page's lists from a real page: how fast a large one is, and what somebody sees of one that breaks off."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from function.page import takeaway
from tests import fleet
from tests.acceptance import processes

Query = Callable[..., list[tuple[Any, ...]]]
MACHINES = 60_000
"""Many times what the buffers between the page and its reader hold."""


@pytest.fixture
def port(url: str, tmp_path: pathlib.Path) -> Iterator[int]:
    """The port of a running page with one worker, over a large fleet."""
    fleet.fill(url, MACHINES)
    with processes.page(tmp_path / "log", {"DATABASE_URL": url, "PAGE_WORKERS": "1"}) as service:
        yield service.port


@contextlib.contextmanager
def asked(port: int, path: str) -> Iterator[http.client.HTTPResponse]:
    """Ask for a path; the answer is not read yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        yield connection.getresponse()


def test_a_list_arrives_whole(port: int) -> None:
    """With a row for each VM, in pieces whose end is seen."""
    with asked(port, "/fleet.csv") as answer:
        assert answer.getheader("Transfer-Encoding") == "chunked"
        rows = list(csv.reader(io.StringIO(answer.read().decode(), newline="")))
    assert len(rows) == MACHINES + 1


def test_readers_who_take_nothing_hold_nobody(port: int) -> None:
    """As many as the worker sends lists at once to: views are answered meanwhile, over its one connection."""
    with contextlib.ExitStack() as stack:
        for _ in range(takeaway.AT_ONCE):
            answer = stack.enter_context(asked(port, "/fleet.json"))
            assert answer.status == 200
            answer.read(100)
        for _ in range(5):
            with asked(port, "/") as answer:
                assert answer.status == 200
                answer.read()
        with asked(port, "/fleet.json") as answer:
            assert answer.status == 503


def test_a_list_that_breaks_off_is_seen(port: int, query: Query) -> None:
    """The answer does not end as a whole one does, so no half file passes for a list."""
    with asked(port, "/fleet.csv") as answer:
        answer.read(100)
        query("ALTER VIEW virtual_machines RENAME TO away")
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
    query("ALTER VIEW away RENAME TO virtual_machines")
    with asked(port, "/fleet.csv?cluster=none") as answer:
        assert answer.read().count(b"\n") == 1
