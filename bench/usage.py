"""``python -m bench.usage``: how long it takes to count the hours of a fleet over a month.

The history is that of bench.past, of fewer versions: each VM that changes has some thirty in a month, and its instance
fourteen. Nearly each version differs from the one before it, which no real fleet does.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from bench import bars, database, history, machine, report, servers
from bench.progress import Progress

JSON = pathlib.Path(__file__).parent / "results" / "usage.json"
ROWS = 2_000_000
ROUNDS = 7
BARS = (bars.Bar("a month", "the hours of 10,000 VMs over a month", 2000, unit=" ms"),)

Span = tuple[datetime.datetime, datetime.datetime]


def main() -> int:
    """Fill, measure, print, save."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.usage", description="Measure how long it takes to count hours."
    )
    parser.add_argument("--rows", type=int, default=ROWS, help=f"versions of VMs ({ROWS:,})")
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder:
        kept = _run(pathlib.Path(folder), arguments.rows, Progress())
    report.save(kept, arguments.json, BARS)
    return 0


def _run(folder: pathlib.Path, rows: int, progress: Progress) -> dict[str, Any]:
    """Measure; return all that is kept, which is printed already."""
    filled = history.History(rows, datetime.datetime.now(datetime.UTC))
    with database.set_for(folder, database.FILLING) as url:
        servers.migrate(url)
        filled.fill_machines(url, progress)
        filled.fill_instances(url, progress)
    with database.set_for(folder, database.SERVING) as url:
        about = machine.describe(url)
        timings = {name: _ask(url, name, span, progress) for name, span in spans(filled).items()}
    progress.say()
    figures = {name: timing["again"] for name, timing in timings.items()}
    text = [*bars.table(figures, BARS), "", *_lines(timings), "", *_words(about, filled)]
    print("\n".join(text))
    return {"text": text, "figures": figures, "timings": timings, "machine": about}


def spans(filled: history.History) -> dict[str, Span]:
    """Return the spans of which the hours are counted, by what they are called."""
    middle = (filled.begin + (filled.end - filled.begin) / 2).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return {
        "a month": (middle, (middle + datetime.timedelta(days=31)).replace(day=1)),
        "the last 30 days": (filled.end - datetime.timedelta(days=30), filled.end),
        "a day": (middle, middle + datetime.timedelta(days=1)),
        "all": (filled.begin, filled.end),
    }


def _ask(url: str, name: str, span: Span, progress: Progress) -> dict[str, float]:
    """Ask for all columns of all VMs, in a session as anybody's; milliseconds until the client has them."""
    taken = []
    with history.cursor_of(url) as cursor:
        for _ in range(ROUNDS):
            progress.say(f"counting the hours of {name}")
            began = time.perf_counter()
            cursor.execute("SELECT * FROM vm_usage(%s, %s)", span)
            rows = len(cursor.fetchall())
            taken.append((time.perf_counter() - began) * 1000)
    return {"rows": rows, "first": taken[0], "again": statistics.median(taken)}


def _lines(timings: dict[str, dict[str, float]]) -> list[str]:
    lines = [f"{'ms, until the client has all':32}{'VMs':>8}{'first':>9}{'again':>9}"]
    return lines + [
        f"{name:32}{each['rows']:8}{each['first']:9.0f}{each['again']:9.0f}" for name, each in timings.items()
    ]


def _words(about: dict[str, Any], filled: history.History) -> list[str]:
    versions = f"{filled.versions} versions of each VM that changes, {history.INSTANCE_VERSIONS} of its instance"
    machine_is = f"{about['cores']} cores ({about['processor']}), Postgres {about['postgres']['server_version']}"
    load = f"load {about['load_before']:.1f} before, {os.getloadavg()[0]:.1f} after"
    return [f"{filled.machines:,} VMs, {versions}, in {history.MONTHS} months", f"{machine_is}; {load}"]


if __name__ == "__main__":
    sys.exit(main())
