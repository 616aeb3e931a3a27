"""A dead letter as Knative sends it to the sink, kept by real processes and replayed by the command of the page."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable

import psycopg2.extensions

from dev import embedded_postgres
from tests import conftest, dead_letters
from tests.acceptance import processes

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text()
Query = Callable[..., list[tuple[object, ...]]]


def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command that docs/operations.md gives for a replay, in a process of its own."""
    found = re.search(r"-- python (-m function replay)$", PAGE, re.MULTILINE)
    assert found
    environ = {**os.environ, "DATABASE_URL": url}
    return subprocess.run(
        [sys.executable, *found[1].split(), *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dead_letter_of_the_default_broker_is_replayed(url: str, tmp_path: pathlib.Path, query: Query) -> None:
    """From the sink's own settings to the row that the event would have given; the second replay finds nothing."""
    machine = dead_letters.sample("networks")
    body, headers = dead_letters.request(machine, {**dead_letters.attributes(), **dead_letters.failure()})
    with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url, "WEB_CONCURRENCY": "1"}) as sink:
        assert sink.request("POST", "/echo", body, headers)[0] == 204
        [line] = [
            json.loads(line) for line in sink.log().splitlines() if line.startswith("{") and "dead_letter" in line
        ]
        assert line["dead_letter"]["destination"] == dead_letters.RECEIVER
    assert query("SELECT code, sentence FROM dead_letters") == [(503, dead_letters.AWAY)]
    assert query("SELECT name FROM virtual_machines") == []
    first, second = command(url), command(url)
    assert (first.returncode, json.loads(first.stdout)["sent"]) == (0, 1), first.stderr
    assert (second.returncode, json.loads(second.stdout)["sent"]) == (0, 0)
    assert query("SELECT name FROM virtual_machines") == [(machine["metadata"]["name"],)]


def test_the_letters_of_an_outage_outlive_it(
    server: embedded_postgres.Postgres, url: str, tmp_path: pathlib.Path, query: Query
) -> None:
    """The database is away while they arrive: each is answered, and all are kept when it is back, by every worker."""
    name = psycopg2.extensions.parse_dsn(url)["dbname"]
    conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url}) as sink:
            for number in range(40):
                given = {**dead_letters.attributes(number), **dead_letters.failure()}
                body, headers = dead_letters.request(dead_letters.sample("minimal"), given)
                assert sink.request("POST", "/echo", body, headers)[0] == 204
            conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            end = time.monotonic() + 60
            while query("SELECT count(*) FROM dead_letters") != [(40,)] and time.monotonic() < end:
                time.sleep(0.1)
            assert query("SELECT count(*) FROM dead_letters") == [(40,)]
    finally:
        conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_sink_that_is_stopped_writes_what_waits(url: str, tmp_path: pathlib.Path, query: Query) -> None:
    """SIGTERM, while the table is locked by somebody else for a while."""
    other = conftest.session(url)
    with other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE")
        with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url, "WEB_CONCURRENCY": "1"}) as sink:
            body, headers = dead_letters.request(None, {**dead_letters.attributes(), **dead_letters.failure()})
            assert sink.request("POST", "/echo", body, headers)[0] == 204
            cursor.execute("COMMIT")
    other.close()
    assert query("SELECT count(*) FROM dead_letters") == [(1,)]
