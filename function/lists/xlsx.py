"""A workbook for Excel and LibreOffice: a sheet for each table, all written in one pass.

XlsxWriter keeps a row of each sheet in memory and the rest in temporary files (``constant_memory``); it is imported
only here. A text is written as a text, whatever it begins with, so no cell runs.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

from function import errors, tables
from function.lists import machine, table

MOST_ROWS = 1_048_576
"""Of a sheet, the heading included: Excel's limit."""
MOST_TEXT = 32_767
"""Characters of a cell: Excel's limit."""
MOST_NUMBER = 10**15
"""Excel keeps 15 digits of a number; a greater one is written as a text."""
TIME_FORMAT = "yyyy-mm-dd hh:mm:ss"


class Workbook:
    """Writes machines into the sheets of a workbook."""

    def __init__(self, book: Any, layouts: Sequence[table.Table]) -> None:
        self._row = 0
        self._time = book.add_format({"num_format": TIME_FORMAT})
        heading = book.add_format({"bold": True})
        self._sheets = [(book.add_worksheet(each.sheet), each) for each in layouts]
        for sheet, each in self._sheets:
            sheet.freeze_panes(1, 1)
            for column, name in enumerate(each.columns):
                sheet.set_column(column, column, max(10, len(name) + 2))
                sheet.write_string(0, column, name, heading)

    def add(self, machines: Sequence[machine.Machine]) -> None:
        """Write a portion; raise :class:`errors.Refused` where a sheet has no room for it."""
        if self._row + len(machines) >= MOST_ROWS:
            raise errors.Refused(f"a sheet holds {MOST_ROWS - 1} virtual machines: ask for fewer, or for csv")
        for one in machines:
            self._row += 1
            for sheet, each in self._sheets:
                self._write(sheet, each, one)

    def _write(self, sheet: Any, layout: table.Table, one: machine.Machine) -> None:
        row = self._row
        for column, (name, cell) in enumerate(zip(layout.columns, layout.cells(one), strict=True)):
            if cell is None:
                continue
            if isinstance(cell, int) and cell < MOST_NUMBER:
                sheet.write_number(row, column, cell)
            elif name in layout.times and isinstance(cell, str) and (time := table.moment(cell)) is not None:
                sheet.write_datetime(row, column, time, self._time)
            else:
                sheet.write_string(row, column, _text(str(cell)))


def _text(text: str) -> str:
    """Return a text as a cell can hold it.

    XlsxWriter takes what begins with ``<r>`` and ends with ``</r>`` for XML of its own, and writes it as it stands.
    """
    if text.startswith("<r>"):
        text = tables.MARK + text
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


@contextlib.contextmanager
def written(out: IO[bytes], layouts: Sequence[table.Table]) -> Iterator[Workbook]:
    """Yield a workbook that is written to ``out`` at the end; after an error nothing is."""
    import xlsxwriter
    import xlsxwriter.exceptions

    with tempfile.TemporaryDirectory(prefix="vmledger-") as folder:
        # A file between: where a write to out fails, zipfile tries it once more as it is collected, and complains.
        file = pathlib.Path(folder) / "book.xlsx"
        book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": folder})
        try:
            yield Workbook(book, layouts)
        except BaseException:
            for sheet in book.worksheets():
                sheet.row_data_fh.close()  # or the garbage collector warns of it
            raise
        try:
            book.close()
        except xlsxwriter.exceptions.FileCreateError as exc:
            raise OSError(*exc.args[0].args) from None  # what it stands for
        with file.open("rb") as whole:
            shutil.copyfileobj(whole, out)
