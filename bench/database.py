"""The Postgres of a benchmark: a server of its own with its usual settings, and migrated databases."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

import psycopg2

from bench import fleet, servers
from bench.progress import Progress
from dev import embedded_postgres

LARGE = "fleet"
"""The database that is filled; the other is Postgres' own."""


@contextlib.contextmanager
def running(
    folder: pathlib.Path, progress: Progress, months: int | None = None
) -> Iterator[embedded_postgres.Postgres]:
    """Run a server with a migrated database, and a large one whose history is spread over ``months``, if any."""
    progress.say("starting Postgres")
    if months is not None:
        _fill(folder, progress, months)
    server = embedded_postgres.Postgres(folder)
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
        _create(server.url())
        servers.migrate(server.url(database=LARGE))
        fleet.fill(server.url(database=LARGE), months)
    finally:
        server.stop()
    os.sync()


def _create(url: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {LARGE}")
    connection.close()
