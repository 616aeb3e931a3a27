"""The SQL of a reconcile: how a complete list of the cluster differs from the ledger.

One connection of its own, for as long as the run: it holds the lock that keeps a second run of the cluster away, so
once it is lost the run is over, and it is not opened again but to say so.
What is compared is compared inside Postgres, page by page; no more than a page is in memory.
The ledger's rows are written by :mod:`function.inventory.storage.store`, through the connection of the event path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import psycopg2
import psycopg2.errors

from function import errors
from function.clients import kubernetes, postgres
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store, tables

AnyRow = TypeVar("AnyRow", bound=versions.Row)

STATEMENT_SECONDS = 60.0
"""A fleet of a million is counted in less."""
LOCK_SECONDS = 4.0
"""While it waits for the writers, new writers wait for it; their statements have 5 seconds."""
LOCK_ATTEMPTS = 5
LOCK_PAUSE = 0.1
"""Longer before each attempt."""
BATCH = 500
REVISIONS = "ControllerRevision"
"""The kind under which the names of the revisions are noted that instancetypes were taken from."""

SESSION = f"""
SET statement_timeout = '{int(STATEMENT_SECONDS * 1000)}ms';
SET lock_timeout = '{int(LOCK_SECONDS * 1000)}ms';
SET idle_in_transaction_session_timeout = '30s';
SET default_transaction_isolation = 'read committed';
SET TimeZone = 'UTC';
SET enable_seqscan = off;
SET jit = off;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
"""
"""What a run needs of a session, whatever the server's defaults.

What was just filled has no statistics yet, so the plans must be by index from the start: hence OFFSET 0 and LIMIT 1 in
what follows, which keep Postgres from turning a look-up for each row into a join.
"""

_IDENTITY = ("type", "id", "name", "namespace", "cluster", "time", "owner_uid", "deleted_at")
"""Columns that are no facts about an object."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Kind(Generic[AnyRow]):
    """A kind of object that is reconciled.

    noun: what people call several. change: an event and ``cluster_name`` to a change, or None for an object that is no
    business of the ledger. ordered: a row and ``number`` to a change.
    """

    name: str
    noun: str
    short: str
    resource: kubernetes.Resource
    pair: tables.Pair
    row: type[AnyRow]
    change: Callable[..., versions.Change | None]
    ordered: Callable[..., versions.Change]

    @property
    def place(self) -> tuple[str, ...]:
        """The columns that tell an object of this kind from others of its cluster."""
        return self.pair.key[1:]


MACHINES = Kind(
    name=vm.KIND,
    noun="virtual machines",
    short="VM",
    resource=kubernetes.VMS,
    pair=store.MACHINES,
    row=vm.VirtualMachine,
    change=vm.change,
    ordered=vm.ordered,
)
INSTANCES = Kind(
    name=instance.KIND,
    noun="running instances",
    short="VMI",
    resource=kubernetes.VMIS,
    pair=store.INSTANCES,
    row=instance.Instance,
    change=instance.change,
    ordered=instance.ordered,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """What is known of a cluster before its list begins.

    uid: its identity, None before the first run. epoch: of the changes that are made now. highest: the greatest
    resource version of that epoch. live: the VMs that live. began: now, by the database's clock.
    """

    uid: str | None
    epoch: int
    highest: int
    live: int
    began: datetime.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """The moment that a list shows; changes that are ordered by it belong to ``epoch`` and were seen at ``began``."""

    epoch: int
    version: int
    began: datetime.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How the ledger stands to an object of the list from which it differs.

    recent: the ledger knows it by its time alone, and learned it when the list had begun.
    """

    lives: bool
    epoch: int
    version: versions.Version
    shape: int
    recent: bool
    resource_version: int | None


@dataclasses.dataclass(frozen=True)
class Lost(Generic[AnyRow]):
    """A live row of the ledger that the list does not hold, and its version."""

    row: AnyRow
    epoch: int
    version: versions.Version


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unsized:
    """A machine whose size only its instancetype says; uid, resource version and generation as the ledger has them."""

    namespace: str
    name: str
    uid: str | None
    resource_version: int | None
    generation: int | None
    revision: str


class Lists:
    """What a reconcile asks of the database about one cluster.

    Everything raises :class:`errors.Unavailable`, or :class:`errors.BadEvent` for a value that Postgres cannot hold.
    """

    def __init__(self, keywords: Mapping[str, Any], cluster: str) -> None:
        self._keywords = dict(keywords)
        self._cluster = cluster
        self._connection: postgres.Connection | None = None
        self._noted: dict[str, int] = {}

    def open(self) -> None:
        """Connect."""
        with postgres.translated(), postgres.within(postgres.CONNECT_SECONDS):
            self._connection = postgres.connect(postgres.resolved(self._keywords, postgres.CONNECT_SECONDS))
            with self._connection.cursor() as cursor:
                cursor.execute(SESSION)

    def close(self) -> None:
        """Let the lock go, and close the connection: the server would take a moment to see that by itself."""
        with contextlib.suppress(errors.Unavailable):
            self._ask("SELECT pg_advisory_unlock_all()")
        self._drop()

    def alone(self) -> bool:
        """Take the lock that a run holds to its end; return whether it was free."""
        for attempt in range(LOCK_ATTEMPTS):
            time.sleep(attempt * LOCK_PAUSE)  # a run that was killed may hold it for a moment
            [(free,)] = self._ask(
                "SELECT pg_try_advisory_lock(hashtextextended('vmledger reconcile ' || %(cluster)s::text, 0))"
            )
            if free:
                return True
        return False

    def cluster(self) -> Cluster:
        """Return what is known of the cluster."""
        [found] = self._ask(_CLUSTER)
        return Cluster(**dict(zip(("uid", "epoch", "began", "highest", "live"), found, strict=True)))

    def adopt(self, uid: str) -> None:
        """Store the identity of the cluster, at its first list."""
        self._ask(
            "INSERT INTO clusters AS known (cluster, uid) VALUES (%(cluster)s, %(uid)s)"
            " ON CONFLICT (cluster) DO UPDATE SET uid = excluded.uid WHERE known.uid IS NULL",
            uid=uid,
        )

    def begin_epoch(self, uid: str) -> None:
        """Begin a new epoch: whatever is sent from now on outranks whatever was sent before."""
        self._ask(store.ALONE + _BEGIN_EPOCH, uid=uid)

    def forget(self) -> None:
        """Forget what was noted, by this run or by one that was killed."""
        self._ask("DELETE FROM reconcile_seen WHERE cluster = %(cluster)s")
        self._noted.clear()

    def note(self, kind: str, places: Sequence[tuple[str, str, str]]) -> None:
        """Note objects of the list: namespace, name, and what else tells them apart."""
        columns = [list(column) for column in zip(*places, strict=True)] or [[], [], []]
        [(count,)] = self._ask(_NOTE, kind=kind, **dict(zip(("namespaces", "names", "uids"), columns, strict=True)))
        self._noted[kind] = self._noted.get(kind, 0) + count

    def check(self, kind: str) -> None:
        """Raise where not all is there that was noted: what the list holds would be taken for gone."""
        [(count,)] = self._ask(
            "SELECT count(*) FROM reconcile_seen WHERE cluster = %(cluster)s AND kind = %(kind)s", kind=kind
        )
        if count != self._noted.get(kind, 0):
            raise errors.DatabaseUnavailable("the database has lost what this run noted: it restarted, or was changed")

    def compare(
        self, kind: Kind[Any], changes: Sequence[versions.Change], moment: Moment
    ) -> dict[tuple[str, ...], Standing | None]:
        """Return, by key, those of the changes from which the ledger differs, and how it stands to each.

        None stands for an object that the ledger never knew.
        """
        rows = b"[" + b",".join([change.payload for change in changes]) + b"]"
        found = self._ask(_compare(kind), rows=rows.decode(), **dataclasses.asdict(moment))
        beyond = len(kind.place)
        return {(self._cluster, *row[:beyond]): _standing(row[beyond:]) for row in found}

    def missing(self, kind: Kind[Any], moment: Moment) -> int:
        """Count the live rows that the list does not hold."""
        sql = "SELECT count(*)" + _missing(kind)
        [(count,)] = self._ask(sql, kind=kind.name, **dataclasses.asdict(moment))
        return int(count)

    def lost(self, kind: Kind[AnyRow], moment: Moment) -> Iterator[list[Lost[AnyRow]]]:
        """Yield these rows, some at a time."""
        after: tuple[str, ...] = ("",) * len(kind.place)
        known = {"kind": kind.name, **dataclasses.asdict(moment)}
        while found := self._ask(_lost(kind), after=after, batch=BATCH, **known):
            rows = [msgspec.json.decode(row[0], type=kind.row) for row in found]
            yield [Lost(row, rest[1], versions.Version(*rest[2:])) for row, rest in zip(rows, found, strict=True)]
            after = tuple(getattr(rows[-1], name) for name in kind.place)

    def complete(self, kind: Kind[Any], moment: Moment) -> None:
        """Note that a list was read to its end: events below it raise nothing any more that it did not hold."""
        floor = kind.pair.floor
        sql = f"""
            UPDATE clusters
            SET {floor}_epoch = %(epoch)s, {floor}_version = %(version)s, {floor}_time = %(began)s
            WHERE cluster = %(cluster)s"""  # noqa: S608  # built from constants
        self._ask(store.ALONE + sql, **dataclasses.asdict(moment))

    def unsized(self, moment: Moment) -> Iterator[list[Unsized]]:
        """Yield the machines of the list whose size must be looked up, some at a time.

        No running instance says it, and it was not yet taken from the revision that the machine refers to now.
        """
        after = ("", "")
        while found := self._ask(_UNSIZED, after=after, batch=BATCH, **dataclasses.asdict(moment)):
            names = [field.name for field in dataclasses.fields(Unsized)]
            yield [Unsized(**dict(zip(names, row, strict=True))) for row in found]
            after = found[-1][:2]

    def size(self, sizes: Sequence[Mapping[str, Any]]) -> int:
        """Store sizes: the fields of :class:`Unsized`, vcpus and memory_bytes; return how many still were right.

        A machine that changed meanwhile is left to the next run.
        """
        [(count,)] = self._ask(_SIZE, sizes=json.dumps(list(sizes)))
        return int(count)

    def record(self, run: Mapping[str, Any]) -> None:
        """Store the row of a run, over a new connection if this one is lost."""
        if self._connection is None or self._connection.closed:
            self._drop()
            self.open()
        self._ask(_RECORD, **run)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def _ask(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement, or several in one transaction; return the rows of the last.

        All may be repeated, and are where somebody else held a lock for too long.
        """
        for attempt in range(LOCK_ATTEMPTS):
            if self._connection is None or self._connection.closed:
                raise errors.DatabaseUnavailable("the connection to the database was lost")
            try:
                with _translated(), postgres.within(STATEMENT_SECONDS + 1), self._connection.cursor() as cursor:
                    cursor.execute(sql, {"cluster": self._cluster, **parameters})
                    return cursor.fetchall() if cursor.description else []
            except _Busy:
                time.sleep(attempt * LOCK_PAUSE)
        raise errors.DatabaseUnavailable("the database was locked by others for too long")


class _Busy(Exception):
    """Somebody else holds a lock."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        with postgres.translated():
            yield
    except postgres.Conflict as exc:
        raise _Busy from exc
    except errors.DatabaseUnavailable as exc:
        if isinstance(exc.__cause__, psycopg2.errors.LockNotAvailable):
            raise _Busy from exc
        if isinstance(exc.__cause__, psycopg2.errors.QueryCanceled):
            sentence = f"the database did not finish within {STATEMENT_SECONDS:g} seconds"
            raise errors.DatabaseUnavailable(sentence) from exc
        raise


def _standing(row: Sequence[Any]) -> Standing | None:
    lives, epoch, number, at, step, shape, recent, resource_version = row
    if epoch is None:
        return None
    return Standing(
        lives=lives,
        epoch=epoch,
        version=versions.Version(number, at, step),
        shape=shape,
        recent=recent,
        resource_version=resource_version,
    )


_CLUSTER = """
SELECT c.uid, e.epoch, greatest(clock_timestamp(), c.epochs[e.epoch]),
       greatest(
           -1,
           CASE WHEN c.machines_epoch = e.epoch THEN c.machines_version END,
           CASE WHEN c.instances_epoch = e.epoch THEN c.instances_version END,
           (SELECT max(version_number) FROM vm_state WHERE cluster = %(cluster)s AND version_epoch = e.epoch),
           (SELECT max(version_number) FROM vm_runtime WHERE cluster = %(cluster)s AND version_epoch = e.epoch)
       ),
       (SELECT count(*) FROM vm_state WHERE cluster = %(cluster)s AND deleted_at IS NULL)
FROM (SELECT) AS one
LEFT JOIN clusters AS c ON c.cluster = %(cluster)s
CROSS JOIN LATERAL (SELECT coalesce(cardinality(c.epochs), 0)) AS e (epoch)
"""

_BEGIN_EPOCH = """
INSERT INTO clusters AS known (cluster, uid, epochs) VALUES (%(cluster)s, %(uid)s, ARRAY[clock_timestamp()])
ON CONFLICT (cluster) DO UPDATE
SET uid = excluded.uid,
    epochs = known.epochs || greatest(
        clock_timestamp(), known.epochs[cardinality(known.epochs)] + interval '1 microsecond'
    )
"""

_NOTE = """
WITH noted AS (
    INSERT INTO reconcile_seen (cluster, kind, namespace, name, uid)
    SELECT %(cluster)s, %(kind)s, *
    FROM unnest(%(namespaces)s::text[], %(names)s::text[], %(uids)s::text[])
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM noted
"""

_RECENT = "s.version_number < 0 AND least(s.effective_at, s.updated_at) > %(began)s"
"""By its time it is from after the list began, and it came after: both, because the source's clock may be wrong."""
_OF_STATE = "s.version_epoch, s.version_number, nullif(s.version_time, '-infinity'), s.version_step"


def _compare(kind: Kind[Any]) -> str:
    """The objects of a page that the ledger has not, or has otherwise; whether they are as they should be, is facts.

    A row of an earlier epoch differs, whatever it says: late events of that epoch would still outrank it.
    """
    pair = kind.pair
    types = ", ".join(f"{name} {type_}" for name, type_ in pair.types.items())
    facts = [name for name in pair.types if name not in _IDENTITY]
    held = tables.columns([pair.stored_as.get(name, name) for name in facts], "s.")
    same = " AND ".join(f"s.{name} = r.{name}" for name in pair.key)
    return f"""
        SELECT {tables.columns(kind.place, "r.")}, s.deleted_at IS NULL, {_OF_STATE}, s.shape, {_RECENT},
               s.resource_version
        FROM json_to_recordset(%(rows)s) AS r ({types})
        LEFT JOIN LATERAL (SELECT * FROM {pair.state} AS s WHERE {same} LIMIT 1) AS s ON true
        WHERE s.cluster IS NULL OR s.deleted_at IS NOT NULL OR s.version_epoch <> %(epoch)s
           OR ({held}) IS DISTINCT FROM ({tables.columns(facts, "r.")})"""  # noqa: S608  # built from constants


def _missing(kind: Kind[Any]) -> str:
    """Live rows that a complete list did not hold, and that nothing after it spoke of."""
    same = "".join(f" AND seen.uid IN ('', s.{name})" for name in kind.place[2:])
    return f"""
        FROM {kind.pair.state} AS s
        WHERE s.cluster = %(cluster)s AND s.deleted_at IS NULL AND NOT ({_RECENT})
          AND (s.version_epoch, s.version_number) <= (%(epoch)s, %(version)s)
          AND NOT EXISTS (
              SELECT FROM reconcile_seen AS seen
              WHERE seen.cluster = s.cluster AND seen.kind = %(kind)s
                AND seen.namespace = s.namespace AND seen.name = s.name{same}
              OFFSET 0
          )"""


def _lost(kind: Kind[Any]) -> str:
    held = ", ".join(f"s.{kind.pair.stored_as.get(name, name)} AS {name}" for name in kind.pair.types)
    place = tables.columns(kind.place, "s.")
    return f"""
        SELECT (SELECT to_json(held) FROM (SELECT {held}) AS held)::text, {_OF_STATE}
        {_missing(kind)} AND ({place}) > %(after)s
        ORDER BY {place} LIMIT %(batch)s"""  # noqa: S608  # built from constants


_UNSIZED = f"""
SELECT s.namespace, s.name, s.uid, s.resource_version, s.generation, seen.uid
FROM reconcile_seen AS seen
CROSS JOIN LATERAL (
    SELECT * FROM vm_state AS s
    WHERE s.cluster = seen.cluster AND s.namespace = seen.namespace AND s.name = seen.name LIMIT 1
) AS s
WHERE seen.cluster = %(cluster)s AND seen.kind = '{REVISIONS}' AND (seen.namespace, seen.name) > %(after)s
  AND s.deleted_at IS NULL AND s.instancetype IS NOT NULL
  AND (s.version_epoch, s.version_number) <= (%(epoch)s, %(version)s)
  AND (s.phase IS NULL OR s.phase = '{instance.GONE}' OR s.live_vcpus IS NULL OR s.live_memory_bytes IS NULL)
  AND s.instancetype_revision IS DISTINCT FROM seen.uid
ORDER BY seen.namespace, seen.name LIMIT %(batch)s
"""  # noqa: S608  # built from constants

_SIZE = """
WITH given AS (
    SELECT * FROM json_to_recordset(%(sizes)s) AS r (
        namespace text COLLATE "C", name text COLLATE "C", uid text, resource_version bigint,
        vcpus integer, memory_bytes bigint, revision text
    )
), locked AS (
    SELECT s.namespace, s.name
    FROM given AS r
    JOIN vm_state AS s ON s.cluster = %(cluster)s AND s.namespace = r.namespace AND s.name = r.name
    ORDER BY s.cluster, s.namespace, s.name
    FOR NO KEY UPDATE OF s
), sized AS (
    UPDATE vm_state AS s
    SET instancetype_vcpus = r.vcpus,
        instancetype_memory_bytes = r.memory_bytes,
        instancetype_revision = r.revision,
        updated_at = CASE WHEN (s.instancetype_vcpus, s.instancetype_memory_bytes)
            IS DISTINCT FROM (r.vcpus, r.memory_bytes) THEN now() ELSE s.updated_at END
    FROM given AS r JOIN locked USING (namespace, name)
    WHERE s.cluster = %(cluster)s AND s.namespace = r.namespace AND s.name = r.name
      AND (s.uid, s.resource_version) IS NOT DISTINCT FROM (r.uid, r.resource_version) AND s.deleted_at IS NULL
    RETURNING 1
)
SELECT count(*) FROM sized
"""
"""The rows are locked in the order of their keys, as all writers do."""

_RECORD = """
INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome, dry_run, seen,
                            missed_adds, missed_updates, missed_deletes, list_version, error)
VALUES (%(cluster)s, clock_timestamp() - make_interval(secs => %(seconds)s), %(seconds)s, %(outcome)s, %(dry_run)s,
        %(seen)s, %(missed_adds)s, %(missed_updates)s, %(missed_deletes)s, %(list_version)s, %(error)s)
"""
