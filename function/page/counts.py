"""How many VMs a filter leaves, by facet, and their sums: counted again as often as it costs little.

To count 100,000 VMs takes a tenth of a second of the database, on each page that shows them. So what took long is
repeated for a while: counting takes a two-hundredth of the time at most, and a small fleet is counted each time.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

SHARE = 200
"""For so many times as long as it took, a count is repeated."""
MOST_SECONDS = 30.0
WORTH_SECONDS = 0.03
"""What takes less than this is counted each time."""
MOST_KEPT = 64


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of a facet, and how many VMs have it; ``""`` is for what is unknown."""

    value: str
    machines: int


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a filter leaves. values: by facet, the most frequent first. kinds: how many values a facet has in all."""

    machines: int
    running: int
    vcpus: int
    memory_bytes: int
    disk_bytes: int
    values: Mapping[str, tuple[Value, ...]]
    kinds: Mapping[str, int]
    age: float = 0.0
    """Seconds since it was counted."""


def of_machines(rows: Sequence[Mapping[str, Any]], facets: Sequence[str], most: int) -> Counts:
    """Return the counts of VMs that are all at hand, as ``count_fleet`` would."""
    values: dict[str, tuple[Value, ...]] = {}
    kinds: dict[str, int] = {}
    for facet in facets if rows else ():
        found = collections.Counter(row[facet] or "" for row in rows)
        ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        values[facet] = tuple(Value(*item) for item in ordered[:most])
        kinds[facet] = len(found)
    sums = {name: sum(row[name] or 0 for row in rows) for name in ("vcpus", "memory_bytes", "disk_bytes")}
    running = sum((row["phase"] or row["status"]) == "Running" for row in rows)
    return Counts(machines=len(rows), running=running, values=values, kinds=kinds, **sums)


def of_rows(rows: list[dict[str, Any]]) -> Counts:
    """Return the counts that the rows of ``count_fleet`` say."""
    [total] = [row for row in rows if row["facet"] is None]
    values: dict[str, list[Value]] = {}
    kinds: dict[str, int] = {}
    for row in rows:
        if row["facet"] is not None:
            values.setdefault(row["facet"], []).append(Value(row["value"], row["machines"]))
            kinds[row["facet"]] = row["kinds"]
    sums = {name: int(total[name] or 0) for name in ("vcpus", "memory_bytes", "disk_bytes")}
    found = {facet: tuple(each) for facet, each in values.items()}
    return Counts(machines=total["machines"], running=total["running"], values=found, kinds=kinds, **sums)


class Kept:
    """The counts of the filters that were asked for last."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._kept: collections.OrderedDict[Hashable, tuple[float, float, Counts]] = collections.OrderedDict()

    def get(self, key: Hashable, count: Callable[[], Counts]) -> Counts:
        """Return the counts of a filter: those that are kept, or what ``count`` returns."""
        now = time.monotonic()
        with self._turn:
            counted_at, until, found = self._kept.get(key, (now, now, None))
        if found is not None and now < until:
            return dataclasses.replace(found, age=now - counted_at)
        found = count()
        took = time.monotonic() - now
        if took >= WORTH_SECONDS:
            with self._turn:
                self._kept[key] = (now, now + took + min(SHARE * took, MOST_SECONDS), found)
                self._kept.move_to_end(key)
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
        return found
