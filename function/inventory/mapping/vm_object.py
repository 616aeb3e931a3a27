"""A VirtualMachine object of KubeVirt -> the ledger's facts; pure.

The whole object and the one that our EventTransform trimmed have the same shape, so there is one mapping.
Rules for the guest's CPUs and memory: KubeVirt ``pkg/defaults/defaults.go``; run strategy: ``api/core/v1/types.go``.
"""

from __future__ import annotations

import functools
from typing import Any

from function import errors
from function.inventory.mapping import fields, quantity

_OS_LABEL = "os.template.kubevirt.io/"


def facts(machine: fields.Object) -> dict[str, Any]:
    """Return the ledger's facts by column; raise :class:`errors.BadEvent` where the object has another shape."""
    data = fields.Node(machine)
    metadata, spec = data.object("metadata"), data.object("spec")
    template = spec.object("template")
    guest = template.object("spec")
    preference = _matcher(spec, "preference", "VirtualMachineClusterPreference")
    labels = metadata.object("labels").items if metadata.items.get("labels") is not None else None
    known: dict[str, Any] = {
        "kind": data.text("kind"),
        "name": metadata.name("name"),
        "namespace": metadata.name("namespace"),
        "uid": metadata.text("uid"),
        "resource_version": metadata.digits("resourceVersion"),
        "generation": metadata.whole("generation"),
        "instancetype": _matcher(spec, "instancetype", "VirtualMachineClusterInstancetype"),
        "preference": preference,
        "status": data.object("status").text("printableStatus"),
        "os": _guest_os(template, labels, preference),
        "labels": labels,
        "created_at": metadata.time("creationTimestamp"),
        "deleted_at": metadata.time("deletionTimestamp"),
    }
    if spec:
        known["run_strategy"] = _run_strategy(spec)
        known |= _storage(spec)
    if guest:
        known |= _guest(guest, sized=not spec.object("instancetype"))
    return known


def _guest(guest: fields.Node, *, sized: bool) -> dict[str, Any]:
    """Read ``spec.template.spec``; ``sized`` is False where an instancetype holds CPUs and memory instead."""
    domain = guest.object("domain")
    devices = domain.object("devices")
    known = {
        "architecture": guest.text("architecture"),
        "machine_type": domain.object("machine").text("type"),
        "disks": _disks(guest, devices),
        "network": _networks(guest, devices),
    }
    if sized:
        known |= _cpus(domain) | _memory(domain)
    return known


def _cpus(domain: fields.Node) -> dict[str, int | None]:
    """Cores, sockets and threads as the guest gets them: by topology, else limits.cpu, else requests.cpu, else one."""
    topology = domain.object("cpu")
    given = [topology.whole(part) or 0 for part in ("cores", "sockets", "threads")]
    if min(given) < 0:
        raise errors.BadEvent(f"{domain.path('cpu')} has a negative count")
    cores, sockets, threads = [count or 1 for count in given]
    if not any(given):
        resources = domain.object("resources")
        for bound in (resources.object("limits"), resources.object("requests")):
            amount = bound.quantity("cpu")
            if amount is not None:
                sockets = _whole(amount, bound, "cpu") or 1
                break
    return {"cpucores": cores, "cpusockets": sockets, "cputhreads": threads, "vcpus": cores * sockets * threads}


def _memory(domain: fields.Node) -> dict[str, str | int | None]:
    """The guest's memory: memory.guest, else requests, else limits, else one huge page."""
    for *parents, key in (
        ("memory", "guest"),
        ("resources", "requests", "memory"),
        ("resources", "limits", "memory"),
        ("memory", "hugepages", "pageSize"),
    ):
        parent = functools.reduce(fields.Node.object, parents, domain)
        amount = parent.quantity(key)
        if amount is not None:
            return {"memory": amount, "memory_bytes": _whole(amount, parent, key)}
    return {}


def _storage(spec: fields.Node) -> dict[str, str | int | None]:
    """Distinct storage classes in the order of the templates, and the bytes that these ask for together."""
    classes, sizes = [], []
    for template in spec.objects("dataVolumeTemplates"):
        volume = template.object("spec")
        for claim in filter(None, (volume.object("storage"), volume.object("pvc"))):
            classes.append(claim.text("storageClassName"))
            requests = claim.object("resources").object("requests")
            size = requests.quantity("storage")
            if size is not None:
                sizes.append(_whole(size, requests, "storage"))
    return {"storageclass": fields.joined(classes), "disk_bytes": sum(sizes) if sizes else None}


def _whole(amount: str, parent: fields.Node, key: str) -> int:
    """Return a quantity as a whole number; ``parent`` and ``key`` are its place, for the sentence."""
    number = quantity.parse(amount)
    return quantity.whole(amount, parent.path(key)) if number is None else number


def _disks(guest: fields.Node, devices: fields.Node) -> int:
    """Count the disks, with those that KubeVirt adds for volumes that nothing attaches (``pkg/util/util.go``)."""
    disks = devices.names("disks")
    attached = {*disks, *devices.names("filesystems"), None}
    return len(disks) + sum([name not in attached for name in guest.names("volumes")])


def _networks(guest: fields.Node, devices: fields.Node) -> str | None:
    """The networks' names; KubeVirt attaches the pod network ``default`` where none is asked for and none refused."""
    networks = guest.names("networks")
    if networks:
        return fields.joined([fields.clean(name) for name in networks if name])
    if devices.items.get("autoattachPodInterface") is False or devices.names("interfaces"):
        return None
    return "default"


def _run_strategy(spec: fields.Node) -> str:
    return spec.text("runStrategy") or ("Always" if spec.items.get("running") is True else "Halted")


def _guest_os(template: fields.Node, labels: fields.Object | None, preference: str | None) -> str | None:
    """The OS by the template's annotation, else the label of OpenShift's templates, else the preference's name."""
    named = template.object("metadata").object("annotations").text("vm.kubevirt.io/os")
    if named is None and labels:
        found = sorted([label.removeprefix(_OS_LABEL) for label in labels if label.startswith(_OS_LABEL)])
        named = fields.clean(found[0]) if found else None
    return named or (preference.partition("/")[2] if preference else None)


def _matcher(spec: fields.Node, key: str, default_kind: str) -> str | None:
    """Return ``Kind/name`` of an instancetype or preference; KubeVirt takes an empty kind for the cluster's."""
    matcher = spec.object(key)
    name = matcher.text("name")
    return f"{matcher.text('kind') or default_kind}/{name}" if name else None
