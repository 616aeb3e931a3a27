"""CloudEvent about a KubeVirt VirtualMachineInstance -> one change of the ledger; pure.

A VirtualMachine shows what was asked for; its instance shows what runs: on which node, with which addresses, how large.
There is one shape, the object, whole or trimmed; a field that a trimmed one lacks is None.
An instance that no VirtualMachine owns makes no change.
Fields of the object: KubeVirt ``api/core/v1/types.go``; those of the status that are set from the first event on:
``pkg/defaults/defaults.go``.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

from function import errors, events
from function.inventory.mapping import fields, flat, origin, versions, vm_object, vm_spec

KIND = "VirtualMachineInstance"
GONE = "Gone"
"""The phase of an instance that was deleted; one that ended by itself is Succeeded or Failed until then."""

_MACHINE_GROUP, _MACHINE = "kubevirt.io/", "VirtualMachine"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Instance(versions.Row, frozen=True, kw_only=True, omit_defaults=True):
    """One event's facts about a running instance; texts are as KubeVirt spells them.

    uid: the instance's own, new at each start. owner_uid: the VirtualMachine's, by which the two are joined.
    ip_addresses: of all interfaces, each once, in their order; empty where there are interfaces and no addresses.
    """

    owner_uid: str
    uid: str | None = None
    node: str | None = None
    ip_addresses: list[str] | None = None
    guest_os: str | None = None
    phase: str | None = None
    live_vcpus: int | None = None
    live_memory_bytes: int | None = None
    deleted_at: datetime.datetime | None = None


LIMITS: versions.Limits = [
    ("live_vcpus", versions.INT4),
    ("resource_version", versions.INT8),
    ("live_memory_bytes", versions.INT8),
]


def change(event: events.Event, *, cluster_name: str, number: int | None = None) -> versions.Change | None:
    """Return the change that ``event`` makes; None where no VirtualMachine owns the instance.

    cluster_name: for events that carry no ``cluster``. number: the version's where it is not the resource version.

    Raises :class:`errors.BadEvent` where the event can never be a row.
    """
    columns = _facts(event)
    if columns["owner_uid"] is None:
        return None
    for part in ("name", "namespace"):
        if not columns[part]:
            raise errors.BadEvent(f"the {KIND} has no {part}")
    columns["cluster"] = flat.text(event.attributes, "cluster") or cluster_name
    deletion_asked_at = columns.pop("deleted_at")
    step = versions.STEPS[event.type]
    columns |= origin.notes(event)
    if step == versions.DELETE:
        ended_at = columns["object_time"] or event.time or deletion_asked_at or _EPOCH
        columns |= {"phase": GONE, "deleted_at": ended_at}
    row = Instance(type=event.type, id=event.id, time=event.time, **columns)
    return ordered(row, number=number)


def ordered(row: Instance, *, number: int | None = None, at: datetime.datetime | None = None) -> versions.Change:
    """Return the change that a row is; number, at: as for :func:`versions.version`."""
    return versions.change(row, versions.OBJECT, limits=LIMITS, key=(row.owner_uid,), number=number, at=at)


def facts(instance: fields.Object) -> dict[str, Any]:
    """Return the facts by column; raise :class:`errors.BadEvent` where the object has another shape.

    deleted_at is when the deletion was asked for: the instance may live on for its grace period.
    """
    data = fields.Node(instance)
    metadata, status = data.object("metadata"), data.object("status")
    domain = data.object("spec").object("domain")
    return {
        "name": metadata.name("name"),
        "namespace": metadata.name("namespace"),
        "uid": metadata.text("uid"),
        "owner_uid": _owner(metadata),
        "resource_version": metadata.digits("resourceVersion"),
        "node": status.text("nodeName"),
        "ip_addresses": _addresses(status),
        "guest_os": _guest_os(status.object("guestOSInfo")),
        "phase": status.text("phase"),
        "live_vcpus": _vcpus(status, domain),
        "live_memory_bytes": _memory_bytes(status, domain),
        "deleted_at": metadata.time("deletionTimestamp"),
    }


def _facts(event: events.Event) -> dict[str, Any]:
    data = event.data
    if data is None or data == {}:
        raise errors.BadEvent(f"the event holds no {KIND}: it has no data")
    if not isinstance(data, dict):
        raise errors.BadEvent(f"the data is not a {KIND}: it is not a JSON object")
    vm_object.check_kind(data, KIND)
    if not data.get("metadata"):
        raise errors.BadEvent(f"the data is not a {KIND}: it has no metadata")
    columns = facts(data)
    if not (columns["name"] and columns["namespace"] and columns["uid"] and columns["resource_version"] is not None):
        flat.complete(columns, event)
    return columns


def _owner(metadata: fields.Node) -> str | None:
    """Return the uid of the VirtualMachine that owns the instance, its controller before any other."""
    owners = [owner for owner in metadata.objects("ownerReferences") if _is_machine(owner)]
    if not owners:
        return None
    owner = next((owner for owner in owners if owner.items.get("controller") is True), owners[0])
    uid = owner.text("uid")
    if uid is None:
        raise errors.BadEvent(f"{owner.path('uid')} is missing")
    if len(uid.encode(errors="replace")) > versions.KEY_BYTES:
        raise errors.BadEvent(f"{owner.path('uid')} is longer than {versions.KEY_BYTES} bytes")
    return uid


def _is_machine(owner: fields.Node) -> bool:
    return owner.name("kind") == _MACHINE and (owner.name("apiVersion") or "").startswith(_MACHINE_GROUP)


def _guest_os(info: fields.Node) -> str | None:
    """Return the name of the guest's system: the pretty name, else name and version.

    Each field that the guest's agent sends is optional (QEMU, guest-get-osinfo). On Windows the version begins with
    the name, so the name is not repeated.
    """
    pretty = info.text("prettyName")
    if pretty:
        return pretty
    name, version = info.text("name") or info.text("id"), info.text("version") or info.text("versionId")
    if not name or not version:
        return name
    return version if version.startswith(name) else f"{name} {version}"


def _addresses(status: fields.Node) -> list[str] | None:
    """Return the addresses of all interfaces; None where the status has no interfaces yet.

    Some releases of KubeVirt append the length of the prefix, as in 10.244.0.37/24; it is cut off.
    """
    if status.items.get("interfaces") is None:
        return None
    found: list[str | None] = []
    for interface in status.objects("interfaces"):
        found += _texts(interface, "ipAddresses") or [interface.text("ipAddress")]
    return list(dict.fromkeys(filter(None, [address and address.partition("/")[0] for address in found])))


def _texts(node: fields.Node, key: str) -> list[str]:
    """Return the texts of the list at ``key``, without empty ones."""
    items = node.items.get(key) or []
    if isinstance(items, list) and all(item is None or isinstance(item, str) for item in items):
        return [fields.clean(item) for item in items if item]
    raise errors.BadEvent(f"{node.path(key)} is not a list of texts")


def _vcpus(status: fields.Node, domain: fields.Node) -> int | None:
    """Return the guest's vCPUs: those that run now, else those that the domain defines.

    While sockets are hot-plugged, the domain already has them and the status does not yet.
    """
    topology = status.object("currentCPUTopology")
    counts = [topology.whole(part) or 0 for part in ("cores", "sockets", "threads")]
    if min(counts) < 0:
        raise errors.BadEvent(f"{status.path('currentCPUTopology')} has a negative count")
    if any(counts):
        return math.prod(count or 1 for count in counts)
    return vm_spec.cpus(domain)["vcpus"] if domain else None


def _memory_bytes(status: fields.Node, domain: fields.Node) -> int | None:
    """Return the guest's memory: its size now, else at boot, else the size that the domain defines.

    guestRequested is not used: it is the target of a hot-plug, which may never be reached.
    """
    memory = status.object("memory")
    for key in ("guestCurrent", "guestAtBoot"):
        size = memory.amount(key)
        if size:
            return size
    asked: dict[str, Any] = vm_spec.memory(domain)
    return asked.get("memory_bytes")
