"""Stops what runs in another thread before each thing that it asks of the outside, and lets it go on step by step.

A reconcile asks two things of the outside: pages and objects of the API server, and statements of Postgres.
Each statement that it sends is a transaction, so the stops are all the places where anything may come between.
Both doors are real ones: the API server's own answer, and a relay before Postgres that speaks its wire protocol.
"""

from __future__ import annotations

import contextlib
import pathlib
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from tests import api_server

SECONDS = 60.0
"""Longest wait for what must come at once; past it a test fails instead of hanging."""
READY, QUERY, GOODBYE = b"Z", b"Q", b"X"
PROTOCOL_3 = 3 << 16


class Cut(Exception):
    """The connection ends here."""


class PausePoints:
    """Where a thread stops while pausing is on.

    broken: nothing passes any more, as if the process behind it were killed.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shut = False
        self._permits = 0
        self._waiting = 0
        self._running: threading.Thread | None = None
        self.broken = False
        self.steps = 0

    def stop(self) -> None:
        """Wait until this step may be made; raise :class:`Cut` where none may be."""
        with self._changed:
            self.steps += 1
            if self._shut and not self.broken:
                self._waiting += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._permits > 0 or self.broken or not self._shut)
                self._waiting -= 1
                self._permits = max(0, self._permits - 1)
            if self.broken:
                raise Cut

    def start(self, work: Callable[[], object]) -> None:
        """Pause, and run ``work`` up to its first stop."""

        def run() -> None:
            try:
                work()
            finally:
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

        with self._changed:
            self._shut, self.broken, self.steps = True, False, 0
            self._running = threading.Thread(target=run, daemon=True)
            self._running.start()
            self._until(lambda: self._waiting > 0 or self._running is None)

    def step(self) -> bool:
        """Let one step be made; return whether the work goes on."""
        with self._changed:
            if self._running is not None:
                self._permits += 1
                self._changed.notify_all()
                self._until(lambda: self._running is None or (self._permits == 0 and self._waiting > 0))
            return self._running is not None

    def open(self) -> None:
        """Let the work run to its end."""
        with self._changed:
            self._shut, self._permits = False, 0
            self._changed.notify_all()
            self._until(lambda: self._running is None)

    def kill(self) -> None:
        """Let nothing of the work pass any more, and wait for its end."""
        with self._changed:
            self.broken = True
        self.open()

    @property
    def running(self) -> bool:
        """Whether the work goes on."""
        return self._running is not None

    def _until(self, known: Callable[[], bool]) -> None:
        assert self._changed.wait_for(known, SECONDS), "what runs beside neither stops nor ends"


class Cluster(api_server.ApiServer):
    """A model cluster that pauses before it answers whoever shows the token ``GATED``."""

    GATED = "token-of-who-is-stopped"

    def __init__(self, pause_points: PausePoints) -> None:
        super().__init__()
        self.pause_points = pause_points
        self.tokens.add(self.GATED)
        self.start()

    def close(self) -> None:
        """Serve no more."""
        self.stop()

    def answer(self, path: str, authorization: str) -> api_server.Reply:
        """Answer a GET."""
        if authorization == f"Bearer {self.GATED}":
            try:
                self.pause_points.stop()
            except Cut:
                return api_server.Reply(503, b"", {"Retry-After": "0"})
        return super().answer(path, authorization)


class Relay:
    """A door before a Postgres that listens on a socket: it pauses before each statement.

    lose_reply: the next statement is executed, and then the connection ends without an answer.
    """

    def __init__(self, upstream: pathlib.Path, pause_points: PausePoints) -> None:
        self.lose_reply = False
        self._upstream = upstream
        self._pause_points = pause_points
        relay = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(Cut, OSError):
                    relay._serve(self.rfile, self.wfile)  # type: ignore[arg-type]  # they are files of bytes

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def url(self, user: str, database: str) -> str:
        """Return the connection URL of a database behind the door."""
        port = self._server.server_address[1]
        return f"postgresql://{user}@127.0.0.1:{port}/{database}?sslmode=disable&gssencmode=disable"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Relay]:
        """Serve while the block runs."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _serve(self, client: BinaryIO, answers: BinaryIO) -> None:
        """Pass messages on, a statement at a time, until one side hangs up."""
        if self._pause_points.broken:
            raise Cut
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as upstream:
            upstream.connect(str(self._upstream))
            replies = upstream.makefile("rb")
            hello = _message(client)
            assert struct.unpack("!i", hello[4:8]) == (PROTOCOL_3,), "the relay knows neither TLS nor cancelling"
            upstream.sendall(hello)
            answers.write(_answer(replies))
            while (kind := client.read(1)) not in (b"", GOODBYE):
                assert kind == QUERY, f"the relay knows simple statements only, not {kind!r}"
                asked = _message(client)
                self._pause_points.stop()
                lost, self.lose_reply = self.lose_reply, False
                upstream.sendall(kind + asked)
                reply = _answer(replies)
                if lost:
                    raise Cut
                answers.write(reply)


def _message(stream: BinaryIO) -> bytes:
    """Read a message behind its type: the length, which counts itself, and what follows."""
    head = stream.read(4)
    if len(head) < 4:
        raise Cut
    [size] = struct.unpack("!i", head)
    return head + stream.read(size - 4)


def _answer(stream: BinaryIO) -> bytes:
    """Read all that the server says until it is ready for the next statement."""
    said = bytearray()
    while True:
        kind = stream.read(1)
        if not kind:
            raise Cut
        said += kind + _message(stream)
        if kind == READY:
            return bytes(said)
