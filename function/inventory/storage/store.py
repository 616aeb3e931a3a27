"""The ledger in Postgres: batches of changes in, state and history out.

Changes of a kind are stored in at most two transactions: one appends what is plainly newer, which is nearly all there
is, and one merges the rest (docs/concepts.md says why there are two ways). Each change is in one of them, with its
state and its history. Of instances that were merged, a third one looks whether their machines show them.
What is appended of both kinds is one round trip, whatever its size: a round trip costs a busy pod more than an event
does, because its processor goes to Postgres and comes back to cold caches. It is a transaction for each kind still,
because each locks its rows in an order of its own.
All statements keep the greater of what is there and what comes, by one total order; repeating or reordering them
changes nothing, which is why a transaction may be run again when nobody knows whether it was committed.

The statements are in ``sql/``; their comments say what they lock, and in which order.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import pathlib
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from function import errors
from function.clients import postgres, postgres_errors, statements
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
_IDENTITIES = msgspec.json.Decoder(list[tuple[Any, ...]])
_NEXT = SQL.call("next_transaction").encode()
_TOGETHER = ("together",)
_NOTED = ("note_events",)
_ALL = (*_TOGETHER, *APPEND_MACHINES, *APPEND_INSTANCES, *MERGE_MACHINES, *MERGE_INSTANCES)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A kind of objects: what events call it, its rows, the table of its state, and its statements."""

    name: str
    row: type[versions.Row]
    table: str
    append: Sequence[str]
    merge: Sequence[str]
    not_free: Sequence[str]


_MACHINES = _Kind(
    name=vm.KIND,
    row=vm.VirtualMachine,
    table="vm_state",
    append=APPEND_MACHINES,
    merge=MERGE_MACHINES,
    not_free=("together", "reach_tables", "not_free_machines"),
)
_INSTANCES = _Kind(
    name=instance.KIND,
    row=instance.Instance,
    table="vm_runtime",
    append=APPEND_INSTANCES,
    merge=MERGE_INSTANCES,
    not_free=("together", "reach_tables", "not_free_instances"),
)
_KINDS = (_MACHINES, _INSTANCES)
"""In the order in which they are stored: a machine before its instance, which is shown in it."""


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
        self._batches = itertools.count()
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
        """Store changes of machines and of instances, and return what became of each once all are committed.

        timeout: seconds; by default the database's. lock_wait: as :meth:`postgres.Database.run` has it.
        listed: they come from a list of the cluster, not from events; so no older list speaks against them.

        Raises what :meth:`postgres.Database.run` raises; then nothing of the batch is acknowledged: some of it may be
        stored, and it may be written again. Raises :class:`shared_write.PartlyLocked` where the machines are stored.
        """
        if not changes:
            return []
        waits = _Waits(self._database.deadline(timeout), lock_wait)
        parts = _parts(changes)
        appended = self._append([(kind, _newest(part)) for kind, part in parts], waits, listed=listed)
        outcomes: dict[type[versions.Row], Iterator[Outcome]] = {}
        for (kind, part), stored in zip(parts, appended, strict=False):
            rest = _rest(part, stored)
            merged = self._merge(kind, rest, waits, listed=listed) if rest else []
            outcomes[kind.row] = iter(_outcomes(part, stored, merged))
        if len(appended) < len(parts):
            found = [next(outcomes[type(change.row)]) if type(change.row) in outcomes else None for change in changes]
            raise shared_write.PartlyLocked(postgres_errors.LOCKED, found)
        return [next(outcomes[type(change.row)]) for change in changes]

    @property
    def table(self) -> shared_write.Table[versions.Change, Outcome]:
        """What a group commit needs to write here."""
        return shared_write.Table(
            self.write, self._not_free, self._database.wait_until_free, lambda change: change.key, _tables
        )

    def _not_free(
        self, changes: Sequence[versions.Change], timeout: float, *, lock_wait: float
    ) -> dict[Hashable, bool]:
        """Return the keys of the changes whose rows cannot be locked now, and whether they are locked.

        An instance needs the row of its machine too.
        """
        until = self._database.deadline(timeout)
        found: dict[Hashable, bool] = {}
        for kind, part in _parts(changes):
            rows = self._database.run(_asking(kind.not_free, {"rows": _json(part)}), until=until, lock_wait=lock_wait)
            found |= {row[:-1]: row[-1] for row in rows}
        return found

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

    def _append(
        self, parts: Sequence[tuple[_Kind, Sequence[versions.Change]]], waits: _Waits, *, listed: bool
    ) -> list[set[tuple[Any, ...]]]:
        """Append what is plainly newer of each kind, in one round trip; return what identifies what was stored.

        It is of fewer kinds where a later one found something locked.
        Note that events of the kind were heard, where they are events.
        """
        clusters = [[] if listed else self._unnoted(part, kind.name) for kind, part in parts]
        batch = f"{self._writer} {next(self._batches)} "  # what a pooler's connection has from others is told apart
        calls: list[tuple[Sequence[str], dict[str, Any]]] = []
        for (kind, part), new in zip(parts, clusters, strict=True):
            given = {"rows": _json(part), "lists": not listed, "given": len(part), "batch": batch}
            given |= {"writer": self._writer, "clusters": new, "kind": kind.name}
            calls.append(((*_TOGETHER, *(_NOTED if new else ()), *kind.append), given))

        def work(cursor: postgres.Cursor) -> tuple[str, ...]:
            each = [cursor.mogrify(SQL.ready(cursor, *names), given) for names, given in calls]
            told = SQL.ready(cursor, "appended").encode() if len(each) > 1 else b""
            cursor.execute(_NEXT.join(each) + told)
            [found] = cursor.fetchall()
            return found

        began = time.monotonic()
        try:
            found = self._database.run(work, until=waits.until, lock_wait=waits.lock)
        except errors.Locked:
            found = self._committed(batch, waits) if len(parts) > 1 else ()
            if not found:
                raise
        for (kind, _), new, _told in zip(
            parts, clusters, found, strict=False
        ):  # of a kind that was not stored, nothing
            self._noted |= dict.fromkeys(((cluster, kind.name) for cluster in new), began)
        return [_stored(part, text.removeprefix(batch)) for (_, part), text in zip(parts, found, strict=False)]

    def _committed(self, batch: str, waits: _Waits) -> tuple[str, ...]:
        """Return what was told of a batch before something locked ended its message."""
        [told] = self._database.run(_asking(("appended",), {}), until=waits.until, lock_wait=waits.lock)
        return tuple(itertools.takewhile(lambda text: text is not None and text.startswith(batch), told))

    def _merge(
        self, kind: _Kind, rest: Sequence[versions.Change], waits: _Waits, *, listed: bool
    ) -> list[tuple[Any, ...]]:
        """Merge what is not plainly newer of a kind; return what became of what the history took."""
        rows = _json(rest)
        work = _asking((*_TOGETHER, *kind.merge), {"rows": rows, "lists": not listed})
        merged = self._database.run(work, until=waits.until, lock_wait=waits.lock)
        if kind is _INSTANCES:
            self._meet_machines(rows, waits)
        return merged

    def _meet_machines(self, rows: str, waits: _Waits) -> None:
        """Copy the instances' facts once more where a machine was not known, or does not show them.

        Its first event was, or still is, under way in another transaction: neither saw the other.
        """

        def work(cursor: postgres.Cursor) -> None:
            if SQL.run(cursor, "count_unshown", {"rows": rows}) != [(0,)]:
                cursor.execute(SQL.ready(cursor, "alone", "show_instances"), {"rows": rows})

        self._database.run(work, until=waits.until, lock_wait=waits.lock)

    def _unnoted(self, changes: Sequence[versions.Change], kind: str) -> list[str]:
        """Return the clusters of some changes of which no event of that kind was noted lately."""
        since = time.monotonic() - NOTE_SECONDS
        clusters = {change.key[0] for change in changes}
        return sorted(cluster for cluster in clusters if self._noted.get((cluster, kind), since) <= since)


def _parts(changes: Sequence[versions.Change]) -> list[tuple[_Kind, Sequence[versions.Change]]]:
    """Return the changes of each kind, where there are any."""
    parts = [(kind, [change for change in changes if type(change.row) is kind.row]) for kind in _KINDS]
    return [(kind, part) for kind, part in parts if part]


def _tables(changes: Sequence[versions.Change]) -> list[str]:
    """Return the names of the tables that changes are written to."""
    return [kind.table for kind, _ in _parts(changes)]


def _asking(names: Sequence[str], parameters: Mapping[str, Any]) -> Callable[[postgres.Cursor], list[tuple[Any, ...]]]:
    """Return the work of running some statements in one transaction, and returning the rows of the last one."""

    def work(cursor: postgres.Cursor) -> list[tuple[Any, ...]]:
        cursor.execute(SQL.ready(cursor, *names), parameters)
        return cursor.fetchall()

    return work


def _write_nothing(cursor: postgres.Cursor) -> None:
    """Write an empty batch: it needs the tables and the rights that any batch needs."""
    cursor.execute(SQL.ready(cursor, *_ALL), {"rows": "[]", "lists": True, "given": 0, "batch": ""})


def _newest(changes: Sequence[versions.Change]) -> list[versions.Change]:
    """Return the newest change of each object, kept over others about the same version."""
    newest: dict[tuple[str, ...], versions.Change] = {}
    for change in sorted(changes, key=lambda change: change.rank, reverse=True):
        known = newest.get(change.key)
        if known is None or change.version.order >= known.version.order:
            newest[change.key] = change
    return list(newest.values())


def _stored(changes: Sequence[versions.Change], text: str) -> set[tuple[Any, ...]]:
    """Return what identifies those of some changes that were appended, which the database tells unless it is all."""
    return set(_IDENTITIES.decode(text)) if text else {_identity(change) for change in changes}


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
