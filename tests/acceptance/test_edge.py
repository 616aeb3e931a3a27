"""One hostile connection costs itself and not the others: a real gunicorn process, raw sockets, senders at their worst.

Times are no assertion here, except that what is legitimate is answered while an attack goes on.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from dev import attacks, embedded_postgres
from tests import conftest
from tests.acceptance import processes

ATTACK_SECONDS = 15
"""Far longer than what is looked at meanwhile takes."""


@pytest.fixture(scope="module")
def url(server: embedded_postgres.Postgres, template: str) -> Iterator[str]:
    """One database for the module."""
    conftest.execute(server.url(), f"CREATE DATABASE edge TEMPLATE {template}")
    yield server.url(database="edge")
    conftest.execute(server.url(), "DROP DATABASE edge WITH (FORCE)")


@pytest.fixture(scope="module")
def service(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Service]:
    """One worker, so that the attack and the events meet."""
    log = tmp_path_factory.mktemp("log") / "log"
    with processes.gunicorn(log, {"DATABASE_URL": url, "WEB_CONCURRENCY": "1"}) as started:
        yield started
        assert "unexpected error" not in started.log()
        assert "Traceback" not in started.log()


@contextlib.contextmanager
def attack(service: processes.Service, name: str) -> Iterator[subprocess.Popen[str]]:
    """Attack the service from another process; it has begun."""
    command = [sys.executable, "-m", "dev.attacks", name, str(service.port), str(ATTACK_SECONDS)]
    with subprocess.Popen(command, cwd=processes.ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_events_and_the_probe_are_answered_while_a_connection_does_its_worst(
    service: processes.Service, url: str, name: str
) -> None:
    """Ten of each, on connections of their own, before the attack ends."""
    with attack(service, name) as process:
        for number in range(10):
            assert service.send(name=f"meanwhile-{number}", namespace=name) == 204
            assert service.request("GET", "/health/liveness")[0] == 200
        assert process.poll() is None, "the attack was over first"
    quoted = name.replace("'", "''")
    stored = conftest.execute(url, f"SELECT count(*) FROM virtual_machines WHERE namespace = '{quoted}'")
    assert stored == [(10,)]


@contextlib.contextmanager
def connected(service: processes.Service, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections, and send some first bytes on each."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=120))
            opened.append(connection)
            connection.sendall(first)
        yield opened


LIVENESS = b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n\r\n"


def answered(connection: socket.socket, request: bytes = LIVENESS) -> bytes:
    """Send a request and return what is answered to it; nothing where the connection is closed."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        connection.sendall(request)
        while not _is_whole(answer) and (data := connection.recv(65536)):
            answer += data
    return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and len(body) >= int(length or 0)


BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: x", BODY], ids=["idle", "in their head", "in a body"])
def test_two_thousand_connections_keep_no_event_out(service: processes.Service, first: bytes) -> None:
    """The oldest of them makes room; they stay open on their side, and wait."""
    with connected(service, 2000, first):
        for number in range(5):
            assert service.send(name=f"among-many-{number}") == 204
            assert service.request("GET", "/health/liveness")[0] == 200


def test_a_broker_s_connection_outlives_those_that_never_sent_a_request(service: processes.Service) -> None:
    """It rests between events, as Go's connections do, and is older than they are."""
    with connected(service, 1) as [broker]:
        assert answered(broker).startswith(b"HTTP/1.1 200 ")
        with connected(service, 1000):
            assert service.send(name="after-many") == 204
            assert answered(broker).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_does_not_end_in_time_is_408(service: processes.Service) -> None:
    """Knative sends it again; the connection is closed."""
    with connected(service, 1, b"POST / HTTP/1.1\r\nHost: x\r\nce-id") as [connection]:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]


def test_a_request_in_pieces_is_one_request(service: processes.Service) -> None:
    """However its bytes are divided, and whatever follows it on the connection."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    with connected(service, 1) as [connection]:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request + LIVENESS[:10]:
            connection.sendall(bytes([byte]))
        assert answered(connection, b"").startswith(b"HTTP/1.1 400 ")
        assert answered(connection, LIVENESS[10:]).startswith(b"HTTP/1.1 200 ")


def test_a_sender_of_too_large_a_body_gets_the_answer_and_the_end(service: processes.Service) -> None:
    """It need not be read to its end, so no other request can follow it."""
    with connected(service, 1, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n") as [connection]:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"x" * 8_000_000)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer


def test_a_worker_that_was_away_gets_the_next_connections(tmp_path: pathlib.Path) -> None:
    """All that came meanwhile are with the other, which leaves new ones to this."""
    with (
        processes.gunicorn(tmp_path / "log", {"WEB_CONCURRENCY": "2"}) as service,
        contextlib.ExitStack() as stack,
    ):
        one, other = workers(service)
        other.suspend()
        try:
            first = [stack.enter_context(asked(service)) for _ in range(12)]
        finally:
            other.resume()
        rest = [stack.enter_context(asked(service)) for _ in range(20)]
        taken = [
            {address.raddr.port for address in worker.net_connections("tcp") if address.raddr}
            for worker in (one, other)
        ]
        assert {sender.getsockname()[1] for sender in first} <= taken[0]
        assert len({sender.getsockname()[1] for sender in rest} & taken[1]) >= 10


def workers(service: processes.Service) -> list[psutil.Process]:
    """The two workers, once both take connections."""
    end = time.monotonic() + 60
    found: list[psutil.Process] = []
    while len(found) < 2:
        assert time.monotonic() < end
        with asked(service) as sender:
            port = sender.getsockname()[1]
            for worker in psutil.Process(service.process.pid).children():
                if worker not in found and any(
                    each.raddr and each.raddr.port == port for each in worker.net_connections("tcp")
                ):
                    found.append(worker)
    return found


@contextlib.contextmanager
def asked(service: processes.Service) -> Iterator[socket.socket]:
    """A connection on which a request was answered."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as sender:
        sender.sendall(b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sender.recv(65536).startswith(b"HTTP/1.1 200")
        yield sender
