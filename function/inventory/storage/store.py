"""The ledger in Postgres: batches of changes in, state and history out.

A request's changes are stored in at most two transactions: one appends what is plainly newer, which is nearly all there
is, and one merges the rest (docs/concepts.md says why there are two ways). Each is one round trip, whatever its size,
and each change is in one of them, with its state and its history. Of instances that were merged, a third one looks
whether their machines show them.
All statements keep the greater of what is there and what comes, by one total order; repeating or reordering them
changes nothing, which is why a transaction may be run again when nobody knows whether it was committed.

The statements are in ``sql/``; their comments say what they lock, and in which order.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import pathlib
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from function.clients import postgres, statements
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import shared_write

AnyRow = TypeVar("AnyRow", bound=versions.Row)


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


SQL = statements.load(pathlib.Path(__file__).parent / "sql", "machines", "instances", "runtime", "writers", "locks")
APPEND_MACHINES = ("append_machines",)
APPEND_INSTANCES = ("append_instances",)
MERGE_MACHINES = ("lock_machines", "merge_machines", "outcomes_machines")
MERGE_INSTANCES = (
    "lock_instances",
    "merge_instances",
    "remember_instances",
    "lock_shown",
    "show_instances",
    "outcomes_instances",
)
NOTE_SECONDS = 1.0
"""How old the note of who was heard may be: it is a row that each group of events would write, hundreds a second."""
_TOGETHER = ("together",)
_NOTED = ("note_events",)
_NOT_FREE_MACHINES = ("together", "reach_tables", "not_free_machines")
_NOT_FREE_INSTANCES = ("together", "reach_tables", "not_free_instances")
_ALL = (*_TOGETHER, *APPEND_MACHINES, *APPEND_INSTANCES, *MERGE_MACHINES, *MERGE_INSTANCES)


@dataclasses.dataclass(frozen=True)
class Known(Generic[AnyRow]):
    """What the state holds of an object: the row, its version's number, and since when it counts."""

    row: AnyRow
    number: int
    effective_at: datetime.datetime

    def number_at(self, when: datetime.datetime) -> int:
        """Return the number of a change that is known by its time alone: this version's, or -1 where this is later."""
        return self.number if self.effective_at <= when else -1


@dataclasses.dataclass(frozen=True)
class _Waits:
    """Until when a transaction may take, and how long it waits for a lock, as :meth:`postgres.Database.run` has it."""

    until: float
    lock: float | None


class Store:
    """The ledger's tables."""

    def __init__(self, db: postgres.Database) -> None:
        self._database = db
        self._writer = uuid.uuid4().hex
        self._noted: dict[tuple[str, str], float] = {}
        db.probe(_write_nothing)

    def write(
        self,
        changes: Sequence[versions.Change],
        timeout: float | None = None,
        *,
        listed: bool = False,
        lock_wait: float | None = None,
    ) -> list[Outcome]:
        """Store changes of virtual machines, and return what became of each once it is committed.

        timeout: seconds; by default the database's. lock_wait: as :meth:`postgres.Database.run` has it.
        listed: they come from a list of the cluster, not from events; so no older list speaks against them.

        Raises what :meth:`postgres.Database.run` raises; then nothing of the batch is acknowledged: some of it may be
        stored, and it may be written again.
        """
        waits = _Waits(self._database.deadline(timeout), lock_wait)
        stored = {*self._run(APPEND_MACHINES, _newest(changes), waits, kind="VirtualMachine", listed=listed)}
        rest = _rest(changes, stored)
        merged = self._run(MERGE_MACHINES, rest, waits, kind=None, listed=listed) if rest else []
        return _outcomes(changes, stored, merged)

    def write_instances(
        self,
        changes: Sequence[versions.Change],
        timeout: float | None = None,
        *,
        listed: bool = False,
        lock_wait: float | None = None,
    ) -> list[Outcome]:
        """Store changes of running instances, as :meth:`write` does, and what they say of their machines."""
        waits = _Waits(self._database.deadline(timeout), lock_wait)
        newest, kind = _newest(changes), "VirtualMachineInstance"
        stored = {*self._run(APPEND_INSTANCES, newest, waits, kind=kind, listed=listed)}
        rest = _rest(changes, stored)
        merged = self._run(MERGE_INSTANCES, rest, waits, kind=None, listed=listed) if rest else []
        if rest:
            self._meet_machines(_json(rest), waits)
        return _outcomes(changes, stored, merged)

    @property
    def machines(self) -> shared_write.Table[versions.Change, Outcome]:
        """The tables of the machines, for a group commit."""
        return self._table("vm_state", self.write, self._not_free(_NOT_FREE_MACHINES))

    @property
    def instances(self) -> shared_write.Table[versions.Change, Outcome]:
        """The tables of the instances, for a group commit. An instance needs the row of its machine too."""
        return self._table("vm_runtime", self.write_instances, self._not_free(_NOT_FREE_INSTANCES))

    def _table(
        self, name: str, write: Callable[..., list[Outcome]], not_free: Callable[..., dict[Hashable, bool]]
    ) -> shared_write.Table[versions.Change, Outcome]:
        return shared_write.Table(write, not_free, self._database.wait_until_free, lambda change: change.key, name)

    def _not_free(self, names: Sequence[str]) -> Callable[..., dict[Hashable, bool]]:
        """Return what returns the keys of the changes whose rows cannot be locked now, and whether they are locked."""

        def not_free(changes: Sequence[versions.Change], timeout: float, *, lock_wait: float) -> dict[Hashable, bool]:
            def work(cursor: postgres.Cursor) -> dict[Hashable, bool]:
                cursor.execute(SQL.ready(cursor, *names), {"rows": _json(changes)})
                return {row[:-1]: row[-1] for row in cursor.fetchall()}

            return self._database.run(work, timeout=timeout, lock_wait=lock_wait)

        return not_free

    def machine(self, cluster: str, namespace: str, name: str) -> Known[vm.VirtualMachine] | None:
        """Return what the ledger knows of a virtual machine, deleted or not."""
        return self._known("known_machine", vm.VirtualMachine, cluster, namespace, name)

    def instance(self, cluster: str, namespace: str, name: str) -> Known[instance.Instance] | None:
        """Return what the ledger knows of the newest instance of that name, gone or not."""
        return self._known("known_instance", instance.Instance, cluster, namespace, name)

    def _known(
        self, statement: str, kind: type[AnyRow], cluster: str, namespace: str, name: str
    ) -> Known[AnyRow] | None:
        def work(cursor: postgres.Cursor) -> tuple[Any, ...] | None:
            found = SQL.run(cursor, statement, {"cluster": cluster, "namespace": namespace, "name": name})
            return found[0] if found else None

        found = self._database.run(work)
        return None if found is None else Known(msgspec.json.decode(found[0], type=kind), *found[1:])

    def _meet_machines(self, rows: str, waits: _Waits) -> None:
        """Copy the instances' facts once more where a machine was not known, or does not show them.

        Its first event was, or still is, under way in another transaction: neither saw the other.
        """

        def work(cursor: postgres.Cursor) -> None:
            if SQL.run(cursor, "count_unshown", {"rows": rows}) != [(0,)]:
                cursor.execute(SQL.ready(cursor, "alone", "show_instances"), {"rows": rows})

        self._database.run(work, until=waits.until, lock_wait=waits.lock)

    def _run(
        self, names: Sequence[str], changes: Sequence[versions.Change], waits: _Waits, *, kind: str | None, listed: bool
    ) -> list[tuple[Any, ...]]:
        """Run one transaction over some changes; note that events of ``kind`` were heard, where there is one."""
        parameters: dict[str, Any] = {"rows": _json(changes), "lists": not listed}
        clusters = [] if kind is None or listed else self._unnoted(changes, kind)
        noted: Sequence[str] = _NOTED if clusters else ()
        parameters |= {"writer": self._writer, "clusters": clusters, "kind": kind}

        def work(cursor: postgres.Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(SQL.ready(cursor, *_TOGETHER, *noted, *names), parameters)
            return cursor.fetchall()

        began = time.monotonic()
        found = self._database.run(work, until=waits.until, lock_wait=waits.lock)
        self._noted |= dict.fromkeys(((cluster, str(kind)) for cluster in clusters), began)
        return found

    def _unnoted(self, changes: Sequence[versions.Change], kind: str) -> list[str]:
        """Return the clusters of some changes of which no event of that kind was noted lately."""
        since = time.monotonic() - NOTE_SECONDS
        clusters = {change.key[0] for change in changes}
        return sorted(cluster for cluster in clusters if self._noted.get((cluster, kind), since) <= since)


def _write_nothing(cursor: postgres.Cursor) -> None:
    """Write an empty batch: it needs the tables and the rights that any batch needs."""
    cursor.execute(SQL.ready(cursor, *_ALL), {"rows": "[]", "lists": True})


def _newest(changes: Sequence[versions.Change]) -> list[versions.Change]:
    """Return the newest change of each object, kept over others about the same version."""
    newest: dict[tuple[str, ...], versions.Change] = {}
    for change in sorted(changes, key=lambda change: change.rank, reverse=True):
        known = newest.get(change.key)
        if known is None or change.version.order >= known.version.order:
            newest[change.key] = change
    return list(newest.values())


def _rest(changes: Sequence[versions.Change], stored: set[tuple[Any, ...]]) -> list[versions.Change]:
    """Return the changes that an append left out; several that are the same count as one."""
    if len(stored) == len(changes):
        return []
    return [change for change in changes if _identity(change) not in stored]


def _identity(change: versions.Change) -> tuple[object, ...]:
    """Return what tells a change of a batch from the others, as the database returns it."""
    return (*change.key, change.version.number, change.version.step, change.rank[-1])


def _json(changes: Sequence[versions.Change]) -> str:
    return "[" + b",".join([change.payload for change in changes]).decode() + "]"


def _outcomes(
    changes: Sequence[versions.Change], stored: set[tuple[Any, ...]], merged: Sequence[tuple[Any, ...]]
) -> list[Outcome]:
    """Return what became of each change; of several that are the same, the first was stored."""
    if len(stored) == len(changes):
        return [Outcome.STORED] * len(changes)
    found = {tuple(row[:-2]): _outcome(newest=row[-2], outranked=row[-1]) for row in merged}
    found |= dict.fromkeys(stored, Outcome.STORED)
    return [found.pop(_identity(change), Outcome.DUPLICATE) for change in changes]


def _outcome(*, newest: bool, outranked: bool) -> Outcome:
    if newest:
        return Outcome.STORED
    return Outcome.OUTRANKED if outranked else Outcome.LATE
