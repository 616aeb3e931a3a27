"""Tables as text, a portion at a time: CSV that no spreadsheet runs, and JSON.

Names and labels are chosen by the users of a cluster, and the guest's administrator chooses the name of its system.
A spreadsheet runs a cell that begins like a formula, so such a cell gets a mark before it that makes it a text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import msgspec

RUNS = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001  # the wide forms are what Excel runs too
"""How a cell begins that a spreadsheet runs (OWASP, "CSV Injection")."""
MARK = "'"
"""What makes a cell a text; a spreadsheet does not show it where it was typed."""
Cell = str | int | None


class Csv:
    """Writes rows as lines of CSV: UTF-8, commas, a line feed after each; None is an empty cell."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        out = _Lines(self._lines)
        self._usual = csv.writer(out, lineterminator="\n")
        self._quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def text(self, rows: Iterable[Sequence[Cell]]) -> str:
        """Return the lines of some rows."""
        lines = self._lines
        lines.clear()
        for row in rows:
            cells = [MARK + cell if isinstance(cell, str) and cell[:1] in RUNS else cell for cell in row]
            self._usual.writerow(cells)
            line = lines[-1]
            if ";" in line or "\t" in line or "\r" in line:  # some programs split there, except inside quotes
                lines.pop()
                self._quoting.writerow(cells)
        return "".join(lines)


class _Lines(io.TextIOBase):
    """What :mod:`csv` writes to: keeps each line."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append  # type: ignore[assignment]


class JsonArray:
    """Writes objects as one JSON array, with a line for each: a program reads it whole or line by line."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._before = b"[\n"

    def text(self, objects: Iterable[object]) -> bytes:
        """Return the lines of some objects; :meth:`end` ends the array."""
        lines = [self._encoder.encode(each) for each in objects]
        if not lines:
            return b""
        before, self._before = self._before, b",\n"
        return before + b",\n".join(lines)

    def end(self) -> bytes:
        """Return what follows the last object."""
        return b"[]\n" if self._before == b"[\n" else b"\n]\n"
