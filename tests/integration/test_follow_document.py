"""The followers that docs/follow.md shows, run as they stand there."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import re
import threading
import time
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from function.clients import postgres
from function.inventory.storage import store
from tests import conftest, manifests, publishing
from tests.integration import test_past

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "follow.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ADD, UPDATE, DELETE = test_past.ADD, test_past.UPDATE, test_past.DELETE
machine, running, write = test_past.machine, test_past.running, test_past.write


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, *_: Any) -> None:
        """Leave it."""


@contextlib.contextmanager
def serving(example: str) -> Iterator[str]:
    """Serve an example's application; yield its URL."""
    room: dict[str, Any] = {}
    exec(example, room)
    with wsgiref.simple_server.make_server("127.0.0.1", 0, room["application"], handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
            if "database" in room:
                room["database"].close()


def until(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + publishing.SECONDS
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The ledger's tables."""
    return store.Store(db)


def test_a_table_is_kept_in_step(url: str, tables: store.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the live VMs as the ledger has them, also after all was sent a second time."""
    monkeypatch.setenv("FOLLOWER_URL", url)
    live = "SELECT cluster || '/' || namespace || '/' || name, vcpus, node FROM virtual_machines ORDER BY 1"

    def in_step() -> bool:
        return conftest.execute(url, "SELECT vm, vcpus, node FROM cmdb ORDER BY 1") == conftest.execute(url, live)

    with serving(EXAMPLES[0]) as follower:
        for _ in range(2):
            with publishing.publishing(url, follower, publishing.BEGINNING):
                write(tables, *(machine(ADD, 10, 0, name=name) for name in "abc"), running(ADD, 11, 1, "n1"))
                until(in_step)
                write(tables, machine(UPDATE, 20, 2, cores=4), machine(DELETE, 21, 2, name="b"))
                write(tables, machine(UPDATE, 15, 1, cores=2))
                until(in_step)
    assert [row[0] for row in conftest.execute(url, live)] == ["east/team/a", "east/team/c"]


def test_a_chat_is_told(url: str, tables: store.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was asked for, once, in order; and of no correction."""
    told: list[str] = []

    class Chat(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat) as chat:
        thread = threading.Thread(target=chat.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("CHAT_URL", f"http://127.0.0.1:{chat.server_port}/")
        with serving(EXAMPLES[1]) as follower, publishing.publishing(url, follower, publishing.NOW):
            write(tables, machine(ADD, 10, 0), running(ADD, 11, 1, "n1"), running(UPDATE, 12, 2, "n2"))
            until(lambda: len(told) == 1)
            write(tables, machine(UPDATE, 9, -1, cores=8), running(DELETE, 13, 3, "n2"), machine(DELETE, 14, 4))
            until(lambda: len(told) == 3)
        chat.shutdown()
        thread.join()
    assert [text.split()[:2] for text in told] == [["team/a", what] for what in ("moved", "stopped", "deleted")]


def test_the_trigger_is_on_the_broker_of_the_component(tmp_path: pathlib.Path) -> None:
    """By its name."""
    [trigger] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(apiVersion.*?)```", PAGE, re.DOTALL)]
    objects = manifests.extended(tmp_path, "direct", "publish")
    assert manifests.named(objects, "Broker", trigger["spec"]["broker"])
