"""``python -m bench.lists``: how long the export of 100,000 VMs takes, and how much memory.

Everything is known of each VM, and each has a label of its own, so the inventory has a group for each.
The command runs as a person runs it, into a file; what it wrote is counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from bench import bars, database, report, servers
from bench.progress import Progress
from tests import fleet

JSON = pathlib.Path(__file__).parent / "results" / "lists.json"
MACHINES = 100_000
LISTS = {
    "ledger, csv": "fleet.csv",
    "ledger, json": "fleet.json",
    "rvtools, csv": "vinfo.csv",
    "rvtools, xlsx": "vinfo.xlsx",
    "ansible, json": "inventory.json",
}
"""The layout and format of each list, and its file."""
BARS = (
    bars.Bar("csv", "100,000 VMs as csv", 4, unit=" s"),
    bars.Bar("memory", "the most memory of an export", 60, unit=" MB"),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What one export took; memory and the size of its file in MB."""

    seconds: float
    memory: float
    size: float


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="python -m bench.lists", description="Measure the export of 100,000 VMs.")
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    arguments = parser.parse_args()
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as name:
        folder = pathlib.Path(name)
        with database.running(folder, progress) as server:
            progress.say(f"storing {MACHINES:,} VMs")
            fleet.fill(server.url(), MACHINES)
            runs = {says: _run(says, folder / file, server.url(), progress) for says, file in LISTS.items()}
    progress.say()
    figures = {"csv": runs["ledger, csv"].seconds, "memory": max(run.memory for run in runs.values())}
    text = [*bars.table(figures, BARS), "", *_lines(runs)]
    print("\n".join(text))
    kept = {"text": text, "figures": figures, "runs": {says: dataclasses.asdict(run) for says, run in runs.items()}}
    report.save(kept, arguments.json, BARS)
    return 0


def _run(says: str, file: pathlib.Path, url: str, progress: Progress) -> Run:
    """Run the command; return what it took."""
    progress.say(f"export: {says}")
    arguments = ["export", "--layout", says.partition(",")[0], "--output", str(file)]
    environ = {**os.environ, "DATABASE_URL": url}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", fleet.MEASURED, *arguments],
        env=environ,
        cwd=servers.ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"the exit code was {done.returncode}: {done.stderr}")
    if file.suffix == ".csv" and file.read_bytes().count(b"\n") != MACHINES + 1:
        raise SystemExit("the list does not have a line for each VM")
    return Run(seconds, int(done.stderr.split()[-1]) / 1e6, file.stat().st_size / 1e6)


def _lines(runs: dict[str, Run]) -> list[str]:
    lines = [f"{'layout, format':30}{'seconds':>9}{'MB of memory':>14}{'MB of file':>12}"]
    return [
        *lines,
        *(f"{says:30}{run.seconds:9.1f}{run.memory:14.0f}{run.size:12.1f}" for says, run in runs.items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
