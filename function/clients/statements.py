"""The SQL of a room: every statement stands whole in a ``.sql`` file beside the room that runs it.

A file is a list of statements, each under a comment whose first line is its name and its parameters::

    -- note_events (writer, clusters, kind)
    -- Notes that events about a kind of object were stored now.
    PREPARE note_events (text, text[], text) AS
    INSERT INTO ...;

So a file can be pasted into psql as it stands, and ``EXPLAIN EXECUTE note_events (...)`` shows the plan.
A statement that Postgres cannot prepare, such as LOCK TABLE, stands there itself, without parameters.
Nothing is assembled at run time: what is sent is a file's text, or ``EXECUTE`` with values for the parameters.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import weakref
from collections.abc import Mapping
from typing import Any

_STATEMENT = re.compile(
    r"^-- (?P<name>\w+) \((?P<parameters>(?:[\w, ]|,\n--)*)\)\n"
    r"(?P<comment>(?:--[^\n]*\n)*)"
    r"(?P<sql>[^-\n].*?;)$",
    re.MULTILINE | re.DOTALL,
)
"""The statement ends at the first line that ends with a semicolon."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """A statement of a file.

    parameters: their names, in the order of the types in PREPARE. sql: its text, up to and with the semicolon.
    """

    name: str
    parameters: tuple[str, ...]
    comment: str
    sql: str

    @property
    def is_prepared(self) -> bool:
        """Whether the text prepares the statement, so that :attr:`call` runs it later."""
        return self.sql.startswith("PREPARE ")

    @property
    def call(self) -> str:
        """What runs it, in the driver's form: values are given by the parameters' names."""
        if not self.is_prepared:
            return self.sql
        values = ", ".join(f"%({name})s" for name in self.parameters)
        return f"EXECUTE {self.name} ({values});" if values else f"EXECUTE {self.name};"


@dataclasses.dataclass(frozen=True)
class Statements:
    """The statements of a room, by name."""

    by_name: Mapping[str, Statement]

    def call(self, *names: str) -> str:
        """Return what runs the statements one after the other, in one transaction if it is sent at once."""
        return " ".join(self.by_name[name].call for name in names)

    def ready(self, cursor: Any, *names: str) -> str:
        """Return :meth:`call` of statements, each of which is prepared at its first use on the cursor's connection.

        Preparing all statements of a room at once would wait for locks on tables that are not needed yet, and a first
        event would wait for the analysis of statements that it does not run.
        """
        prepared = _prepared.setdefault(cursor.connection, set())
        if not prepared.issuperset(names):
            for name in names:
                if name not in prepared and self.by_name[name].is_prepared:
                    cursor.execute(self.by_name[name].sql)
                prepared.add(name)
        return self.call(*names)

    def run(self, cursor: Any, name: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows, if it gives any; it is prepared at its first use."""
        cursor.execute(self.ready(cursor, name), parameters)
        return list(cursor.fetchall()) if cursor.description else []


_prepared: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()
"""The names of the statements that were prepared at their first use, by connection."""


def load(folder: pathlib.Path, *names: str) -> Statements:
    """Read the ``.sql`` files of a folder, or those of these names."""
    found: dict[str, Statement] = {}
    for path in sorted(folder / f"{name}.sql" for name in names) if names else sorted(folder.glob("*.sql")):
        for match in _STATEMENT.finditer(path.read_text("utf-8")):
            parameters = tuple(re.findall(r"\w+", match["parameters"]))
            found[match["name"]] = Statement(match["name"], parameters, match["comment"], match["sql"])
    return Statements(found)
