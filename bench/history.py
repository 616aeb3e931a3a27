"""A ledger with a long history: few VMs beside the number of their versions, over months.

One event of a VM and one of its instance are stored by vmledger itself, and their rows are copied by SQL, so every row
is as the function writes them, whatever columns the tables have by then.
Rows come in the order of time, the VMs in a jumble, into tables that have their indexes: as in life, so pages are as
full as in life. A tenth of the VMs never changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator

import psycopg2
import psycopg2.extensions

from bench.progress import Progress
from function import events
from function.clients import postgres
from function.inventory.mapping import instance, vm
from function.inventory.storage import store
from tests import machines

MACHINES = 10_000
IN_NAMESPACE = 200
IDLE = 10
"""Each tenth VM never changes."""
MONTHS = 7
INSTANCE_VERSIONS = 100
"""Of each instance, where nothing else is asked for."""
HISTORIES = {"vm_history": "vm_state", "vm_runtime_history": "vm_runtime"}
"""And the states that they belong to."""
OWNER = "00000000-0000-4000-8000-000000000001"
VARYING = {
    "name": "'vm-' || lpad(number::text, 6, '0')",
    "namespace": "'team-' || mod(number, %(namespaces)s)",
    "id": "'filled-' || number || '-' || version",
    "digest": "version * %(machines)s::bigint + number",
    "owner_uid": "md5('machine ' || number)",
    "node": "'node-' || mod(number + version / 20, 40)",
    "status": "(ARRAY['Stopped', 'Starting', 'Running', 'Running'])[1 + mod(version, 4)]",
    **dict.fromkeys(("resource_version", "version_number"), "1000000 + version * %(machines)s::bigint + number"),
    **dict.fromkeys(("time", "object_time", "known_at", "effective_at", "recorded_at", "updated_at"), "at"),
}
"""In what the rows differ from the one that is copied."""
SHOWN = ("node", "ip_addresses", "guest_os", "phase", "live_vcpus", "live_memory_bytes")
"""What vm_state says of the instance."""
UID = {"vm_history": "md5('machine ' || number)", "vm_runtime_history": "md5('instance ' || number)"}


@dataclasses.dataclass(frozen=True)
class History:
    """What is filled in: so many versions of VMs in all, from ``begin`` to ``end``; and of each instance."""

    rows: int
    end: datetime.datetime
    machines: int = MACHINES
    instance_versions: int = INSTANCE_VERSIONS

    @property
    def namespaces(self) -> int:
        """How many there are."""
        return max(1, self.machines // IN_NAMESPACE)

    @property
    def begin(self) -> datetime.datetime:
        """When the first version was."""
        return self.end - datetime.timedelta(days=30 * MONTHS)

    @property
    def versions(self) -> int:
        """How many each VM has that changes."""
        changing = self.machines - self.machines // IDLE
        return max(2, round((self.rows - self.machines) / changing) + 1)

    def fill_machines(self, url: str, progress: Progress) -> None:
        """Fill the VMs and their history, in a database that has just been migrated."""
        _store(url)
        with cursor_of(url) as cursor:
            for history in HISTORIES:
                _make_months(cursor, history, self.begin, self.end)
            self._fill(cursor, "vm_history", self.versions, progress)
            _vacuum(cursor, "vm_history", progress)

    def fill_instances(self, url: str, progress: Progress) -> None:
        """Fill what ran of them, and its history."""
        with cursor_of(url) as cursor:
            self._fill(cursor, "vm_runtime_history", self.instance_versions, progress)
            cursor.execute(
                f"UPDATE vm_state AS s SET {', '.join(f'{name} = i.{name}' for name in SHOWN)},"
                " runtime_seen_at = i.effective_at FROM vm_runtime AS i"
                " WHERE (i.cluster, i.namespace, i.name, i.owner_uid) = (s.cluster, s.namespace, s.name, s.uid)"
            )
            _vacuum(cursor, "vm_runtime_history", progress)

    def _fill(self, cursor: psycopg2.extensions.cursor, history: str, versions: int, progress: Progress) -> None:
        """Copy rows, version by version, and the last ones into the state."""
        times = {"begin": self.begin, "step": (self.end - self.begin) / versions, "last": versions - 1}
        times |= {"machines": self.machines, "namespaces": self.namespaces}
        changing = f"mod(number, {IDLE}) > 0"
        for version in range(versions):
            progress.say(f"filling {history}: version {version + 1} of {versions} of each VM")
            which = f"SELECT number, %(version)s AS version WHERE {changing} OR %(version)s = 0"
            cursor.execute(_copy(cursor, history, UID[history], which), {**times, "version": version})
        newest = f"SELECT number, CASE WHEN {changing} THEN %(last)s ELSE 0 END AS version"
        cursor.execute(_copy(cursor, HISTORIES[history], UID[history], newest), times)


@contextlib.contextmanager
def cursor_of(url: str) -> Iterator[psycopg2.extensions.cursor]:
    """Yield a cursor of a session as anybody's, with the server's own settings."""
    connection = psycopg2.connect(url, options="-c TimeZone=UTC")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _store(url: str) -> None:
    """Let vmledger store a VM and its instance; keep their rows as what is copied, and nothing else."""
    db = postgres.Database({"dsn": url}, timeout=30)
    tables = store.Store(db)
    attributes = {"id": "1", "type": "dev.knative.apiserver.resource.add", "source": "s", "specversion": "1.0"}
    attributes["time"] = datetime.datetime.now(datetime.UTC)  # type: ignore[assignment]  # as events.read gives it
    labels = {"app": "shop", "kubevirt.io/domain": "web", "stage": "production", "cost-center": "cc-4711"}
    machine = machines.vm("web", labels=labels, status="Running", uid=OWNER)
    machine["metadata"] |= {"resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    tables.write([vm.change(events.Event(attributes, machine), cluster_name="east")])
    with cursor_of(url) as cursor:
        cursor.execute("CREATE TABLE row_of_vm_state AS SELECT * FROM vm_state")
        running = instance.change(events.Event(attributes, machines.vmi(machine)), cluster_name="east")
        assert running is not None, "the VM owns the instance"
        tables.write([running])
        for table in ("vm_history", "vm_runtime", "vm_runtime_history"):
            cursor.execute(f"CREATE TABLE row_of_{table} AS SELECT * FROM {table}")
        cursor.execute("TRUNCATE vm_state, vm_history, vm_runtime, vm_runtime_history")
    db.close()


def _make_months(
    cursor: psycopg2.extensions.cursor, history: str, begin: datetime.datetime, end: datetime.datetime
) -> None:
    """Give a history that is empty the months that it would have, had it been there."""
    cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [history])
    for (part,) in cursor.fetchall():
        cursor.execute(f"DROP TABLE {part}")
    count = (end.year - begin.year) * 12 + end.month - begin.month + 3
    for _ in range(count):
        cursor.execute("SELECT ledger_add_month(%s, %s)", [history, begin.date().replace(day=1)])


def _copy(cursor: psycopg2.extensions.cursor, target: str, uid: str, which: str) -> str:
    """Return what copies the kept row of a table for each VM and version that ``which`` selects of ``number``.

    A version's time is somewhere in its step, so times rise with versions, and no two VMs go in step.
    """
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        " AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position",
        [target],
    )
    columns = [name for (name,) in cursor.fetchall()]
    varying = {**VARYING, "uid": uid}
    if target == "vm_state":  # what ran is filled in later
        varying["node"] = "NULL"
    return f"""
        INSERT INTO {target} ({", ".join(columns)})
        SELECT {", ".join(varying.get(name, f"source.{name}") for name in columns)}
        FROM row_of_{target} AS source
        CROSS JOIN generate_series(0, %(machines)s - 1) AS number
        CROSS JOIN LATERAL ({which}) AS versions (machine, version)
        CROSS JOIN LATERAL (
            SELECT %(begin)s::timestamptz + %(step)s
                * (version + ((hashint4(number * 31 + version) & 1023) / 1024.0)::double precision) AS at
        ) AS moments
        ORDER BY at"""


def _vacuum(cursor: psycopg2.extensions.cursor, history: str, progress: Progress) -> None:
    """Vacuum and analyze the tables, as autovacuum does: the partitions, and not what they are partitions of."""
    progress.say(f"vacuuming {history}")
    cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [history])
    for part in (*(name for (name,) in cursor.fetchall()), HISTORIES[history], "vm_state"):
        cursor.execute(f"VACUUM (ANALYZE) {part}")
