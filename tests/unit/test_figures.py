"""The figures of the documents come from files that the benchmarks wrote."""

from __future__ import annotations

import pathlib
import re

import pytest

from bench import figures

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize(("page", "name"), list(figures.BLOCKS))
def test_each_block_is_what_the_file_says(page: str, name: str) -> None:
    """`python -m bench.figures` writes it."""
    assert figures.shown((ROOT / page).read_text(), name) == figures.block(page, name)


def test_each_block_in_a_page_has_a_file() -> None:
    """No block is filled by hand."""
    found = {
        (str(page.relative_to(ROOT)), name)
        for page in PAGES
        for name in re.findall(r"<!-- figures: (.*) -->", page.read_text())
    }
    assert found == set(figures.BLOCKS)


def test_a_block_that_is_missing_is_an_error() -> None:
    """A page that lost its marks is not passed over."""
    with pytest.raises(ValueError, match="there is no block x"):
        figures.filled("nothing", "x", "content")
    assert figures.filled("a\n<!-- figures: x -->\nold\n<!-- end -->\nb", "x", "new\n") == (
        "a\n<!-- figures: x -->\nnew\n<!-- end -->\nb"
    )
