"""Records what is measured, in files that Prometheus' client adds up.

Its own counters take 1 to 2 microseconds a value: with four values an event, a tenth of what the receiver does
altogether. Here a value is a double in a mapped file, and counting is one addition to it.
The format is that of the client's module ``mmap_dict``: a 4-byte length and 4 bytes of padding; then for each value the
length of its key, the key, padding, the value and a time. Keys are JSON.

One thread at a time may use a :class:`Recorder`, as greenlets do: they switch only where they wait. Threads share a
:class:`Shared` one.
"""

from __future__ import annotations

import bisect
import json
import math
import mmap
import pathlib
import struct
import threading
from collections.abc import Sequence

from function import measures

FILE_BYTES = 512 * 1024
"""Of one kind's values: room for 2,000. A page that is not used takes no memory; what has no room is left out."""
PREFIXES = {
    measures.Kind.COUNTER: "counter",
    measures.Kind.GAUGE: "gauge_livesum",
    measures.Kind.HISTOGRAM: "histogram",
}
"""What the names of the files begin with, by which the client knows how to add them up."""

Key = tuple[measures.Metric, tuple[str, ...]]


class File:
    """The values of one kind of one process: an array of doubles, and the place of each in it."""

    def __init__(self, path: pathlib.Path) -> None:
        with path.open("w+b") as opened:
            opened.truncate(FILE_BYTES)
            self._memory = mmap.mmap(opened.fileno(), FILE_BYTES)
        self.values = memoryview(self._memory).cast("d")
        self._used = 8

    def place(self, metric: str, name: str, labels: dict[str, str], doc: str) -> int:
        """Return the place of a new value, which is 0."""
        key = json.dumps([metric, name, labels, doc], sort_keys=True).encode()
        head = struct.pack("i", len(key)) + key
        head += b" " * (8 - len(head) % 8)
        begin, end = self._used, self._used + len(head) + 16
        if end > FILE_BYTES - 8:
            return FILE_BYTES // 8 - 1  # never read
        self._memory[begin : begin + len(head)] = head
        self._used = end
        self._memory[:4] = struct.pack("i", end)  # last: whoever reads meanwhile reads what is whole
        return end // 8 - 2


class Histogram:
    """The places of a histogram's values."""

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, sum_at: int, buckets: Sequence[int], bounds: Sequence[float]) -> None:
        self.sum = sum_at
        self.buckets = buckets
        self.bounds = bounds


class Recorder:
    """Records the values of one process; the metrics of ``source`` have their first series from the start."""

    def __init__(self, folder: pathlib.Path, pid: int, source: measures.Source) -> None:
        files = {kind: File(folder / f"{prefix}_{pid}.db") for kind, prefix in PREFIXES.items()}
        self._files = files
        self._counted = files[measures.Kind.COUNTER].values
        self._observed = files[measures.Kind.HISTOGRAM].values
        self._places: dict[Key, int] = {}
        self._histograms: dict[Key, Histogram] = {}
        for metric in measures.ALL:
            if metric.source is source:
                for labels in metric.series or ([()] if not metric.labels else []):
                    if metric.kind is measures.Kind.HISTOGRAM:
                        self._histogram(metric, labels)
                    else:
                        self._place(metric, labels)

    def add(self, metric: measures.Metric, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add to a counter."""
        place = self._places.get((metric, labels))
        self._counted[self._place(metric, labels) if place is None else place] += amount

    def observe(self, metric: measures.Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Add a value to a histogram."""
        found = self._histograms.get((metric, labels)) or self._histogram(metric, labels)
        values = self._observed
        values[found.sum] += value
        values[found.buckets[bisect.bisect_left(found.bounds, value)]] += 1

    def set(self, metric: measures.Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Set a gauge."""
        place = self._places.get((metric, labels))
        values = self._files[measures.Kind.GAUGE].values
        values[self._place(metric, labels) if place is None else place] = value

    def _place(self, metric: measures.Metric, labels: tuple[str, ...]) -> int:
        """Make a series of a counter or a gauge."""
        named = dict(zip(metric.labels, labels, strict=True))
        family = metric.name.removesuffix("_total") if metric.kind is measures.Kind.COUNTER else metric.name
        place = self._files[metric.kind].place(family, metric.name, named, metric.doc)
        return self._places.setdefault((metric, labels), place)

    def _histogram(self, metric: measures.Metric, labels: tuple[str, ...]) -> Histogram:
        """Make a series of a histogram."""
        named = dict(zip(metric.labels, labels, strict=True))
        file = self._files[measures.Kind.HISTOGRAM]
        sum_at = file.place(metric.name, f"{metric.name}_sum", named, metric.doc)
        buckets = [
            file.place(metric.name, f"{metric.name}_bucket", {**named, "le": str(float(bound))}, metric.doc)
            for bound in (*metric.buckets, math.inf)
        ]
        return self._histograms.setdefault((metric, labels), Histogram(sum_at, buckets, metric.buckets))


class Shared(Recorder):
    """A recorder for several threads."""

    def __init__(self, folder: pathlib.Path, pid: int, source: measures.Source) -> None:
        self._turn = threading.Lock()
        super().__init__(folder, pid, source)

    def add(self, metric: measures.Metric, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add to a counter."""
        with self._turn:
            super().add(metric, labels, amount)

    def observe(self, metric: measures.Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Add a value to a histogram."""
        with self._turn:
            super().observe(metric, value, labels)

    def set(self, metric: measures.Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Set a gauge."""
        with self._turn:
            super().set(metric, value, labels)
