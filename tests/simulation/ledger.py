"""What the ledger's tables hold, and what must be true of it; each claim raises AssertionError with the row that lies.

Two sides are compared: rows as Postgres gives them, and what happened in the cluster, mapped by the code's own mapping
(its samples are tested elsewhere): so what is tested here is which version a row shows, and that it shows all of it.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import datetime
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from function.clients import kubernetes
from function.inventory import due, prune
from function.inventory.mapping import instance, versions, vm, vm_object
from tests import conftest
from tests.simulation import model_cluster

Row = Mapping[str, Any]

LEDGER = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history", "clusters")
NOTES = ("reconcile_seen", "reconcile_runs", "ledger_heard")
RUNTIME = ("node", "ip_addresses", "guest_os", "phase", "live_vcpus", "live_memory_bytes")
ORDER = ("version_epoch", "version_number", "version_time", "version_step")
_NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)
SPOILED = "spoiled"
"""The id of rows that somebody changed by hand."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A state with one row for each object, and its history with one for each version."""

    state: str
    history: str
    key: tuple[str, ...]


MACHINES = Pair("vm_state", "vm_history", ("cluster", "namespace", "name"))
INSTANCES = Pair("vm_runtime", "vm_runtime_history", (*MACHINES.key, "owner_uid"))


class Tables:
    """The ledger's tables, read by a connection that is opened again when it is lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg2.extensions.connection | None = None

    def query(self, sql: str, *parameters: Any) -> list[Row]:
        """Run SQL; return the rows, if it gives any."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(self._url, cursor_factory=psycopg2.extras.RealDictCursor)
            self._connection.autocommit = True
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        except psycopg2.OperationalError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def empty(self) -> None:
        """Empty all tables."""
        self.query(conftest.emptying(*LEDGER, *NOTES))

    def spoil(self, where: model_cluster.Place, change: Mapping[str, Any] | None) -> None:
        """Change what the state, and the history at the same version, say of a machine; None: forget it altogether."""
        here = "namespace = %s AND name = %s"
        if change is None:
            self.query(f"DELETE FROM vm_state WHERE {here}; DELETE FROM vm_history WHERE {here}", *where, *where)
            return
        version = f"SELECT cluster, namespace, name, {', '.join(ORDER)} FROM vm_state WHERE {here}"
        for table in ("vm_history", "vm_state"):
            names = {name: f"spec_{name}" if table == "vm_state" and name == "vcpus" else name for name in change}
            self.query(
                f"UPDATE {table} SET id = %s, {', '.join(f'{name} = %s' for name in names.values())}"
                f" WHERE (cluster, namespace, name, {', '.join(ORDER)}) IN ({version})",
                SPOILED,
                *change.values(),
                *where,
            )

    def forget(self) -> set[tuple[str, ...]]:
        """Let go of all that is gone, whatever its age, as a prune does; return namespace, name and owner's uid.

        Of a machine the owner's uid is missing.
        """
        gone: set[tuple[str, ...]] = set()
        for kind, pair in (("machines", MACHINES), ("instances", INSTANCES)):
            keys = [tuple(row.values()) for row in self.query(f"SELECT {', '.join(pair.key)} FROM {pair.state}")]
            self.query(f"DEALLOCATE ALL; {prune.SQL.by_name[f'forget_dead_{kind}'].sql}")
            forget = f"EXECUTE forget_dead_{kind} (%s, 'infinity', false)"
            gone |= {tuple(row.values())[1:] for row in self.query(forget, due.rows(kind, keys))}
        return gone

    def live(self) -> dict[model_cluster.Place, Row]:
        """Return the machines of the cluster that live."""
        rows = self.query(
            "SELECT s.*, v.vcpus AS said_vcpus, v.memory_bytes AS said_bytes, v.cpu_source, v.memory_source"
            " FROM vm_state AS s JOIN virtual_machines AS v USING (cluster, namespace, name) WHERE cluster = %s",
            model_cluster.CLUSTER,
        )
        return {(row["namespace"], row["name"]): _told(row) for row in rows}

    def floor(self) -> int:
        """Return the version of the last complete list of machines, -1 where there is none."""
        rows = self.query("SELECT machines_version FROM clusters WHERE cluster = %s", model_cluster.CLUSTER)
        return int(rows[0]["machines_version"]) if rows else -1

    def epochs(self) -> list[datetime.datetime]:
        """Return when restored backups were accepted."""
        rows = self.query("SELECT epochs FROM clusters WHERE cluster = %s", model_cluster.CLUSTER)
        return list(rows[0]["epochs"]) if rows else []

    def all(self) -> frozenset[tuple[str, str]]:
        """Return every row of the ledger as a text, with its table."""
        rows = " UNION ALL ".join(f"SELECT '{table}' AS name, t::text AS row FROM {table} AS t" for table in LEDGER)
        return frozenset((each["name"], each["row"]) for each in self.query(rows))

    def rows(self, table: str, texts: Iterable[str]) -> list[Row]:
        """Return the rows of a table that have these texts."""
        found = self.query(f"SELECT * FROM {table} AS t WHERE t::text = ANY(%s)", list(texts))
        return [_told(row) for row in found] if table == "vm_state" else found


def _told(row: Row) -> Row:
    """Return a row of the state with what the machine itself says under the history's names."""
    return {**row, "vcpus": row["spec_vcpus"], "memory_bytes": row["spec_memory_bytes"]}


def was_true(
    tables: Tables,
    rows: Iterable[tuple[str, str]],
    told: Mapping[str, model_cluster.Envelope],
    past: model_cluster.ModelCluster,
    *,
    lies: Set[str],
    strict: Callable[[model_cluster.Place], bool],
) -> list[Row]:
    """Every row says what was true once: what an event said, what a list held, or that a list lacked it.

    Returns the rows of the states. rows: tables and texts. told: all events that were sent, by id; but for lies,
    of which only the ids are given.
    strict: no backup was restored, so that a list can be told by its version.
    """
    texts = collections.defaultdict(list)
    for table, text in rows:
        texts[table].append(text)
    found = {table: tables.rows(table, texts[table]) for table in set(texts) - {"clusters"}}
    for row in (row for row in itertools.chain(*found.values()) if row["id"] not in lies):
        _was_true(
            row,
            told,
            past,
            strict((row["namespace"], row["name"])),
            kubernetes.VMIS if "owner_uid" in row else kubernetes.VMS,
        )
    return [*found.get("vm_state", ()), *found.get("vm_runtime", ())]


def shown(row: Row, told: Mapping[str, model_cluster.Envelope]) -> int:
    """Return which change of the cluster a row shows, by its version."""
    listed: int = row["resource_version"]
    return told[row["id"]].happening.version if row["id"] in told else listed


def _was_true(
    row: Row,
    told: Mapping[str, model_cluster.Envelope],
    past: model_cluster.ModelCluster,
    strict: bool,
    resource: kubernetes.Resource,
) -> None:
    where = (row["namespace"], row["name"])
    if row["id"] == SPOILED:
        return
    if "instancetype_vcpus" in row and row["instancetype_vcpus"] is not None:
        kept = row["instancetype_vcpus"], row["instancetype_memory_bytes"]
        name = (row["instancetype"] or "/none").partition("/")[2]
        assert kept == _size(name), f"another instancetype's size: {row}"
    if row["id"] in told:
        envelope = told[row["id"]]
        change = _change(envelope)
        assert change is not None, f"this concerns no machine: {row}"
        assert (row["deleted_at"] is None) == (envelope.happening.step != "delete"), f"dead or alive: {row}"
        assert row["resource_version"] in (None, envelope.happening.version), f"of another version: {row}"
        _same(row, {name: getattr(change.row, name) for name in change.row.__struct_fields__})
        return
    assert row["type"].startswith("vmledger.reconcile."), f"nobody said this: {row}"
    listed = row["resource_version"]
    if row["type"].endswith(".delete"):
        gone = past.absent(resource, where, listed, row.get("owner_uid"))
        assert row["deleted_at"] is not None, f"a delete of what lives: {row}"
        assert gone or not strict, f"the list held what this says it lacked: {row}"
        return
    if row["type"].endswith(".correct") and row["deleted_at"] is not None:
        assert past.absent(resource, where, listed, row.get("owner_uid")), f"the list held what this corrects: {row}"
        return
    assert row["deleted_at"] is None, f"no delete, and deleted: {row}"
    held = [each.object for each in past.happened(resource, where) if each.version == listed]
    assert any(_differences(row, _facts(each)) == {} for each in held), f"no list ever held this: {row}"


def consistent(tables: Tables) -> None:
    """Each state is the newest version of its history, no history has a version twice, and what runs is joined."""
    for pair in (MACHINES, INSTANCES):
        key, order = ", ".join(pair.key), ", ".join(ORDER)
        newest = f"SELECT DISTINCT ON ({key}) {key}, {order}, id, digest FROM {pair.history}"
        newest += f" ORDER BY {key}, {', '.join(f'{name} DESC' for name in ORDER)}"
        assert (
            tables.query(
                f"SELECT to_json(s) AS state, to_json(h) AS newest"
                f" FROM {pair.state} AS s FULL JOIN ({newest}) AS h USING ({key})"
                f" WHERE ({', '.join(f's.{name}' for name in (*ORDER, 'id', 'digest'))})"
                f" IS DISTINCT FROM ({', '.join(f'h.{name}' for name in (*ORDER, 'id', 'digest'))})"
            )
            == []
        )
        overtaken = f"""
            SELECT to_json(h) FROM {pair.history} AS h
            WHERE h.overtaken <> (h.version_epoch < 0 OR EXISTS (
                SELECT FROM {pair.history} AS n
                WHERE ({", ".join(f"n.{name}" for name in pair.key)}) = ({", ".join(f"h.{name}" for name in pair.key)})
                  AND ({", ".join(f"n.{name}" for name in ORDER)}) > ({", ".join(f"h.{name}" for name in ORDER)})
                  AND n.known_at < least(h.object_time, h.known_at)
            ))"""
        assert tables.query(overtaken) == [], "a version was in force, and is said not to have been, or it was not"
        twice = f"SELECT {key}, {order} FROM {pair.history} GROUP BY {key}, {order} HAVING count(*) > 1"
        assert tables.query(twice) == []
    assert (
        tables.query(
            f"SELECT to_json(s) AS machine, to_json(i) AS instance FROM vm_state AS s LEFT JOIN vm_runtime AS i"
            f" ON (i.cluster, i.namespace, i.name, i.owner_uid) = (s.cluster, s.namespace, s.name, s.uid)"
            f" WHERE ({', '.join(f's.{name}' for name in (*RUNTIME, 'runtime_seen_at'))})"
            f" IS DISTINCT FROM ({', '.join(f'i.{name}' for name in (*RUNTIME, 'effective_at'))})"
        )
        == []
    )


def kept(tables: Tables, delivered: Iterable[model_cluster.Envelope]) -> None:
    """The history has each event that was answered 204, or a better one about the same version.

    A version is one of an epoch: a restored cluster gives its numbers again. What a list has refuted is in none, and
    another event about it that comes later is a version anew.
    """
    taken_back = "SELECT id FROM vm_history WHERE version_epoch < 0"
    taken_back += " UNION SELECT id FROM vm_runtime_history WHERE version_epoch < 0"
    kept_aside = {row["id"] for row in tables.query(taken_back)}
    wanted = _wanted(tables, [each for each in delivered if each.id not in kept_aside])
    refuted: set[tuple[Any, ...]] = set()
    for pair in (MACHINES, INSTANCES):
        for row in tables.query(f"SELECT * FROM {pair.history}"):
            version = [row[name] for name in ORDER]
            if row["version_epoch"] < 0:
                refuted.add((row["namespace"], row["name"], row["version_number"], row["version_step"]))
            elif row["version_number"] >= 0 and row["version_time"].year > 1:
                pass  # the list's word, dated because its number alone would not outrank what was there
            elif told := wanted.pop((*(row[name] for name in pair.key), *_undated(version)), None):
                rank = (-row["shape"], row["time"] is None, row["time"], row["id"], row["digest"])
                said = f"{told.row.id} says more of the version than {row}"
                assert rank <= told.rank or row["id"] == SPOILED, said
    lost = [
        change
        for change in wanted.values()
        if (*change.key[1:3], change.version.number, change.version.step) not in refuted
    ]
    assert not lost, f"acknowledged and lost: {lost}"


def _wanted(tables: Tables, delivered: Iterable[model_cluster.Envelope]) -> dict[tuple[Any, ...], versions.Change]:
    """Return the best change of each version that was delivered, by its object, epoch and version."""
    wanted: dict[tuple[Any, ...], versions.Change] = {}
    epochs = tables.epochs()
    for change in filter(None, map(_change, delivered)):
        key = (*change.key, bisect.bisect(epochs, change.row.time or _NEVER), *change.version)
        if key not in wanted or change.rank < wanted[key].rank:
            wanted[key] = change
    return wanted


def _undated(version: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row's version as an event has it: with a resource version it has no time."""
    epoch, number, time, step = version
    return epoch, number, None if number >= 0 else time, step


def _change(envelope: model_cluster.Envelope) -> versions.Change | None:
    """Return the change that the ledger must make of an event."""
    make = vm.change if envelope.happening.resource is kubernetes.VMS else instance.change
    return make(envelope.event(), cluster_name=model_cluster.CLUSTER)


def equal(tables: Tables, past: model_cluster.ModelCluster) -> None:
    """The live rows are the cluster's machines, with all their facts, and with what runs or ran."""
    rows, there, running = tables.live(), past.machines(), past.instances()
    assert rows.keys() == there.keys(), f"too many: {rows.keys() - there.keys()}, missing: {there.keys() - rows.keys()}"
    for where, machine in there.items():
        row = rows[where]
        _same(row, _facts(machine))
        ran = running.get(where)
        if ran is not None and model_cluster.owner_of(ran) == machine["metadata"]["uid"]:
            found = instance.facts(ran)
            _same(row, {name: found[name] for name in RUNTIME})
        else:
            assert row["phase"] in (None, instance.GONE), f"it does not run: {row}"
        _same(row, _sizes(machine, row))
    owners = {(*where, model_cluster.owner_of(ran)) for where, ran in running.items()}
    still = "SELECT * FROM vm_runtime WHERE deleted_at IS NULL AND cluster = %s"
    for row in tables.query(still, model_cluster.CLUSTER):
        assert (row["namespace"], row["name"], row["owner_uid"]) in owners, f"it runs no more: {row}"


def _sizes(machine: model_cluster.Object, row: Row) -> dict[str, Any]:
    """Return the numbers that the view must show of a machine, and where they came from."""
    matcher = machine["spec"].get("instancetype")
    if matcher is None:
        found = _facts(machine)
        numbers, source = (found["vcpus"], found["memory_bytes"]), "spec"
    elif row["phase"] not in (None, instance.GONE):
        numbers, source = (row["live_vcpus"], row["live_memory_bytes"]), "instance"
    else:
        numbers, source = _size(matcher["name"]), "instancetype"
    return {"said_vcpus": numbers[0], "said_bytes": numbers[1], "cpu_source": source, "memory_source": source}


def _size(instancetype: str) -> tuple[int, int]:
    cpus, memory = model_cluster.INSTANCETYPES.get(instancetype, (0, "0Gi"))
    return cpus, int(memory.removesuffix("Gi")) * 2**30


def _facts(found: model_cluster.Object) -> dict[str, Any]:
    """Return what a row says about an object that an event or a list holds."""
    facts = vm_object.facts(found) if found["kind"] == kubernetes.VMS.kind else instance.facts(found)
    return {name: value for name, value in facts.items() if name != "deleted_at"}


def _same(row: Row, expected: Mapping[str, Any]) -> None:
    differences = _differences(row, expected)
    assert differences == {}, f"row and expected: {differences} in {row}"


def _differences(row: Row, expected: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (row[name], value) for name, value in expected.items() if row[name] != value}
