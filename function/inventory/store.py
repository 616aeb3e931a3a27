"""The ledger in Postgres: batches of changes in, state and history out.

A batch is one transaction and one round trip, whatever its size.
State first: its upsert locks the row of each VM, in the order of their keys, whether or not it changes it.
So writers of the same VM take turns, no two can wait for each other, and the history that follows sees what the
writers before have committed.
Both statements keep the greater of what is there and what comes, by one total order; repeating or reordering them
changes nothing, which is why a transaction may be run again when nobody knows whether it was committed.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import psycopg2.extensions

from function import database
from function.inventory import vm


class Outcome(enum.Enum):
    """What became of a change."""

    STORED = "stored"
    """It is the newest version known; state and history have it."""
    LATE = "late"
    """The history has it; a newer version was known already."""
    OUTRANKED = "outranked"
    """As late: it has no resource version, and the VM is tracked by those."""
    DUPLICATE = "duplicate"
    """Its version was known, at least as fully."""


_COLUMNS = (*vm.COLUMNS, "version_number", "version_time", "version_step", "shape", "digest")
_KEY = ("cluster", "namespace", "name")
_VERSION = ("version_number", "version_time", "version_step")
_IDENTITY = (*_KEY, *_VERSION)


def _list(names: Sequence[str], prefix: str = "") -> str:
    return ", ".join(prefix + name for name in names)


_BETTER = """
    (-excluded.shape, coalesce(excluded.time, 'infinity'), excluded.id, excluded.digest)
  < (-known.shape, coalesce(known.time, 'infinity'), known.id, known.digest)"""
_VALUES = [name for name in _COLUMNS if name not in _KEY]

_WRITE_STATE = f"""
INSERT INTO vm_state AS known ({_list(_COLUMNS)})
SELECT {_list(_COLUMNS)}
FROM json_populate_recordset(NULL::vm_state, $1)
ORDER BY cluster, namespace, name
ON CONFLICT (cluster, namespace, name) DO UPDATE
SET ({_list(_VALUES)}, updated_at) = ROW ({_list(_VALUES, "excluded.")}, now())
WHERE ({_list(_VERSION, "excluded.")}) > ({_list(_VERSION, "known.")})
   OR (({_list(_VERSION, "excluded.")}) = ({_list(_VERSION, "known.")}) AND {_BETTER})
"""

_WRITE_HISTORY = f"""
WITH recorded AS (
    INSERT INTO vm_history AS known ({_list(_COLUMNS)})
    SELECT {_list(_COLUMNS)}
    FROM json_populate_recordset(NULL::vm_history, $1)
    ON CONFLICT ({_list(_IDENTITY)}) DO UPDATE
    SET ({_list(_VALUES)}, recorded_at) = ROW ({_list(_VALUES, "excluded.")}, now())
    WHERE {_BETTER}
    RETURNING {_list(_IDENTITY)}, digest
)
SELECT {_list(_KEY, "recorded.")}, recorded.version_number, recorded.version_step, recorded.digest,
       ({_list(_VERSION, "recorded.")}) = ({_list(_VERSION, "state.")}),
       recorded.version_number < 0 AND state.version_number >= 0
FROM recorded
CROSS JOIN LATERAL (
    SELECT {_list(_VERSION)} FROM vm_state WHERE ({_list(_KEY)}) = ({_list(_KEY, "recorded.")}) LIMIT 1
) AS state
"""
"""Returns what it recorded, and how each stands to the state; by one look-up in an index for each, at any size."""

PREPARE = f"""
PREPARE vmledger_state (json) AS {_WRITE_STATE};
PREPARE vmledger_history (json) AS {_WRITE_HISTORY};
"""
PROBE = "EXECUTE vmledger_state ('[]'); EXECUTE vmledger_history ('[]')"
"""An empty batch: it needs the tables and the rights that any batch needs."""
WRITE = "EXECUTE vmledger_state (%s); EXECUTE vmledger_history (%s)"


class Store:
    """The ledger's tables."""

    def __init__(self, db: database.Database) -> None:
        self._database = db
        db.prepare(PREPARE, probe=PROBE)

    def write(self, changes: Sequence[vm.Change], timeout: float | None = None) -> list[Outcome]:
        """Store ``changes`` in one transaction, and return what became of each once it is committed.

        timeout: seconds; by default the database's.

        Raises what :meth:`database.Database.run` raises; then nothing of the batch is stored, or, where the
        connection broke during the commit, nobody knows and the batch may be written again.
        """
        kept, newest = _distinct(changes)
        versions = list(kept.values())
        history = _json(versions)
        state = history if len(newest) == len(versions) else _json(list(newest.values()))

        def work(cursor: psycopg2.extensions.cursor) -> list[tuple[Any, ...]]:
            cursor.execute(WRITE, [state, history])
            return cursor.fetchall()

        rows = self._database.run(work, timeout=timeout)
        outcomes = {tuple(row[:-2]): _outcome(newest=row[-2], outranked=row[-1]) for row in rows}
        done = {id(change): outcomes.get(_identity(change), Outcome.DUPLICATE) for change in versions}
        return [done.get(id(change), Outcome.DUPLICATE) for change in changes]


def _identity(change: vm.Change) -> tuple[object, ...]:
    """Return what tells a change of a batch from the others, as the database returns it."""
    return (*change.key, change.version.number, change.version.step, change.rank[-1])


def _distinct(
    changes: Sequence[vm.Change],
) -> tuple[dict[tuple[object, ...], vm.Change], dict[tuple[str, str, str], vm.Change]]:
    """Return the kept change of each version, and the newest of each VM, both in the order of their keys."""
    kept: dict[tuple[object, ...], vm.Change] = {}
    newest: dict[tuple[str, str, str], vm.Change] = {}
    for change in sorted(changes, key=lambda change: change.order):
        if (*change.key, change.version) not in kept:
            kept[*change.key, change.version] = change
            newest[change.key] = change
    return kept, newest


def _json(changes: Sequence[vm.Change]) -> str:
    return "[" + b",".join([change.payload for change in changes]).decode() + "]"


def _outcome(*, newest: bool, outranked: bool) -> Outcome:
    if newest:
        return Outcome.STORED
    return Outcome.OUTRANKED if outranked else Outcome.LATE
