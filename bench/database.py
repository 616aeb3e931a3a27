"""The Postgres of a benchmark: a server of its own with its usual settings, and migrated databases."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import psycopg2

from bench import fleet, servers
from bench.progress import Progress
from dev import embedded_postgres

SERVING = {"shared_buffers": "512MB"}
FILLING = {
    **SERVING,
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",  # the data is synced once the server is stopped
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "8GB",
    "autovacuum": "off",  # the filled tables are vacuumed at the end
}
"""The settings of a server that is filled with a long history; and before, of one that is asked for it."""
LARGE = "fleet"
"""The database that is filled; the other is Postgres' own."""


@contextlib.contextmanager
def folder(kept: pathlib.Path | None) -> Iterator[pathlib.Path]:
    """Yield the folder of ``--keep``, made where it is missing; else one that is removed at the end."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as made:
        yield pathlib.Path(made)


@contextlib.contextmanager
def running(
    folder: pathlib.Path, progress: Progress, months: int | None = None, settings: dict[str, str] | None = None
) -> Iterator[embedded_postgres.Postgres]:
    """Run a server with a migrated database, and a large one whose history is spread over ``months``, if any.

    settings: the server's, where they are not as they come.
    """
    progress.say("starting Postgres")
    if months is not None:
        _fill(folder, progress, months)
    server = embedded_postgres.Postgres(folder, settings=settings)
    server.start()
    try:
        servers.migrate(server.url())
        yield server
    finally:
        server.stop()


def _fill(folder: pathlib.Path, progress: Progress, months: int) -> None:
    """Fill the large database with a server that is set for that."""
    server = embedded_postgres.Postgres(folder, settings=fleet.SETTINGS)
    server.start()
    try:
        progress.say(f"filling in {fleet.MACHINES:,} VMs with {fleet.MACHINES * fleet.VERSIONS:,} rows of history")
        create(server.url(), LARGE)
        servers.migrate(server.url(database=LARGE))
        fleet.fill(server.url(database=LARGE), months)
    finally:
        server.stop()
    os.sync()


def create(url: str, name: str) -> str:
    """Create a database beside Postgres' own, whose URL is given; return its URL."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return url.replace("/postgres?", f"/{name}?")


@contextlib.contextmanager
def set_for(folder: pathlib.Path, settings: dict[str, str]) -> Iterator[str]:
    """Run a server with settings over the data of a folder; yield its URL. What it wrote is synced at the end."""
    server = embedded_postgres.Postgres(folder, settings=settings)
    server.start()
    try:
        yield server.url()
    finally:
        server.stop()
        os.sync()
