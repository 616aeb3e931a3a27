"""The bar that each figure of the benchmark must reach, and the aim beyond it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Bar:
    """A figure: its key, its label, and what it must reach; ``unit`` is empty for a ratio."""

    key: str
    says: str
    bar: float
    aim: float | None = None
    unit: str = ""
    is_least: bool = False
    """Whether more is better."""

    def met(self, figure: float, demand: float) -> bool:
        """Whether a figure reaches a demand."""
        return figure >= demand if self.is_least else figure <= demand


BARS = (
    Bar("published", "flat events a second / the published way", 8, 10, is_least=True),
    Bar("bare", "flat events a second / bare Flask, our worker", 0.78, 0.85, is_least=True),
    Bar("stock", "flat events a second / bare Flask, gunicorn's own worker", 0.78, 0.85, is_least=True),
    Bar("objects", "whole objects of 4 kB / flat events", 0.85, 0.90, is_least=True),
    Bar("instances", "instance events of 4 kB / flat events", 0.70, 0.80, is_least=True),
    Bar("instances Postgres", "Postgres time of an instance event / of a flat event", 2.5, 1.5),
    Bar("mix", "a mix of events / flat events", 0.60, 0.75, is_least=True),
    Bar("late", "late events / flat events", 0.50, 0.60, is_least=True),
    Bar("callers", "flat events with a token, verified / not looked at", 0.97, 0.99, is_least=True),
    Bar("fleet", "100,000 VMs and 5 million history rows / 1,000 VMs", 0.85, 0.95, is_least=True),
    Bar("p99", "p99 at half of the highest load / bare Flask's", 3, 2),
    Bar("connections", "connections to Postgres of a worker", 2, 1),
    Bar("memory", "memory of a pod after an hour's worth of events", 90, 75, " MiB"),
    Bar("start", "start of the process to the first 204 / bare Flask's", 1.20, 1.12),
    Bar("others", "events that are not for us / bare Flask", 0.85, 0.95, is_least=True),
)


def table(figures: Mapping[str, float], demanded: Sequence[Bar] = BARS) -> list[str]:
    """Return the lines of the table."""
    lines = [f"{'':56}{'measured':>10}{'bar':>18}{'aim':>18}"]
    for bar in demanded:
        figure = figures.get(bar.key)
        cells = [_number(figure, bar), _demand(bar, figure, bar.bar), _demand(bar, figure, bar.aim)]
        lines.append(f"{bar.says:56}{cells[0]:>10}{cells[1]:>18}{cells[2]:>18}".rstrip())
    return lines


def rows(figures: Mapping[str, float], demanded: Sequence[Bar] = BARS) -> list[dict[str, object]]:
    """Return the table as JSON."""
    return [
        {
            **dataclasses.asdict(bar),
            "measured": figures[bar.key],
            "met": bar.met(figures[bar.key], bar.bar),
            "aim_met": None if bar.aim is None else bar.met(figures[bar.key], bar.aim),
        }
        for bar in demanded
        if bar.key in figures
    ]


def _demand(bar: Bar, figure: float | None, demand: float | None) -> str:
    if demand is None:
        return ""
    verdict = "" if figure is None else "met" if bar.met(figure, demand) else "missed"
    return f"{'>=' if bar.is_least else '<='} {demand:g}  {verdict:6}"


def _number(figure: float | None, bar: Bar) -> str:
    if figure is None:
        return "-"
    return f"{figure:.0f}{bar.unit}" if bar.unit or figure == int(figure) else f"{figure:.2f}"
