"""Values as people read them, and what a template may hold."""

from __future__ import annotations

import datetime
import pathlib
import re

import hypothesis
import hypothesis.strategies as st
import pytest

import function.page
from function.page import wording

ROOM = pathlib.Path(function.page.__file__).parent
TEMPLATES = sorted((ROOM / "templates").iterdir())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, wording.UNKNOWN),
        (0, "0 B"),
        (1023, "1023 B"),
        (4 * 2**30, "4 GiB"),
        (1536 * 2**20, "1.5 GiB"),
        (2**63 - 1, "8192 PiB"),
    ],
)
def test_a_size_has_the_unit_that_people_use(value: int | None, expected: str) -> None:
    """What is unknown is a dash, and never 0."""
    assert wording.size(value).replace("\u00a0", " ") == expected


@hypothesis.given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_any_moment_is_read_back_from_a_link(at: datetime.datetime) -> None:
    """What a page shows and what its links ask for are one moment."""
    assert datetime.datetime.fromisoformat(wording.machine_time(at)) == at


def test_each_status_has_a_shape() -> None:
    """Also one that KubeVirt adds later."""
    marks = {
        word: wording.mark(word) for word in ("Running", "Stopped", "Migrating", "ErrorUnschedulable", "New", None)
    }
    assert list(marks.values()) == ["good", "resting", "busy", "bad", "busy", "unknown"]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_breaks_no_policy_and_trusts_no_text(template: pathlib.Path) -> None:
    """No style or script inside, no handler, nothing from elsewhere, and nothing that is not escaped."""
    text = template.read_text()
    assert re.findall(r"\sstyle=|<style|\son\w+=|\|\s*safe|autoescape false|Markup", text) == []
    assert re.findall(r"<script(?![^>]* src=)", text) == []
    assert re.findall(r'(?:src|href)="(?:https?:|//|javascript:)', text) == []


def test_the_script_is_short_and_asks_nobody_else() -> None:
    """Below 200 lines, and it has no address in it."""
    text = (ROOM / "static" / "page.js").read_text()
    assert len(text.splitlines()) < 200
    assert "://" not in text
    assert "innerHTML" not in text
