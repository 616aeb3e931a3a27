"""What is printed and kept of a run."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench import bars, contest, cost, load, measure, servers

NAMES = {
    "bare": "bare Flask, our worker",
    "stock": "bare Flask, gunicorn's own worker",
    "least": "Flask that stores each event's id",
    "flat": "vmledger, flat events",
    "shown": "vmledger, flat events with a token",
    "callers": "vmledger, flat events, token verified",
    "fleet": "vmledger, flat events, large ledger",
    "objects": "vmledger, whole objects",
    "instances": "vmledger, instances",
    "mix": "vmledger, the mix",
    "late": "vmledger, late flat events",
    "published": "published way, flat events",
    "others": "vmledger, other Events",
    "bare others": "bare Flask, other Events",
}


def build(found: measure.Measured, about: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return all figures, as they are saved."""
    return {
        "figures": _figures(found),
        "loads": _loads(found.rounds),
        "costs": {name: _cost(each) for name, each in found.costs.items()},
        "steady": {"rate": found.rate, **_loads(found.steady)},
        "curves": {name: [dataclasses.asdict(point) for point in points] for name, points in found.curves.items()},
        "starts": {name: statistics.median(each) for name, each in found.starts.items()},
        "memory_events": found.memory_events,
        "verified": found.verified,
        "history_bytes": found.history_bytes,
        "machine": about,
        "seconds": seconds,
    }


def _figures(found: measure.Measured) -> dict[str, float]:
    """Return what the bars are for, by their keys."""
    figures = {
        "published": measure.ratio(found.rounds, "flat", "published"),
        "bare": measure.ratio(found.rounds, "flat", "bare"),
        "stock": measure.ratio(found.rounds, "flat", "stock"),
        "instances Postgres": measure.ratio_of_postgres(found.costs, "instances", "flat"),
        "callers": measure.ratio(found.rounds, "callers", "shown"),
        **{name: measure.ratio(found.rounds, name, "flat") for name in ("objects", "instances", "mix", "late")},
        "p99": measure.ratio_of_p99(found.steady, "flat", "bare"),
        "connections": found.connections,
        "memory": found.memory,
        "start": statistics.median(found.starts["flat"]) / statistics.median(found.starts["bare"]),
        "others": measure.ratio(found.rounds, "others", "bare others"),
    }
    if "fleet" in found.rounds:
        figures["fleet"] = measure.ratio(found.rounds, "fleet", "flat")
    return figures


def _loads(rounds: Mapping[str, Sequence[load.Result]]) -> dict[str, dict[str, float]]:
    """Return the median over the rounds of what each load gave."""
    return {
        name: {
            "events_per_second": statistics.median(result.rate for result in results),
            "p50_ms": statistics.median(result.percentile(50) for result in results) * 1000,
            "p99_ms": statistics.median(result.percentile(99) for result in results) * 1000,
        }
        for name, results in rounds.items()
    }


def _cost(found: Sequence[cost.Cost]) -> dict[str, float]:
    """Return the median over the rounds of what an event cost."""
    return {
        "pod_microseconds": statistics.median(each.pod for each in found) * 1e6,
        "postgres_microseconds": statistics.median(each.postgres for each in found) * 1e6,
        "wal_bytes": statistics.median(each.wal for each in found),
    }


def text(report: Mapping[str, Any]) -> str:
    """Return the report for people."""
    lines = bars.table(report["figures"])
    title = f"{measure.CONNECTIONS} requests at once; for an event"
    lines += [
        "",
        f"{title:38}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'pod us':>9}{'Postgres us':>13}{'WAL bytes':>11}",
    ]
    for name, found in report["loads"].items():
        used = report["costs"][name]
        costs = f"{used['pod_microseconds']:9.0f}{used['postgres_microseconds']:13.0f}{used['wal_bytes']:11.0f}"
        lines.append(f"{NAMES[name]:38}{_row(found['events_per_second'], found['p50_ms'], found['p99_ms'])}{costs}")
    steady = report["steady"]
    lines += ["", f"at {steady['rate']:.0f} events a second".ljust(38) + f"{'':>10}{'p50 ms':>9}{'p99 ms':>9}"]
    for name in measure.STEADY:
        lines.append(f"{NAMES[name]:38}{'':10}{steady[name]['p50_ms']:9.1f}{steady[name]['p99_ms']:9.1f}")
    lines += ["", f"{'requests at once':38}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}"]
    for name, points in report["curves"].items():
        for point in points:
            title = f"{NAMES[name]}, {point['connections']}"
            lines.append(f"{title:38}{_row(point['rate'], point['p50'] * 1000, point['p99'] * 1000)}")
    return "\n".join([*lines, "", *_notes(report)])


def _row(rate: float, p50: float, p99: float) -> str:
    return f"{rate:10.0f}{p50:9.1f}{p99:9.1f}"


def _notes(report: Mapping[str, Any]) -> list[str]:
    machine, starts = report["machine"], report["starts"]
    events = report["memory_events"]
    hours = events / measure.HOUR_OF_EVENTS
    settings = ", ".join(f"{name} {value}" for name, value in machine["postgres"].items())
    host = f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, Python {machine['python']}"
    size = report["history_bytes"]
    return [
        *([] if size is None else [f"a row of history takes {size:.0f} bytes on disk, with its share of the indexes"]),
        "the mix: 40 % instances, 40 % VMs, 10 % late or double, 10 % deletes and re-creations",
        f"start to the first 204, compiled: {starts['flat']:.2f} s; bare Flask {starts['bare']:.2f} s",
        f"memory: after {events:,} events, {hours:.1f} hours of 100,000 VMs with 20 events a day each",
        f"each of {report['verified']:,} acknowledged events was found in the database",
        f"{host}; {servers.WORKERS} workers; {contest.MACHINES} VMs where nothing else is said",
        f"on the same machine the load generator, and Postgres with {settings}",
        f"the machine's load before it began was {machine['load_before']:.1f}; it took {report['seconds']:.0f} seconds",
    ]


def save(report: Mapping[str, Any], path: pathlib.Path, demanded: Sequence[bars.Bar] = bars.BARS) -> None:
    """Write the report as JSON; its figures besides with what is demanded of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = {"when": when, **report, "bars": bars.rows(report["figures"], demanded)}
    path.write_text(json.dumps(kept, indent=1) + "\n")
