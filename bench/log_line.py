"""``python -m bench.log_line N``: writes the line of N events, as a worker does; bench.instructions counts it."""

from __future__ import annotations

import collections
import logging
import logging.config
import sys
import time
from collections.abc import Callable

import gevent.monkey

from function import logs
from function.web import event_log

TOGETHER = 32
"""Lines of one turn of the loop."""


def main() -> None:
    """Write the lines."""
    gevent.monkey.patch_all()
    logging.config.dictConfig(logs.configuration("INFO"))
    due: collections.deque[Callable[[], None]] = collections.deque()
    logs.gather(due.append)
    subject = event_log.Subject("dev.knative.apiserver.resource.update", "6615238c7658f-55631391", "bench/vm-000329")
    for _ in range(int(sys.argv[1]) // TOGETHER):
        for _ in range(TOGETHER):
            event_log.handled(subject, "stored", time.perf_counter(), logging.INFO)
        while due:
            due.popleft()()


if __name__ == "__main__":
    main()
