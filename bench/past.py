"""``python -m bench.past``: how long it takes to ask for the fleet as it was, over a long history.

Measured twice: with the history of the VMs alone, and with that of their instances besides, which is asked too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import os
import pathlib
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2.extensions

from bench import bars, database, history, machine, report, servers
from bench.progress import Progress

JSON = pathlib.Path(__file__).parent / "results" / "past.json"
ROWS = 10_000_000
ROUNDS = 15
ROW_BYTES = 1200
"""Of a version: with its share of the indexes, and of what filling it in takes for a while."""
BARS = tuple(
    bars.Bar(f"{which}, {key}", f"10,000 VMs{words} as they were {key}", 150, 100, unit=" ms")
    for which, words in (("alone", ""), ("both", " and what ran"))
    for key in ("an hour ago", "a week ago", "in the middle", "at a month's begin")
)


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one moment takes, in milliseconds, and how many VMs there were.

    first: the first time. again: the median of what Postgres says of planning and running it. cpu: of the processor, at
    least. sent: the median until the client has all columns of all VMs.
    """

    rows: int
    first: float
    again: float
    cpu: float
    sent: float


def main() -> int:
    """Fill, measure, print, save."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.past", description="Measure how long it takes to ask for the fleet as it was."
    )
    parser.add_argument("--rows", type=int, default=ROWS, help=f"versions of VMs ({ROWS:,})")
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder:
        if shutil.disk_usage(folder).free < arguments.rows * ROW_BYTES:
            raise SystemExit(f"{tempfile.gettempdir()} has less than {arguments.rows * ROW_BYTES / 2**30:.0f} GiB left")
        kept = _run(pathlib.Path(folder), arguments.rows, Progress())
    report.save(kept, arguments.json, BARS)
    return 0


def _run(folder: pathlib.Path, rows: int, progress: Progress) -> dict[str, Any]:
    """Measure; return all that is kept, which is printed already."""
    filled = history.History(rows, datetime.datetime.now(datetime.UTC))
    with database.set_for(folder, database.FILLING) as url:
        servers.migrate(url)
        filled.fill_machines(url, progress)
    seconds = progress.seconds
    with database.set_for(folder, database.SERVING) as url:
        about = machine.describe(url)
        sizes = _sizes(url)
        alone = _measure(url, moments(filled), progress)
        proof = _proof(url, moments(filled)["in the middle"])
    with database.set_for(folder, database.FILLING) as url:
        filled.fill_instances(url, progress)
    with database.set_for(folder, database.SERVING) as url:
        both = _measure(url, moments(filled), progress)
    progress.say()
    timed = {"alone": alone, "both": both}
    figures = {f"{which}, {key}": timing.again for which, found in timed.items() for key, timing in found.items()}
    result = {"sizes": sizes, "fill_seconds": seconds, "proof": proof, "load_after": os.getloadavg()[0]}
    text = bars.table(figures, BARS)
    text += ["", *_lines("of the VMs alone", alone), "", *_lines("and of their instances", both)]
    text += ["", *_words(about, result)]
    print("\n".join(text))
    timings = {"alone": _plain(alone), "both": _plain(both)}
    return {"text": text, "figures": figures, "timings": timings, "machine": about, **result}


def moments(filled: history.History) -> dict[str, datetime.datetime]:
    """Return what is asked for, by what it is called.

    Early in a month most VMs have no version in it yet; late in it, pages of the index are full of versions of one VM.
    """
    middle = filled.begin + (filled.end - filled.begin) / 2
    hour, day = datetime.timedelta(hours=1), datetime.timedelta(days=1)
    return {
        "now": filled.end,
        "an hour ago": filled.end - hour,
        "a week ago": filled.end - 7 * day,
        "in the middle": middle,
        "at a month's end": middle.replace(day=1, hour=0) - hour,
        "at a month's begin": middle.replace(day=1, hour=1),
        "in the first week": filled.begin + 7 * day,
    }


def _measure(url: str, asked: Mapping[str, datetime.datetime], progress: Progress) -> dict[str, Timing]:
    """Ask for each moment, in a session as anybody's."""
    found = {}
    for name, moment in asked.items():
        progress.say(f"asking for the fleet {name}")
        with history.cursor_of(url) as cursor:
            found[name] = _ask(cursor, moment)
    return found


def _ask(cursor: psycopg2.extensions.cursor, moment: datetime.datetime) -> Timing:
    cursor.execute("SELECT pg_backend_pid()")
    [pid] = cursor.fetchone() or [0]
    began = time.perf_counter()
    cursor.execute("SELECT count(*) FROM virtual_machines_at(%s)", [moment])
    first = time.perf_counter() - began
    [rows] = cursor.fetchone() or [0]
    again, cpu, sent = [], [], []
    for _ in range(ROUNDS):
        before = _cpu(pid)
        cursor.execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT * FROM virtual_machines_at(%s)", [moment])
        cpu.append(_cpu(pid) - before)
        [[[plan]]] = cursor.fetchall()
        again.append(plan["Planning Time"] + plan["Execution Time"])
        began = time.perf_counter()
        cursor.execute("SELECT * FROM virtual_machines_at(%s)", [moment])
        sent.append((time.perf_counter() - began) * 1000)
    return Timing(rows, first * 1000, statistics.median(again), min(cpu), statistics.median(sent))


def _cpu(pid: int) -> float:
    """Return the milliseconds of the processor that a process had so far; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    return 0.0


def _proof(url: str, moment: datetime.datetime) -> dict[str, int]:
    """Return how often each part of a history was read, and how, in the plan of the function's own statement."""
    with history.cursor_of(url) as cursor:
        cursor.execute("SELECT pg_get_function_sqlbody('virtual_machines_at'::regproc)")
        [body] = cursor.fetchone() or [""]
        statement = body.strip().removeprefix("BEGIN ATOMIC").removesuffix("END").strip().removesuffix(";")
        asked = re.sub(r"\b(virtual_machines_at\.)?moment\b", f"timestamptz '{moment.isoformat()}'", statement)
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {asked}")
        [[[plan]]] = cursor.fetchall()
    reads: dict[str, int] = {}
    for node in _nodes(plan["Plan"]):
        if "_history" in node.get("Relation Name", "") and node["Actual Loops"]:
            how = f"{node['Node Type']} of {node['Relation Name']}"
            reads[how] = reads.get(how, 0) + int(node["Actual Loops"])
    if not reads or any(how.startswith("Seq Scan") for how in reads):
        raise SystemExit(f"the history is read whole: {reads}")
    return reads


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


def _sizes(url: str) -> dict[str, int]:
    """Return the versions, and the bytes of their tables and indexes."""
    with history.cursor_of(url) as cursor:
        cursor.execute(
            "SELECT sum(pg_table_size(inhrelid)), sum(pg_indexes_size(inhrelid)), (SELECT count(*) FROM vm_history)"
            " FROM pg_inherits WHERE inhparent = 'vm_history'::regclass"
        )
        table, indexes, rows = cursor.fetchone() or (0, 0, 0)
    return {"rows": int(rows), "table_bytes": int(table), "index_bytes": int(indexes)}


def _plain(timings: Mapping[str, Timing]) -> dict[str, Any]:
    return {name: dataclasses.asdict(timing) for name, timing in timings.items()}


def _lines(title: str, timings: Mapping[str, Timing]) -> list[str]:
    lines = [f"{f'ms, history {title}':32}{'VMs':>8}{'first':>9}{'again':>9}{'cpu':>9}{'sent':>9}"]
    for name, timing in timings.items():
        columns = "".join(f"{value:9.0f}" for value in (timing.first, timing.again, timing.cpu, timing.sent))
        lines.append(f"{name:32}{timing.rows:8}{columns}")
    return lines


def _words(about: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    sizes, settings = result["sizes"], about["postgres"]
    reads = ", ".join(f"{count:,} x {how}" for how, count in result["proof"].items())
    rows = f"{sizes['rows']:,} versions of {history.MACHINES:,} VMs in {history.MONTHS} months"
    table, indexes = (sizes[name] / 2**30 for name in ("table_bytes", "index_bytes"))
    machine_is = f"{about['cores']} cores ({about['processor']}), Postgres {settings['server_version']}"
    load = f"load {about['load_before']:.1f} before, {result['load_after']:.1f} after"
    return [
        f"{rows}: tables {table:.1f} GiB, indexes {indexes:.1f} GiB, filled in {result['fill_seconds']:.0f} s",
        f"in the middle: {reads}",
        f"{machine_is}, shared_buffers {settings['shared_buffers']}; {load}",
    ]


if __name__ == "__main__":
    sys.exit(main())
