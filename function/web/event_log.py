"""The log line of each event: what became of it, and never what it held."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Sequence

import msgspec

from function import events, logs

log = logging.getLogger(__name__)

RETRIED = (408, 503)
"""Of the statuses that are answered to an event, those after which Knative sends it again."""

_NAMES = {level: logging.getLevelName(level) for level in (logging.DEBUG, logging.INFO)}


class Subject(msgspec.Struct, frozen=True):
    """What a log line says of an event; object: namespace and name of what it is about, where it says that."""

    type: str
    id: str
    object: str | None


def subject(event: events.Event) -> Subject:
    """Return what is to be said of an event later, when its data is gone."""
    name = event.name
    return Subject(event.type, event.id, f"{event.namespace or ''}/{name}" if name else None)


class _Handled(logs.Line, kw_only=True, omit_defaults=True):
    """The line of an event that was answered 204."""

    action: str
    type: str
    object: str | None = None
    id: str
    status: int
    ms: float


def handled(each: Subject, outcome: str, started: float, level: int) -> None:
    """Log an event that was answered 204; started: when, by ``time.perf_counter``."""
    if log.isEnabledFor(level):
        line = _Handled(
            time=datetime.datetime.now(datetime.UTC),
            level=_NAMES[level],
            message=outcome,
            action="event.handled",
            type=each.type,
            object=each.object,
            id=each.id,
            status=204,
            ms=_ms(started),
        )
        logs.tell(log, level, line)


def failed(subjects: Sequence[Subject], status: int, sentence: str, started: float | None = None) -> None:
    """Log a request that was refused or put off."""
    first = subjects[0] if len(subjects) == 1 else None
    log.warning(
        sentence,
        extra={
            "action": "event.deferred" if status in RETRIED else "event.refused",
            "type": first.type if first else None,
            "object": first.object if first else None,
            "id": first.id if first else None,
            "status": status,
            "ms": None if started is None else _ms(started),
        },
    )


def _ms(started: float) -> float:
    return int((time.perf_counter() - started) * 10_000 + 0.5) / 10  # round() takes ten times as long
