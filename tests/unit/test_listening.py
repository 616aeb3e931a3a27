"""Which worker takes a new connection."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import gevent
import gevent.event
import gevent.pool
import gevent.socket
import pytest

from function.web import listening


class Worker:
    """Takes connections of a listener, and keeps them; fewer: how many another has."""

    def __init__(self, listener: gevent.socket.socket, other: Worker | None = None, *, fewer: bool = False) -> None:
        self.taken = 0
        self.asked = 0
        self._other = other
        self._fewer = fewer
        self.server = listening.Server(
            gevent.socket.socket(fileno=socket.dup(listener.fileno())),
            spawn=gevent.pool.Pool(100),
            handle=self._handle,
            took=self._took,
            ahead=self._ahead,
        )

    def meet(self, other: Worker) -> None:
        """Compare with another."""
        self._other = other

    def _handle(self, _: object, client: gevent.socket.socket, __: object) -> None:
        gevent.event.Event().wait()

    def _took(self) -> None:
        self.taken += 1

    def _ahead(self) -> float:
        self.asked += 1
        if self._fewer:
            return listening.SLACK + 1
        return self.taken - self._other.taken if self._other else 0


@pytest.fixture
def listener() -> Iterator[gevent.socket.socket]:
    """A socket that listens."""
    with gevent.socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(100)
        yield made


@contextlib.contextmanager
def started(*workers: Worker) -> Iterator[None]:
    """Let workers take connections."""
    for worker in workers:
        worker.server.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.server.stop(timeout=0)


def connected(listener: gevent.socket.socket, count: int, *workers: Worker) -> None:
    """Open connections at once, and wait until these workers have taken so many more."""
    until = sum(worker.taken for worker in workers) + count
    senders = [gevent.socket.create_connection(listener.getsockname()) for _ in range(count)]
    with gevent.Timeout(20):
        while sum(worker.taken for worker in workers) < until:
            gevent.sleep(0.005)
    for sender in senders:
        sender.close()


def test_a_new_connection_goes_to_the_worker_that_has_fewer(listener: gevent.socket.socket) -> None:
    """Also of many that come at once: those that one took while it was alone count."""
    one = Worker(listener)
    other = Worker(listener, one)
    with started(one):
        connected(listener, 15, one)
        one.meet(other)
        with started(other):
            connected(listener, 15, other)
            assert other.taken >= 15 - listening.SLACK - 1
            connected(listener, 31, one, other)
    assert abs(one.taken - other.taken) <= listening.SLACK + 1


def test_a_connection_that_nobody_else_takes_is_taken(listener: gevent.socket.socket) -> None:
    """The worker that has fewer connections may be busy: after so many rests the other takes it."""
    worker = Worker(listener, fewer=True)
    with started(worker):
        connected(listener, 3, worker)
    assert worker.taken == 3
    assert worker.asked >= 3 * listening.MOST_RESTS


def test_a_server_that_stops_while_it_rests_takes_nothing(listener: gevent.socket.socket) -> None:
    """A worker that ends listens no more."""
    worker = Worker(listener, fewer=True)
    with started(worker), gevent.socket.create_connection(listener.getsockname()), gevent.Timeout(20):
        while not worker.asked:
            gevent.sleep(0)
    gevent.sleep(5 * listening.REST_SECONDS)
    assert worker.taken == 0
