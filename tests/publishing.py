"""A sink that keeps what it is sent, and one who follows a ledger by that."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from function import settings
from function.clients import postgres_session
from function.publish import changes, message, position, run, sink
from tests import conftest

Json = dict[str, Any]
Answer = tuple[int | None, dict[str, str]]
"""A status and headers; None closes the connection without an answer."""
TAKEN: Answer = (204, {})
SECONDS = 60.0
"""How long a test waits for what must come."""


@dataclasses.dataclass(frozen=True)
class Received:
    """An event that was received: its attributes, its data, and what it was answered."""

    attributes: dict[str, str]
    data: Json
    status: int | None

    @property
    def id(self) -> str:
        """Its id."""
        return self.attributes["id"]

    @property
    def what(self) -> str:
        """What it says has happened."""
        return self.attributes["type"].removeprefix(message.TYPE)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Leave it: senders are killed here."""


class Sink:
    """An HTTP server; ``answer`` decides by an event and the number of times that its id was received before."""

    def __init__(self, answer: Callable[[Json, int], Answer] = lambda _event, _times: TAKEN) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self._times: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}/ledger?from=test"

    def taken(self) -> list[Received]:
        """What was answered with a 2xx, in the order of arrival."""
        return [each for each in self.received if each.status is not None and 200 <= each.status < 300]

    def wait(self, count: int) -> list[Received]:
        """Wait until so many events were taken; return them."""
        end = time.monotonic() + SECONDS
        while len(self.taken()) < count:
            assert time.monotonic() < end, f"{len(self.taken())} of {count} events came"
            time.sleep(0.02)
        return self.taken()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, attributes: dict[str, str], body: bytes) -> Answer:
        with self._lock:
            times = self._times[attributes["id"]]
            self._times[attributes["id"]] += 1
            data = json.loads(body)
            status, headers = self.answer({**attributes, "data": data}, times)
            self.received.append(Received(attributes, data, status))
            return status, headers

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                attributes = {
                    name.lower().removeprefix("ce-"): urllib.parse.unquote(value)
                    for name, value in self.headers.items()
                    if name.lower().startswith("ce-")
                }
                status, headers = owner._answer(attributes, body)
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def sinking(answer: Callable[[Json, int], Answer] = lambda _event, _times: TAKEN) -> Iterator[Sink]:
    """Run a sink."""
    with contextlib.closing(Sink(answer)) as opened:
        yield opened


BEGINNING = position.Start(since=position.SINCE_EVER)
NOW = position.Start()


@contextlib.contextmanager
def publishing(
    url: str, to: str, start: position.Start | None = None, *, batch: int = changes.BATCH, **given: Any
) -> Iterator[threading.Thread]:
    """Run ``publish`` in a thread of this process; what it raises is raised at the end."""
    stop = threading.Event()
    part = settings.Publish(sink=to, **given)
    opened = sink.Sink(part, to, stop)
    publisher = run.Publisher({"dsn": url}, opened, threads=part.in_flight, stop=stop, start=start, batch=batch)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            publisher.run()
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=work)
    before = datetime.datetime.now(datetime.UTC)
    thread.start()
    try:
        if start is not None:
            wait_for_start(url, before)
        yield thread
    finally:
        stop.set()
        thread.join(SECONDS)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def wait_for_start(url: str, before: datetime.datetime) -> None:
    """Wait until a ``publish`` has set its position anew: what is committed from then on is news to it."""
    end = time.monotonic() + SECONDS
    while conftest.execute(url, "SELECT count(*) FROM publish_position WHERE updated_at >= %s", [before]) == [(0,)]:
        assert time.monotonic() < end
        time.sleep(0.02)


class Reader:
    """Reads the changes as ``publish`` does, a window at a time, without sending them."""

    def __init__(self, url: str, start: position.Start = BEGINNING, *, batch: int = changes.BATCH) -> None:
        self.session = postgres_session.Session({"dsn": url}, changes.NEEDS)
        self._ledger = changes.Ledger(self.session, batch)
        moment = self._ledger.look()
        self._at = position.begin(moment, start, foreign=self._ledger.has_foreign(moment))

    def read(self) -> list[message.Message]:
        """Return what was committed since the last time."""
        window = position.window(self._at, self._ledger.look())
        found: list[message.Message] = []
        while window is not None:
            portion = self._ledger.read(window)
            found += portion.messages
            if portion.complete:
                self._at = window.then
                break
            window = position.after(window, portion.last)
        return found


class Follower:
    """Keeps the rows of vm_changes by what it is sent alone, as docs/follow.md says."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], Json] = {}

    def take(self, events: Sequence[message.Message | Received]) -> None:
        """Take some events in their order."""
        for event in events:
            data = json.loads(event.body) if isinstance(event, message.Message) else event.data
            row = {name: value for name, value in data.items() if name not in ("virtual_machine", "past")}
            past = data.get("past")
            if past is None:
                self.rows[_key(row)] = row
                continue
            assert past["rows"] is not None
            until = past["until"] or "infinity"
            for key in [key for key in self.rows if key[:3] == _key(row)[:3] and past["from"] <= key[3] <= until]:
                del self.rows[key]
            self.rows |= {_key(each): each for each in past["rows"]}


def _key(row: Json) -> tuple[Any, ...]:
    names = ("cluster", "namespace", "name", "changed_at", "what", "uid", "type", "resource_version")
    return tuple(row[name] for name in names)
