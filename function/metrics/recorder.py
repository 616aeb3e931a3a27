"""Records what is measured with Prometheus' client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import prometheus_client

from function import measures

_MAKERS: dict[measures.Kind, Callable[..., Any]] = {
    measures.Kind.COUNTER: prometheus_client.Counter,
    measures.Kind.GAUGE: prometheus_client.Gauge,
    measures.Kind.HISTOGRAM: prometheus_client.Histogram,
}


class Recorder:
    """Records into a registry; the metrics of ``source`` have their first series from the start.

    A series is found by the metric and its labels at once: the client's own look-up takes as long as the counting.
    """

    def __init__(self, registry: prometheus_client.CollectorRegistry, source: measures.Source) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._families: dict[measures.Metric, Any] = {}
        self._series: dict[tuple[measures.Metric, tuple[str, ...]], Any] = {}
        for metric in measures.ALL:
            if metric.source is source:
                for labels in metric.series or ([()] if not metric.labels else []):
                    self._made(metric, labels)

    def add(self, metric: measures.Metric, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add to a counter."""
        (self._series.get((metric, labels)) or self._made(metric, labels)).inc(amount)

    def observe(self, metric: measures.Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Add a value to a histogram."""
        (self._series.get((metric, labels)) or self._made(metric, labels)).observe(value)

    def set(self, metric: measures.Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Set a gauge."""
        (self._series.get((metric, labels)) or self._made(metric, labels)).set(value)

    def _made(self, metric: measures.Metric, labels: tuple[str, ...]) -> Any:
        """Return the series of a metric that has these labels; make it where it is not there yet."""
        with self._lock:
            if metric not in self._families:
                self._families[metric] = self._family(metric)
            family = self._families[metric]
            return self._series.setdefault((metric, labels), family.labels(*labels) if metric.labels else family)

    def _family(self, metric: measures.Metric) -> Any:
        options: dict[str, Any] = {}
        if metric.kind is measures.Kind.GAUGE:
            options["multiprocess_mode"] = "livesum"
        if metric.kind is measures.Kind.HISTOGRAM:
            options["buckets"] = metric.buckets
        return _MAKERS[metric.kind](metric.name, metric.doc, metric.labels, registry=self._registry, **options)
