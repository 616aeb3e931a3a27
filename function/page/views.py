"""What a view is, and what it is asked with."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flask

from function import settings
from function.page import counts, database, query


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a view.

    query: the words of the query string. path: the variables of the rule, by name. at: the moment that is shown, None
    for the present. reader: asks Postgres. kept: counts that are not made anew each time. configuration: all settings.
    """

    query: query.Query
    path: Mapping[str, str]
    at: datetime.datetime | None
    reader: database.Reader
    kept: counts.Kept
    configuration: settings.Settings


Rows = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    """A view as a list to take away: the names of the columns, and all rows that its filters leave, in portions."""

    columns: Sequence[str]
    portions: Iterable[Rows]


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """A view: its name (also that of its template and of its SQL), the rule of its address, and what answers it.

    title: of the page, and of the menu's entry. answer: returns the variables of the template, a whole response where
    it gives something else than a page, or None where what the path names was never in the ledger (404). names: the
    words that its query string may have besides ``at``; others are refused, because a filter with a typing error in its
    name would show everything. in_menu: whether the menu shows it.
    listing: returns the same rows as a list, or None as ``answer`` does; without it there is no ``.csv`` and ``.json``.
    has_past: whether ``at=`` shows it as it was; elsewhere ``at`` is refused.
    """

    name: str
    rule: str
    title: str
    answer: Callable[[Request], Mapping[str, Any] | flask.Response | None]
    names: frozenset[str] = frozenset()
    in_menu: bool = True
    has_past: bool = True
    listing: Callable[[Request], Listing | None] | None = None

    def rule_of(self, form: str) -> str:
        """Return the rule of the address of its list, such as ``/changes.csv``."""
        return f"/{self.name}.{form}" if self.rule == "/" else f"{self.rule}.{form}"
