"""What the ledger adds to the metrics: read from Postgres on a short connection."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg2.errors

from function import measures
from function.clients import postgres_short, statements

LIVE_SECONDS = 60.0
"""How long a count of the VMs is shown: of a million it takes longer than all else together."""

SQL = statements.load(pathlib.Path(__file__).parent / "sql")


class Sample(NamedTuple):
    """A value of a metric."""

    metric: measures.Metric
    labels: tuple[str, ...]
    value: float


class _Cluster(NamedTuple):
    """A row of the statement read_clusters; ages in seconds, times in seconds since 1970."""

    cluster: str
    kind: str | None
    silence: float | None
    list_age: float | None
    unreconciled: float | None
    reconciled_at: float | None
    reconciled_well: bool | None
    missed_adds: int | None
    missed_updates: int | None
    missed_deletes: int | None
    corrected: int | None
    dead_letters: int
    clusters: int


class Ledger:
    """Reads the values; own: CLUSTER_NAME."""

    def __init__(self, connection: Mapping[str, Any], own: str) -> None:
        self._connection = connection
        self._own = own
        self._live: Mapping[str, int] | None = None
        self._live_at = float("-inf")

    def read(self) -> list[Sample]:
        """Return the ledger's values. Raises :class:`errors.VmledgerError`."""
        with postgres_short.reading(self._connection) as cursor:
            rows = SQL.run(cursor, "read_clusters", {"own": self._own, "most": measures.MOST_CLUSTERS})
            histories = SQL.run(cursor, "measure_histories")
            [kept] = SQL.run(cursor, "count_kept")
            [(pruned_at,)] = SQL.run(cursor, "last_prune")
            if time.monotonic() - self._live_at >= LIVE_SECONDS:
                self._live_at = time.monotonic()
                self._live = _count_live(cursor)
        samples = [*_of_clusters([_Cluster(*row) for row in rows], self._live), Sample(measures.DATABASE_UP, (), 1)]
        for table, count, size in histories:
            samples.append(Sample(measures.HISTORY_ROWS, (table,), count))
            samples.append(Sample(measures.HISTORY_BYTES, (table,), size))
        samples += [
            Sample(measures.LETTERS_KEPT, (state,), count)
            for state, count in zip(("waiting", "replayed"), kept, strict=True)
        ]
        if pruned_at is not None:
            samples.append(Sample(measures.PRUNE_TIME, (), pruned_at))
        return samples


def _count_live(cursor: postgres_short.Cursor) -> dict[str, int] | None:
    """Return how many VMs of each cluster live; None where there are too many to be counted in time."""
    try:
        return dict(SQL.run(cursor, "count_live"))
    except psycopg2.errors.QueryCanceled:
        return None


def _of_clusters(rows: Sequence[_Cluster], live: Mapping[str, int] | None) -> Iterator[Sample]:
    yield Sample(measures.CLUSTERS, (), rows[0].clusters if rows else 0)
    for row in rows:
        if row.kind is not None and row.silence is not None:
            yield Sample(measures.SILENCE, (row.cluster, row.kind), row.silence)
    for row in {row.cluster: row for row in rows}.values():  # all else is the same in each row of a cluster
        yield Sample(measures.REFUSALS, (row.cluster,), row.dead_letters)
        if row.kind is not None:
            if live is not None:
                yield Sample(measures.LIVE_VMS, (row.cluster,), live.get(row.cluster, 0))
            yield from _reconciled(row)


def _reconciled(row: _Cluster) -> Iterator[Sample]:
    known = (
        (measures.UNRECONCILED, (), row.unreconciled),
        (measures.LIST_AGE, (), row.list_age),
        (measures.RECONCILE_TIME, (), row.reconciled_at),
        (measures.RECONCILE_SUCCESS, (), row.reconciled_well),
        (measures.RECONCILE_MISSED, ("add",), row.missed_adds),
        (measures.RECONCILE_MISSED, ("update",), row.missed_updates),
        (measures.RECONCILE_MISSED, ("delete",), row.missed_deletes),
        (measures.RECONCILE_CORRECTED, (), row.corrected),
    )
    for metric, labels, value in known:
        if value is not None:
            yield Sample(metric, (row.cluster, *labels), float(value))
