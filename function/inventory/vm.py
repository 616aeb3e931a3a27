"""CloudEvent about a KubeVirt VirtualMachine -> one change of the ledger; pure.

Three shapes give the same row where they carry the same facts: the whole object, the object that our EventTransform
trimmed (the same mapping), and the published example's flat attributes.
What an event does not carry is None.
Rules for the guest's CPUs and memory: KubeVirt ``pkg/defaults/defaults.go``; run strategy: ``api/core/v1/types.go``.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from function import errors, events
from function.inventory import fields, flat, kubevirt

STEPS = {
    "dev.knative.apiserver.resource.add": 0,
    "dev.knative.apiserver.resource.update": 1,
    "dev.knative.apiserver.resource.delete": 2,
}
"""The event types that change the ledger. Where versions are equal, delete is later than update, later than add."""
DELETE = 2
FLAT, OBJECT = 0, 1
"""The shapes of an event; of two events about one version, the greater is kept."""

GROUP = "kubevirt.io/"
KIND = "VirtualMachine"
KEY_BYTES = 253
"""Longest name that Kubernetes allows; and three of them fit a row of the key's index."""
INT4 = 2**31 - 1
INT8 = 2**63 - 1

_NUL = re.compile("\x00")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_encode = msgspec.json.Encoder().encode


class Version(NamedTuple):
    """Which change of a VM is the later one; compares as the ledger orders.

    number: the resource version, or -1, so that any resource version outranks none.
    time: the event's where it decides, else None. step: add, update, delete.
    """

    number: int
    time: datetime.datetime | None
    step: int

    @property
    def order(self) -> tuple[int, bool, datetime.datetime, int]:
        """The version as a value that sorts."""
        return self.number, self.time is not None, self.time or _END, self.step


class VirtualMachine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one event says of a virtual machine: the columns of the ledger, by their names.

    Sizes are in bytes; times are aware; texts are as KubeVirt spells them.
    A struct of msgspec, because it is made and written as JSON for every event, and that takes a tenth of the time.
    """

    type: str
    id: str
    kind: str
    name: str
    namespace: str
    cluster: str
    time: datetime.datetime | None = None
    uid: str | None = None
    resource_version: int | None = None
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
    created_at: datetime.datetime | None = None
    deleted_at: datetime.datetime | None = None


COLUMNS: tuple[str, ...] = VirtualMachine.__struct_fields__


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One event's change of the ledger.

    key: cluster, namespace, name. version: its place in the VM's order. rank: which of two events about the same
    version is kept, the smaller. payload: the row as a JSON object.
    """

    vm: VirtualMachine
    key: tuple[str, str, str]
    version: Version
    rank: tuple[int, bool, datetime.datetime, str, int]
    payload: bytes

    @property
    def order(self) -> tuple[object, ...]:
        """What sorts changes by VM, then by version, and the kept one of each version first."""
        return self.key, self.version.order, self.rank


def change(event: events.Event, *, cluster_name: str) -> Change:
    """Return the change that ``event`` makes; ``cluster_name`` is for events that carry no ``cluster``.

    Raises :class:`errors.BadEvent` where the event can never be a row.
    """
    known, shape = _facts(event)
    for name in ("name", "namespace"):
        if not known[name]:
            raise errors.BadEvent(f"the VirtualMachine has no {name}")
    known["cluster"] = flat.text(event.attributes, "cluster") or cluster_name
    known["kind"] = known["kind"] or flat.text(event.attributes, "kind") or KIND
    asked = known.pop("deleted_at", None)
    if STEPS[event.type] == DELETE:
        known["deleted_at"] = event.time or asked or _EPOCH
    return _change(VirtualMachine(type=event.type, id=event.id, time=event.time, **known), shape)


def _facts(event: events.Event) -> tuple[dict[str, Any], int]:
    """Return what the event says by column, and its shape: the more it can carry, the greater."""
    match event.data:
        case None | {} if not event.data:
            return flat.facts(event.attributes), FLAT
        case dict() as data if flat.holds(data):
            return flat.facts({**event.attributes, **data}), FLAT
        case dict() as data:
            return kubevirt.facts(data), OBJECT
        case _:
            raise errors.BadEvent("the data is no VirtualMachine: it is no JSON object")


def _change(vm: VirtualMachine, shape: int) -> Change:
    """Order a row, and write it as the JSON that the store sends."""
    version = Version(
        -1 if vm.resource_version is None else vm.resource_version,
        vm.time if vm.resource_version is None else None,
        STEPS[vm.type],
    )
    row = _row(vm)
    digest = zlib.crc32(row)
    order = b',"version_number":%d,"version_time":"%s","version_step":%d,"shape":%d,"digest":%d}' % (
        version.number,
        version.time.isoformat().encode() if version.time else b"-infinity",
        version.step,
        shape,
        digest,
    )
    return Change(
        vm=vm,
        key=(vm.cluster, vm.namespace, vm.name),
        version=version,
        rank=(-shape, vm.time is None, vm.time or _END, vm.id, digest),
        payload=row[:-1] + order,
    )


def _row(vm: VirtualMachine) -> bytes:
    """Write a row as JSON; raise :class:`errors.BadEvent` for what no column can hold."""
    _check_sizes(vm)
    try:
        row = _encode(vm)
    except UnicodeEncodeError as exc:
        raise errors.BadEvent(f"the {_where(vm, _SURROGATE)} holds half a character, a lone surrogate") from exc
    if b"\\u0000" in row and (column := _where(vm, _NUL)):
        raise errors.BadEvent(f"the {column} holds a NUL character, which a database cannot keep")
    return row


def _check_sizes(vm: VirtualMachine) -> None:
    """Raise for a number past its column, or a key past its index."""
    for name, most in _LIMITS:
        value = getattr(vm, name)
        if value is not None and not 0 <= value <= most:
            amount = value if abs(value) < 10**30 else "of so many digits"
            raise errors.BadEvent(f"the {name} {amount} is past what the ledger can hold, 0 to {most}")
    for name in ("cluster", "namespace", "name"):
        if len(getattr(vm, name).encode(errors="replace")) > KEY_BYTES:
            raise errors.BadEvent(f"the {name} is longer than {KEY_BYTES} bytes")


_LIMITS = [
    *((name, INT4) for name in ("cpucores", "cpusockets", "cputhreads", "vcpus", "disks")),
    *((name, INT8) for name in ("resource_version", "generation", "memory_bytes", "disk_bytes")),
]


def _where(vm: VirtualMachine, wrong: re.Pattern[str]) -> str | None:
    """Name the first column with a text that ``wrong`` finds something in."""
    return next((name for name in COLUMNS if any(map(wrong.search, _texts(getattr(vm, name))))), None)


def _texts(value: Any) -> Iterable[str]:
    """Yield each text inside a JSON value, keys too."""
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
