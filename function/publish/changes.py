"""The changes in the ledger's tables, a portion at a time, and the row that keeps how far they were published."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
from collections.abc import Sequence
from typing import Any

import msgspec

from function.clients import postgres_session, statements
from function.publish import message, position

BATCH = 1000
"""Versions in a portion; more where several of one VM count since the same moment."""
NEEDS = postgres_session.Needs(
    statement=600,
    lock=4,
    planner={
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
    },
)
"""Only a beginning takes long, where each month is read; all other plans go by index, whatever the statistics are."""
SQL = statements.load(pathlib.Path(__file__).parent / "sql")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portion:
    """Some changes in the order in which they are sent.

    last: the place of the last version that was read. complete: nothing of the window is left after it.
    """

    messages: Sequence[message.Message]
    last: Sequence[str]
    complete: bool


class Ledger:
    """What `publish` asks of the database, over the session that holds its lock; batch: versions in a portion."""

    def __init__(self, session: postgres_session.Session, batch: int = BATCH) -> None:
        self._session = session
        self._batch = batch

    def _run(self, statement: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._session.cursor() as cursor:
            return SQL.run(cursor, statement, parameters)

    def look(self) -> position.Moment:
        """Return the snapshot of now."""
        [(snapshot, at, system)] = self._run("look")
        return position.Moment(snapshot=snapshot, at=at, system=system)

    def has_foreign(self, moment: position.Moment) -> bool:
        """Return whether versions have ids of transactions that this Postgres cluster has not had yet."""
        edge = position.Snapshot.read(moment.snapshot).edge
        [(found,)] = self._run("has_foreign", {"edge": edge, "before": moment.at - position.CLOCKS})
        return bool(found)

    def kept(self) -> position.Position | None:
        """Return how far the changes were published; None where nothing ever was."""
        for told, told_at, since, target, target_at, after, system, cut_at in self._run("read_position"):
            return position.Position(
                told=told,
                told_at=told_at,
                since=since,
                target=target,
                target_at=target_at,
                after=tuple(after),
                system=system,
                cut_at=cut_at,
            )
        return None

    def write(self, at: position.Position) -> None:
        """Note how far the changes were published."""
        updated_at = datetime.datetime.now(datetime.UTC)
        self._run("write_position", {**dataclasses.asdict(at), "after": [*at.after], "updated_at": updated_at})

    def read(self, window: position.Window) -> Portion:
        """Return the next changes of a window."""
        told = {"edge": window.told.edge, "open": [*window.told.open], "cut_at": window.cut_at}
        found = self._run(
            "find_all" if window.whole else "find_recent",
            {
                **told,
                "target_edge": window.target.edge,
                "target_open": [*window.target.open],
                "after": [*window.after],
                "batch": self._batch,
                "since": window.since,
            },
        )
        rows = "[" + ",".join(row for row, *_ in found) + "]"
        changes = self._run("tell_changes", {**told, "rows": rows, "whole": window.whole}) if found else []
        messages = [
            message.message(
                msgspec.json.decode(found[number - 1][0], type=message.Version),
                found[number - 1][1:],
                what=what,
                time=at.isoformat(),
                body=body,
            )
            for number, what, at, body in changes
        ]
        last = found[-1][1:] if found else window.after
        return Portion(messages=messages, last=last, complete=len(found) < self._batch)
