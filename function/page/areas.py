"""Sums by day and part become a table, and a chart of areas one on top of the other; pure."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from function.page import charts, wording

HEIGHT = 300
PLOT = 800
"""How wide the areas are; the names of the parts are to the right of them."""
LINE = 17
"""Between two names."""
REST, UNKNOWN = "all others", "unknown"


@dataclasses.dataclass(frozen=True)
class Part:
    """What is told apart; without a value it is unknown, or it is all others."""

    value: str | None
    is_rest: bool = False

    @property
    def name(self) -> str:
        """What people call it."""
        return REST if self.is_rest else UNKNOWN if self.value is None else self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Sums of days by part. days: each with when it was computed, oldest first. parts: the largest first."""

    days: Mapping[datetime.date, datetime.datetime]
    parts: Sequence[Part]
    cells: Mapping[tuple[datetime.date, Part], Mapping[str, Any]]

    @classmethod
    def of(cls, days: Mapping[datetime.date, datetime.datetime], rows: Iterable[Mapping[str, Any]]) -> Table:
        """Make a table of the rows of ``capacity_by``."""
        cells = {(row["day"], Part(row["part"], row["is_rest"])): row for row in rows}
        weight: dict[Part, int] = {}
        for (_, part), row in cells.items():
            weight[part] = weight.get(part, 0) + row["vms"]
        parts = sorted(weight, key=lambda part: (part.is_rest, -weight[part], part.name))
        return cls(days=dict(sorted(days.items())), parts=parts, cells=cells)

    def value(self, day: datetime.date, part: Part, measure: str) -> int | None:
        """Return a sum; 0 where the part had no VM, None where it had some and the sum is not known."""
        row = self.cells.get((day, part))
        return 0 if row is None else None if row[measure] is None else int(row[measure])

    def total(self, day: datetime.date, measure: str) -> int | None:
        """Return the sum of all parts of a day; None where some VMs are there and nothing of them is known."""
        known = [value for part in self.parts if (value := self.value(day, part, measure)) is not None]
        return sum(known) if known or not self.parts else None

    def totals(self, measures: Sequence[str]) -> list[dict[str, Any]]:
        """Return the sums of each day, oldest first."""
        return [{"day": day, **{name: self.total(day, name) for name in measures}} for day in self.days]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Area:
    """A part in the chart: its paths, one for each run of days without a gap, and where its name stands."""

    number: int
    part: Part
    paths: list[str]
    name_y: float
    middle_y: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """The chart. ticks: lines across it. dates: words below it."""

    areas: list[Area]
    ticks: list[charts.Tick]
    dates: list[charts.Tick]
    plot: int = PLOT
    width: int = charts.WIDTH
    height: int = HEIGHT


def chart(table: Table, measure: str, *, step: int, is_size: bool) -> Chart:
    """Return the chart of a measure; a day that was not computed is a gap. step: days between two that are shown."""
    days = list(table.days)
    if not days:
        return Chart(areas=[], ticks=[], dates=[])
    first, span = days[0], max((days[-1] - days[0]).days, 1)
    x = {day: round((day - first).days / span * PLOT, 2) for day in days}
    marks = steps(max((table.total(day, measure) or 0 for day in days), default=0), is_size=is_size)
    top = marks[-1]
    runs = _runs(days, step)
    base = dict.fromkeys(days, 0)
    found = []
    for number, part in enumerate(table.parts):
        upper = {day: base[day] + (table.value(day, part, measure) or 0) for day in days}
        paths = [_path([(x[day], _y(base[day], top), _y(upper[day], top)) for day in run]) for run in runs]
        middle = (_y(base[days[-1]], top) + _y(upper[days[-1]], top)) / 2
        found.append(Area(number=number, part=part, paths=paths, middle_y=middle, name_y=middle))
        base = upper
    words = wording.size if is_size else wording.number
    ticks = [charts.Tick(at=_y(mark, top), words=words(mark)) for mark in marks]
    return Chart(areas=_spread(found), ticks=ticks, dates=_dates(days, x))


def steps(most: int, *, is_size: bool) -> list[int]:
    """Return round marks from 0 to the first that is not below ``most``; of sizes, round in their unit."""
    unit = 1024 ** max(int(math.log(most, 1024)), 0) if is_size and most > 0 else 1
    rough = max(most / unit, 1) / 5
    power = 10 ** math.floor(math.log10(rough))
    width = max(round(next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough) * unit), 1)
    return [number * width for number in range(max(-(-most // width), 1) + 1)]


def _y(value: float, top: int) -> float:
    return round(HEIGHT * (1 - value / top), 2)


def _runs(days: Sequence[datetime.date], step: int) -> list[list[datetime.date]]:
    """Return the days in runs without a gap."""
    runs: list[list[datetime.date]] = []
    for day in days:
        if runs and (day - runs[-1][-1]).days <= step:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


def _path(points: Sequence[tuple[float, float, float]]) -> str:
    """Return the outline of an area from x, lower y and upper y; a single day is a thin column."""
    if len(points) == 1:
        [(x, low, high)] = points
        points = [(max(x - 1, 0), low, high), (x + 1, low, high)]
    upper = " ".join(f"{x},{high}" for x, _, high in points)
    lower = " ".join(f"{x},{low}" for x, low, _ in reversed(points))
    return f"M{upper} L{lower}Z"


def _spread(found: Sequence[Area]) -> list[Area]:
    """Move names that would stand on each other, from the bottom upwards, and back down where the top is reached."""
    placed: list[Area] = []
    limit = HEIGHT - LINE / 2
    for area in found:
        y = min(area.middle_y, limit)
        placed.append(dataclasses.replace(area, name_y=y))
        limit = y - LINE
    floor = LINE / 2
    for number in range(len(placed) - 1, -1, -1):
        y = max(placed[number].name_y, floor)
        placed[number] = dataclasses.replace(placed[number], name_y=round(y, 2))
        floor = y + LINE
    return placed


def _dates(days: Sequence[datetime.date], x: Mapping[datetime.date, float]) -> list[charts.Tick]:
    """Return some six dates below the chart."""
    every = max(math.ceil(len(days) / 6), 1)
    return [charts.Tick(at=x[day], words=f"{day:%b} {day.day}") for day in days[::every]]
