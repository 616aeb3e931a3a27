"""CSV that no spreadsheet runs and every program reads, and JSON that is an array and lines at once."""

from __future__ import annotations

import csv
import io
import json

import hypothesis
import hypothesis.strategies as st

from function import tables

DANGEROUS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]  # noqa: RUF001  # Excel runs it too
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
cells = st.one_of(st.none(), st.integers(-(2**63), 2**63), texts, st.sampled_from(DANGEROUS))


def read(text: str) -> list[list[str]]:
    """The rows of CSV, as the standard library reads them."""
    return list(csv.reader(io.StringIO(text, newline="")))


def expected(cell: tables.Cell) -> str:
    """What is read of a cell."""
    if isinstance(cell, str) and cell[:1] in tables.RUNS:
        return tables.MARK + cell
    return "" if cell is None else str(cell)


@hypothesis.given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5))
def test_any_cell_is_read_back_as_it_was_but_for_the_mark(rows: list[list[tables.Cell]]) -> None:
    """Quotes, commas, line ends and other scripts too; None is empty."""
    assert read(tables.Csv().text(rows)) == [[expected(cell) for cell in row] for row in rows]


def test_a_cell_that_a_spreadsheet_runs_gets_an_apostrophe() -> None:
    """Each of the beginnings that OWASP lists; what only contains them, and a number, stays."""
    assert [row[0] for row in read(tables.Csv().text([[cell, "x"] for cell in DANGEROUS]))] == [
        f"'{cell}" for cell in DANGEROUS
    ]
    assert tables.Csv().text([["a=1", -5, "x"]]) == "a=1,-5,x\n"


def test_a_spreadsheet_that_splits_at_another_mark_finds_no_formula() -> None:
    """Where a semicolon or a tab is in a line, all cells are in quotes, which such a spreadsheet respects."""
    for mark in (";", "\t"):
        assert tables.Csv().text([[f"x{mark}=cmd(){mark}", None, 1]]) == f'"x{mark}=cmd(){mark}","","1"\n'


def test_a_json_list_is_an_array_with_an_object_a_line() -> None:
    """Whole, it is an array; each line but the first and the last is an object, before a comma or not."""
    array = tables.JsonArray()
    text = (array.text([{"a": 1}, {"a": "ü\n"}]) + array.text([]) + array.text([{"a": None}]) + array.end()).decode()
    assert json.loads(text) == [{"a": 1}, {"a": "ü\n"}, {"a": None}]
    assert [json.loads(line.rstrip(",")) for line in text.splitlines()[1:-1]] == json.loads(text)
    assert tables.JsonArray().end() == b"[]\n"
