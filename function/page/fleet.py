"""The fleet: the VMs that live, searched, counted, sorted, and a page of them at a time."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from function import errors
from function.page import counts, database, filters, query, views

PAGE = 50
MOST_VALUES = 20
"""Of a facet that are shown."""
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column that can be shown. name: in the query string. field: of the row. sort: its word in ``sort=``."""

    name: str
    title: str
    field: str
    sort: str = ""
    is_number: bool = False
    is_long: bool = False
    """Whether it is cut where there is no room for all of it."""


COLUMNS = (
    Column("name", "Name", "name", "name"),
    Column("namespace", "Namespace", "namespace", "namespace"),
    Column("cluster", "Cluster", "cluster", "cluster"),
    Column("status", "Status", "status", "status"),
    Column("phase", "Phase", "phase", "phase"),
    Column("node", "Node", "node", "node"),
    Column("addresses", "Addresses", "ip_addresses"),
    Column("guest_os", "Guest OS", "guest_os", "guest_os", is_long=True),
    Column("instancetype", "Instancetype", "instancetype", "instancetype"),
    Column("owner", "Owner", "owner", "owner", is_long=True),
    Column("vcpus", "vCPUs", "vcpus", "vcpus", is_number=True),
    Column("memory", "Memory", "memory_bytes", "memory", is_number=True),
    Column("disk", "Disk", "disk_bytes", "disk", is_number=True),
    Column("run_strategy", "Run strategy", "run_strategy", "run_strategy"),
    Column("network", "Network", "network", is_long=True),
    Column("storageclass", "Storage class", "storageclass", is_long=True),
    Column("labels", "Labels", "labels"),
    Column("created", "Created", "created_at", "created"),
    Column("updated", "Updated", "updated_at", "updated"),
)
SHOWN = ("name", "namespace", "cluster", "status", "node", "addresses", "guest_os", "vcpus", "memory", "disk")
"""The columns that are shown where none are chosen."""
TITLES = {
    "cluster": "Cluster",
    "namespace": "Namespace",
    "status": "Status",
    "phase": "Phase",
    "node": "Node",
    "guest_os": "Guest OS",
    "instancetype": "Instancetype",
    "owner": "Owner",
}
PLACE = ("cluster", "namespace", "name")
FIELDS = (
    *PLACE,
    *("status", "phase", "node", "guest_os", "instancetype", "vcpus", "memory_bytes", "disk_bytes", "disks"),
    *("ip_addresses", "run_strategy", "cpu_source", "memory_source", "storageclass", "network", "preference", "os"),
    *("architecture", "machine_type", "labels", "owner", "uid", "created_at", "updated_at"),
)
"""The columns of the list to take away, where none are chosen: all that the statement returns but its own keys."""
PORTION = 2000
"""VMs that are read at once for such a list."""
STRETCH, GROWTH = 400, 4
"""Of the past, so many VMs are looked at for a page, and by how much the next stretch is longer."""
NAMES = filters.NAMES | {"columns"}


def answer(request: views.Request) -> Mapping[str, Any]:
    """Return a page of the fleet, and what the filter leaves in all."""
    wanted = filters.Filter.parsed(request.query)
    order = filters.Order.parsed(request.query)
    columns = chosen(request.query)

    def work(cursor: database.Cursor) -> tuple[list[Row], counts.Counts]:
        rows = listed(cursor, wanted, order, at=request.at, most=PAGE + 1)
        if order.key is None and len(rows) <= PAGE:  # these are all, and need not be read again to be counted
            return rows, counts.of_machines(rows, filters.FACETS, MOST_VALUES)
        return rows, request.kept.get((wanted.key, request.at), lambda: counted(cursor, wanted, request.at))

    rows, in_all = request.reader.read(work)
    return {
        "columns": columns,
        "all_columns": COLUMNS,
        "order": order,
        "search": request.query.one("q"),
        "facets": filters.FACETS,
        "titles": TITLES,
        "wanted": wanted,
        "counts": in_all,
        **page_of(rows, order, request.query),
    }


def listing(request: views.Request) -> views.Listing:
    """Return all VMs that the filter leaves, by their keys, whatever order the page shows.

    Another order would sort the whole fleet anew for each portion.
    """
    wanted = filters.Filter.parsed(request.query)
    filters.Order.parsed(request.query)
    asked = [column.field for column in chosen(request.query) if column.field not in PLACE]
    columns = (*PLACE, *asked) if request.query.all("columns") else FIELDS

    def portions() -> Iterator[list[Row]]:
        order = filters.Order()
        while True:
            work = functools.partial(listed, wanted=wanted, order=order, at=request.at, most=PORTION)
            rows = request.reader.read(work)
            yield rows
            if len(rows) < PORTION:
                return
            order = filters.Order(key=key(rows[-1]))

    return views.Listing(columns=columns, portions=portions())


def chosen(asked: query.Query) -> tuple[Column, ...]:
    """Return the columns that a query string chooses, in their own order; raise :class:`errors.BadQuestion`."""
    names = {name for value in asked.all("columns") for name in value.split(",") if name}
    unknown = names - {column.name for column in COLUMNS}
    if unknown:
        known = ", ".join(column.name for column in COLUMNS)
        raise errors.BadQuestion(f"columns= has no {errors.shown(min(unknown))}: it has {known}")
    shown = names | {"name"} if names else set(SHOWN)
    return tuple(column for column in COLUMNS if column.name in shown)


def listed(
    cursor: database.Cursor,
    wanted: filters.Filter,
    order: filters.Order,
    *,
    at: datetime.datetime | None,
    most: int | None,
) -> list[Row]:
    """Return the VMs that a filter leaves, in an order, with their keys; all of them where ``most`` is None."""
    asked = {"at": at, "most": most, **wanted.parameters()}
    if at is None:
        return database.dicts(cursor, "list_fleet", {**asked, **order.parameters()})
    if most is None or order.sort != filters.DEFAULT_SORT:
        nowhere = dict.fromkeys(f"last_{name}" for name in PLACE)
        return database.dicts(cursor, "list_past_fleet", {**asked, **order.parameters(), **nowhere})
    return _stretches(cursor, order, asked, most)


def _stretches(cursor: database.Cursor, order: filters.Order, asked: Mapping[str, Any], most: int) -> list[Row]:
    """Return VMs of the past by cluster, namespace and name, from stretch to stretch of those that are known.

    The statement alone would look up all that is known before it sorts, and takes a second of 100,000 VMs.
    """
    rows: list[Row] = []
    machines = max(most, STRETCH)
    while True:
        last = database.dicts(cursor, "end_of_stretch", {**order.parameters(), "machines": machines})
        ends = {f"last_{name}": last[0][name] if last else None for name in PLACE}
        known = {**asked, **order.parameters(), **ends, "most": most - len(rows)}
        rows += database.dicts(cursor, "list_past_fleet", known)
        if len(rows) >= most or not last:
            return rows
        order = dataclasses.replace(order, key=("", 0, *(last[0][name] for name in PLACE)))
        machines *= GROWTH


def counted(cursor: database.Cursor, wanted: filters.Filter, at: datetime.datetime | None) -> counts.Counts:
    """Return how many VMs a filter leaves, and their sums."""
    name = "count_fleet" if at is None else "count_past_fleet"
    return counts.of_rows(database.dicts(cursor, name, {"at": at, "most": MOST_VALUES, **wanted.parameters()}))


def key(row: Row) -> filters.Key:
    """Return the place of a row in the order that it was asked for in."""
    return row["text_key"], row["number_key"], row["cluster"], row["namespace"], row["name"]


def page_of(found: list[Row], order: filters.Order, asked: query.Query) -> dict[str, Any]:
    """Return the rows of a page, and the query strings of the pages after and before it, None where there is none.

    found: one row more than a page has, where there are more.
    """
    is_more = len(found) > PAGE
    rows = found[:PAGE]
    if order.backwards:
        rows.reverse()
    is_after = is_more if not order.backwards else order.key is not None
    is_before = is_more if order.backwards else order.key is not None
    following = asked.but(before=None, after=filters.written(key(rows[-1]))) if rows and is_after else None
    preceding = asked.but(after=None, before=filters.written(key(rows[0]))) if rows and is_before else None
    return {"rows": rows, "following": following, "preceding": preceding, "first": asked.but(after=None, before=None)}


VIEW = views.View(name="fleet", rule="/", title="Fleet", answer=answer, names=NAMES, listing=listing)
