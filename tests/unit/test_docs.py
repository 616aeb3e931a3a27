"""What the documents say is what the code does."""

from __future__ import annotations

import pathlib
import re

from function import errors, settings
from function.web import app

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
PARTS = {
    "receiver": "Receiver",
    "ledger": "Ledger",
    "database": "Database",
    "kubernetes": "Kubernetes API",
    "echo": "Echo",
    "scaling": "Scaling events",
    "webhooks": "Webhooks",
    "operations": "vRealize, Aria and VCF Operations",
}
"""The heading of each part of the settings in docs/settings.md."""


def rows(heading: str, page: str = README) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _shown(default: object) -> str:
    """A default as one would write it into the environment."""
    match default:
        case tuple():
            return ",".join(map(str, default))
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def test_the_settings_page_is_that_of_the_code() -> None:
    """A table for each part, with each variable, its default and its sentence; the code declares them."""
    declared: dict[str, list[list[str]]] = {}
    for part, field in settings.Settings.declared():
        default = "" if field.default in (None, ()) else f"`{_shown(field.default)}`"
        row = [f"`{field.metadata['variable']}`", default, field.metadata["doc"]]
        declared.setdefault(PARTS[part], []).append(row)
    page = (ROOT / "docs" / "settings.md").read_text()
    for heading, expected in declared.items():
        table = "\n".join(f"| {' | '.join(row)} |" for row in expected)
        assert rows(heading, page) == expected, f"the table under {heading} should be:\n{table}"
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == list(declared)


def test_the_status_table_is_that_of_the_code() -> None:
    """What each error is answered with, and what Knative does then."""
    told = {int(status): then for _, status, then in rows("What it answers")}
    assert set(told) == {204, 405, *app.STATUSES.values()}
    for error, status in app.STATUSES.items():
        assert told[status] == ("retried" if issubclass(error, errors.Unavailable) else "dead letter")


def test_the_dependencies_are_those_that_are_required() -> None:
    """One reason for each."""
    named = {name for row in rows("Dependencies, and why") for name in row[0].split(", ")}
    required = set(re.findall(r"^([A-Za-z0-9_-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert named == required


def test_each_document_that_is_linked_is_there() -> None:
    """No dead link in the repository."""
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_each_make_target_that_is_named_is_there() -> None:
    """The commands of the README can be run."""
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z]+)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
