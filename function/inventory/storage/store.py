"""The ledger in Postgres: batches of changes in, state and history out.

A request's changes are stored in at most two transactions: one for what is plainly newer, which is nearly all there is,
and one for the rest; each is one round trip, whatever its size, and each change is in one of them, with its state and
its history.
All statements keep the greater of what is there and what comes, by one total order; repeating or reordering them
changes nothing, which is why a transaction may be run again when nobody knows whether it was committed.

Writers hold a weak lock on ``clusters``, taken before they look at anything.
Whoever must know that no writer is under way with an older view, because a list was completed or an epoch began, takes
that table's strong lock for a moment (:data:`ALONE`).
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
import psycopg2.extensions

from function.clients import postgres
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import tables

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


_KEY = ("cluster", "namespace", "name")
_BYTEWISE = 'text COLLATE "C"'
_RUNTIME = ("node", "ip_addresses", "guest_os", "phase", "live_vcpus", "live_memory_bytes")
_SIZED = ("instancetype_vcpus", "instancetype_memory_bytes", "instancetype_revision")
_RUNS = "i.cluster = {0}.cluster AND i.namespace = {0}.namespace AND i.name = {0}.name AND i.owner_uid = {0}.uid"

MACHINES = tables.Pair(
    state="vm_state",
    history="vm_history",
    types={
        **dict.fromkeys(("id", *_KEY), _BYTEWISE),
        **dict.fromkeys(("type", "kind", "uid", "memory", "storageclass", "network", "instancetype"), "text"),
        **dict.fromkeys(("preference", "run_strategy", "status", "os", "architecture", "machine_type"), "text"),
        **dict.fromkeys(("cpucores", "cpusockets", "cputhreads", "vcpus", "disks"), "integer"),
        **dict.fromkeys(("resource_version", "generation", "memory_bytes", "disk_bytes"), "bigint"),
        **dict.fromkeys(("time", "created_at", "deleted_at"), "timestamptz"),
        "labels": "jsonb",
    },
    key=_KEY,
    stored_as={"vcpus": "spec_vcpus", "memory_bytes": "spec_memory_bytes"},
    floor="machines",
    tombstone={"kind": "'VirtualMachine'", "deleted_at": "r.machines_time"},
    joined={**{name: f"i.{name}" for name in _RUNTIME}, "runtime_seen_at": "i.effective_at"},
    join=f"LEFT JOIN LATERAL (SELECT * FROM vm_runtime AS i WHERE {_RUNS.format('r')} LIMIT 1) AS i ON true",
    same=("uid", "instancetype"),
    reset={
        name: "CASE WHEN (known.uid, known.instancetype) IS NOT DISTINCT FROM (excluded.uid, excluded.instancetype)"
        f" THEN known.{name} END"
        for name in _SIZED
    },
)
"""The virtual machines. A machine's sizes by its instancetype hold for that machine and that instancetype."""

INSTANCES = tables.Pair(
    state="vm_runtime",
    history="vm_runtime_history",
    types={
        **dict.fromkeys(("id", *_KEY, "owner_uid"), _BYTEWISE),
        **dict.fromkeys(("type", "uid", "node", "guest_os", "phase"), "text"),
        **dict.fromkeys(("resource_version", "live_memory_bytes"), "bigint"),
        **dict.fromkeys(("time", "deleted_at"), "timestamptz"),
        "ip_addresses": "text[]",
        "live_vcpus": "integer",
    },
    key=(*_KEY, "owner_uid"),
    floor="instances",
    tombstone={"phase": "'Gone'", "deleted_at": "r.instances_time"},
    lasting={
        **{name: f"{{}}.{name}" for name in ("node", "guest_os", "live_vcpus", "live_memory_bytes")},
        "ip_addresses": "nullif({}.ip_addresses, ARRAY[]::text[])",
    },
)
"""What runs: one object for each machine that ever ran, by the machine's uid, through all its starts."""

_MINE = f"SELECT DISTINCT {', '.join(_KEY)} FROM json_to_recordset($1) AS r (cluster text, namespace text, name text)"
_FROM_INSTANCE = (*_RUNTIME, "runtime_seen_at")

SHOW_RUNTIME = f"""
UPDATE vm_state AS known
SET ({", ".join(_FROM_INSTANCE)}) = ({", ".join(f"found.{name}" for name in _FROM_INSTANCE)}), updated_at = now()
FROM ({_MINE}) AS r
CROSS JOIN LATERAL (
    SELECT s.uid, {", ".join(f"i.{name}" for name in _RUNTIME)}, i.effective_at AS runtime_seen_at
    FROM vm_state AS s LEFT JOIN vm_runtime AS i ON {_RUNS.format("s")}
    WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    LIMIT 1
) AS found
WHERE known.cluster = r.cluster AND known.namespace = r.namespace AND known.name = r.name
  AND ({", ".join(f"known.{name}" for name in _FROM_INSTANCE)})
      IS DISTINCT FROM ({", ".join(f"found.{name}" for name in _FROM_INSTANCE)})
"""
"""Copy what the instances say into the state of their machines, where it differs."""

LOCK_MACHINES = f"""
SELECT count(*)
FROM (
    SELECT FROM ({_MINE}) AS r
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    ORDER BY s.cluster, s.namespace, s.name
    FOR NO KEY UPDATE OF s
) AS locked
"""
"""Lock the machines of some changes, in the order that all writers take."""

STRANGERS = f"""
SELECT count(*) FROM json_to_recordset($1) AS r (cluster text, namespace text, name text, owner_uid text)
WHERE NOT EXISTS (
    SELECT FROM vm_state AS s JOIN vm_runtime AS i ON {_RUNS.format("s")}
    WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.uid = r.owner_uid
      AND ({", ".join(f"s.{name}" for name in _FROM_INSTANCE)})
          IS NOT DISTINCT FROM ({", ".join(f"i.{name}" for name in _RUNTIME)}, i.effective_at)
)
"""
"""Count the instances whose machine is not known, or does not show them."""

HEARD = """
INSERT INTO ledger_heard AS known (writer, cluster, kind, last_event_at) VALUES ($1, $2, $3, now())
ON CONFLICT (writer, cluster, kind) DO UPDATE SET last_event_at = now(), updated_at = now()
"""

_MERGE_MACHINES = [*MACHINES.merge(), SHOW_RUNTIME, MACHINES.outcomes()]
_MERGE_INSTANCES = [*INSTANCES.merge(), LOCK_MACHINES, SHOW_RUNTIME, INSTANCES.outcomes()]


def _prepared(name: str, statements: Sequence[str]) -> str:
    """Return what prepares some statements as name_0, name_1, ...; each may look at whether lists count."""
    return "".join(f"PREPARE {name}_{number} (json, boolean) AS {sql};\n" for number, sql in enumerate(statements))


def _executed(name: str, statements: Sequence[str]) -> str:
    """Return what runs them, with the parameters ``rows`` and ``lists``."""
    return "; ".join(f"EXECUTE {name}_{number} (%(rows)s, %(lists)s)" for number in range(len(statements)))


PREPARE = (
    _prepared("vmledger_append", [MACHINES.append()])
    + _prepared("vmledger_machines", _MERGE_MACHINES)
    + _prepared("vmledger_instances", _MERGE_INSTANCES)
    + f"PREPARE vmledger_runtime (json) AS {SHOW_RUNTIME}; PREPARE vmledger_strangers (json) AS {STRANGERS};"
    + f"PREPARE vmledger_heard (text, text, text) AS {HEARD};"
)
TOGETHER = "LOCK TABLE clusters IN ROW SHARE MODE; "
"""What every writer begins with: the statements after it see what was committed before."""
ALONE = "LOCK TABLE clusters IN EXCLUSIVE MODE; "
"""Waits until no writer is under way, and keeps others waiting until the end of the transaction."""
APPEND = _executed("vmledger_append", [""])
MERGE_MACHINES = _executed("vmledger_machines", _MERGE_MACHINES)
MERGE_INSTANCES = _executed("vmledger_instances", _MERGE_INSTANCES)
PROBE = TOGETHER + "; ".join([APPEND, MERGE_MACHINES, MERGE_INSTANCES]) % {"rows": "'[]'", "lists": "true"}
"""An empty batch: it needs the tables and the rights that any batch needs."""


@dataclasses.dataclass(frozen=True)
class Known(Generic[AnyRow]):
    """What the state holds of an object: the row, its version's number, and since when it counts."""

    row: AnyRow
    number: int
    effective_at: datetime.datetime

    def number_at(self, when: datetime.datetime) -> int:
        """Return the number of a change that is known by its time alone: this version's, or -1 where this is later."""
        return self.number if self.effective_at <= when else -1


class Store:
    """The ledger's tables."""

    def __init__(self, db: postgres.Database) -> None:
        self._database = db
        self._writer = uuid.uuid4().hex
        db.prepare(PREPARE, probe=PROBE)

    def write(
        self, changes: Sequence[versions.Change], timeout: float | None = None, *, listed: bool = False
    ) -> list[Outcome]:
        """Store changes of virtual machines, and return what became of each once it is committed.

        timeout: seconds; by default the database's.
        listed: they come from a list of the cluster, not from events; so no older list speaks against them.

        Raises what :meth:`database.Database.run` raises; then nothing of the batch is acknowledged: some of it may be
        stored, and it may be written again.
        """
        until = self._database.deadline(timeout)
        stored = {*self._run(APPEND, _newest(changes), until, kind="VirtualMachine", listed=listed)}
        if len(stored) == len(changes):
            return [Outcome.STORED] * len(changes)
        rest = [change for change in changes if _identity(change) not in stored]
        merged = self._run(MERGE_MACHINES, rest, until, kind=None, listed=listed) if rest else []
        return _outcomes(changes, stored, merged)

    def write_instances(
        self, changes: Sequence[versions.Change], timeout: float | None = None, *, listed: bool = False
    ) -> list[Outcome]:
        """Store changes of running instances, as :meth:`write` does, and what they say of their machines."""
        until = self._database.deadline(timeout)
        merged = self._run(MERGE_INSTANCES, changes, until, kind="VirtualMachineInstance", listed=listed)
        self._meet_machines(_json(changes), until)
        return _outcomes(changes, set(), merged)

    def machine(self, cluster: str, namespace: str, name: str) -> Known[vm.VirtualMachine] | None:
        """Return what the ledger knows of a virtual machine, deleted or not."""
        return self._known(MACHINES, vm.VirtualMachine, cluster, namespace, name)

    def instance(self, cluster: str, namespace: str, name: str) -> Known[instance.Instance] | None:
        """Return what the ledger knows of the newest instance of that name, gone or not."""
        return self._known(INSTANCES, instance.Instance, cluster, namespace, name)

    def _known(
        self, pair: tables.Pair, kind: type[AnyRow], cluster: str, namespace: str, name: str
    ) -> Known[AnyRow] | None:
        def work(cursor: psycopg2.extensions.cursor) -> tuple[Any, ...] | None:
            cursor.execute(pair.known(), {"cluster": cluster, "namespace": namespace, "name": name})
            return cursor.fetchone()

        found = self._database.run(work)
        return None if found is None else Known(msgspec.json.decode(found[0], type=kind), *found[1:])

    def _meet_machines(self, rows: str, until: float) -> None:
        """Copy the instances' facts once more where a machine was not known, or does not show them.

        Its first event was, or still is, under way in another transaction: neither saw the other.
        """

        def work(cursor: psycopg2.extensions.cursor) -> None:
            cursor.execute("EXECUTE vmledger_strangers (%s)", [rows])
            if cursor.fetchone() != (0,):
                cursor.execute(ALONE + "EXECUTE vmledger_runtime (%s)", [rows])

        self._database.run(work, until=until)

    def _run(
        self, sql: str, changes: Sequence[versions.Change], until: float, *, kind: str | None, listed: bool
    ) -> list[tuple[Any, ...]]:
        """Run one transaction over some changes; note that events of ``kind`` were heard, where there is one."""
        parameters: dict[str, Any] = {"rows": _json(changes), "lists": not listed}
        heard = ""
        if kind is not None and not listed:
            parameters |= {"writer": self._writer, "kind": kind}
            for number, cluster in enumerate(sorted({change.key[0] for change in changes})):
                heard += f"EXECUTE vmledger_heard (%(writer)s, %(cluster_{number})s, %(kind)s); "
                parameters[f"cluster_{number}"] = cluster

        def work(cursor: psycopg2.extensions.cursor) -> list[tuple[Any, ...]]:
            cursor.execute(TOGETHER + heard + sql, parameters)
            return cursor.fetchall()

        return self._database.run(work, until=until)


def _newest(changes: Sequence[versions.Change]) -> list[versions.Change]:
    """Return the newest change of each object, kept over others about the same version."""
    newest: dict[tuple[str, ...], versions.Change] = {}
    for change in sorted(changes, key=lambda change: change.rank, reverse=True):
        known = newest.get(change.key)
        if known is None or change.version.order >= known.version.order:
            newest[change.key] = change
    return list(newest.values())


def _identity(change: versions.Change) -> tuple[object, ...]:
    """Return what tells a change of a batch from the others, as the database returns it."""
    return (*change.key, change.version.number, change.version.step, change.rank[-1])


def _json(changes: Sequence[versions.Change]) -> str:
    return "[" + b",".join([change.payload for change in changes]).decode() + "]"


def _outcomes(
    changes: Sequence[versions.Change], stored: set[tuple[Any, ...]], merged: Sequence[tuple[Any, ...]]
) -> list[Outcome]:
    """Return what became of each change; of several that are the same, the first was stored."""
    found = {tuple(row[:-2]): _outcome(newest=row[-2], outranked=row[-1]) for row in merged}
    found |= dict.fromkeys(stored, Outcome.STORED)
    return [found.pop(_identity(change), Outcome.DUPLICATE) for change in changes]


def _outcome(*, newest: bool, outranked: bool) -> Outcome:
    if newest:
        return Outcome.STORED
    return Outcome.OUTRANKED if outranked else Outcome.LATE
