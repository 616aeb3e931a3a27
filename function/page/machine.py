"""One VM: what it is and where each number comes from, what happened to it, how and where it ran."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from function.page import changes, charts, database, story, views

STRIP = datetime.timedelta(days=30)
MOST_SPANS = 200
"""Spans of the strip's table, and stays on nodes."""
NEAR = {
    "node": ("cluster",),
    "owner": ("cluster", "namespace"),
    "instancetype": ("cluster",),
    "guest_os": ("cluster",),
    "namespace": ("cluster",),
}
"""What VMs have in common that are near each other: filters of the fleet, and inside what each is one thing.

A namespaced owner is in the namespace of what it owns (Kubernetes' documentation, Owners and Dependents).
"""
WORDS = {"guest_os": "guest OS"}


def answer(request: views.Request) -> Mapping[str, Any] | None:
    """Return all that is shown of a VM; None where it was never in the ledger, or not yet at the moment asked for."""
    return request.reader.read(lambda cursor: _read(cursor, request))


def _read(cursor: database.Cursor, request: views.Request) -> Mapping[str, Any] | None:
    facts = _facts(cursor, request.path, request.at)
    if facts is None:
        return None
    now = datetime.datetime.now(datetime.UTC) if request.at is None else request.at
    asked = _asked(request)
    found = changes.find(cursor, asked)
    known = {**request.path, "until": now}
    runs = database.dicts(cursor, "runs_of", known)
    life = story.window(story.life(database.dicts(cursor, "statuses_of", known), runs), now - STRIP, now)
    return {
        "row": facts,
        "sources": _sources(facts),
        "near": _near(facts),
        "found": found,
        "following": request.query.but(before=changes.written(found.following)) if found.following else None,
        "life": life[-MOST_SPANS:],
        "strip": charts.strip(life, now - STRIP, now),
        "stays": story.stays(runs)[:MOST_SPANS],
        "is_first": asked.before is None,
    }


def listing(request: views.Request) -> views.Listing | None:
    """Return the story of a VM, all of it; None as :func:`answer` does."""
    if request.reader.read(lambda cursor: _facts(cursor, request.path, request.at)) is None:
        return None
    return changes.listed(request, _asked(request))


def _asked(request: views.Request) -> changes.Asked:
    """Return which changes are the VM's story, or the next page of it."""
    cluster, namespace, name = (request.path[part] for part in ("cluster", "namespace", "name"))
    asked = changes.Asked.parsed(request.query, request.at)
    return dataclasses.replace(asked, cluster=cluster, namespace=namespace, name=name)


def _facts(cursor: database.Cursor, place: Mapping[str, str], at: datetime.datetime | None) -> dict[str, Any] | None:
    """Return the facts of the VM as it is or was; of one that is deleted, as it was last."""
    if at is not None:
        return _read_labels(database.dicts(cursor, "vm_then", {**place, "moment": at}))
    now = database.dicts(cursor, "vm_now", place)
    if not now or now[0]["deleted_at"] is None:
        return _read_labels(now)
    last = database.dicts(cursor, "vm_then", {**place, "moment": now[0]["effective_at"]})
    return _read_labels(last or [{**row, "deleted_at": row["effective_at"]} for row in now])


def _read_labels(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    for row in rows:
        return {**row, "labels": json.loads(row["labels"] or "{}")}
    return None


def _sources(row: Mapping[str, Any]) -> dict[str, str]:
    """Return where the numbers of a VM come from, in words."""
    return {name: _source(row, name) for name in ("cpu_source", "memory_source")}


def _source(row: Mapping[str, Any], name: str) -> str:
    match row[name]:
        case "spec" if name == "cpu_source":
            parts = ((row["cpucores"], "cores"), (row["cpusockets"], "sockets"), (row["cputhreads"], "threads"))
            product = " \N{MULTIPLICATION SIGN} ".join(f"{count} {word}" for count, word in parts if count)
            return f"the VM's spec: {product}" if product else "the VM's spec"
        case "spec":
            return f"the VM's spec: {row['memory']}" if row["memory"] else "the VM's spec"
        case "instance":
            return f"the instance, which runs by {row['instancetype']}"
        case "instancetype":
            return f"the instancetype {row['instancetype']}"
    return "not known"


def _near(row: Mapping[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """Return links to VMs that have something in common with this one: a word, the value, and the fleet's filter."""
    found = [
        (WORDS.get(name, name), row[name], {part: row[part] for part in (name, *inside)})
        for name, inside in NEAR.items()
        if row[name]
    ]
    labels = sorted(row["labels"].items())
    found += [
        (f"label {key}", str(value), {"q": f"label:{key}={value}"}) for key, value in labels if not _spaced(value)
    ]
    return found


def _spaced(value: object) -> bool:
    """Whether a search cannot name the value, because its words end at spaces."""
    return any(each.isspace() for each in str(value))


VIEW = views.View(
    name="machine",
    rule="/vm/<cluster>/<namespace>/<path:name>",
    title="VM",
    answer=answer,
    names=frozenset({"before"}),
    listing=listing,
    in_menu=False,
)
