"""Metrics of a command that runs on, such as ``publish``: one process, which shows its own values and no other's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from function import errors, measures, settings


@contextlib.contextmanager
def served(part: settings.Metrics, source: measures.Source) -> Iterator[None]:
    """Measure and serve ``/metrics`` on METRICS_PORT while the block runs; do nothing where it is not set.

    source: whose metrics have their first series from the start.
    Raises :class:`errors.BadSetting` where the port is taken.
    """
    if part.port is None:
        yield
        return
    import prometheus_client
    from prometheus_client import exposition

    from function.metrics import page, recorder

    try:
        listener = page.listening(part.port)
    except OSError as exc:
        raise errors.BadSetting("METRICS_PORT", f"cannot be listened on: {exc.strerror}") from None
    registry = prometheus_client.CollectorRegistry()
    shown = page.Page(listener, functools.partial(exposition.generate_latest, registry))
    measures.use(recorder.Recorder(registry, source))
    shown.start()
    try:
        yield
    finally:
        measures.use(None)
        shown.close()
