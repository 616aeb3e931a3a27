"""What is read of a connection, for how long, and which connection makes room."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import gevent
import gevent.socket
import gunicorn.http.errors
import pytest

from function.web import connections

LIMITS = connections.Limits(most_line=4094, most_fields=200, idle_seconds=0.2, head_seconds=0.2, body_seconds=0.2)
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def pair() -> Iterator[tuple[connections.Connection, gevent.socket.socket]]:
    """A connection, and its sender's end."""
    ours, theirs = gevent.socket.socketpair()
    with ours, theirs:
        yield connections.Connection(ours, LIMITS), theirs


def test_a_head_is_handed_over_whole_with_what_follows_it() -> None:
    """The parser then reads from memory; the body comes as it is asked for."""
    with pair() as (connection, sender):
        gevent.spawn(lambda: [sender.sendall(bytes([byte])) or gevent.sleep(0) for byte in HEAD + b"{}"])
        assert connection.await_head()
        assert connection.read(len(HEAD)) == HEAD
        assert connection.read(2) == b"{}"


def test_what_was_pipelined_is_the_beginning_of_the_next_head() -> None:
    """It is in memory already."""
    with pair() as (connection, sender):
        sender.sendall(HEAD + HEAD[:5])
        assert connection.await_head()
        connection.read(len(HEAD))
        gevent.spawn_later(0.01, sender.sendall, HEAD[5:])
        assert connection.await_head()
        assert connection.read() == HEAD


def test_each_part_of_a_request_has_its_time() -> None:
    """None of them ends it for the connections of others."""
    with pair() as (connection, sender):
        with pytest.raises(TimeoutError):
            connection.await_head()
        sender.sendall(HEAD[:5])
        with pytest.raises(connections.TooSlow):
            connection.await_head()
        sender.sendall(HEAD)
        assert connection.await_head()
        connection.read()
        with pytest.raises(TimeoutError):
            connection.read(1)


@pytest.mark.parametrize("piece", [HEAD[:5], HEAD + b"{}"], ids=["head", "body"])
def test_bytes_that_trickle_in_do_not_prolong_it(piece: bytes) -> None:
    """The time is for all of them."""
    with pair() as (connection, sender):

        def trickle() -> None:
            sender.sendall(piece)
            while True:
                gevent.sleep(0.02)
                sender.sendall(b"x")

        def read() -> None:
            connection.await_head()
            connection.read(1_000_000)

        trickling = gevent.spawn(trickle)
        with pytest.raises((connections.TooSlow, TimeoutError)):
            read()
        trickling.kill()


def test_a_sender_that_closes_between_requests_is_no_error() -> None:
    """One that closes within a head is."""
    with pair() as (connection, sender):
        sender.close()
        assert not connection.await_head()
    with pair() as (connection, sender):
        sender.sendall(HEAD[:5])
        sender.close()
        with pytest.raises(gunicorn.http.errors.NoMoreData):
            connection.await_head()


def test_an_ended_connection_still_gives_what_has_come() -> None:
    """A request that has come just now is answered."""
    with pair() as (connection, sender):
        sender.sendall(HEAD)
        connection.end()
        assert connection.await_head()
        assert connection.read() == HEAD
        assert not connection.await_head()


def test_whoever_reads_without_a_pause_lets_others_run() -> None:
    """The loop itself switches only where there is nothing to read."""
    with pair() as (connection, sender):
        sender.sendall(HEAD)
        assert connection.await_head()
        connection.read()
        sender.sendall(b"body")
        ran: list[float] = []
        gevent.spawn(lambda: ran.append(time.monotonic()))
        until = time.monotonic() + 2 * connections.TURN_SECONDS
        while time.monotonic() < until:
            pass
        assert ran == []
        assert connection.chunk() == b"body"
        assert len(ran) == 1


@contextlib.contextmanager
def waiting(known: connections.Connections, answered: int) -> Iterator[connections.Connection]:
    """A connection that waits for a request, after some others."""
    with pair() as (connection, _):
        connection.answered = answered
        known.add(connection)
        reading = gevent.spawn(connection.await_head)
        while not connection.is_waiting:
            gevent.sleep(0)
        yield connection
        reading.kill()


def test_the_oldest_connection_that_never_sent_a_request_makes_room() -> None:
    """Then the oldest of the others; never one whose request is being handled."""
    known = connections.Connections(connections.SPARE + 3)
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(pair())[0]
        known.add(busy)
        broker = stack.enter_context(waiting(known, answered=1))
        first = stack.enter_context(waiting(known, answered=0))
        assert not any(each.is_ended for each in (busy, broker, first))
        second = stack.enter_context(waiting(known, answered=0))
        assert [each.is_ended for each in (busy, broker, first, second)] == [False, False, True, False]
        gevent.sleep(0.01)
        known.remove(first)
        third = stack.enter_context(waiting(known, answered=0))
        gevent.sleep(0.01)
        known.remove(second)
        assert [each.is_ended for each in (broker, second, third)] == [False, True, False]


def test_at_a_stop_those_that_wait_for_a_request_are_ended() -> None:
    """The others are answered first."""
    known = connections.Connections(100)
    with pair() as (busy, _), waiting(known, answered=1) as idle:
        known.add(busy)
        known.end_idle()
        assert (busy.is_ended, idle.is_ended) == (False, True)
