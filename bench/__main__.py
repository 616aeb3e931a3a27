"""``make bench``: every figure that is demanded, from one run on one machine and one Postgres.

Prints a table of the bars, what was measured and on what; saves it as JSON; draws the throughput-latency curve.
Ratios are what counts.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

from bench import contest, curve, database, fleet, machine, measure, report
from bench.progress import Progress

HERE = pathlib.Path(__file__).parent
JSON = HERE / "results" / "latest.json"
PICTURE = HERE / "curve.png"


def main() -> int:
    """Measure, print, save, draw."""
    arguments = _parser().parse_args()
    progress = Progress()
    with (
        tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder,
        database.running(pathlib.Path(folder), progress, arguments.months) as server,
    ):
        about = machine.describe(server.url())
        large = None if arguments.months is None else server.url(database=database.LARGE)
        held = contest.Postgres(pid=server.pid, url=server.url(), large=large)
        found = measure.take(held, rounds=arguments.rounds, seconds=arguments.seconds, progress=progress)
    progress.say()
    result = report.build(found, about, progress.seconds)
    print(report.text(result))
    report.save({"text": report.text(result).splitlines(), **result}, arguments.json)
    curve.draw(found.curves, arguments.picture, f"{about['cores']} cores for server, Postgres and load generator")
    print(f"saved: {arguments.json}, {arguments.picture}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure every figure that is demanded, and draw the curve."
    )
    parser.add_argument("--seconds", type=float, default=1.8, help="how long each load takes (default: 1.8)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is taken; the median counts (default: 5)")
    parser.add_argument(
        "--months",
        type=int,
        default=fleet.MONTHS,
        help="over how many past months the large ledger's history is spread; 0: all is in this one (default: 12)",
    )
    parser.add_argument(
        "--no-fleet",
        dest="months",
        action="store_const",
        const=None,
        help="leave the large ledger out, which takes half a minute",
    )
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    parser.add_argument("--picture", type=pathlib.Path, default=PICTURE, help="the file for the curve")
    return parser


if __name__ == "__main__":
    sys.exit(main())
