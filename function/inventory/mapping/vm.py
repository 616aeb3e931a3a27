"""CloudEvent about a KubeVirt VirtualMachine -> one change of the ledger; pure.

Three forms of event give the same row where they carry the same facts: the whole object, the object that our
EventTransform trimmed (the same mapping), and the published example's flat attributes.
A fact that an event does not carry is None.
Rules for the guest's CPUs and memory: KubeVirt ``pkg/defaults/defaults.go``; run strategy: ``api/core/v1/types.go``.
"""

from __future__ import annotations

import datetime
from typing import Any

from function import errors, events
from function.inventory.mapping import fields, flat, origin, versions, vm_object

GROUP = "kubevirt.io/"
KIND = "VirtualMachine"

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class VirtualMachine(versions.Row, frozen=True, kw_only=True, omit_defaults=True):
    """One event's facts about a virtual machine; texts are as KubeVirt spells them."""

    kind: str
    uid: str | None = None
    generation: int | None = None
    cpucores: int | None = None
    cpusockets: int | None = None
    cputhreads: int | None = None
    vcpus: int | None = None
    memory: str | None = None
    memory_bytes: int | None = None
    storageclass: str | None = None
    network: str | None = None
    instancetype: str | None = None
    preference: str | None = None
    run_strategy: str | None = None
    status: str | None = None
    os: str | None = None
    architecture: str | None = None
    machine_type: str | None = None
    disks: int | None = None
    disk_bytes: int | None = None
    labels: fields.Object | None = None
    owner: str | None = None
    created_at: datetime.datetime | None = None
    deleted_at: datetime.datetime | None = None


COLUMNS: tuple[str, ...] = tuple(name for name in VirtualMachine.__struct_fields__ if name not in versions.NOTES)
"""The columns that a row gives a machine; :data:`versions.NOTES` are the history's alone."""
LIMITS: versions.Limits = [
    *((name, versions.INT4) for name in ("cpucores", "cpusockets", "cputhreads", "vcpus", "disks")),
    *((name, versions.INT8) for name in ("resource_version", "generation", "memory_bytes", "disk_bytes")),
]


def change(event: events.Event, *, cluster_name: str, number: int | None = None) -> versions.Change:
    """Return the change that ``event`` makes.

    cluster_name: for events that carry no ``cluster``. number: the version's where it is not the resource version.

    Raises :class:`errors.BadEvent` where the event can never be a row.
    """
    columns, shape = _facts(event)
    for part in ("name", "namespace"):
        if not columns[part]:
            raise errors.BadEvent(f"the {KIND} has no {part}")
    columns["cluster"] = flat.text(event.attributes, "cluster") or cluster_name
    columns["kind"] = columns["kind"] or flat.text(event.attributes, "kind") or KIND
    deletion_asked_at = columns.pop("deleted_at", None)
    event_type, time = event.type, event.time
    step = versions.STEPS[event_type]
    if shape == versions.OBJECT:
        columns |= origin.notes(event)
    if step == versions.DELETE:
        columns["deleted_at"] = columns.get("object_time") or time or deletion_asked_at or _EPOCH
    row = VirtualMachine(type=event_type, id=event.id, time=time, **columns)
    return ordered(row, shape, number=number)


def ordered(
    row: VirtualMachine, shape: int = versions.OBJECT, *, number: int | None = None, at: datetime.datetime | None = None
) -> versions.Change:
    """Return the change that a row is; number, at: as for :func:`versions.version`."""
    return versions.change(row, shape, limits=LIMITS, number=number, at=at)


def _facts(event: events.Event) -> tuple[dict[str, Any], int]:
    """Return the event's facts by column, and its shape; the shape that can carry more is the greater number."""
    data = event.data
    if data is None or data == {}:
        return flat.facts(event.attributes), versions.FLAT
    if not isinstance(data, dict):
        raise errors.BadEvent(f"the data is not a {KIND}: it is not a JSON object")
    if flat.holds(data):
        columns = flat.facts({**event.attributes, **data})
        if all(columns[name] is None for name in columns.keys() - {"kind", "name", "namespace"}):
            raise errors.BadEvent(f"the data is not a {KIND}: it has nothing of one but a name")
        return columns, versions.FLAT
    columns = _object(data)
    if not (columns["name"] and columns["namespace"] and columns["uid"] and columns["resource_version"] is not None):
        flat.complete(columns, event)
    return columns, versions.OBJECT


def _object(data: fields.Object) -> dict[str, Any]:
    """Read a VirtualMachine object; raise for an object of another kind, and for one that shows no sign of its kind."""
    vm_object.check_kind(data, KIND)
    columns = vm_object.facts(data)
    if columns["name"] or columns["uid"] or columns["resource_version"] is not None or vm_object.has_domain(data):
        return columns
    raise errors.BadEvent(
        f"the data is not a {KIND}: it has no name, uid or resourceVersion, and no spec.template.spec.domain"
    )
