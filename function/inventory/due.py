"""Which objects a prune looks at: all of them, or those of which something came since, or became old enough since.

What was looked through is remembered by the database's clock and by effective times, so it does not matter when a prune
runs, or with which spans. The objects that are due are in a table, and leave it in the transaction that looks at them:
a run that is stopped loses none.

Once in :data:`WHOLE` all objects are looked at: a version may get an earlier time, or be refuted, without being
recorded anew, and a cluster may get its first complete list long after its machines were gone.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

from function.clients import postgres, statements

WHOLE = datetime.timedelta(days=30)
MARGIN = datetime.timedelta(hours=1)
"""A version is recorded with the time at which its transaction began, and can be seen once that has ended."""
KEYS = {"machines": ("cluster", "namespace", "name"), "instances": ("cluster", "namespace", "name", "owner_uid")}
"""The columns of the key of each kind of object."""
FIRST = {objects: ("",) * len(columns) for objects, columns in KEYS.items()}
"""A key before all keys of each kind."""

Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cuts:
    """Up to which effective time versions go that are old, and those that are redundant; now: the database's time."""

    now: datetime.datetime
    old: datetime.datetime
    redundant: datetime.datetime


class Due:
    """The objects of a kind that a run looks at.

    kind: machines or instances. is_whole: whether these are all of them.
    """

    def __init__(self, sql: statements.Statements, cursor: postgres.Cursor, kind: str, cuts: Cuts) -> None:
        self._sql = sql
        self._cursor = cursor
        self.kind = kind
        self.cuts = cuts
        self.is_whole = True

    def find(self) -> None:
        """Note what is due since the last run, if not all is to be looked at."""
        [(looked_at, old, redundant, whole_at, _)] = self._run("find_looked_through", {"objects": self.kind})
        if whole_at is None or whole_at < self.cuts.now - WHOLE:
            return
        self.is_whole = False
        before = {"since": looked_at - MARGIN, "old_before": old, "redundant_before": redundant}
        self._cursor.execute("BEGIN")
        self._run(f"find_due_{self.kind}", {**before, "old": self.cuts.old, "redundant": self.cuts.redundant})
        self._note(whole_at)
        self._cursor.execute("COMMIT")

    def count(self) -> int:
        """Return how many there are."""
        name = f"count_{self.kind}" if self.is_whole else "count_left"
        [(count,)] = self._run(name, {"objects": self.kind})
        return int(count)

    def next(self, after: Key, batch: int) -> list[Key]:
        """Return the keys of the next ones after a key."""
        name = f"next_{self.kind}" if self.is_whole else f"next_due_{self.kind}"
        return self._run(name, {"after": list(after), "batch": batch})

    def leave(self, keys: Iterable[Key]) -> None:
        """Leave some to the next run."""
        self._run(f"leave_{self.kind}", {"rows": rows(self.kind, keys)})

    def end(self, keys: Iterable[Key]) -> None:
        """Note that these were looked at."""
        self._run(f"end_due_{self.kind}", {"rows": rows(self.kind, keys)})

    def close(self) -> None:
        """Note, after all objects, that all were looked at."""
        if self.is_whole:
            self._note(self.cuts.now)

    def _note(self, whole_at: datetime.datetime) -> None:
        looked = {"objects": self.kind, "looked_at": self.cuts.now, "whole_at": whole_at}
        self._run("note_looked_through", {**looked, "old": self.cuts.old, "redundant": self.cuts.redundant})

    def _run(self, name: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self._sql.run(self._cursor, name, parameters)


def rows(kind: str, keys: Iterable[Key]) -> str:
    """Return keys as the statements take them: JSON objects."""
    return json.dumps([dict(zip(KEYS[kind], key, strict=True)) for key in keys])
