"""The dashboards of k8s/components/metrics, and their queries as Grafana sends them."""

from __future__ import annotations

import datetime
import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

FOLDER = pathlib.Path(__file__).parent.parent / "k8s" / "components" / "metrics" / "dashboards"
FILES = sorted(path.name for path in FOLDER.glob("*.json"))

Panel = dict[str, Any]


def board(name: str) -> dict[str, Any]:
    """Return a dashboard by its file's name."""
    found: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return found


def panels(name: str) -> list[Panel]:
    """Return the panels of a dashboard that show something: all but the rows."""
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def promql(expression: str, *, interval: str, namespace: str = ".*") -> str:
    """Return a query for Prometheus as Grafana sends it; interval: what it puts for a rate's."""
    return expression.replace("$__rate_interval", interval).replace("$namespace", namespace)


def sql(text: str, *, start: datetime.datetime, end: datetime.datetime, clusters: Sequence[str]) -> str:
    """Return a query for Postgres as Grafana's data source sends it, with its macros and variables replaced.

    Grafana quotes each value of a variable that may have several, and its times are RFC 3339 in UTC.
    """
    first, last = (f"'{moment.astimezone(datetime.UTC).isoformat().replace('+00:00', 'Z')}'" for moment in (start, end))
    groups: Callable[[re.Match[str]], str] = lambda found: (  # noqa: E731
        f'floor(extract(epoch from {found[1]})/600)*600 AS "time"'
    )
    text = text.replace("$cluster", ",".join("'" + name.replace("'", "''") + "'" for name in clusters))
    text = text.replace("$__interval", "10m")
    text = re.sub(r"\$__timeGroupAlias\((\w+), 10m\)", groups, text)
    text = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {first} AND {last}", text)
    text = text.replace("$__timeFrom()", first).replace("$__timeTo()", last)
    assert "$" not in text, "a macro or a variable that is not known here"
    return text
