"""What is measured of events at the HTTP edge: by type and outcome, and how long they took."""

from __future__ import annotations

import time
from collections.abc import Sequence

from function import measures, turns
from function.web import event_log, routing

_TYPES = {known: known for known in (*routing.TYPES, *routing.NAMED)}
"""Only types that vmledger handles become values of a label: a sender can invent any number of others."""


def handled(
    to: measures.Recorder, subjects: Sequence[event_log.Subject], outcomes: Sequence[str], started: float
) -> None:
    """Measure events that were answered 204; started: when, by ``time.perf_counter``."""
    seconds = time.perf_counter() - started
    for each, outcome in zip(turns.shared(subjects), outcomes, strict=True):
        kind = type_of(each)
        to.add(measures.EVENTS, (kind, outcome))
        to.observe(measures.EVENT_SECONDS, seconds, (kind,))


def failed(to: measures.Recorder, subjects: Sequence[event_log.Subject], status: int, started: float) -> None:
    """Measure events that were refused or put off; what could not be read counts as one."""
    seconds = time.perf_counter() - started
    outcome = "deferred" if status in event_log.RETRIED else "refused"
    kinds = [type_of(each) for each in turns.shared(subjects)] or [measures.OTHER_TYPE]
    for kind in kinds:
        to.add(measures.EVENTS, (kind, outcome))
        to.observe(measures.EVENT_SECONDS, seconds, (kind,))


def type_of(each: event_log.Subject) -> str:
    """Return the event's type as the value of a label."""
    known = _TYPES.get(each.type)
    if known is not None:
        return known
    prefixed = (f"{prefix}*" for prefix in routing.PREFIXES if each.type.startswith(prefix))
    return next(prefixed, measures.OTHER_TYPE)
