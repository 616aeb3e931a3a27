"""A load generator: many connections over loopback, each with one request in flight, in a process of its own.

Requests are bytes and answers are read just as far as needed, so it takes little of the machine that it measures.
At a steady rate a request's time counts from when it was due, not from when a connection was free for it: a server that
stalls delays what is behind, and that is latency too.
"""

from __future__ import annotations

import collections
import dataclasses
import multiprocessing
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

Render = Callable[[int], bytes]
"""The bytes of the n-th request."""
LATE_SECONDS = 30
"""How long the last answers are waited for."""
NO_ANSWER = 0
"""The status of a request whose connection was closed instead of an answer."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a load gave: answers by status, the seconds that it took, and each answer's latency in seconds.

    numbers: of the requests that were sent; all of them were answered.
    """

    numbers: range
    statuses: Mapping[int, int]
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Answers of 2xx in a second."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300) / self.seconds

    @property
    def is_good(self) -> bool:
        """Whether every answer was 2xx."""
        return all(200 <= status < 300 for status in self.statuses)

    def percentile(self, percent: float) -> float:
        """Return a latency in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class _Connection:
    """One connection: sends a request, waits for its answer, sends the next."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self.answer = b""
        self.busy = False

    def send(self, request: bytes) -> None:
        self.sent = time.perf_counter()
        self.answer = b""
        self.busy = True
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """Return the status once the answer is whole."""
        data = self.socket.recv(65536)
        self.answer += data
        head, separator, body = self.answer.partition(b"\r\n\r\n")
        if not data and not separator:
            return NO_ANSWER
        if not separator or (data and len(body) < _length(head)):
            return None
        self.busy = False
        return int(head[9:12])

    def status(self) -> int:
        """Wait for the answer; return its status."""
        while (status := self.receive()) is None:
            pass
        return status

    @property
    def is_over(self) -> bool:
        """Whether the server wants, or has made, an end of the connection."""
        return self.busy or b"connection: close" in self.answer.lower()[:500]


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def send(port: int, request: bytes) -> int:
    """Send one request on a connection of its own; return its status."""
    connection = _Connection(port)
    connection.send(request)
    status = connection.status()
    connection.socket.close()
    return status


class Together:
    """Some connections to a port, each of which sends one request at a time."""

    def __init__(self, port: int, connections: int) -> None:
        self._connections = [_Connection(port) for _ in range(connections)]

    def send(self, requests: Sequence[bytes]) -> list[int]:
        """Send a request on each connection; return the statuses once all are answered."""
        for connection, request in zip(self._connections, requests, strict=True):
            connection.send(request)
        return [connection.status() for connection in self._connections]

    def close(self) -> None:
        """End the connections."""
        for connection in self._connections:
            connection.socket.close()


def run(
    port: int,
    render: Render,
    *,
    connections: int,
    seconds: float,
    rate: float | None = None,
    start: int = 0,
    meanwhile: Callable[[], object] = lambda: None,
) -> Result:
    """Load a port for some seconds: as fast as it answers, or at a steady rate of requests a second.

    start: the number of the first request. meanwhile: is called now and then.
    """
    fork = multiprocessing.get_context("fork")
    parent, child = fork.Pipe()

    def work() -> None:
        child.send(_Load(port, render, connections).run(seconds, rate, start))

    process = fork.Process(target=work)
    process.start()
    child.close()  # so that a load that died is an end of the pipe, and no endless wait
    try:
        while not parent.poll(0.1):
            meanwhile()
        result: Result = parent.recv()
    except EOFError:
        raise SystemExit("the load generator died: the lines above say why") from None
    process.join()
    return result


class _Load:
    """The loop of the generator's process."""

    def __init__(self, port: int, render: Render, connections: int) -> None:
        self._port = port
        self._render = render
        self._poller = select.epoll()
        self._known: dict[int, _Connection] = {}
        self._idle: collections.deque[_Connection] = collections.deque()
        self._statuses: collections.Counter[int] = collections.Counter()
        self._latencies: list[float] = []
        for _ in range(connections):
            self._connect()

    def run(self, seconds: float, rate: float | None, start: int) -> Result:
        number = start
        began = time.perf_counter()
        end = began + seconds
        due = _schedule(began, rate)
        following = next(due)
        while (now := time.perf_counter()) < end or len(self._idle) < len(self._known):
            while self._idle and following <= now < end:
                connection = self._idle.popleft()
                connection.send(self._render(number))
                if rate is not None:
                    connection.sent = following
                number += 1
                following = next(due)
            if now > end + LATE_SECONDS:
                raise SystemExit(f"no answer for {LATE_SECONDS} seconds")
            self._receive(max(0.0, min(0.05, following - now)) if self._idle and now < end else 0.05)
        took = time.perf_counter() - began
        return Result(range(start, number), dict(self._statuses), took, self._latencies)

    def _receive(self, wait: float) -> None:
        """Take what was answered; wait for it, to the microsecond, which epoll itself does not."""
        select.select([self._poller], [], [], wait)
        for descriptor, _ in self._poller.poll(0):
            connection = self._known[descriptor]
            status = connection.receive()
            if status is None:
                continue
            self._statuses[status] += 1
            self._latencies.append(time.perf_counter() - connection.sent)
            if connection.is_over:
                self._poller.unregister(descriptor)
                connection.socket.close()
                del self._known[descriptor]
                self._connect()
            else:
                self._idle.append(connection)

    def _connect(self) -> None:
        connection = _Connection(self._port)
        self._poller.register(connection.socket.fileno(), select.EPOLLIN)
        self._known[connection.socket.fileno()] = connection
        self._idle.append(connection)


def _schedule(began: float, rate: float | None) -> Iterator[float]:
    """Yield when each request is due."""
    due = began
    while True:
        yield due
        due += 1 / rate if rate else 0.0
