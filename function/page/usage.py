"""Usage: the hours of a month, summed by namespace, and of each VM of one namespace; from ``vm_usage``."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any

from function import errors
from function.page import database, views

PAGE = 200
"""VMs that are shown at once."""
PORTION = 5000
SUMS = {
    "hours": "Hours",
    "hours_running": "running",
    "vcpu_hours": "vCPU-hours",
    "vcpu_hours_running": "running",
    "memory_gib_hours": "GiB-hours",
    "memory_gib_hours_running": "running",
    "disk_gib_hours": "disk GiB-hours",
}
"""The columns of hours, with the words above them."""
COLUMNS = ("cluster", "namespace", "name", "uid", *SUMS, "running_by", "hours_unsized", "node_hours", "labels")
_MONTH = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])", re.ASCII)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked for: the month, by its first moment (UTC) and the first of the next one, and the filters."""

    since: datetime.datetime
    until: datetime.datetime
    cluster: str | None
    namespace: str | None

    @classmethod
    def parsed(cls, request: views.Request) -> Asked:
        """Read the query string; raise :class:`errors.BadQuestion`."""
        now = datetime.datetime.now(datetime.UTC)
        text = request.query.one("month") or f"{now:%Y-%m}"
        found = _MONTH.fullmatch(text)
        if found is None:
            raise errors.BadQuestion("month= must be a year and a month, such as 2026-11")
        since = datetime.datetime(int(found[1]), int(found[2]), 1, tzinfo=datetime.UTC)
        cluster, namespace = (request.query.one(name) or None for name in ("cluster", "namespace"))
        return cls(since=since, until=after(since), cluster=cluster, namespace=namespace)

    @property
    def month(self) -> str:
        """Return the month as ``month=`` has it."""
        return f"{self.since:%Y-%m}"

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the statements."""
        return dataclasses.asdict(self)


def after(month: datetime.datetime) -> datetime.datetime:
    """Return the first moment of the next month."""
    return (month + datetime.timedelta(days=31)).replace(day=1)


def before(month: datetime.datetime) -> datetime.datetime:
    """Return the first moment of the month before."""
    return (month - datetime.timedelta(days=1)).replace(day=1)


def answer(request: views.Request) -> Mapping[str, Any]:
    """Return the sums, and where one namespace is asked for, its VMs."""
    asked = Asked.parsed(request)
    alone = asked.cluster is not None and asked.namespace is not None
    name, uid = request.query.one("name"), request.query.one("uid")

    def read(cursor: database.Cursor) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        sums = database.dicts(cursor, "usage_by_namespace", asked.parameters)
        return sums, _machines(cursor, asked, name, uid, most=PAGE + 1) if alone else []

    sums, machines = request.reader.read(read)
    last = machines[PAGE - 1] if len(machines) > PAGE else None
    onward = request.query.but(name=last["name"], uid=last["uid"] or "") if last else None
    links = [
        None if alone else request.query.but(cluster=row["cluster"], namespace=row["namespace"], name=None, uid=None)
        for row in sums
    ]
    return {
        "asked": asked,
        "months": [f"{month:%Y-%m}" for month in (before(asked.since), after(asked.since))],
        "sums": list(zip(sums, links, strict=True)),
        "machines": machines[:PAGE],
        "onward": onward,
        "columns": SUMS,
    }


def listing(request: views.Request) -> views.Listing:
    """Return a row for each VM that the filters leave."""
    return views.Listing(columns=COLUMNS, portions=_portions(request, Asked.parsed(request)))


def _portions(request: views.Request, asked: Asked) -> Iterator[views.Rows]:
    """Read namespace by namespace, so that the hours of no VM are counted twice."""
    only = {"cluster": asked.cluster, "namespace": asked.namespace}
    for place in request.reader.read(lambda cursor: database.dicts(cursor, "usage_namespaces", only)):
        here = dataclasses.replace(asked, **place)
        name = uid = ""
        while rows := _portion(request, here, name, uid):
            yield rows
            if len(rows) < PORTION:
                break
            name, uid = rows[-1]["name"], rows[-1]["uid"] or ""


def _portion(request: views.Request, asked: Asked, name: str, uid: str) -> list[dict[str, Any]]:
    return request.reader.read(lambda cursor: _machines(cursor, asked, name, uid, most=PORTION))


def _machines(cursor: database.Cursor, asked: Asked, name: str, uid: str, *, most: int) -> list[dict[str, Any]]:
    key = {"name": name, "uid": uid, "most": most}
    return database.dicts(cursor, "usage_of_vms", {**asked.parameters, **key})


VIEW = views.View(
    name="usage",
    rule="/usage",
    title="Usage",
    answer=answer,
    names=frozenset({"month", "cluster", "namespace", "name", "uid"}),
    has_past=False,
    listing=listing,
)
