"""What a layout with rows and columns is; pure."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping

from function import tables
from function.lists import machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A layout with rows and columns.

    sheet: its name in a workbook. columns: their names. cells: what they hold of a machine. members: the same as a JSON
    object. times: the columns that hold times, as texts that :func:`moment` reads.
    """

    sheet: str
    columns: tuple[str, ...]
    cells: Callable[[machine.Machine], list[tables.Cell]]
    members: Callable[[machine.Machine], Mapping[str, object]]
    times: frozenset[str]


def moment(text: str) -> datetime.datetime | None:
    """Return the time of a cell in UTC, without its zone; None for one that Python has no value for."""
    try:
        return datetime.datetime.fromisoformat(text.replace("/", "-")).replace(tzinfo=None, microsecond=0)
    except ValueError:  # a year after 9999, or infinity
        return None
