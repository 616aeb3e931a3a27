"""The database goes away in every way that it can: 503 while it lasts, 204 by itself after, nothing lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import os
import pathlib
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from dev import embedded_postgres
from function import migrate, settings
from tests import conftest
from tests.acceptance import processes

TIMEOUT = 6
"""DB_TIMEOUT of these tests; no answer may take much longer."""


@pytest.fixture
def own(tmp_path: pathlib.Path) -> Iterator[embedded_postgres.Postgres]:
    """A server of this test's own, to be killed."""
    server = embedded_postgres.Postgres(tmp_path, port=processes.free_port())
    server.start()
    migrate.run(settings.Settings.from_env({"DATABASE_URL": server.url(tcp=True)}))
    yield server
    with contextlib.suppress(ProcessLookupError):
        if server.running:
            server.thaw()
    server.stop()


@contextlib.contextmanager
def serving(tmp_path: pathlib.Path, url: str, door: Any = processes.gunicorn) -> Iterator[processes.Service]:
    """The receiver over a database."""
    environ = {"DATABASE_URL": url, "DB_TIMEOUT": str(TIMEOUT)}
    with door(tmp_path / "log", environ) as service:
        yield service


def eventually_stored(service: processes.Service, name: str, seconds: float = 20) -> None:
    """Send an event again and again, as a Trigger does, until it is stored; anything but 503 and 204 is wrong."""
    end = time.monotonic() + seconds
    while (status := service.send(name=name)) != 204:
        assert status == 503
        assert time.monotonic() < end, "the service did not heal"
        time.sleep(0.1)


def bounded(service: processes.Service, name: str) -> int:
    """Send an event; it must be answered in time."""
    started = time.monotonic()
    status = service.send(name=name)
    assert time.monotonic() - started < TIMEOUT + 10
    return status


def names(url: str) -> set[str]:
    """The live VMs."""
    return {name for (name,) in conftest.execute(url, "SELECT name FROM virtual_machines")}


def test_down_at_the_start(tmp_path: pathlib.Path, own: embedded_postgres.Postgres) -> None:
    """The receiver starts without its database, says so, and finds it when it comes."""
    own.stop()
    with serving(tmp_path, own.url(tcp=True)) as service:
        assert bounded(service, "early") == 503
        assert service.readiness()["database"].startswith("the database cannot be used now")
        own.start()
        eventually_stored(service, "early")
        assert service.readiness()["database"] == "ok"


def test_killed_between_two_events(tmp_path: pathlib.Path, own: embedded_postgres.Postgres) -> None:
    """What was acknowledged before is there after."""
    with serving(tmp_path, own.url(tcp=True)) as service:
        assert service.send(name="before") == 204
        own.kill()
        assert bounded(service, "during") == 503
        own.start()
        eventually_stored(service, "during")
        assert names(own.url(tcp=True)) == {"before", "during"}


def test_restarted_unnoticed(tmp_path: pathlib.Path, own: embedded_postgres.Postgres) -> None:
    """No dead connection is handed out: the next event after a restart is stored at once."""
    with serving(tmp_path, own.url(tcp=True)) as service:
        for number in range(8):  # each worker has a connection
            assert service.send(name=f"before-{number}") == 204
        own.stop()
        own.start()
        assert [service.send(name=f"after-{number}") for number in range(8)] == [204] * 8


def test_frozen(tmp_path: pathlib.Path, own: embedded_postgres.Postgres) -> None:
    """A server that takes connections and says nothing, such as a stopped machine."""
    with serving(tmp_path, own.url(tcp=True)) as service:
        assert service.send(name="before") == 204
        own.freeze()
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            assert set(pool.map(lambda number: bounded(service, f"during-{number}"), range(20))) == {503}
        own.thaw()
        eventually_stored(service, "after")


class Firewall:
    """A TCP proxy that can start to swallow everything, on old connections and on new ones."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut = threading.Event()
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(server)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.cut.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close all of it, once nothing more is accepted."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        for each in [self._listener, *self._sockets]:
            each.close()


def test_cut_by_a_firewall(tmp_path: pathlib.Path, own: embedded_postgres.Postgres) -> None:
    """No packet comes back, and nobody says so."""
    firewall = Firewall(own.port or 0)
    url = f"postgresql://postgres@127.0.0.1:{firewall.port}/postgres"
    with serving(tmp_path, url) as service:
        assert service.send(name="before") == 204
        firewall.cut.set()
        assert bounded(service, "during") == 503
        firewall.cut.clear()
        eventually_stored(service, "during")
        assert names(own.url(tcp=True)) == {"before", "during"}
    firewall.close()


def test_no_connection_left(tmp_path: pathlib.Path, own: embedded_postgres.Postgres) -> None:
    """Others have taken all of Postgres's connections."""
    conftest.execute(own.url(tcp=True), "ALTER SYSTEM SET max_connections = 5")
    conftest.execute(own.url(tcp=True), "ALTER SYSTEM SET superuser_reserved_connections = 0")
    own.stop()
    own.start()
    import psycopg2

    others = [psycopg2.connect(own.url(tcp=True)) for _ in range(5)]
    with serving(tmp_path, own.url(tcp=True)) as service:
        assert bounded(service, "during") == 503
        for other in others:
            other.close()
        eventually_stored(service, "during")


def test_nothing_acknowledged_is_lost(tmp_path: pathlib.Path, own: embedded_postgres.Postgres) -> None:
    """While Postgres and the workers are killed under load: every 204 is in the history, and all is at the end."""
    url = own.url(tcp=True)
    acknowledged: set[str] = set()
    statuses: set[int] = set()
    stop = threading.Event()

    def load(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"vm-{thread}-{number}"
            try:
                status = service.send(name=name, id=name)
            except (OSError, http.client.HTTPException):
                continue  # its worker was killed: no answer is no acknowledgement
            statuses.add(status)
            if status == 204:
                acknowledged.add(name)

    with serving(tmp_path, url) as service, concurrent.futures.ThreadPoolExecutor(12) as pool:
        loads = [pool.submit(load, thread) for thread in range(12)]
        try:
            chance = random.Random(3)
            for _ in range(3):
                time.sleep(0.5)
                os.kill(chance.choice(service.workers()), signal.SIGKILL)
                time.sleep(0.5)
                own.kill()
                own.start()
        finally:
            stop.set()
        for each in loads:
            each.result(30)
        eventually_stored(service, "last")
    stored = {name for (name,) in conftest.execute(url, "SELECT id FROM vm_history")}
    assert len(acknowledged) > 100
    assert acknowledged <= stored
    assert statuses <= {204, 503}


@pytest.mark.parametrize(
    ("door", "count"),
    [(processes.gunicorn, 1), (processes.gunicorn, 4), (processes.gunicorn, 20), (processes.func, 4)],
    ids=["gunicorn-1", "gunicorn-4", "gunicorn-20", "func-4"],
)
def test_locked_rows(tmp_path: pathlib.Path, own: embedded_postgres.Postgres, door: Any, count: int) -> None:
    """Somebody's open transaction holds rows: events about other VMs are stored while it does, and none is refused."""
    url = own.url(tcp=True)
    with serving(tmp_path, url, door) as service, concurrent.futures.ThreadPoolExecutor(60) as pool:
        assert {service.send(name=f"locked-{number}") for number in range(count)} == {204}
        with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
            cursor.execute("SELECT FROM vm_state FOR UPDATE")
            locked = [
                pool.submit(service.send, name=f"locked-{number}", id="2", time="2026-11-22T11:00:00Z")
                for number in range(count)
            ]
            others = [pool.submit(service.send, name=f"free-{number}") for number in range(300)]
            assert {future.result() for future in others} == {204}
            assert 204 not in {future.result() for future in locked if future.done()}
            assert {future.result() for future in locked} == {503}
            used = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vmledger'"
            assert conftest.execute(url, used)[0][0] <= 2 * max(1, len(service.workers()))
        eventually_stored(service, "locked-0")
    assert "database.locked" in service.log()
