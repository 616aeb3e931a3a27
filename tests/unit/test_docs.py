"""What the documents say is what the code does."""

from __future__ import annotations

import importlib.util
import pathlib
import re

import pytest

from function import errors, measures, settings
from function.cli import main
from function.web import app, gunicorn_worker

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
PARTS = {
    "receiver": "Receiver",
    "metrics": "Metrics",
    "callers": "Callers",
    "ledger": "Ledger",
    "database": "Database",
    "kubernetes": "Kubernetes API",
    "echo": "Echo",
    "dead_letters": "Dead letters",
    "scaling": "Scaling events",
    "webhooks": "Webhooks",
    "operations": "vRealize, Aria and VCF Operations",
    "page": "Page",
    "tracing": "Traces",
    "publish": "Publish",
}
"""The heading of each part of the settings in docs/settings.md."""


def table(text: str) -> list[list[str]]:
    """The cells of the first table of a text."""
    lines = f"\n{text}".partition("\n|")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def rows(heading: str, page: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    return table(page.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0])


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


def test_the_metrics_page_is_that_of_the_code() -> None:
    """A table for each place that values come from, with each metric, its kind, its labels and its sentence."""
    declared: dict[str, list[list[str]]] = {source.value: [] for source in measures.Source}
    for metric in measures.ALL:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        declared[metric.source.value].append([f"`{metric.name}`", metric.kind.value, labels, metric.doc])
    page = (ROOT / "docs" / "metrics.md").read_text()
    for heading, expected in declared.items():
        table = "\n".join(f"| {' | '.join(row)} |" for row in expected)
        assert rows(heading, page) == expected, f"the table under {heading} should be:\n{table}"


def test_the_status_table_is_that_of_the_code() -> None:
    """What each error is answered with, and what Knative does then."""
    told = {int(status): then for _, status, then in table((ROOT / "docs" / "http.md").read_text())}
    refused = {status.value for status in gunicorn_worker.REFUSALS.values()}
    assert set(told) == {200, 204, 404, 405, *refused, *app.STATUSES.values()}
    for error, status in app.STATUSES.items():
        assert told[status] == ("retried" if issubclass(error, errors.Unavailable) else "dead letter")


def test_the_dependencies_are_those_that_are_required() -> None:
    """One reason for each."""
    named = {name for row in rows("Dependencies, and why", CONTRIBUTING) for name in row[0].split(", ")}
    required = set(re.findall(r"^([A-Za-z0-9_-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert named == required


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_document_that_is_linked_is_there(page: pathlib.Path) -> None:
    """No dead link in the repository; an anchor is a heading of its page."""
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_that_is_named_is_there(page: pathlib.Path) -> None:
    """Make's targets, the function's commands and the modules that a page tells to run."""
    text = page.read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for command in set(re.findall(r"python -m function ([a-z][a-z-]*)", text)):
        assert command in main.COMMANDS, f"python -m function {command}"
    for module in set(re.findall(r"python -m ((?:bench|dev)[\w.]*)", text)):
        assert importlib.util.find_spec(module), f"python -m {module}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_is_named_is_there(page: pathlib.Path) -> None:
    """Paths in backticks, from the root of the repository."""
    for path in set(re.findall(r"`((?:function|tests|k8s|dev|bench|docs)/[\w./-]*\w/?)`", page.read_text())):
        assert (ROOT / path).exists(), path


def test_the_backup_names_each_table() -> None:
    """What the migrations create, and what a database is without it."""
    schema = "\n".join(path.read_text() for path in sorted((ROOT / "function" / "migrations").glob("*.sql")))
    created = set(re.findall(r"^CREATE (?:UNLOGGED )?TABLE (\w+)", schema, re.MULTILINE))
    page = (ROOT / "docs" / "operations.md").read_text()
    named = {name for row in rows("Backup and restore", page) for name in re.findall(r"`(\w+)`", row[0])}
    assert created <= named


def test_every_page_is_in_the_index() -> None:
    """The reading order forgets none."""
    named = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "index.md").read_text()))
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_the_tree_names_each_room() -> None:
    """CONTRIBUTING draws the rooms; each folder of the function is in it."""
    drawn = set(re.findall(r"^ +(\w+)/ ", CONTRIBUTING, re.MULTILINE))
    folders = {path.name for path in (ROOT / "function").rglob("*") if path.is_dir()}
    assert drawn == folders - {"__pycache__", "sql"}
