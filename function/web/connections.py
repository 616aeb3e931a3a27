"""The connections of a worker: what is read of them, how long that may take, and which are closed to make room.

One sender, whatever it sends, may cost its own connection and not the others' time: each read looks at its bytes once,
ends at a time that was set before, and lets others run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time

import gevent
import gevent.socket
import gunicorn.http.errors
import gunicorn.http.unreader

from function.web import bodies, heads

TURN_SECONDS = 0.005
"""How long one turn of the event loop may last before whoever reads lets the others run."""
SPARE = 32
"""Places that are kept free for those who come."""
_HEAD_PIECE = 8192
_LINES_PIECE = 2048
"""Of a chunked body's lines: gunicorn copies what it holds of them once for each chunk."""
_BODY_PIECE = 64 * 1024


class TooSlow(gunicorn.http.errors.ParseException):  # type: ignore[misc]  # gunicorn is not typed
    """A head that did not come to its end in time."""


def give_way() -> None:
    """Let others run where this turn of the loop has lasted: gevent does not, as long as there is something to read."""
    if time.time() - gevent.get_hub().loop.now() > TURN_SECONDS:
        gevent.sleep(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a sender may take.

    most_line: bytes of the request line. most_fields: header lines. idle_seconds: from one request to the next.
    head_seconds: from the first byte of a request to the end of its head. body_seconds: from there to that of its body.
    """

    most_line: int
    most_fields: int
    idle_seconds: float
    head_seconds: float = 10.0
    body_seconds: float = bodies.SECONDS


class Connection(gunicorn.http.unreader.SocketUnreader):  # type: ignore[misc]  # gunicorn is not typed
    """What gunicorn's parser reads from.

    answered: requests on this connection. since: when it was opened, or its last request was answered.
    is_idle: it waits for a request. is_waiting: it waits for bytes of its sender.
    """

    def __init__(self, client: gevent.socket.socket, limits: Limits) -> None:
        super().__init__(client)
        self.answered = 0
        self.since = time.monotonic()
        self.is_idle = False
        self.is_waiting = False
        self.is_ended = False
        self._limits = limits
        self._until = 0.0

    def await_head(self) -> bool:
        """Read the head of the next request, for gunicorn to parse; False where the sender has closed.

        Raises TimeoutError where it does not begin in time, :class:`TooSlow` where it does not end in time, gunicorn's
        errors where it is too large or breaks off.
        """
        if self.answered:
            gevent.sleep(0)  # others that wait for what this one had, such as the database, come first
        self.is_idle = True
        try:
            data = self.take_buffered()
            if not data:
                self._until = time.monotonic() + self._limits.idle_seconds
                data = self._receive(_HEAD_PIECE)
                if not data:
                    return False
            if heads.END not in data:
                data = self._whole(data)
        finally:
            self.is_idle = False
        self.buf.write(data)
        self._until = time.monotonic() + self._limits.body_seconds
        return True

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return some bytes of a body; gunicorn calls this."""
        give_way()
        size = min(size_hint, _BODY_PIECE) if size_hint and size_hint > _LINES_PIECE else _LINES_PIECE
        return self._receive(size)

    def rest(self) -> None:
        """The request was answered."""
        self.answered += 1
        self.since = time.monotonic()

    def end(self) -> None:
        """Let the sender's bytes end here, after what has come already; whoever waits for more goes on."""
        self.is_ended = True
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.sock.fileno())) as twin:
            # gevent's own shutdown would break off the wait with an error, even where a request has come just now.
            twin.shutdown(socket.SHUT_RD)

    def _whole(self, data: bytes) -> bytes:
        """Return ``data`` with what follows it up to the end of the head."""
        self._until = time.monotonic() + self._limits.head_seconds
        head = heads.Head(self._limits.most_line, self._limits.most_fields)
        whole = bytearray()
        try:
            while not head.add(data):
                whole += data
                give_way()
                data = self._receive(_HEAD_PIECE)
                if not data:
                    raise gunicorn.http.errors.NoMoreData
        except TimeoutError:
            raise TooSlow from None
        except heads.TooMuch:
            raise gunicorn.http.errors.LimitRequestHeaders("") from None
        return bytes(whole + data)

    def _receive(self, size: int) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        self.is_waiting = True
        try:
            received: bytes = self.sock.recv(size)
        finally:
            self.is_waiting = False
        return received


class Connections:
    """The open connections of a worker; near the limit, the oldest that waits for its sender makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Connection] = set()

    def add(self, connection: Connection) -> None:
        """Take a connection in, and end another where there are many."""
        self._open.add(connection)
        if len(self._open) > self._most - SPARE:
            self._end_oldest()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)

    def end_idle(self) -> None:
        """End those that wait for a request."""
        for connection in self._open:
            if connection.is_idle and not connection.is_ended:
                connection.end()

    def _end_oldest(self) -> None:
        """End the one that has waited for longest, of those that never sent a request if there are any.

        So a Broker's connection, which rests between events, outlives a stranger's.
        """
        waiting = [each for each in self._open if each.is_waiting and not each.is_ended]
        if waiting:
            min(waiting, key=lambda each: (each.answered > 0, each.since)).end()
