"""How many Events about one HPA its controller can have sent; pure.

client-go lets a controller send 25 Events about one object at once, and then one in 300 seconds (tools/record,
events_cache.go: EventSourceObjectSpamFilter with defaultSpamBurst and defaultSpamQPS). So between any two times that
are s seconds apart there are at most 25 + s / 300 of them. What is more was not sent by the controller.

The times are those of the occurrences, which arrive in any order, so all of them are looked at and not only the last.
The statement claim_notice in sql/claims.sql does the same in Postgres; a test holds the two alike.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

BURST = 25
REFILL = datetime.timedelta(seconds=300)
LATEST = datetime.timedelta(hours=1)
"""How late an Event may arrive and still count by its own time. Kubernetes keeps one for an hour."""

_TICK = datetime.timedelta(microseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def counted_at(occurred_at: datetime.datetime, now: datetime.datetime) -> datetime.datetime:
    """Return the time by which an occurrence counts.

    Its own, where it is within the last hour. Any other counts as now: whoever makes up times gains nothing by it.
    """
    return occurred_at if now - LATEST <= occurred_at <= now else now


def fits(others: Iterable[datetime.datetime], at: datetime.datetime) -> bool:
    """Return whether one more occurrence, at the time ``at``, can be true beside ``others``.

    From a first to a last of them there are rank(last) - rank(first) + 1. So rank - time / 300 may differ by at most 24
    between any first up to ``at`` and any last from ``at`` on, and the two extremes answer for all of them.
    """
    times = sorted((*others, at))
    levels = [(time, rank * (REFILL // _TICK) - (time - _EPOCH) // _TICK) for rank, time in enumerate(times)]
    highest = max(level for time, level in levels if time >= at)
    lowest = min(level for time, level in levels if time <= at)
    return highest - lowest <= (BURST - 1) * (REFILL // _TICK)
