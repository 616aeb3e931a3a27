"""The metrics under gunicorn: its master serves ``/metrics`` for all its workers; ``gunicorn.conf.py`` names the hooks.

The port is never the events': a scrape of that one would pass Knative's queue-proxy and count as traffic.
It is bound before a worker is forked, so that a port that is taken stops the start. A worker inherits the socket and
closes it: one that outlived the master would keep the port from the next one.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from function import errors, measures, settings
from function.metrics import counts, page, recorder

if TYPE_CHECKING:
    from function.metrics import pod

log = logging.getLogger(__name__)


class Master:
    """The hooks, in the order in which gunicorn calls them; version: vmledger's."""

    def __init__(self, configuration: settings.Settings, version: str) -> None:
        self._version = version
        self._configuration = configuration
        self._listener: socket.socket | None = None
        self._counts: counts.Counts | None = None
        self._page: page.Page | None = None
        self._pod: pod.Pod | None = None

    def on_starting(self, _: object) -> None:
        """Bind the port and empty the folder; load the client."""
        from function.metrics import pod

        part = self._configuration.metrics
        try:
            self._counts = counts.opened(part)
            self._listener = page.listening(part.port or 0)
        except errors.BadSetting as exc:
            sys.exit(f"vmledger: {exc}")
        values = pod.read_ledger(self._configuration)
        if values is not None:
            values.pause_at_forks()
        self._pod = pod.Pod(self._counts, version=self._version, ledger_values=values)

    def when_ready(self, _: object) -> None:
        """Serve."""
        if self._listener is not None and self._pod is not None:
            self._page = page.Page(self._listener, self._pod.render)
            self._page.start()
            port = self._configuration.metrics.port
            log.info("metrics are served on port %d", port, extra={"action": "metrics.served"})

    def post_fork(self, _: object, __: object) -> None:
        """In a worker: leave the port to the master, and count."""
        if self._listener is not None:
            self._listener.close()
        if self._counts is not None:
            measures.use(recorder.Recorder(self._counts.folder, os.getpid(), measures.Source.RECEIVER))

    def child_exit(self, _: object, worker: Any) -> None:
        """Keep the counts of a worker that has died; whatever fails here must not end the master."""
        try:
            if self._counts is not None:
                self._counts.bury(worker.pid)
        except Exception:
            log.exception("the counts of a worker cannot be kept", extra={"action": "metrics.failed"})

    def on_exit(self, _: object) -> None:
        """Close the port, and leave nothing behind."""
        if self._page is not None:
            self._page.close()
        if self._counts is not None:
            self._counts.remove()


_masters: dict[int | None, Master] = {}
"""The hooks by METRICS_PORT; what else is configured changes at the start, which names the folder of the counts."""


def master(configuration: settings.Settings, version: str) -> Master:
    """Return the hooks: the same ones when gunicorn reads its configuration again, at SIGHUP."""
    return _masters.setdefault(configuration.metrics.port, Master(configuration, version))
