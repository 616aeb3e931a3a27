"""The spec of a VirtualMachine of KubeVirt -> the ledger's facts of it; pure.

A spec seldom changes, and each event of its machine brings it whole: what was read of one may be kept as a
:class:`Spec`.
Rules for the guest's CPUs and memory: KubeVirt ``pkg/defaults/defaults.go``; run strategy: ``api/core/v1/types.go``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from function import errors
from function.inventory.mapping import fields, volume_templates

_INSTANCETYPE, _PREFERENCE = "VirtualMachineClusterInstancetype", "VirtualMachineClusterPreference"
_SPELLINGS = {
    spelling: kind
    for kind in (_INSTANCETYPE, "VirtualMachineInstancetype", _PREFERENCE, "VirtualMachinePreference")
    for spelling in (kind, kind.lower(), f"{kind.lower()}s")
}
"""Each kind by its spellings.

KubeVirt takes the singular and the plural in any case (``pkg/instancetype/find/spec.go``, Find), and writes the
singular in lower case where none is given (``pkg/defaults/defaults.go``, setDefaultInstancetypeKind).
"""


class Spec(msgspec.Struct, frozen=True):
    """What the ledger reads of a spec.

    columns: facts by column. os: the guest's, by the template's annotation. volumes: what the dataVolumeTemplates ask
    for. has_domain: whether there is a domain, as machines alone have one: many kinds have a ``spec.template.spec``.
    """

    columns: Mapping[str, Any]
    os: str | None
    volumes: Sequence[volume_templates.Asked]
    has_domain: bool


def read(spec: fields.Node) -> Spec:
    """Read a spec, which may be empty; raise :class:`errors.BadEvent` where it has another shape."""
    template = spec.object("template")
    guest = template.object("spec")
    columns: dict[str, Any] = {
        "preference": _matcher(spec, "preference", _PREFERENCE),
        "instancetype": _matcher(spec, "instancetype", _INSTANCETYPE),
    }
    volumes = volume_templates.asked(spec)
    if spec.items:
        columns["run_strategy"] = _run_strategy(spec)
        columns |= volume_templates.facts(volumes)
    if guest.items:
        columns |= _guest(guest, sized=not spec.items.get("instancetype"))
    return Spec(
        columns=columns,
        os=template.object("metadata").object("annotations").text("vm.kubevirt.io/os"),
        volumes=volumes,
        has_domain="domain" in guest.items,
    )


def _guest(guest: fields.Node, *, sized: bool) -> dict[str, Any]:
    """Read ``spec.template.spec``; ``sized`` is False where an instancetype holds CPUs and memory instead."""
    domain = guest.object("domain")
    devices = domain.object("devices")
    columns = {
        "architecture": guest.text("architecture"),
        "machine_type": domain.object("machine").text("type"),
        "disks": _disks(guest, devices),
        "network": _networks(guest, devices),
    }
    if sized:
        columns |= cpus(domain)
        columns |= memory(domain)
    return columns


def cpus(domain: fields.Node) -> dict[str, int | None]:
    """Return the guest's cores, sockets and threads: from the topology, else limits.cpu, else requests.cpu, else one.

    KubeVirt checks whether a limit is set, not how large it is (SetDefaultGuestCPUTopology), so a limit of zero hides
    the request; the guest then has one socket (``converter/vcpu/vcpu.go``, GetCPUTopology).
    """
    topology = domain.object("cpu")
    given = [topology.whole(part) or 0 for part in ("cores", "sockets", "threads")]
    if min(given) < 0:
        raise errors.BadEvent(f"{domain.path('cpu')} has a negative count")
    cores, sockets, threads = [count or 1 for count in given]
    if not any(given):
        resources = domain.object("resources")
        for bound in (resources.object("limits"), resources.object("requests")):
            amount = bound.amount("cpu")
            if amount is not None:
                sockets = amount or 1
                break
    return {"cpucores": cores, "cpusockets": sockets, "cputhreads": threads, "vcpus": cores * sockets * threads}


def memory(domain: fields.Node) -> dict[str, str | int | None]:
    """Return the guest's memory: memory.guest, else requests, else limits, else one huge page.

    A quantity of zero counts as not set (setGuestMemory; and validateMemoryLimitAndRequestProvided of
    ``pkg/virt-api/webhooks/validating-webhook/admitters``, which wants one of them to be more than zero).
    """
    asked = domain.object("memory")
    size = asked.amount("guest")
    if size:
        return {"memory": asked.quantity("guest"), "memory_bytes": size}
    resources = domain.object("resources")
    requests, limits, pages = resources.object("requests"), resources.object("limits"), asked.object("hugepages")
    for parent, key in ((requests, "memory"), (limits, "memory"), (pages, "pageSize")):
        size = parent.amount(key)
        if size:
            return {"memory": parent.quantity(key), "memory_bytes": size}
    return {}


def _disks(guest: fields.Node, devices: fields.Node) -> int:
    """Count the disks, also those that KubeVirt adds for volumes that nothing attaches (SetDefaultVolumeDisk)."""
    disks = devices.names("disks")
    volumes = guest.names("volumes")
    attached = {*disks, *devices.names("filesystems"), *_never_disks(guest), None}
    return len(disks) + sum([name not in attached for name in volumes])


def _never_disks(guest: fields.Node) -> list[Any]:
    """Return the names of the volumes that can never be disks.

    A memory dump is a volume claim that the launcher's pod writes to (``pkg/storage/memorydump/memorydump.go``); a
    container's path is shared as a file system and never as a disk (KubeVirt's enhancement 165).
    """
    return [
        volume.get("name")
        for volume in guest.items.get("volumes") or ()
        if ("memoryDump" in volume and isinstance(volume["memoryDump"], dict))
        or ("containerPath" in volume and isinstance(volume["containerPath"], dict))
    ]


def _networks(guest: fields.Node, devices: fields.Node) -> str | None:
    """Return the networks' names; KubeVirt attaches the pod network ``default`` unless that is switched off.

    A network whose interface has the state ``absent`` is being unplugged, or was and is about to be removed from the
    object (``pkg/network``: each use of InterfaceStateAbsent).
    """
    networks = guest.names("networks")
    if networks:
        interfaces = devices.dicts("interfaces")
        absent = {each["name"] for each in interfaces if each.get("state") == "absent" and _has_name(each)}
        return fields.joined([fields.clean(name) for name in networks if name and name not in absent])
    if devices.items.get("autoattachPodInterface") is False or devices.names("interfaces"):
        return None
    return "default"


def _has_name(item: fields.Object) -> bool:
    return isinstance(item.get("name"), str)


def _run_strategy(spec: fields.Node) -> str | None:
    """Return the run strategy in force; None where the spec lacks the template that every machine has."""
    given = spec.text("runStrategy")
    if given or not (spec.items.get("template") or spec.items.get("running") is not None):
        return given
    return "Always" if spec.items.get("running") is True else "Halted"


def _matcher(spec: fields.Node, key: str, default_kind: str) -> str | None:
    """Return ``Kind/name`` of an instancetype or preference; KubeVirt reads an empty kind as the cluster-wide one.

    A kind that KubeVirt does not define stays as it is written.
    """
    if key not in spec.items:
        return None
    matcher = spec.object(key)
    name = matcher.text("name")
    if not name:
        return None
    kind = matcher.text("kind") or default_kind
    return f"{_SPELLINGS.get(kind) or _SPELLINGS.get(kind.lower(), kind)}/{name}"
