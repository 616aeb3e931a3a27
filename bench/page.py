"""``python -m bench.page``: how fast the page answers over a large ledger, and what that costs the receiver beside it.

First a receiver is loaded with and without the indexes that the page reads by: what they cost each event.
Then it is loaded at half of its highest load. Meanwhile one person asks for views, one after the other with a pause;
each view with other words each time. Then the same load runs without anybody who asks.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import random
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import psycopg2

from bench import bars, database, fleet, history, indexes, load, machine, report, requests, servers
from bench.progress import Progress
from function import settings
from function.inventory import days

JSON = pathlib.Path(__file__).parent / "results" / "page.json"
MONTHS = 12
CONNECTIONS = 64
LOADED = 1000
"""VMs that the events are about."""
FULL = "filled-in.json"
"""The file in the kept folder that says what was filled in."""
INDEX_SECONDS = 5
PAUSE = 0.2
"""Seconds between a person's questions."""
BARS = (
    bars.Bar("views", "95 in 100 views are there within", 150, unit=" ms"),
    bars.Bar("searches", "95 in 100 searches are there within", 300, unit=" ms"),
    bars.Bar("receiver", "the receiver's p99 with the page / without", 2),
)
VARYING = {
    **fleet.VARYING,
    "cluster": "'cluster-' || number %% 8",
    "namespace": "'team-' || number %% 250",
    "name": "(ARRAY['web', 'db', 'cache', 'batch', 'api', 'mail', 'build'])[1 + number %% 7] || '-' || machines.name",
    "uid": "'uid-' || number",
    "spec_vcpus": "1 + number %% 16",
    "vcpus": "1 + (number + version) %% 16",
    "spec_memory_bytes": "(1 + number %% 64) * 1073741824::bigint",
    "memory_bytes": "(1 + (number + version) %% 64) * 1073741824::bigint",
    "disk_bytes": "(20 + number %% 400) * 1073741824::bigint",
    "instancetype": "(ARRAY['u1.small', 'u1.medium', 'u1.large', 'm1.2xlarge', 'cx1.xlarge'])[1 + number %% 5]",
    "status": "(ARRAY['Running', 'Running', 'Running', 'Running', 'Stopped', 'Paused', 'Migrating'])[1 + number %% 7]",
    "phase": "CASE WHEN number %% 7 = 4 THEN 'Gone' ELSE 'Running' END",
    "node": "'node-' || number %% 400",
    "guest_os": "(ARRAY['Fedora Linux 41', 'Red Hat Enterprise Linux 9.4', 'Windows Server 2022'])[1 + number %% 3]",
    "ip_addresses": "ARRAY['10.' || number / 65536 || '.' || number / 256 %% 256 || '.' || number %% 256]",
    "deleted_at": "CASE WHEN number %% 97 = 0 AND version %% 10 = 5 THEN at END",
    **dict.fromkeys(
        ("time", "version_time", "effective_at", "recorded_at", "updated_at"),
        "at + %(step)s * (number / %(machines)s::double precision)",
    ),
    "labels": "jsonb_build_object('app', 'app-' || number %% 40, 'team', 'team-' || number %% 250, 'env', 'prod')",
}
"""A fleet of 8 clusters, 250 namespaces and 400 nodes; of each hundredth VM, each tenth version is a delete.

Changes are spread over all of the time, as in life: not all VMs change in the same tenth of a second.
"""
DAYS = """
    WITH days AS (
        SELECT day::date FROM generate_series(current_date - 365, current_date, interval '1 day') AS day
    ), filled AS (
        INSERT INTO fleet_days_filled SELECT day, now() FROM days
    ), parts AS MATERIALIZED (
        SELECT cluster, namespace, guest_os, count(*), count(*) FILTER (WHERE phase = 'Running') AS running,
               sum(vcpus) AS vcpus, sum(memory_bytes) AS memory, sum(disk_bytes) AS disk
        FROM virtual_machines
        GROUP BY 1, 2, 3
    )
    INSERT INTO fleet_days SELECT days.day, parts.* FROM days CROSS JOIN parts
"""
Address = Callable[[random.Random], str]


def main() -> int:
    """Fill, measure, print, save."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description="Measure the page beside a receiver.")
    parser.add_argument("--machines", type=int, default=fleet.MACHINES, help=f"VMs ({fleet.MACHINES:,})")
    parser.add_argument("--versions", type=int, default=fleet.VERSIONS, help=f"versions of each ({fleet.VERSIONS})")
    parser.add_argument("--seconds", type=float, default=60, help="of each measurement (60)")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder that keeps what is filled in, and is used again")
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    arguments = parser.parse_args()
    size = fleet.Size(arguments.machines, arguments.versions, VARYING)
    with database.folder(arguments.keep) as folder:
        kept = _run(folder, size, arguments.seconds)
    report.save(kept, arguments.json, BARS)
    return 0


def _run(folder: pathlib.Path, size: fleet.Size, seconds: float) -> dict[str, Any]:
    progress = Progress()
    _fill(folder, size, progress)
    with database.set_for(folder, database.SERVING) as url:
        servers.migrate(url)
        days.fill(settings.Settings.from_env({"DATABASE_URL": url}), seconds=0)  # today's numbers, as a reconcile does
        about = machine.describe(url)
        found = _measure(url, addresses(url, size), seconds, progress)
    progress.say()
    text = [*bars.table(found["figures"], BARS), "", *_lines(found), "", *_words(about, size, found)]
    print("\n".join(text))
    return {"text": text, **found, "machine": about, "machines": size.machines, "versions": size.versions}


def _fill(folder: pathlib.Path, size: fleet.Size, progress: Progress) -> None:
    """Fill the ledger, unless the folder has it."""
    mark = folder / FULL
    filled = {"machines": size.machines, "versions": size.versions, "varying": dict(size.varying)}
    if mark.exists():
        if json.loads(mark.read_text()) != filled:
            raise SystemExit(f"{folder} was filled in otherwise: give another folder to --keep")
        return
    with database.set_for(folder, fleet.SETTINGS) as url:
        progress.say(f"filling in {size.machines:,} VMs with {size.machines * size.versions:,} rows of history")
        servers.migrate(url)
        fleet.fill(url, MONTHS, size)
        progress.say("filling in the days of a year")
        _fill_days(url)
    mark.write_text(json.dumps(filled))


def _fill_days(url: str) -> None:
    """Fill the days of the last year as if the fleet had been as large on each; a prune would compute each for minutes.

    The year ends today, whenever the events were, because that is the year that the page shows.
    """
    with history.cursor_of(url) as cursor:
        cursor.execute("TRUNCATE fleet_days, fleet_days_filled")  # the migration computed today's
        cursor.execute(DAYS)
        cursor.execute("UPDATE fleet_days_looked SET looked_until = now()")
        cursor.execute("VACUUM (ANALYZE) fleet_days")


def addresses(url: str, size: fleet.Size) -> dict[str, Address]:
    """Return how the address of each view is made, by its name; those that begin with "search" and "past" are apart."""
    end = datetime.datetime.fromtimestamp(requests.BEGAN // 1_000_000, datetime.UTC)
    vms = _some_vms(url)

    def past(chance: random.Random) -> str:
        return f"{end - datetime.timedelta(days=chance.uniform(1, 300)):%Y-%m-%dT%H:%M:%S}"

    return {
        "fleet": lambda _: "/",
        "fleet, a cluster": lambda chance: f"/?cluster=cluster-{chance.randrange(8)}",
        "fleet, a namespace": lambda chance: f"/?namespace=team-{chance.randrange(250)}",
        "fleet, a status and an OS": lambda chance: (
            f"/?status=Paused&guest_os=Fedora+Linux+41&node=node-{chance.randrange(400)}"
        ),
        "fleet, by memory": lambda _: "/?sort=-memory",
        "fleet, by name": lambda _: "/?sort=name",
        "fleet, a deep page": lambda chance: "/?" + urllib.parse.urlencode({"after": _key(chance.choice(vms))}),
        "a VM": lambda chance: "/vm/" + "/".join(chance.choice(vms)),
        "changes": lambda _: "/changes",
        "capacity": lambda chance: f"/capacity?by={chance.choice(('cluster', 'namespace', 'guest_os'))}",
        "health": lambda _: "/health",
        "search, a name": lambda chance: f"/?q=web-vm-{chance.randrange(size.machines):06}",
        "search, a part of names": lambda chance: f"/?q={chance.randrange(1000):03}",
        "search, a label": lambda chance: f"/?q=label:app%3Dapp-{chance.randrange(40)}",
        "past, fleet": lambda chance: f"/?at={past(chance)}",
        "past, a VM": lambda chance: "/vm/" + "/".join(chance.choice(vms)) + f"?at={past(chance)}",
    }


def _some_vms(url: str) -> list[tuple[str, str, str]]:
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT cluster, namespace, name FROM vm_state TABLESAMPLE SYSTEM (10) LIMIT 5000")
        found: list[tuple[str, str, str]] = cursor.fetchall()
    connection.close()
    return found or [("cluster-0", "team-0", "web-vm-000000")]


def _key(vm: tuple[str, str, str]) -> str:
    return '["",0,"{}","{}","{}"]'.format(*vm)


class Person:
    """Asks for the views in turns until told to stop. seconds: of each answer, by view; wrong: answers not 200."""

    def __init__(self, port: int, views: Mapping[str, Address]) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in views}
        self.wrong: dict[str, int] = {}
        self._port = port
        self._views = views
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Person:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        chance = random.Random(5)
        while not self._over.is_set():
            for name, address in self._views.items():
                began = time.perf_counter()
                try:
                    url = f"http://127.0.0.1:{self._port}{address(chance)}"
                    with urllib.request.urlopen(url, timeout=30) as reply:
                        reply.read()
                    self.seconds[name].append(time.perf_counter() - began)
                except OSError:
                    self.wrong[name] = self.wrong.get(name, 0) + 1
                if self._over.wait(PAUSE):
                    return


def _measure(url: str, views: Mapping[str, Address], seconds: float, progress: Progress) -> dict[str, Any]:
    page = servers.Command(
        ["env", "PAGE_PORT={port}", sys.executable, "-m", "function", "page"],
        {"DATABASE_URL": url, "LOG_LEVEL": "WARNING"},
    )
    render = requests.flat(LOADED, step=None)
    with servers.served(servers.vmledger(url)) as receiver, servers.served(page) as asked:
        progress.say("the receiver's highest load")
        highest = load.run(receiver.port, render, connections=CONNECTIONS, seconds=5)
        rate = highest.rate / 2
        start = highest.numbers.stop

        def half(seconds: float) -> load.Result:
            nonlocal start
            found = load.run(receiver.port, render, connections=CONNECTIONS, seconds=seconds, rate=rate, start=start)
            start = found.numbers.stop
            return found

        progress.say("half of it, with and without the page's indexes")
        costs = indexes.measure(url, receiver, lambda: half(INDEX_SECONDS))
        progress.say("half of it, without the page")
        without = half(seconds)
        progress.say("and with a person who asks")
        with Person(asked.port, views) as person:
            beside = half(seconds)
    return {**_found(person, rate, without, beside), "indexes": costs}


def _found(person: Person, rate: float, without: load.Result, beside: load.Result) -> dict[str, Any]:
    groups: dict[str, list[float]] = {"views": [], "searches": [], "past": []}
    for name, times in person.seconds.items():
        group = "searches" if name.startswith("search") else "past" if name.startswith("past") else "views"
        groups[group] += times
    return {
        "figures": {
            "views": _percentile(groups["views"], 95),
            "searches": _percentile(groups["searches"], 95),
            "receiver": beside.percentile(99) / without.percentile(99),
        },
        "rate": rate,
        "p99_ms": {"without": without.percentile(99) * 1000, "beside": beside.percentile(99) * 1000},
        "views": {
            name: {"asked": len(times), "p50_ms": _percentile(times, 50), "p95_ms": _percentile(times, 95)}
            for name, times in person.seconds.items()
            if times
        },
        "wrong": person.wrong,
        "load_after": os.getloadavg()[0],
    }


def _percentile(times: list[float], percent: float) -> float:
    """Return a percentile, in milliseconds."""
    ordered = sorted(times) or [0.0]
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [f"{'milliseconds':30}{'asked':>8}{'p50':>8}{'p95':>8}"]
    lines += [
        f"{name:30}{each['asked']:>8}{each['p50_ms']:>8.0f}{each['p95_ms']:>8.0f}"
        for name, each in found["views"].items()
    ]
    return lines + [f"{name}: {count} answers were not 200" for name, count in found["wrong"].items()]


def _words(about: Mapping[str, Any], size: fleet.Size, found: Mapping[str, Any]) -> list[str]:
    p99, paid = found["p99_ms"], found["indexes"]
    return [
        f"{size.machines:,} VMs, {size.machines * size.versions:,} rows of history over {MONTHS} months",
        f"the receiver takes {found['rate']:.0f} events a second, half of its highest load",
        f"its p99 is {p99['without']:.1f} ms without the page, and {p99['beside']:.1f} ms with it",
        (
            f"an event takes {paid['with']:.1f} µs of Postgres with the page's indexes, {paid['without']:.1f} without:"
            f" {paid['ratio']:.2f} times"
        ),
        f"{about['cores']} cores ({about['processor']}), Postgres {about['postgres']['server_version']}",
        "the load generator and the person are on the same machine",
        f"the machine's load before it began was {about['load_before']:.1f}, and {found['load_after']:.1f} at the end",
    ]


if __name__ == "__main__":
    sys.exit(main())
