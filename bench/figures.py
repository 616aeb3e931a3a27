"""``python -m bench.figures``: writes the figures of the benchmarks' files into the documents that show them.

No figure in a document is typed. A document has a block between two marks, and what stands there is what this module
makes of a file under ``bench/results``; a test holds the documents to it.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"

Kept = Mapping[str, Any]


def main() -> int:
    """Write every block anew."""
    for page, name in BLOCKS:
        path = ROOT / page
        path.write_text(filled(path.read_text(), name, block(page, name)))
        print(f"{page}: {name}")
    return 0


def block(page: str, name: str) -> str:
    """Return what must stand between the marks of a block."""
    file, make = BLOCKS[page, name]
    return make(json.loads((RESULTS / file).read_text()))


def filled(text: str, name: str, content: str) -> str:
    """Return a page with a block filled; raise ValueError where the page has no such block."""
    begin, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
    if text.count(begin) != 1:
        raise ValueError(f"there is no block {name}")
    before, _, rest = text.partition(begin)
    return before + begin + content + end + rest.partition(end)[2]


def shown(text: str, name: str) -> str | None:
    """Return what stands between the marks of a block; None where the page has no such block."""
    found = re.search(rf"<!-- figures: {re.escape(name)} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    return found[1] if found else None


def _printed(kept: Kept) -> str:
    """All that the benchmark printed."""
    return "```\n" + "\n".join(kept["text"]) + "\n```\n"


def _three(kept: Kept) -> str:
    """The three ratios that a newcomer wants."""
    rows = {row["key"]: row for row in kept["bars"]}
    lines = [f"{rows[key]['says']:52}{rows[key]['measured']:>6.2f}" for key in ("published", "objects", "fleet")]
    return "```\n" + "\n".join(lines) + "\n```\n"


def _planning(kept: Kept) -> str:
    """The figures that a plan begins with."""
    costs, loads = kept["costs"], kept["loads"]
    alone = next(point for point in kept["curves"]["flat"] if point["connections"] == 1)
    rows = [
        ("CPU of a pod for a whole object", f"{costs['objects']['pod_microseconds']:.0f} µs"),
        ("CPU of a pod for a flat event", f"{costs['flat']['pod_microseconds']:.0f} µs"),
        ("CPU of a pod for an event that is not for it", f"{costs['others']['pod_microseconds']:.0f} µs"),
        ("CPU of Postgres for a whole object", f"{costs['objects']['postgres_microseconds']:.0f} µs"),
        *(
            (
                f"CPU of {whose} for an event of {what}",
                f"{costs[name][f'{whose.split()[-1].lower()}_microseconds']:.0f} µs",
            )
            for name, what in (("instances", "an instance"), ("mix", "the mix"))
            for whose in ("a pod", "Postgres")
            if name in costs
        ),
        ("write-ahead log for a whole object", f"{costs['objects']['wal_bytes'] / 1000:.1f} kB"),
        ("write-ahead log for a flat event, 100,000 VMs", f"{costs['fleet']['wal_bytes'] / 1000:.1f} kB"),
        ("a row of history on disk, with its share of the indexes", f"{kept['history_bytes'] / 1000:.1f} kB"),
        ("whole objects a second of a pod that shares two cores", f"{loads['objects']['events_per_second']:.0f}"),
        ("flat events a second with one request at a time", f"{alone['rate']:.0f}"),
        ("memory of a pod with two workers", f"{kept['figures']['memory']:.0f} MiB"),
    ]
    return "| figure | measured |\n|---|---|\n" + "".join(f"| {what} | {value} |\n" for what, value in rows)


def _growth(kept: Kept) -> str:
    """What each VM and each version takes."""
    sizes = {name: size["bytes"] for name, size in kept["sizes"].items()}
    alive, version = sizes["machine"] + sizes["instance"], (sizes["machine version"], sizes["instance version"])
    rows = [
        ("a VM that is alive, and its instance", alive),
        ("a VM that is gone, with its last version and its instance's", alive + sum(version)),
        ("a version of a VM", version[0]),
        ("a version of an instance", version[1]),
    ]
    return "| | bytes |\n|---|---|\n" + "".join(f"| {what} | {size:.0f} |\n" for what, size in rows)


BLOCKS: dict[tuple[str, str], tuple[str, Callable[[Kept], str]]] = {
    ("README.md", "three ratios"): ("latest.json", _three),
    ("docs/performance.md", "make bench"): ("latest.json", _printed),
    ("docs/performance.md", "make bench-reconcile"): ("reconcile.json", _printed),
    ("docs/past.md", "python -m bench.past"): ("past.json", _printed),
    ("docs/follow.md", "python -m bench.publish"): ("publish.json", _printed),
    ("docs/metrics.md", "python -m bench.metrics"): ("metrics.json", _printed),
    ("docs/usage.md", "python -m bench.usage"): ("usage.json", _printed),
    ("docs/export.md", "python -m bench.lists"): ("lists.json", _printed),
    ("docs/page.md", "python -m bench.page"): ("page.json", _printed),
    ("docs/performance.md", "make bench-growth"): ("growth.json", _printed),
    ("docs/performance.md", "python -m bench.instructions"): ("instructions.json", _printed),
    ("docs/scale.md", "planning"): ("latest.json", _planning),
    ("docs/scale.md", "make bench-growth"): ("growth.json", _growth),
    ("docs/operations.md", "planning"): ("latest.json", _planning),
}
"""By page and name of the block: the file, and what makes the block of it."""


if __name__ == "__main__":
    sys.exit(main())
