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
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from function import errors
from function.clients import deadline, postgres_errors, postgres_session, statements
from function.inventory.mapping import versions
from function.inventory.reconcile import kinds, plan
from function.inventory.storage import store

AnyRow = TypeVar("AnyRow", bound=versions.Row)

STATEMENT_SECONDS = 60.0
"""A fleet of a million is counted in less."""
LOCK_WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0, 4.0)
"""Seconds to wait for a lock, attempt after attempt.

While a strong lock is waited for, all writers wait behind that: a short wait is mostly enough, and costs them nothing.
"""
LOCK_PAUSE = 0.1
"""Between two attempts, so that the writers get on."""
ALONE_SECONDS = 1.0
"""How long the lock of a run that was killed is waited for."""
BATCH = 500
REFUTED_BATCH = 100
"""Objects that are refuted in one transaction, because their writers wait for it."""
BY_INDEX = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
"""What is left goes by index, object by object: tables that were just filled have no statistics."""

NEEDS = postgres_session.Needs(statement=STATEMENT_SECONDS, lock=LOCK_WAITS[0], planner=dict.fromkeys(BY_INDEX, "off"))

SQL = statements.Statements(
    {**store.SQL.by_name, **statements.load(pathlib.Path(__file__).parent / "sql").by_name},
)
"""The statements of this room, and the store's: what is refuted follows the writers' locks and shows as theirs does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """What is known of a cluster before its list begins.

    uid: its identity, None before the first run. epoch: of the changes that are made now. floor: the greatest version
    of a complete list of that epoch. began: now, by the database's clock.
    """

    uid: str | None
    epoch: int
    floor: int
    began: datetime.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unsized:
    """A machine whose size only its instancetype says; uid, resource version and generation as the ledger has them."""

    namespace: str
    name: str
    uid: str | None
    resource_version: int | None
    generation: int | None
    revision: str


def turn(cluster: str) -> str:
    """Return the name of the lock that a run of the cluster holds to its end."""
    return f"vmledger reconcile {cluster}"


class Snapshot:
    """What a reconcile asks of the database about one cluster.

    Everything raises :class:`errors.Unavailable`, or :class:`errors.BadEvent` for a value that Postgres cannot hold.
    """

    def __init__(self, keywords: Mapping[str, Any], cluster: str) -> None:
        self._keywords = dict(keywords)
        self._cluster = cluster
        self._session: postgres_session.Session | None = None
        self._noted: dict[str, int] = {}

    def open(self) -> None:
        """Connect."""
        self._session = postgres_session.Session(self._keywords, NEEDS)

    def close(self) -> None:
        """Let the lock go, and close the connection: the server would take a moment to see that by itself."""
        with contextlib.suppress(errors.Unavailable):
            self._ask("release_turn")
        self._drop()

    def alone(self) -> bool:
        """Take the lock that a run holds to its end; return whether it was free."""
        return self._open().alone(turn(self._cluster), seconds=ALONE_SECONDS)

    def cluster(self) -> Cluster:
        """Return what is known of the cluster."""
        [found] = self._ask("find_cluster")
        return Cluster(**dict(zip(("uid", "epoch", "began", "floor"), found, strict=True)))

    def adopt(self, uid: str) -> None:
        """Store the identity of the cluster, at its first list."""
        self._ask("adopt_cluster", uid=uid)

    def begin_epoch(self, uid: str) -> None:
        """Begin a new epoch: whatever is sent from now on outranks whatever was sent before."""
        self._ask_alone("begin_epoch", uid=uid)

    def forget(self, *notes: str) -> None:
        """Forget what was noted under these kinds, or under all, by this run or by one that was killed."""
        every = (kinds.MACHINES, kinds.INSTANCES)
        notes = notes or tuple(note for kind in every for note in (*kind.notes, kind.refuted))
        self._ask("forget_seen", kinds=list(notes))
        for note in notes:
            self._noted.pop(note, None)

    def note(self, kind: str, places: Sequence[tuple[str, str, str]]) -> None:
        """Note objects of the list: namespace, name, and what else tells them apart."""
        columns = [list(column) for column in zip(*places, strict=True)] or [[], [], []]
        lists = dict(zip(("namespaces", "names", "uids"), columns, strict=True))
        [(count,)] = self._ask("note_seen", kind=kind, **lists)
        self._noted[kind] = self._noted.get(kind, 0) + count

    def check(self, kind: str) -> None:
        """Raise where not all is there that was noted: what the list holds would be taken for gone."""
        [(count,)] = self._ask("count_seen", kind=kind)
        if count != self._noted.get(kind, 0):
            raise errors.DatabaseUnavailable("the database has lost what this run noted: it restarted, or was changed")

    def take_owners(self, kind: kinds.Kind[Any], changes: Sequence[versions.Change]) -> None:
        """Add the owners of the list to what was stored as the list has it, but before owners were kept."""
        rows = [change.payload for change in changes if getattr(change.row, "owner", None)]
        if rows and kind.owners:
            self._ask(kind.owners, rows=f"[{b','.join(rows).decode()}]")

    def compare(
        self, kind: kinds.Kind[Any], changes: Sequence[versions.Change], moment: plan.Moment
    ) -> dict[tuple[str, ...], plan.Standing | None]:
        """Return, by key, those of the changes from which the ledger differs, and how it stands to each.

        None stands for an object that the ledger never knew.
        """
        rows = b"[" + b",".join([change.payload for change in changes]) + b"]"
        found = self._ask(kind.compare, rows=rows.decode(), **dataclasses.asdict(moment))
        beyond = len(kind.place)
        return {(self._cluster, *row[:beyond]): _standing(row[beyond:]) for row in found}

    def missing(self, moment: plan.Moment) -> int:
        """Count the live machines that the list does not contain."""
        [(count,)] = self._ask("count_missing", **dataclasses.asdict(moment))
        return int(count)

    def lost(self, kind: kinds.Kind[AnyRow], moment: plan.Moment) -> Iterator[list[plan.Lost[AnyRow]]]:
        """Yield the live rows that the list does not contain, some at a time."""
        after = dict.fromkeys(kind.place, "")
        while found := self._ask(kind.missing, batch=BATCH, **after, **dataclasses.asdict(moment)):
            rows = [msgspec.json.decode(row[0], type=kind.row) for row in found]
            yield [
                plan.Lost(row, epoch, versions.Version(*version), refuted=refuted, stored_at=stored_at)
                for row, (_, epoch, *version, refuted, stored_at) in zip(rows, found, strict=True)
            ]
            after = {name: getattr(rows[-1], name) for name in kind.place}

    def doubtful(self, kind: kinds.Kind[Any], moment: plan.Moment) -> Iterator[list[plan.Doubtful]]:
        """Yield the objects whose state the list refutes, some at a time, and note them."""
        after = dict.fromkeys(kind.place, "")
        while found := self._ask(kind.doubtful, batch=REFUTED_BATCH, **after, **dataclasses.asdict(moment)):
            doubtful = [plan.Doubtful(row[:-1], row[-1]) for row in found]
            self.note(kind.refuted, [_noted(each.place) for each in doubtful])
            yield doubtful
            after = dict(zip(kind.place, doubtful[-1].place, strict=True))

    def refute(self, kind: kinds.Kind[Any], doubtful: Sequence[plan.Doubtful], moment: plan.Moment) -> None:
        """Take from the order what the list refutes; the state is what is left, or waits for the list's word."""
        places = [dict(zip(kind.place, each.place, strict=True), cluster=self._cluster) for each in doubtful]
        self._run(kind.refute, {"rows": json.dumps(places), **dataclasses.asdict(moment)})

    def complete(self, kind: kinds.Kind[Any], moment: plan.Moment) -> None:
        """Note that a list was read to its end: events below it raise nothing any more that it lacks."""
        self._ask_alone(kind.complete, **dataclasses.asdict(moment))

    def unsized(self, moment: plan.Moment) -> Iterator[list[Unsized]]:
        """Yield the machines of the list whose size must be looked up, some at a time.

        No running instance says it, and it was not yet taken from the revision that the machine refers to now.
        """
        after = {"namespace": "", "name": ""}
        while found := self._ask("unsized_machines", batch=BATCH, **after, **dataclasses.asdict(moment)):
            names = [field.name for field in dataclasses.fields(Unsized)]
            yield [Unsized(**dict(zip(names, row, strict=True))) for row in found]
            after = dict(zip(after, found[-1], strict=False))

    def size(self, sizes: Sequence[Mapping[str, Any]]) -> int:
        """Store sizes: the fields of :class:`Unsized`, vcpus and memory_bytes; return how many still were right.

        A machine that changed meanwhile is left to the next run.
        """
        [(count,)] = self._ask("store_sizes", sizes=json.dumps(list(sizes)))
        return int(count)

    def record(self, run: Mapping[str, Any]) -> None:
        """Store the row of a run, over a new connection if this one is lost."""
        if self._session is None or self._session.closed:
            self._drop()
            self.open()
        self._ask("record_run", **run)

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _open(self) -> postgres_session.Session:
        """Return the session; raise where it is over, because the run's lock is gone with it."""
        if self._session is None or self._session.closed:
            raise errors.DatabaseUnavailable("the connection to the database was lost")
        return self._session

    def _ask(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own; return its rows."""
        return self._run((name,), parameters)

    def _ask_alone(self, name: str, /, **parameters: Any) -> None:
        """Run a statement while no writer is under way."""
        self._run(("alone", name), parameters)

    def _run(self, names: Sequence[str], parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run statements in one transaction; return the rows of the last.

        All may be repeated, and are where a lock was not free in time.
        """
        for wait in LOCK_WAITS:
            try:
                with deadline.within(STATEMENT_SECONDS + 1), self._open().cursor(lock_wait=wait) as cursor:
                    cursor.execute(SQL.ready(cursor, *names), {"cluster": self._cluster, **parameters})
                    return cursor.fetchall() if cursor.description else []
            except (postgres_errors.Conflict, errors.Locked):
                time.sleep(LOCK_PAUSE)
        raise errors.Locked("the database was locked by others for too long")


def _noted(place: Sequence[str]) -> tuple[str, str, str]:
    """Return how a place is noted: namespace, name, and what else tells it from others."""
    namespace, name, *more = place
    return namespace, name, more[0] if more else ""


def _standing(row: Sequence[Any]) -> plan.Standing | None:
    lives, epoch, number, at, step, shape, recent, resource_version, refuted = row
    if epoch is None:
        return None
    return plan.Standing(
        lives=lives,
        epoch=epoch,
        version=versions.Version(number, at, step),
        shape=shape,
        recent=recent,
        resource_version=resource_version,
        refuted=refuted,
    )
