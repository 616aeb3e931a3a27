"""What the ledger says of the past; each claim raises AssertionError with the moment at which it is wrong."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from function.clients import kubernetes
from function.inventory.mapping import instance
from tests.simulation import ledger, model_cluster

MOMENTS = 6
"""How many moments are looked at."""
MACHINE = ("id", "uid", "resource_version", "status", "run_strategy", "labels")
RUN = ("node", "ip_addresses", "phase")

Fleet = dict[model_cluster.Place, tuple[Any, ...]]


def as_histories_say(of: ledger.Tables) -> None:
    """At any moment each machine is the greatest version of its history that counted by then; so is what ran of it."""
    machines, runs = _histories(of, ledger.MACHINES), _histories(of, ledger.INSTANCES)
    for moment in _some({row["effective_at"] for history in machines.values() for row in history}):
        expected: Fleet = {}
        for (_, namespace, name), history in machines.items():
            row = _greatest(history, moment)
            if row is not None and row["deleted_at"] is None:
                ran = runs.get((model_cluster.CLUSTER, namespace, name, row["uid"]), [])
                is_now = row["uid"] == max(history, key=_order)["uid"]
                known = _last_known(ran, moment, of_state=is_now)
                expected[namespace, name] = (*(row[column] for column in MACHINE), *known)
        _same(moment, _fleet(of, moment, (*MACHINE, *RUN)), expected)


def as_changes_say(of: ledger.Tables) -> None:
    """Each change of a machine is a version that was in force and not refuted, and the last says whether it lives."""
    said: dict[tuple[str, ...], list[ledger.Row]] = {}
    changes = "SELECT * FROM vm_changes WHERE cluster = %s AND what NOT IN ('started', 'stopped', 'moved')"
    changes += " ORDER BY changed_at, resource_version"
    for row in of.query(changes, model_cluster.CLUSTER):
        said.setdefault((row["cluster"], row["namespace"], row["name"]), []).append(row)
    live = of.live()
    for key, history in _histories(of, ledger.MACHINES).items():
        in_force = {row["effective_at"] for row in history if row is _greatest(history, row["effective_at"])}
        told = [row for row in said.pop(key, []) if row["changed_at"] in in_force or row["what"] != "changed"]
        wrong = [row for row in told if row["changed_at"] not in in_force]
        assert not wrong, f"a change that never was: {wrong}"
        whole = [row for row in told if row["what"] in ("appeared", "deleted", "recreated", "returned")]
        assert not whole or (whole[-1]["what"] != "deleted") == (key[1:] in live), f"dead or alive: {whole}"
    left = {key for key, rows in said.items() if any(row["what"] == "appeared" for row in rows)}
    assert not left, f"changes of machines without a history: {left}"


def as_it_was(of: ledger.Tables, past: model_cluster.ModelCluster) -> None:
    """At any moment the fleet is what the cluster was; true where every event came, and it or its object said when."""
    for moment in _some({each.moment for each in past.history}):
        before = [each for each in past.history if each.moment <= moment]
        there = {each.place: each for each in before if each.resource is kubernetes.VMS}
        ran = {model_cluster.owner_of(each.object): each for each in before if each.resource is kubernetes.VMIS}
        expected: Fleet = {}
        for where, latest in there.items():
            if latest.step != "delete":
                uid = latest.object["metadata"]["uid"]
                expected[where] = (uid, latest.version, *_run(ran.get(uid)))
        _same(moment, _fleet(of, moment, ("uid", "resource_version", "node", "phase")), expected)


def _last_known(history: Sequence[ledger.Row], moment: datetime.datetime, *, of_state: bool) -> tuple[Any, ...]:
    """Return what a history says of a run; what is gone keeps what was said of the same instance before.

    What the state of the machine shows keeps what was last known, whoever said it; else it is what was in force before.
    """
    newest = _greatest(history, moment)
    if newest is None:
        return (None,) * len(RUN)
    said = [newest]
    if of_state and newest["deleted_at"] is not None and newest is max(history, key=_order):
        before = [row for row in history if _order(row) < _order(newest) and newest["uid"] in (None, row["uid"])]
        said += sorted(before, key=_order, reverse=True)
    elif newest["deleted_at"] is not None and not (newest["node"] and newest["ip_addresses"]):
        in_force = [row for row in history if row["effective_at"] < newest["effective_at"] and not row["overtaken"]]
        before = sorted(in_force, key=lambda row: row["effective_at"])[-1:]
        said += [row for row in before if newest["uid"] in (None, row["uid"])]
    return tuple(next((row[column] for row in said if row[column]), None) for column in RUN)


def _run(latest: model_cluster.Happening | None) -> tuple[str | None, str | None]:
    """Return node and phase of an instance."""
    if latest is None:
        return None, None
    status = latest.object["status"]
    return status.get("nodeName"), instance.GONE if latest.step == "delete" else status["phase"]


def _histories(of: ledger.Tables, pair: ledger.Pair) -> dict[tuple[str, ...], list[ledger.Row]]:
    found: dict[tuple[str, ...], list[ledger.Row]] = {}
    for row in of.query(
        f"SELECT * FROM {pair.history} WHERE cluster = %s AND version_epoch >= 0", model_cluster.CLUSTER
    ):
        found.setdefault(tuple(row[name] for name in pair.key), []).append(row)
    return found


def _greatest(history: Iterable[ledger.Row], moment: datetime.datetime) -> ledger.Row | None:
    rows = [row for row in history if row["effective_at"] <= moment]
    return max(rows, key=_order, default=None)


def _order(row: ledger.Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ledger.ORDER)


def _fleet(of: ledger.Tables, moment: datetime.datetime, columns: Iterable[str]) -> Fleet:
    rows = of.query("SELECT * FROM virtual_machines_at(%s) WHERE cluster = %s", moment, model_cluster.CLUSTER)
    return {(row["namespace"], row["name"]): tuple(row[column] for column in columns) for row in rows}


def _some(moments: Iterable[datetime.datetime]) -> list[datetime.datetime]:
    """Return some of the moments, from the first to the last."""
    known = sorted(moments)
    return known[:: max(1, len(known) // MOMENTS)]


def _same(moment: datetime.datetime, found: Fleet, expected: Fleet) -> None:
    wrong = {where: (found.get(where), expected.get(where)) for where in found.keys() | expected.keys()}
    differences = {where: sides for where, sides in wrong.items() if sides[0] != sides[1]}
    assert not differences, f"at {moment} the ledger says, and was: {differences}"
