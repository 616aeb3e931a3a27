"""``make bench-growth``: what a million VMs cost, with their instances and 20 million versions of both.

Filling takes minutes; ``--keep`` keeps what was filled in, and uses it again. ``--fill`` only fills, so that a quiet
machine can measure later.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import pathlib
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import psutil
import psycopg2.extensions

from bench import bars, database, history, instances, load, machine, measure, report, requests, servers
from bench.progress import Progress
from function import settings
from function.inventory import prune

JSON = pathlib.Path(__file__).parent / "results" / "growth.json"
MACHINES = 1_000_000
VERSIONS, INSTANCE_VERSIONS = 14, 6
"""Of each VM, and of each instance: 20 million in all."""
SMALL = 1000
FULL = "filled-in.json"
"""The file in the kept folder that says what was filled in, and what was measured then."""
ROW_BYTES = 1200
PLANNED = {"shared_buffers": "8GB", "max_wal_size": "64GB", "checkpoint_timeout": "30min"}
"""The settings of the server that both ledgers are on: what docs/scale.md plans for a ledger of a million VMs."""
ASKED = 15
ROUNDS = 5
SECONDS = 2.0
CONNECTIONS = 64
APART = 100_000
LONG_AGO = datetime.timedelta(days=180)
KEPT, REDUNDANT = datetime.timedelta(days=400), datetime.timedelta(days=30)

BARS = (
    bars.Bar("objects", "whole objects a second / with 1,000 VMs", 0.85, 0.95, is_least=True),
    bars.Bar("instances", "instance events a second / with 1,000 VMs", 0.85, 0.95, is_least=True),
    bars.Bar("machine", "one VM as it was 180 days ago", 100, 20, unit=" ms"),
    bars.Bar("namespace", "a namespace of 200 VMs as it was 180 days ago", 500, 100, unit=" ms"),
    bars.Bar("changes", "the changes of one VM", 100, 20, unit=" ms"),
    bars.Bar("prune", "a prune with nothing to do", 5000, 1000, unit=" ms"),
)
TABLES = {
    "machine": ("vm_state", "vm_state"),
    "instance": ("vm_runtime", "vm_runtime"),
    "machine version": ("vm_history", "vm_history%"),
    "instance version": ("vm_runtime_history", "vm_runtime_history%"),
}
"""What is counted, and the tables that it takes room in."""


def main() -> int:
    """Fill, measure, print, save."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="Measure what very many VMs cost.")
    parser.add_argument("--machines", type=int, default=MACHINES, help=f"how many ({MACHINES:,})")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder that keeps what is filled in, and is used again")
    parser.add_argument("--fill", action="store_true", help="only fill the folder of --keep; measure another time")
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    arguments = parser.parse_args()
    if arguments.fill and arguments.keep is None:
        parser.error("--fill needs --keep: the folder that is measured later")
    filled = history.History(
        arguments.machines * VERSIONS,
        datetime.datetime.now(datetime.UTC),
        machines=arguments.machines,
        instance_versions=INSTANCE_VERSIONS,
    )
    with database.folder(arguments.keep) as folder:
        if arguments.fill:
            _fill(folder, filled, Progress())
            return 0
        report.save(_run(folder, filled, Progress()), arguments.json, BARS)
    return 0


def _run(folder: pathlib.Path, filled: history.History, progress: Progress) -> dict[str, Any]:
    """Measure; return all that is kept, which is printed already."""
    began = _fill(folder, filled, progress)
    with database.running(folder, progress, settings=PLANNED) as server:
        about = machine.describe(server.url())
        url = server.url(database=database.LARGE)
        servers.migrate(url)
        figures = _past(url, progress)
        _prune(url, progress)  # what came since it was filled, where it was kept
        figures["prune"] = _prune(url, progress) * 1000
        rates = _rates({"large": url, "small": server.url()}, filled, progress)
    progress.say()
    for name in ("objects", "instances"):
        figures[name] = measure.ratio(rates, f"{name} large", f"{name} small")
    text = [*bars.table(figures, BARS), "", *_lines(filled, began, rates, about)]
    print("\n".join(text))
    return {"text": text, "figures": figures, **began, "machine": about, "seconds": progress.seconds}


def _fill(folder: pathlib.Path, filled: history.History, progress: Progress) -> dict[str, Any]:
    """Fill the large database, unless the folder has it; return what was measured then.

    That is how many rows there are of each table and how large they are, and how long the first prune took.
    """
    mark = folder / FULL
    if mark.exists():
        began: dict[str, Any] = json.loads(mark.read_text())
        if began["machines"] != filled.machines:
            raise SystemExit(f"{folder} has {began['machines']} VMs: give another folder to --keep")
        return began
    rows = filled.machines * (VERSIONS + INSTANCE_VERSIONS)
    if shutil.disk_usage(folder).free < rows * ROW_BYTES:
        raise SystemExit(f"{folder} has less than {rows * ROW_BYTES / 2**30:.0f} GiB left")
    print(f"filling in {filled.machines:,} VMs and {rows:,} versions: a million takes a quarter of an hour", flush=True)
    with database.set_for(folder, database.FILLING) as url:
        large = database.create(url, database.LARGE)
        servers.migrate(large)
        filled.fill_machines(large, progress)
        filled.fill_instances(large, progress)
        with history.cursor_of(large) as cursor:  # a prune would compute each day of the past once
            cursor.execute("UPDATE fleet_days_looked SET looked_until = now()")
        began = {"machines": filled.machines, "sizes": _sizes(large)}
        began["first_prune_seconds"] = _prune(large, progress)
    mark.write_text(json.dumps(began))
    return began


def _sizes(url: str) -> dict[str, dict[str, float]]:
    """Return how many there are of each, and the bytes that one takes on disk, with its share of the indexes."""
    sizes = {}
    with history.cursor_of(url) as cursor:
        for name, (table, tables) in TABLES.items():
            cursor.execute(
                f"SELECT (SELECT count(*) FROM {table}), sum(pg_total_relation_size(oid)) FROM pg_class"
                " WHERE relkind = 'r' AND relname LIKE %s"
                " AND (%s <> 'vm_history' OR relname NOT LIKE 'vm_runtime%%')",
                [tables, table],
            )
            count, size = cursor.fetchone() or (1, 0)
            sizes[name] = {"count": int(count), "bytes": float(size) / max(int(count), 1)}
    return sizes


def _past(url: str, progress: Progress) -> dict[str, float]:
    """Ask for the past of one VM and of one namespace, in a session as anybody's; in milliseconds."""
    where = "cluster = 'east' AND namespace = 'team-1'"
    at = f"virtual_machines_at(now() - interval '{LONG_AGO.days} days')"
    asked = {
        "machine": f"{at} WHERE {where} AND name = 'vm-000001'",
        "namespace": f"{at} WHERE {where}",
        "changes": f"vm_changes WHERE {where} AND name = 'vm-000001'",
    }
    found = {}
    for name, rows in asked.items():
        progress.say(f"asking for the past: {name}")
        with history.cursor_of(url) as cursor:
            found[name] = statistics.median(_ask(cursor, rows) for _ in range(ASKED)) * 1000
    return found


def _ask(cursor: psycopg2.extensions.cursor, rows: str) -> float:
    began = time.perf_counter()
    cursor.execute(f"SELECT * FROM {rows}")
    if not cursor.fetchall():
        raise SystemExit(f"there is nothing: {rows}")
    return time.perf_counter() - began


def _prune(url: str, progress: Progress) -> float:
    """Prune; return the seconds that it took."""
    progress.say("pruning")
    began = time.perf_counter()
    prune.run(settings.Settings.from_env({"DATABASE_URL": url}), KEPT, REDUNDANT)
    return time.perf_counter() - began


def _rates(urls: Mapping[str, str], filled: history.History, progress: Progress) -> measure.Rounds:
    """Load a pod over each database in turns, with events of its VMs."""
    found: dict[str, list[load.Result]] = {}
    with contextlib.ExitStack() as stack:
        pods = {
            name: stack.enter_context(servers.served(servers.vmledger(url, CLUSTER_NAME="east")))
            for name, url in urls.items()
        }
        loads = {}
        for kind, events in (("objects", requests.objects), ("instances", instances.updates)):
            for name, pod in pods.items():  # one after the other, so that a slow moment meets both
                machines = filled.machines if name == "large" else SMALL
                loads[f"{kind} {name}"] = (pod, _of(events(machines, prefix="vm"), machines))
        start = APART
        for number in range(ROUNDS + 1):
            for name, (pod, render) in loads.items():
                progress.say(f"round {number} of {ROUNDS}: {name}")
                result = load.run(pod.port, render, connections=CONNECTIONS, seconds=SECONDS, start=start)
                if not result.is_good:
                    raise SystemExit(f"{name}: not every event was acknowledged: {result.statuses}")
                found.setdefault(name, []).append(result)
                start += APART
    return {name: results[1:] for name, results in found.items()}  # in the first round the caches are cold


def _of(render: requests.Whole, machines: int) -> load.Render:
    """Requests about the VMs that were filled in: in their namespaces, with their uids."""
    namespaces = max(1, machines // history.IN_NAMESPACE)

    def rendered(number: int) -> bytes:
        one = number * requests.STRIDE % machines
        uid = hashlib.md5(b"machine %d" % one, usedforsecurity=False).hexdigest().encode()
        request = render(number).replace(requests.NAMESPACE.encode(), b"team-%d" % (one % namespaces))
        return _sized(request.replace(requests.UID.encode(), uid))

    return rendered


def _sized(request: bytes) -> bytes:
    """Return a request with the length that its body has."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def _lines(
    filled: history.History, began: Mapping[str, Any], rates: measure.Rounds, about: Mapping[str, Any]
) -> list[str]:
    lines = [f"{'bytes on disk, with the share of the indexes':56}{'number':>14}{'bytes':>9}"]
    for name, size in began["sizes"].items():
        lines.append(f"a row of {TABLES[name][0]:47}{size['count']:14,}{size['bytes']:9.0f}")
    lines += ["", f"{'64 requests at once':56}{'events/s':>14}"]
    for name, results in rates.items():
        lines.append(f"{name:56}{statistics.median(result.rate for result in results):14.0f}")
    host = f"{about['cores']} cores ({about['processor']}), {about['memory_gib']} GiB"
    load = f"load before {about['load_before']:.1f}, {psutil.getloadavg()[0]:.1f} after"
    return [
        *lines,
        "",
        f"the first prune, which looks at all: {began['first_prune_seconds']:.0f} s",
        f"{filled.machines:,} VMs in {filled.namespaces:,} namespaces, over {history.MONTHS} months",
        f"Postgres as docs/scale.md plans it: {', '.join(f'{name} {value}' for name, value in PLANNED.items())}",
        f"{host}, Postgres {about['postgres']['server_version']}; {load}",
    ]


if __name__ == "__main__":
    sys.exit(main())
