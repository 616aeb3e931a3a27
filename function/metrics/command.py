"""Metrics of a command that runs on, such as ``publish``: one process, which shows its own values and no other's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from function import measures, settings


@contextlib.contextmanager
def served(part: settings.Metrics, source: measures.Source) -> Iterator[None]:
    """Measure and serve ``/metrics`` on METRICS_PORT while the block runs; do nothing where it is not set.

    source: whose metrics have their first series from the start.
    Raises :class:`errors.BadSetting` where the port is taken, or the folder of the counts cannot be used.
    """
    if part.port is None:
        yield
        return
    from function.metrics import counts, page, pod, recorder

    listener = page.listening(part.port)
    kept = counts.opened(part)
    shown = page.Page(listener, pod.Pod(kept).render)
    measures.use(recorder.Shared(kept.folder, os.getpid(), source))
    shown.start()
    try:
        yield
    finally:
        measures.use(None)
        shown.close()
        kept.remove()
