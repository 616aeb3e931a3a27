"""SIGTERM, as Kubernetes sends it: what is in flight finishes, the database is closed, the process ends by itself."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import signal
import time
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from tests.acceptance import processes

Query = Callable[..., list[tuple[object, ...]]]

BLOCKED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'vmledger' AND wait_event_type = 'Lock'
"""
CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'vmledger'"
ABANDONED = "SELECT sessions_abandoned FROM pg_stat_database WHERE datname = current_database()"
SECONDS = 60.0
"""How long a test waits for what must come."""


@pytest.fixture
def service(url: str, tmp_path: pathlib.Path) -> Iterator[processes.Service]:
    """The Procfile's own command over a database of its own."""
    with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url}) as running:
        yield running


def eventually(query: Query, sql: str, expected: int) -> None:
    """Wait until a query gives a number."""
    end = time.monotonic() + SECONDS
    while (found := query(sql)[0][0]) != expected:
        assert time.monotonic() < end, f"{found} and not {expected}"
        time.sleep(0.05)


def ended(service: processes.Service) -> int:
    """Return the exit code, which must come before gunicorn would end its workers itself."""
    return service.process.wait(15)


def test_what_is_in_flight_is_answered_and_the_database_is_closed(
    service: processes.Service, url: str, query: Query
) -> None:
    """A request that waits for the database gets its 204 after SIGTERM, its row is there, and the exit code is 0."""
    holder = psycopg2.connect(url)
    with holder.cursor() as cursor, concurrent.futures.ThreadPoolExecutor() as pool:
        cursor.execute("LOCK TABLE vm_state IN EXCLUSIVE MODE")
        waiting = pool.submit(service.send, name="in-flight")
        eventually(query, BLOCKED, 1)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert not waiting.done()
        assert service.process.poll() is None
        holder.commit()
        assert waiting.result(SECONDS) == 204
        assert ended(service) == 0
    holder.close()
    assert query("SELECT name FROM virtual_machines") == [("in-flight",)]
    eventually(query, CONNECTED, 0)
    assert query(ABANDONED) == [(0,)], "a connection was dropped, not closed"


def _readiness(connection: http.client.HTTPConnection) -> dict[str, str]:
    """Ask on a connection that stays open."""
    connection.request("GET", "/health/readiness")
    return dict(json.loads(connection.getresponse().read()))


def test_an_idle_connection_of_a_broker_holds_nothing_up(service: processes.Service, query: Query) -> None:
    """Brokers keep connections open between events; the stop does not wait for them."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=SECONDS)) as idle:
        end = time.monotonic() + SECONDS
        while _readiness(idle)["database"] != "ok":  # a busy machine may not connect in time
            assert time.monotonic() < end
            time.sleep(0.05)
        eventually(query, CONNECTED, 1)
        service.process.send_signal(signal.SIGTERM)
        assert ended(service) == 0
    eventually(query, CONNECTED, 0)
    assert query(ABANDONED) == [(0,)], "a connection was dropped, not closed"


def test_a_stop_during_the_start_ends_at_once(service: processes.Service) -> None:
    """The first worker answers while the second still starts; a SIGTERM that one misses would cost graceful_timeout."""
    service.process.send_signal(signal.SIGTERM)
    assert ended(service) == 0
