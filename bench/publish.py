"""``python -m bench.publish``: how far `publish` is behind 500 changes a second, and what following costs an event.

The cost is measured in turns, on databases that differ only in what the migration 0014 adds to an insert: the id of the
transaction and its index.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import psutil
import psycopg2

from bench import machine
from dev import embedded_postgres
from function import events, migrate, settings
from function.clients import postgres
from function.inventory.mapping import versions, vm
from function.inventory.storage import store
from tests import machines, publishing

RESULTS = pathlib.Path(__file__).parent / "results" / "publish.json"
RATE = 500
SECONDS = 20
MACHINES = 2000
BATCH = 25
ROUNDS = 3
EVENTS = 10_000
WITHOUT = """
ALTER TABLE vm_history ALTER COLUMN recorded_xid DROP DEFAULT;
DROP INDEX vm_history_xids;
"""


def main() -> int:
    """Measure, print, and keep what was printed."""
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder:
        server = embedded_postgres.Postgres(pathlib.Path(folder))
        server.start()
        try:
            text = [*_follow(server), *_cost(server), _machine(server.url())]
        finally:
            server.stop()
    print("\n".join(text))
    RESULTS.write_text(json.dumps({"text": text}, indent=1) + "\n")
    return 0


def _machine(url: str) -> str:
    found = machine.describe(url)
    load = f"load {found['load_before']:.1f} after"
    return f"{found['cores']} cores ({found['processor']}), Postgres {_run(url, 'SHOW server_version')[0][0]}; {load}"


def _migrated(server: embedded_postgres.Postgres, name: str) -> str:
    _run(server.url(), f"CREATE DATABASE {name}")
    url = server.url(database=name)
    migrate.run(settings.Settings.from_env({"DATABASE_URL": url}))
    return url


def _run(url: str, sql: str) -> list[tuple[float]]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def _change(number: int) -> versions.Change:
    given = machines.vm(f"vm-{number % MACHINES:05}", cores=1 + number, uid=f"uid-{number % MACHINES}")
    given["metadata"]["resourceVersion"] = str(1000 + number)
    attributes = {"id": str(number), "type": "dev.knative.apiserver.resource.update", "source": "s"}
    now = datetime.datetime.now(datetime.UTC)
    return vm.change(events.Event({**attributes, "specversion": "1.0", "time": now}, given), cluster_name="east")


def _follow(server: embedded_postgres.Postgres) -> list[str]:
    """Store so many changes a second, and return how long after its commit each was received."""
    url = _migrated(server, "follow")
    received: dict[int, float] = {}
    lock = threading.Lock()

    def answer(event: publishing.Json, _times: int) -> publishing.Answer:
        with lock:
            received.setdefault(event["data"]["resource_version"] - 1000, time.monotonic())
        return publishing.TAKEN

    committed: dict[int, float] = {}
    with publishing.sinking(answer) as sink, contextlib.closing(postgres.Database({"dsn": url}, timeout=30)) as db:
        before = datetime.datetime.now(datetime.UTC)
        command = [sys.executable, "-m", "function", "publish", "--from", "now"]
        environ = {**os.environ, "DATABASE_URL": url, "K_SINK": sink.url}
        process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        try:
            publishing.wait_for_start(url, before)
            tables, begin = store.Store(db), time.monotonic()
            for first in range(0, RATE * SECONDS, BATCH):
                time.sleep(max(0.0, begin + first / RATE - time.monotonic()))
                tables.write([_change(first + number) for number in range(BATCH)])
                committed |= dict.fromkeys(range(first, first + BATCH), time.monotonic())
            spent = time.monotonic() - begin
            while len(received) < len(committed) and time.monotonic() < begin + 5 * SECONDS:
                time.sleep(0.1)
            cpu = sum(psutil.Process(process.pid).cpu_times()[:2])
        finally:
            process.terminate()
            process.wait()
    lags = sorted(received[number] - at for number, at in committed.items() if number in received)
    return [
        f"{len(committed)} changes at {len(committed) / spent:.0f} a second, {len(lags)} received",
        f"behind: p50 {lags[len(lags) // 2]:.2f} s, p99 {lags[len(lags) * 99 // 100]:.2f} s, most {lags[-1]:.2f} s",
        f"CPU of publish for a change: {cpu / len(lags) * 1e6:.0f} µs, its start included",
    ]


def _cost(server: embedded_postgres.Postgres) -> list[str]:
    """Append whole objects with and without, in turns; return CPU of Postgres and write-ahead log for an event."""
    found: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
    for turn in range(ROUNDS):
        for way, figures in found.items():
            url = _migrated(server, f"cost_{way}_{turn}")
            if way == "without":
                _run(url, WITHOUT)
            figures.append(_appended(url))
    text = []
    for way, figures in found.items():
        cpu, wal = (statistics.median(each) for each in zip(*figures, strict=True))
        text.append(f"an event {way:8} CPU of Postgres {cpu:6.1f} µs, write-ahead log {wal:7.1f} bytes")
    return text


def _appended(url: str) -> tuple[float, float]:
    with contextlib.closing(postgres.Database({"dsn": url}, timeout=30)) as db:
        tables = store.Store(db)
        batches = [[_change(first + number) for number in range(BATCH)] for first in range(0, EVENTS, BATCH)]
        tables.write(batches[0])
        _run(url, "CHECKPOINT")
        ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'vmledger' AND datname = current_database()"
        backend = psutil.Process(int(_run(url, ours)[0][0]))
        written = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8"
        log, cpu = _run(url, written)[0][0], sum(backend.cpu_times()[:2])
        for batch in batches[1:]:
            tables.write(batch)
        count = EVENTS - BATCH
        return (
            (sum(backend.cpu_times()[:2]) - cpu) / count * 1e6,
            (_run(url, written)[0][0] - log) / count,
        )


if __name__ == "__main__":
    sys.exit(main())
