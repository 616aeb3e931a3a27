"""The throughput-latency curve as a picture."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from matplotlib import figure, ticker

from bench import measure

LABELS = {"flat": "vmledger", "bare": "bare Flask (stores nothing)", "published": "the published way"}
COLOURS = {"flat": "#0b6e99", "bare": "#8a8a8a", "published": "#c2571a"}


def draw(curves: Mapping[str, Sequence[measure.Point]], path: pathlib.Path, note: str) -> None:
    """Draw the median and the 99th percentile over the events a second, each point with its requests at once."""
    picture = figure.Figure(figsize=(8, 4.8), dpi=110, layout="constrained")
    axes = picture.add_subplot()
    for name, points in curves.items():
        rates = [point.rate for point in points]
        colour = COLOURS[name]
        axes.plot(rates, [point.p50 * 1000 for point in points], "o-", color=colour, label=f"{LABELS[name]}: median")
        axes.plot(rates, [point.p99 * 1000 for point in points], "^:", color=colour, label=f"{LABELS[name]}: p99")
        for point in points:
            axes.annotate(
                str(point.connections),
                (point.rate, point.p50 * 1000),
                textcoords="offset points",
                xytext=(5, -11),
                fontsize=8,
                color=colour,
            )
    axes.set(xlabel="flat events acknowledged a second", ylabel="latency in milliseconds", yscale="log", title=note)
    axes.title.set_fontsize(9)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8, title="the numbers are requests at once", title_fontsize=8)
    picture.savefig(path, metadata={"Software": None})
