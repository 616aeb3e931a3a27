"""The ledger's values as a scrape gets them: read seldom, and never waited for long.

A reading runs in a thread of its own, because a server that stops answering, or a resolver, may hold it for longer than
a scrape waits.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import prometheus_client.core

from function import errors, measures
from function.metrics import ledger

log = logging.getLogger(__name__)

KEPT_SECONDS = 15.0
"""How long a reading is shown."""
WAIT_SECONDS = 3.0
"""How long a scrape waits for one; then the database counts as away."""
FORK_SECONDS = 1.0
"""How long a fork waits for a reading, which may hold a lock of OpenSSL that the new process would never get."""
AWAY = (ledger.Sample(measures.DATABASE_UP, (), 0),)

_FAMILIES: dict[measures.Kind, Any] = {
    measures.Kind.COUNTER: prometheus_client.core.CounterMetricFamily,
    measures.Kind.GAUGE: prometheus_client.core.GaugeMetricFamily,
}


class Readings:
    """Reads the ledger when it is scraped; read: returns the ledger's values, or raises an error of ours."""

    def __init__(
        self, read: Callable[[], Sequence[ledger.Sample]], *, kept: float = KEPT_SECONDS, wait: float = WAIT_SECONDS
    ) -> None:
        self._read = read
        self._kept = kept
        self._wait = wait
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._held_for_fork = False
        self._began = float("-inf")
        self._done = threading.Event()
        self._done.set()
        self._samples: Sequence[ledger.Sample] = AWAY

    def samples(self) -> Sequence[ledger.Sample]:
        """Return the last values, after a new reading where they are too old; it raises nothing."""
        with self._lock:
            if self._done.is_set() and time.monotonic() - self._began >= self._kept:
                self._began = time.monotonic()
                self._done.clear()
                try:
                    threading.Thread(target=self._run, daemon=True, name="metrics-ledger").start()
                except RuntimeError:  # no thread can be started now
                    self._done.set()
                    return AWAY
        return self._samples if self._done.wait(self._wait) else AWAY

    def pause_at_forks(self) -> None:
        """Let no process be forked in the middle of a reading, from now on."""
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork)

    def _run(self) -> None:
        try:
            with self._reading:
                self._samples = self._read()
        except errors.VmledgerError as exc:
            self._samples = AWAY
            log.warning("the ledger cannot be read for the metrics: %s", exc, extra={"action": "metrics.database"})
        except Exception:
            self._samples = AWAY
            log.exception(errors.UNEXPECTED, extra={"action": "metrics.database"})
        finally:
            self._done.set()

    def _before_fork(self) -> None:
        self._held_for_fork = self._reading.acquire(timeout=FORK_SECONDS)

    def _after_fork(self) -> None:
        if self._held_for_fork:
            self._reading.release()


def families(samples: Iterable[ledger.Sample]) -> list[prometheus_client.Metric]:
    """Return values as the client shows them, by metric."""
    found: dict[measures.Metric, Any] = {}
    for metric, labels, value in samples:
        if metric not in found:
            found[metric] = _FAMILIES[metric.kind](metric.name, metric.doc, labels=metric.labels)
        found[metric].add_metric(labels, value)
    return list(found.values())
