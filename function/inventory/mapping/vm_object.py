"""A VirtualMachine object of KubeVirt -> the ledger's facts; pure.

The whole object and the one that our EventTransform trimmed have the same shape, so there is one mapping.
Rules for the guest's CPUs and memory: KubeVirt ``pkg/defaults/defaults.go``; run strategy: ``api/core/v1/types.go``.
"""

from __future__ import annotations

from typing import Any

from function import errors
from function.inventory.mapping import fields, owners, volume_templates

GROUP = "kubevirt.io/"
_OS_LABEL = "os.template.kubevirt.io/"
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


def check_kind(data: fields.Object, kind: str) -> None:
    """Raise :class:`errors.BadEvent` where an object has another kind, or another API group than KubeVirt's."""
    given_kind, version = data.get("kind"), data.get("apiVersion")
    if given_kind != kind and given_kind:
        raise errors.BadEvent(f"the data is not a {kind}: its kind is {errors.shown(given_kind)}")
    if version and not str(version).startswith(GROUP):
        raise errors.BadEvent(f"the data is not a {kind} of KubeVirt: its apiVersion is {errors.shown(version)}")


def has_domain(machine: fields.Object) -> bool:
    """Return whether an object has a domain, as machines alone do: many kinds have a ``spec.template.spec``."""
    template = fields.Node(machine).object("spec").object("template")
    return "domain" in template.object("spec").items


def facts(machine: fields.Object) -> dict[str, Any]:
    """Return the ledger's facts by column; raise :class:`errors.BadEvent` where the object has another shape."""
    data = fields.Node(machine)
    metadata, spec = data.object("metadata"), data.object("spec")
    template = spec.object("template")
    guest = template.object("spec")
    preference = _matcher(spec, "preference", _PREFERENCE)
    labels = metadata.object("labels").items if metadata.items.get("labels") is not None else None
    columns: dict[str, Any] = {
        "kind": machine.get("kind") or None,
        "name": metadata.name("name"),
        "namespace": metadata.name("namespace"),
        "uid": metadata.text("uid"),
        "resource_version": metadata.digits("resourceVersion"),
        "generation": metadata.whole("generation"),
        "instancetype": _matcher(spec, "instancetype", _INSTANCETYPE),
        "preference": preference,
        "status": data.object("status").text("printableStatus"),
        "os": _guest_os(template, labels, preference),
        "labels": labels,
        "owner": owners.owner(metadata.items),
        "created_at": metadata.time("creationTimestamp"),
        "deleted_at": metadata.time("deletionTimestamp"),
    }
    if spec.items:
        columns["run_strategy"] = _run_strategy(spec)
        columns |= volume_templates.facts(spec, metadata)
    if guest.items:
        columns |= _guest(guest, sized=not spec.items.get("instancetype"))
    return columns


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


def _guest_os(template: fields.Node, labels: fields.Object | None, preference: str | None) -> str | None:
    """Return the OS from the template's annotation, else the label of OpenShift's templates, else the preference."""
    named = template.object("metadata").object("annotations").text("vm.kubevirt.io/os")
    if named is None and labels:
        found = sorted([label.removeprefix(_OS_LABEL) for label in labels if label.startswith(_OS_LABEL)])
        named = fields.clean(found[0]) if found else None
    return named or (preference.partition("/")[2] if preference else None)


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
