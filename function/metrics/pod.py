"""What a page of metrics shows: of the receiver's pod, or of a command."""

from __future__ import annotations

from collections.abc import Iterator

import prometheus_client
from prometheus_client import exposition

from function import measures, settings
from function.metrics import counts, ledger, readings


class Pod:
    """Collects the counts of all processes and, where there is a reader of it, the ledger's values.

    version: vmledger's, if it is to be shown.
    """

    def __init__(
        self, kept: counts.Counts, *, version: str | None = None, ledger_values: readings.Readings | None = None
    ) -> None:
        self._version = version
        self._counts = kept
        self._readings = ledger_values
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[prometheus_client.Metric]:
        """Yield all metrics; the client calls this."""
        samples = [] if self._version is None else [ledger.Sample(measures.BUILD, (self._version,), 1)]
        if self._readings is not None:
            samples += self._readings.samples()
        yield from readings.families(samples)
        yield from self._counts.collect()

    def render(self) -> bytes:
        """Return the page in Prometheus' text format."""
        return exposition.generate_latest(self._registry)


def read_ledger(configuration: settings.Settings) -> readings.Readings | None:
    """Return what reads the ledger for the page; None without a database."""
    if not configuration.database.configured:
        return None
    connection = configuration.database.connection()
    return readings.Readings(ledger.Ledger(connection, configuration.ledger.cluster_name).read)
