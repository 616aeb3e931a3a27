"""The metrics of a pod of the receiver: what gunicorn's master shows for all its workers."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import prometheus_client
from prometheus_client import exposition

from function import measures, settings
from function.metrics import counts, ledger, readings


class Pod:
    """Collects the workers' counts and, where there is a database, the ledger's values; version: vmledger's."""

    def __init__(self, configuration: settings.Settings, kept: counts.Counts, *, version: str) -> None:
        self._version = version
        self._counts = kept
        self.readings = None
        if configuration.database.configured:
            connection = configuration.database.connection()
            own = configuration.ledger.cluster_name
            self.readings = readings.Readings(functools.partial(ledger.read, connection, own))
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[prometheus_client.Metric]:
        """Yield all metrics; the client calls this."""
        samples = [ledger.Sample(measures.BUILD, (self._version,), 1)]
        if self.readings is not None:
            samples += self.readings.samples()
        yield from readings.families(samples)
        yield from self._counts.collect()

    def render(self) -> bytes:
        """Return the page in Prometheus' text format."""
        return exposition.generate_latest(self._registry)
