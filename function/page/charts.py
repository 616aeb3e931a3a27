"""The numbers of a chart become the coordinates of an SVG; pure.

The templates draw them with classes, because the Content-Security-Policy takes no styles in the markup.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from function.page import story, wording

WIDTH = 1000
STRIP_HEIGHT = 36
HEIGHTS = {"good": 1.0, "bad": 1.0, "busy": 0.7, "unknown": 0.45, "resting": 0.25}
"""How high a span of the strip is, by its mark: the shape says what the colour says."""
NOWHERE = frozenset({story.DELETED, story.NOT_YET})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of the strip, whose kind is the class of a mark."""

    x: float
    width: float
    y: float
    height: float
    kind: str
    title: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tick:
    """A line across a chart, and the words at its end."""

    at: float
    words: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strip:
    """The phases of a VM over time."""

    boxes: list[Box]
    ticks: list[Tick]
    width: int = WIDTH
    height: int = STRIP_HEIGHT


def strip(spans: Sequence[story.Span], begin: datetime.datetime, end: datetime.datetime) -> Strip:
    """Return the strip of spans between two times."""
    per_second = WIDTH / (end - begin).total_seconds()
    boxes = []
    for span in spans:
        if span.state in NOWHERE:
            continue
        kind = wording.mark("Stopped" if span.state == story.NOT_RUNNING else span.state)
        x = (span.begin - begin).total_seconds() * per_second
        width = max(((span.end or end) - span.begin).total_seconds() * per_second, 1.0)
        height = STRIP_HEIGHT * HEIGHTS[kind]
        title = f"{span.state} from {wording.time(span.begin)} to {wording.time(span.end)}"
        boxes.append(
            Box(x=round(x, 2), width=round(width, 2), y=STRIP_HEIGHT - height, height=height, kind=kind, title=title)
        )
    first = (begin + datetime.timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [first + datetime.timedelta(days=number) for number in range(0, (end - first).days + 1, 7)]
    ticks = [Tick(at=round((day - begin).total_seconds() * per_second, 2), words=f"{day:%b} {day.day}") for day in days]
    return Strip(boxes=boxes, ticks=ticks)
