"""What the tests share: a real Postgres, a fresh migrated database for each test, and samples."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import psutil
import psycopg2
import pytest

from dev import embedded_postgres
from function import migrate, settings
from function.clients import postgres, postgres_session

TEMPLATE = "vmledger_template"
MEMORY = "/dev/shm"
ROOM = 3 * 2**30
"""Bytes that the files of one of pytest's processes may take: a Postgres with its log, and some servers of tests."""

for _profile, _examples in (("ci", 60), ("nightly", 1000)):
    hypothesis.settings.register_profile(
        _profile,
        max_examples=_examples,
        deadline=None,  # timings are a benchmark's business
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    """Give this run a temporary folder of its own, and SIGINT its meaning.

    pytest closes the folder that all its runs share to other users whenever one starts; Postgres, which does not run as
    root, then loses its data folder in the middle of another run.
    A shell lets what it starts in the background ignore SIGINT, and so would each process that a test starts and stops.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    root = tempfile.mkdtemp(prefix="vmledger-tests-", dir=_memory())
    os.environ["PYTEST_DEBUG_TEMPROOT"] = root
    config.add_cleanup(lambda: shutil.rmtree(root, ignore_errors=True))


def _memory() -> str | None:
    """Return a folder in memory where there is room for this run's files; None lets them be on the disk.

    A database for each test is hundreds of files that are made and removed: on a disk, most of the tests' time.
    """
    need = ROOM * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if not os.access(MEMORY, os.W_OK) or min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) < need:
        return None
    return MEMORY


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a test's service configures: a level that stays would show lines to the tests after it."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded_postgres.Postgres]:
    """A Postgres of this test run's own.

    It syncs no file: what is committed outlives each process here, and only a machine that loses its power forgets it.
    """
    started = embedded_postgres.Postgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off"})
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def template(server: embedded_postgres.Postgres) -> str:
    """The name of a database that was migrated once, to be copied for each test."""
    execute(server.url(), f"CREATE DATABASE {TEMPLATE}")
    migrate.run(settings.Settings.from_env({"DATABASE_URL": server.url(database=TEMPLATE)}))
    return TEMPLATE


@pytest.fixture
def new_database(server: embedded_postgres.Postgres) -> Iterator[Callable[..., str]]:
    """Make databases of this test's own, empty or copied; each call returns a URL."""
    made: list[str] = []

    def make(copy_of: str = "template1") -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        made.append(name)
        execute(server.url(), f"CREATE DATABASE {name} TEMPLATE {copy_of}")
        return server.url(database=name)

    yield make
    for name in made:
        execute(server.url(), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def url(new_database: Callable[..., str], template: str) -> str:
    """The URL of a migrated database with nothing in it."""
    return new_database(template)


@pytest.fixture
def db(url: str) -> Iterator[postgres.Database]:
    """The door to that database."""
    opened = postgres.Database({"dsn": url}, timeout=10)
    yield opened
    opened.close()


def execute(url: str, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run SQL on a connection of its own; return the rows, if it gives any."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        return _run(connection, sql, parameters)
    finally:
        connection.close()


def _run(connection: psycopg2.extensions.connection, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def emptying(*tables: str) -> str:
    """Return SQL that empties tables between examples.

    By DELETE: TRUNCATE makes each file anew, and then Postgres plans every prepared statement anew.
    """
    return "; ".join(f"DELETE FROM {table}" for table in tables)


def session(url: str, needs: postgres_session.Needs = postgres.NEEDS) -> psycopg2.extensions.connection:
    """Open a connection in autocommit mode, set as the function's own is, or to what another one needs."""
    return postgres_session.Session({"dsn": url}, needs).connection


@pytest.fixture
def query(url: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Run SQL on the test's database, on a connection that is kept: a new one costs more than most questions do."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    yield functools.partial(_run, connection)
    connection.close()


@pytest.fixture(scope="session")
def samples() -> pathlib.Path:
    """The folder of the project's own samples."""
    return pathlib.Path(__file__).parent / "events"
