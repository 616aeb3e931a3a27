"""What the ledger adds to the metrics: read from Postgres on a short connection."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from function import measures
from function.clients import postgres_short, statements

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


def read(connection: Mapping[str, Any], own: str) -> list[Sample]:
    """Return the ledger's values; own: CLUSTER_NAME. Raises :class:`errors.VmledgerError`."""
    with postgres_short.reading(connection) as cursor:
        rows = SQL.run(cursor, "read_clusters", {"own": own, "most": measures.MOST_CLUSTERS})
        clusters = [_Cluster(*row) for row in rows]
        live = dict(SQL.run(cursor, "count_live"))
        histories = SQL.run(cursor, "measure_histories")
        [kept] = SQL.run(cursor, "count_kept")
        [(pruned_at,)] = SQL.run(cursor, "last_prune")
    samples = [*_of_clusters(clusters, live), Sample(measures.DATABASE_UP, (), 1)]
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


def _of_clusters(rows: Sequence[_Cluster], live: Mapping[str, int]) -> Iterator[Sample]:
    yield Sample(measures.CLUSTERS, (), rows[0].clusters if rows else 0)
    for row in rows:
        if row.kind is not None and row.silence is not None:
            yield Sample(measures.SILENCE, (row.cluster, row.kind), row.silence)
    for row in {row.cluster: row for row in rows}.values():  # all else is the same in each row of a cluster
        yield Sample(measures.REFUSALS, (row.cluster,), row.dead_letters)
        if row.kind is not None:
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
