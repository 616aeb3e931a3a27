"""Capacity: VMs, vCPUs, memory and disk over time, by cluster, namespace or guest OS; from ``fleet_days``."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from function.page import areas, database, views

RANGES = {"30d": (30, 1), "90d": (90, 1), "1y": (365, 7)}
"""How many days each goes back, and how many days are between two that are shown: a year is shown by weeks."""
WORDS = {"30d": "30 days", "90d": "90 days", "1y": "a year, by weeks"}
BY = {"cluster": "cluster", "namespace": "namespace", "guest_os": "guest OS"}
NAMES = frozenset({*BY, "by", "show", "range"})
MEASURES = {"vms": "VMs", "running": "running", "vcpus": "vCPUs", "memory": "memory", "disk": "disk"}
SIZES = frozenset({"memory", "disk"})
MOST_PARTS = 7
"""Parts that are told apart; all others are one."""
FRESH = datetime.timedelta(minutes=15)
"""How old today's numbers may be; each reconcile computes them, every 10 minutes. Older ones are counted anew."""
ALL_PARTS = 2**31 - 1
Filled = dict[datetime.date, datetime.datetime]
"""The days that were computed, each with when."""
Row = dict[str, Any]
NEXT = {"cluster": "namespace", "namespace": "guest_os", "guest_os": "cluster"}
"""What a part is divided by when it is looked at alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked for: the parts, the measure, the days, and values of the filters."""

    by: str
    show: str
    range: str
    last: datetime.date
    only: Mapping[str, str]

    @classmethod
    def parsed(cls, request: views.Request) -> Asked:
        """Read the query string; raise :class:`errors.BadQuestion`."""
        asked = request.query
        at = request.at or datetime.datetime.now(datetime.UTC)
        return cls(
            by=asked.choice("by", tuple(BY), "cluster"),
            show=asked.choice("show", tuple(MEASURES), "vms"),
            range=asked.choice("range", tuple(RANGES), "30d"),
            last=min(at, datetime.datetime.now(datetime.UTC)).date(),
            only={name: value for name in BY if (value := asked.one(name))},
        )

    def days(self) -> list[datetime.date]:
        """Return the days that are shown, the oldest first."""
        back, step = RANGES[self.range]
        return [self.last - datetime.timedelta(days=ago) for ago in range(back - back % step, -1, -step)]


def answer(request: views.Request) -> Mapping[str, Any]:
    """Return the chart, and its numbers as a table."""
    asked = Asked.parsed(request)
    filled, rows = request.reader.read(lambda cursor: _read(cursor, asked, most=MOST_PARTS))
    table = areas.Table.of(filled, rows)
    totals = table.totals(tuple(MEASURES))
    chart = areas.chart(table, asked.show, step=RANGES[asked.range][1], is_size=asked.show in SIZES)
    return {
        "asked": asked,
        "table": table,
        "chart": chart,
        "latest": totals[-1] if totals else None,
        "totals": totals,
        "links": _links(request, asked, table.parts),
        "measures": MEASURES,
        "by": BY,
        "ranges": WORDS,
        "sizes": SIZES,
    }


def listing(request: views.Request) -> views.Listing:
    """Return the sums of each day that is shown, for each part and not only the largest ones."""
    asked = Asked.parsed(request)
    _, found = request.reader.read(lambda cursor: _read(cursor, asked, most=ALL_PARTS))
    rows = [{**row, **{name: _whole(row[name]) for name in MEASURES}, asked.by: row["part"]} for row in found]
    return views.Listing(columns=("day", asked.by, *MEASURES), portions=[rows])


def _whole(number: Any) -> int | None:
    """Return a sum as Postgres gives it, which may be a Decimal, as an integer."""
    return None if number is None else int(number)


def _read(cursor: database.Cursor, asked: Asked, *, most: int) -> tuple[Filled, list[Row]]:
    """Return the days that are known, and the sums of them."""
    days = asked.days()
    known = database.SQL.run(cursor, "days_filled", {"first": days[0], "last": days[-1]})
    filled = {day: at for day, at in known if day in set(days)}
    now = datetime.datetime.now(datetime.UTC)
    today = now.date()
    live = asked.last == today and (today not in filled or filled[today] < now - FRESH)
    kept = [day for day in filled if not (live and day == today)]
    only = {name: asked.only.get(name) for name in BY}
    parameters = {"part": asked.by, "measure": asked.show, "most": most, "days": kept, **only}
    rows = database.dicts(cursor, "capacity_by", {**parameters, "live": today if live else None})
    return (filled | {today: now} if live else filled), rows


def _links(request: views.Request, asked: Asked, parts: Sequence[areas.Part]) -> dict[int, str]:
    """Return the question that shows each part alone, divided by what comes next."""
    found = {}
    for number, part in enumerate(parts):
        if part.value is not None and asked.by not in asked.only:
            found[number] = str(request.query.but(**{"by": NEXT[asked.by], asked.by: part.value}))
    return found


VIEW = views.View(name="capacity", rule="/capacity", title="Capacity", answer=answer, names=NAMES, listing=listing)
