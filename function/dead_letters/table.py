"""The table ``dead_letters``."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from function.clients import postgres, statements
from function.dead_letters import letter

SQL = statements.load(pathlib.Path(__file__).parent / "sql")
_KEEP = ("keep_letters", "forget_old_letters", "forget_surplus_letters")
_PAGE = 20
"""Letters that are read at once: each may have ECHO_MAX_BYTES."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which letters a replay is about: those that fit all that is given.

    since: received within this time. codes: with one of these. event_ids: of one of these events.
    """

    since: datetime.timedelta | None = None
    codes: Sequence[int] = ()
    event_ids: Sequence[str] = ()

    @property
    def parameters(self) -> dict[str, object]:
        """The values of the statements' parameters."""
        return {
            "since": None if self.since is None else self.since.total_seconds(),
            "codes": list(self.codes) or None,
            "event_ids": list(self.event_ids) or None,
        }


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A letter that waits for a replay; the fields are the table's columns."""

    number: int
    first_at: datetime.datetime
    event_id: str | None
    type: str | None
    last_at: datetime.datetime
    count: int
    destination: str | None
    code: int | None
    sentence: str | None
    attributes: str
    data: str | None
    data_base64: str | None
    form: letter.Form

    @property
    def document(self) -> bytes:
        """The event in the JSON format of CloudEvents."""
        return letter.document(self.attributes, self.data, self.data_base64)


class Table:
    """The dead letters in Postgres; most, days: how many are kept, and for how long."""

    def __init__(self, db: postgres.Database, *, most: int, days: int) -> None:
        self._database = db
        self._limits = {"most": most, "days": days}

    def keep(self, letters: Sequence[letter.Letter], *, timeout: float) -> None:
        """Keep letters, all or none; raise what :meth:`postgres.Database.run` raises."""
        parameters = {**self._limits, **_columns(_merged(letters))}

        def work(cursor: postgres.Cursor) -> None:
            cursor.execute(SQL.ready(cursor, *_KEEP), parameters)  # one transaction

        self._database.run(work, timeout=timeout)

    def count(self, chosen: Chosen) -> int:
        """Return how many letters wait for a replay."""
        [(count,)] = self._database.run(lambda cursor: SQL.run(cursor, "count_letters", chosen.parameters))
        return int(count)

    def waiting(self, chosen: Chosen) -> Iterator[Waiting]:
        """Yield the letters that wait, in the order in which they were received first."""
        after: tuple[datetime.datetime | str, int] = ("-infinity", 0)
        while page := self._page(chosen, *after):
            yield from page
            after = (page[-1].first_at, page[-1].number)

    def mark(self, waiting: Waiting) -> None:
        """Note that a letter's event was handled."""
        parameters = {"number": waiting.number}
        self._database.run(lambda cursor: SQL.run(cursor, "mark_letter", parameters))

    def forget_old(self) -> int:
        """Remove the letters that are too old, though none comes any more; return how many."""

        def work(cursor: postgres.Cursor) -> int:
            SQL.run(cursor, "forget_old_letters", self._limits)
            return cursor.rowcount

        return self._database.run(work)

    def _page(self, chosen: Chosen, after_at: datetime.datetime | str, after: int) -> list[Waiting]:
        parameters = {**chosen.parameters, "after_at": after_at, "after": after, "most": _PAGE}
        return [*map(_waiting, self._database.run(lambda cursor: SQL.run(cursor, "find_letters", parameters)))]


def _waiting(row: tuple[Any, ...]) -> Waiting:
    values = {field.name: value for field, value in zip(dataclasses.fields(Waiting), row, strict=True)}
    return Waiting(**{**values, "form": letter.Form(values["form"])})


def _merged(letters: Sequence[letter.Letter]) -> list[letter.Letter]:
    """Return letters of which no two have the same key: the newest of them, with the count of all."""
    merged: dict[str, letter.Letter] = {}
    for each in letters:
        before = merged.get(each.key)
        if before:
            merged[each.key] = dataclasses.replace(each, count=each.count + before.count, first_at=before.first_at)
        else:
            merged[each.key] = each
    return list(merged.values())


def _columns(letters: Sequence[letter.Letter]) -> dict[str, object]:
    """Return the values of the letters, by the names of the statement's parameters."""
    return {
        "keys": [each.key for each in letters],
        "deliveries": [each.delivery for each in letters],
        "counts": [each.count for each in letters],
        "first_at": [each.first_at for each in letters],
        "last_at": [each.last_at for each in letters],
        "destinations": [each.destination for each in letters],
        "codes": [each.code for each in letters],
        "sentences": [each.sentence for each in letters],
        "event_ids": [each.event_id for each in letters],
        "sources": [each.source for each in letters],
        "types": [each.type for each in letters],
        "attributes": [each.attributes for each in letters],
        "data": [each.data for each in letters],
        "data_base64": [each.data_base64 for each in letters],
        "forms": [each.form.value for each in letters],
    }
