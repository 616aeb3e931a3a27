"""A ledger as it is after a year: very many VMs, and a long history of each, evenly over the months until now.

One event is stored by vmledger itself, and its rows are copied by SQL, so every row is as the function writes them,
whatever columns the tables have by then.
The server is set for filling meanwhile (:data:`SETTINGS`); what is measured later runs with the usual settings.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import psycopg2
import psycopg2.extensions

from bench import load, requests, servers

MACHINES = 100_000
VERSIONS = 50
"""Of each VM: 5 million rows of history."""
MONTHS = 12
"""Before the one that is written to."""
SETTINGS = {
    "wal_level": "minimal",  # what is filled into a table after TRUNCATE need not be logged
    "max_wal_senders": "0",
    "fsync": "off",  # the data is synced once the server is stopped
    "max_wal_size": "8GB",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
    "autovacuum": "off",  # the filled tables are vacuumed at the end
}
VARYING = {
    "name": "machines.name",
    "id": "'filled-' || number || '-' || version",
    "digest": "number * %(versions)s::bigint + version",
    **dict.fromkeys(
        ("time", "version_time", "effective_at", "recorded_at", "updated_at"),
        "at + number * interval '1 microsecond'",
    ),
}
"""In what the rows differ from the one that is copied."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How many VMs there are, and how many versions of each. varying: SQL for the columns in which rows differ."""

    machines: int = MACHINES
    versions: int = VERSIONS
    varying: Mapping[str, str] = dataclasses.field(default_factory=lambda: VARYING)


def fill(url: str, months: int = MONTHS, size: Size | None = None) -> None:
    """Fill a database that has just been migrated; with 0 months, all is in the one that is written to."""
    size = size or Size()
    with servers.served(servers.vmledger(url)) as server:
        if load.send(server.port, requests.flat(size.machines)(0)) != 204:
            raise SystemExit("the event to be copied was not stored")
    connection = psycopg2.connect(url, options="-c TimeZone=UTC")
    with connection, connection.cursor() as cursor:
        _fill(cursor, months, size)
        # As autovacuum would: the partitions, and not what they are partitions of.
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'vm_history'::regclass")
        tables = ["vm_state", *(name for (name,) in cursor.fetchall())]
    connection.close()
    with concurrent.futures.ThreadPoolExecutor(servers.WORKERS) as pool:
        list(pool.map(lambda table: _vacuum(url, table), tables))


def _vacuum(url: str, table: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM (FREEZE, ANALYZE) {table}")
    connection.close()


def history_bytes(url: str) -> float:
    """Return the bytes on disk of a row of the history, its share of the indexes included."""
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)), (SELECT count(*) FROM vm_history)"
            " FROM pg_inherits WHERE inhparent = 'vm_history'::regclass"
        )
        size, count = cursor.fetchone() or (0, 1)
    connection.close()
    return float(size) / int(count)


def _fill(cursor: psycopg2.extensions.cursor, months: int, size: Size) -> None:
    """Fill both tables in one transaction; the history's indexes are made at the end, which is much faster."""
    end = datetime.datetime.fromtimestamp(requests.BEGAN // 1_000_000, datetime.UTC)
    bounds = _bounds(end, months)
    cursor.execute("CREATE TEMP TABLE state_row AS SELECT * FROM vm_state")
    cursor.execute("CREATE TEMP TABLE history_row AS SELECT * FROM vm_history")
    cursor.execute("TRUNCATE vm_state, vm_history")
    _add_months(cursor, bounds)
    times = _Times(end=end, step=(end - bounds[0]) / (size.versions + 1))
    _copy(cursor, "state_row", "vm_state", times, size, first=size.versions)
    indexes = _drop_indexes(cursor)
    _copy(cursor, "history_row", "vm_history", times, size, first=1)
    for sql in indexes:
        cursor.execute(sql)


def _bounds(end: datetime.datetime, months: int) -> list[datetime.datetime]:
    """Return the beginnings of the month of ``end`` and of those before it, oldest first."""
    last = end.year * 12 + end.month - 1
    return [
        datetime.datetime(number // 12, number % 12 + 1, 1, tzinfo=datetime.UTC)
        for number in range(last - months, last + 1)
    ]


def _add_months(cursor: psycopg2.extensions.cursor, bounds: list[datetime.datetime]) -> None:
    """Give the history the past months that it would have, had it been there."""
    cursor.execute("DROP TABLE vm_history_before")
    values = "CREATE TABLE vm_history_{} PARTITION OF vm_history FOR VALUES FROM ({}) TO ('{}')"
    cursor.execute(values.format("before", "MINVALUE", bounds[0]))
    for month, following in itertools.pairwise(bounds):
        cursor.execute(values.format(month.strftime("%Y_%m"), f"'{month}'", following))


class _Times(NamedTuple):
    """When the versions of a VM were: the last one a step before the end, which is when the benchmark began."""

    end: datetime.datetime
    step: datetime.timedelta


def _copy(
    cursor: psycopg2.extensions.cursor, source: str, target: str, times: _Times, size: Size, *, first: int
) -> None:
    """Copy a row for each VM and each version from ``first`` on."""
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        " AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position",
        [target],
    )
    columns = [name for (name,) in cursor.fetchall()]
    cursor.execute(
        f"""
        INSERT INTO {target} ({", ".join(columns)})
        SELECT {", ".join(size.varying.get(name, f"source.{name}") for name in columns)}
        FROM {source} AS source,
             (SELECT number, 'vm-' || lpad(number::text, 6, '0') AS name
              FROM generate_series(0, %(machines)s - 1) AS number OFFSET 0) AS machines,
             (SELECT version, %(end)s::timestamptz - %(step)s * (%(versions)s + 1 - version) AS at
              FROM generate_series(%(first)s, %(versions)s) AS version OFFSET 0) AS versions
        """,
        {"machines": size.machines, "versions": size.versions, "first": first, **times._asdict()},
    )


def _drop_indexes(cursor: psycopg2.extensions.cursor) -> list[str]:
    """Drop the indexes of the history; return the statements that make them anew."""
    cursor.execute(
        """
        SELECT i.indexrelid::regclass::text, k.conname, pg_get_constraintdef(k.oid), pg_get_indexdef(i.indexrelid)
        FROM pg_index AS i LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
        WHERE i.indrelid = 'vm_history'::regclass
        """
    )
    statements = []
    for index, constraint, definition, sql in cursor.fetchall():
        if constraint is None:
            cursor.execute(f"DROP INDEX {index}")
            statements.append(sql.replace(" ON ONLY ", " ON "))
        else:
            cursor.execute(f"ALTER TABLE vm_history DROP CONSTRAINT {constraint}")
            statements.append(f"ALTER TABLE vm_history ADD CONSTRAINT {constraint} {definition}")
    return statements
