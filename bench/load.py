"""A load generator: many connections over loopback, each with one request in flight, in a process of its own.

Requests are bytes and answers are read just as far as needed, so it takes little of the machine that it measures.
"""

from __future__ import annotations

import collections
import dataclasses
import multiprocessing
import select
import socket
import time
from collections.abc import Callable, Iterator

Render = Callable[[int], bytes]
"""The bytes of the n-th request."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a load gave: answers by status, the seconds that it took, and each answer's latency in seconds."""

    statuses: dict[int, int]
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Answers of 2xx in a second."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a latency in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class _Connection:
    """One connection: sends a request, waits for its answer, sends the next; connects anew when it is closed."""

    def __init__(self, port: int) -> None:
        self.port = port
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
            return 0
        if not separator or (data and len(body) < _length(head)):
            return None
        self.busy = False
        return int(head[9:12])


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def run(
    port: int, render: Render, *, connections: int, seconds: float, rate: float | None = None, start: int = 0
) -> Result:
    """Load a port for some seconds: as fast as it answers, or at a steady rate of requests a second."""
    parent, child = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=lambda: child.send(_load(port, render, connections=connections, seconds=seconds, rate=rate, start=start))
    )
    process.start()
    result: Result = parent.recv()
    process.join()
    return result


def _load(port: int, render: Render, *, connections: int, seconds: float, rate: float | None, start: int) -> Result:
    statuses: collections.Counter[int] = collections.Counter()
    latencies: list[float] = []
    poller = select.epoll()
    known: dict[int, _Connection] = {}
    idle: collections.deque[_Connection] = collections.deque()
    for _ in range(connections):
        idle.append(_register(_Connection(port), poller, known))
    number = start
    began = time.perf_counter()
    due = _schedule(began, rate)
    following = next(due)
    while (now := time.perf_counter()) < began + seconds or any(each.busy for each in known.values()):
        while idle and following <= now < began + seconds:
            connection = idle.popleft()
            connection.send(render(number))
            if rate is not None:
                connection.sent = following  # from when it was due: a queue at the sender is latency too
            number += 1
            following = next(due)
        for descriptor, _ in poller.poll(max(0.0, min(0.01, following - now)) if idle else 0.05):
            connection = known[descriptor]
            status = connection.receive()
            if status is None:
                continue
            if connection.busy or b"connection: close" in connection.answer.lower()[:500] or status == 0:
                poller.unregister(descriptor)
                connection.socket.close()
                del known[descriptor]
                idle.append(_register(_Connection(port), poller, known))
            else:
                idle.append(connection)
            statuses[status] += 1
            latencies.append(time.perf_counter() - connection.sent)
    took = time.perf_counter() - began
    for connection in known.values():
        connection.socket.close()
    return Result(dict(statuses), took, latencies)


def _register(connection: _Connection, poller: select.epoll, known: dict[int, _Connection]) -> _Connection:
    poller.register(connection.socket.fileno(), select.EPOLLIN)
    known[connection.socket.fileno()] = connection
    return connection


def _schedule(began: float, rate: float | None) -> Iterator[float]:
    """Yield when each request is due."""
    due = began
    while True:
        yield due
        due += 1 / rate if rate else 0.0
