"""A VirtualMachine object of KubeVirt -> the ledger's facts; pure.

The whole object and the one that our EventTransform trimmed have the same shape, so there is one mapping.
Rules for the guest's CPUs and memory: KubeVirt ``pkg/defaults/defaults.go``; run strategy: ``api/core/v1/types.go``.
"""

from __future__ import annotations

from typing import Any

from function import errors
from function.inventory import fields, quantity

_OS_LABEL = "os.template.kubevirt.io/"


def facts(machine: fields.Object) -> dict[str, Any]:
    """Return the ledger's facts by column; raise :class:`errors.BadEvent` where the object has another shape."""
    metadata = fields.object_(machine, "metadata", "data")
    spec = fields.object_(machine, "spec", "data")
    template = fields.object_(spec, "template", "data.spec")
    guest = fields.object_(template, "spec", "data.spec.template")
    instancetype = _matcher(spec, "instancetype", "VirtualMachineClusterInstancetype")
    preference = _matcher(spec, "preference", "VirtualMachineClusterPreference")
    labels = fields.object_(metadata, "labels", "data.metadata") if metadata.get("labels") is not None else None
    known: dict[str, Any] = {
        "kind": fields.text(machine, "kind", "data"),
        "name": fields.name(metadata, "name"),
        "namespace": fields.name(metadata, "namespace"),
        "uid": fields.text(metadata, "uid", "data.metadata"),
        "resource_version": fields.digits(metadata, "resourceVersion", "data.metadata"),
        "generation": fields.whole(metadata, "generation", "data.metadata"),
        "instancetype": instancetype,
        "preference": preference,
        "status": fields.text(fields.object_(machine, "status", "data"), "printableStatus", "data.status"),
        "os": _guest_os(template, labels, preference),
        "labels": labels,
        "created_at": fields.time(metadata, "creationTimestamp"),
        "deleted_at": fields.time(metadata, "deletionTimestamp"),
    }
    if spec:
        known["run_strategy"] = _run_strategy(spec)
        known |= _storage(spec)
    if guest:
        known |= _guest(guest, sized=not spec.get("instancetype"))
    return known


def _guest(guest: fields.Object, *, sized: bool) -> dict[str, Any]:
    """Read ``spec.template.spec``; ``sized`` is False where an instancetype holds CPUs and memory instead."""
    path = "data.spec.template.spec"
    domain = fields.object_(guest, "domain", path)
    known = {
        "architecture": fields.text(guest, "architecture", path),
        "machine_type": fields.text(
            fields.object_(domain, "machine", f"{path}.domain"), "type", f"{path}.domain.machine"
        ),
        "disks": _disks(guest, domain, path),
        "network": _networks(guest, domain, path),
    }
    if sized:
        known |= _cpus(domain, f"{path}.domain") | _memory(domain, f"{path}.domain")
    return known


def _cpus(domain: fields.Object, path: str) -> dict[str, int | None]:
    """Cores, sockets and threads as the guest gets them: by topology, else limits.cpu, else requests.cpu, else one."""
    topology = fields.object_(domain, "cpu", path)
    given = [fields.whole(topology, part, f"{path}.cpu") or 0 for part in ("cores", "sockets", "threads")]
    if any(count < 0 for count in given):
        raise errors.BadEvent(f"{path}.cpu has a negative count")
    cores, sockets, threads = (count or 1 for count in given)
    if not any(given):
        resources = fields.object_(domain, "resources", path)
        for bound in ("limits", "requests"):
            where = f"{path}.resources.{bound}"
            amount = fields.quantity_(fields.object_(resources, bound, f"{path}.resources"), "cpu", where)
            if amount is not None:
                sockets = quantity.whole(amount, f"{where}.cpu") or 1
                break
    return {"cpucores": cores, "cpusockets": sockets, "cputhreads": threads, "vcpus": cores * sockets * threads}


def _memory(domain: fields.Object, path: str) -> dict[str, str | int | None]:
    """The guest's memory: memory.guest, else requests, else limits, else one huge page."""
    memory = fields.object_(domain, "memory", path)
    resources = fields.object_(domain, "resources", path)
    places = (
        (memory, "guest", f"{path}.memory"),
        (fields.object_(resources, "requests", f"{path}.resources"), "memory", f"{path}.resources.requests"),
        (fields.object_(resources, "limits", f"{path}.resources"), "memory", f"{path}.resources.limits"),
        (fields.object_(memory, "hugepages", f"{path}.memory"), "pageSize", f"{path}.memory.hugepages"),
    )
    for parent, key, where in places:
        amount = fields.quantity_(parent, key, where)
        if amount is not None:
            return {"memory": amount, "memory_bytes": quantity.whole(amount, f"{where}.{key}")}
    return {}


def _storage(spec: fields.Object) -> dict[str, str | int | None]:
    """Distinct storage classes in the order of the templates, and the bytes that these ask for together."""
    classes, sizes = [], []
    for position, item in enumerate(fields.objects(spec, "dataVolumeTemplates", "data.spec")):
        path = f"data.spec.dataVolumeTemplates[{position}]"
        volume = fields.object_(item, "spec", path)
        for style in ("storage", "pvc"):
            where = f"{path}.spec.{style}"
            claim = fields.object_(volume, style, f"{path}.spec")
            classes.append(fields.text(claim, "storageClassName", where))
            resources = fields.object_(claim, "resources", where)
            size = fields.quantity_(fields.object_(resources, "requests", where), "storage", where)
            if size is not None:
                sizes.append(quantity.whole(size, f"{where}.resources.requests.storage"))
    return {"storageclass": fields.joined(classes), "disk_bytes": sum(sizes) if sizes else None}


def _disks(guest: fields.Object, domain: fields.Object, path: str) -> int:
    """Count the disks, with those that KubeVirt adds for volumes that nothing attaches (``pkg/util/util.go``)."""
    devices = fields.object_(domain, "devices", f"{path}.domain")
    disks = fields.objects(devices, "disks", f"{path}.domain.devices")
    filesystems = fields.objects(devices, "filesystems", f"{path}.domain.devices")
    attached = {device.get("name") for device in [*disks, *filesystems] if isinstance(device.get("name"), str)}
    volumes = fields.objects(guest, "volumes", path)
    return len(disks) + sum(volume.get("name") not in attached for volume in volumes if _named(volume))


def _named(item: fields.Object) -> bool:
    return isinstance(item.get("name"), str)


def _networks(guest: fields.Object, domain: fields.Object, path: str) -> str | None:
    """The networks' names; KubeVirt attaches the pod network ``default`` where none is asked for and none refused."""
    networks = fields.objects(guest, "networks", path)
    if networks:
        return fields.joined(fields.text(network, "name", f"{path}.networks") for network in networks)
    devices = fields.object_(domain, "devices", f"{path}.domain")
    if devices.get("autoattachPodInterface") is False or fields.objects(
        devices, "interfaces", f"{path}.domain.devices"
    ):
        return None
    return "default"


def _run_strategy(spec: fields.Object) -> str:
    strategy = fields.text(spec, "runStrategy", "data.spec")
    return strategy or ("Always" if spec.get("running") is True else "Halted")


def _guest_os(template: fields.Object, labels: fields.Object | None, preference: str | None) -> str | None:
    """The OS by the template's annotation, else the label of OpenShift's templates, else the preference's name."""
    path = "data.spec.template.metadata"
    annotations = fields.object_(fields.object_(template, "metadata", "data.spec.template"), "annotations", path)
    named = fields.text(annotations, "vm.kubevirt.io/os", f"{path}.annotations")
    if named is None:
        found = sorted(label.removeprefix(_OS_LABEL) for label in labels or () if label.startswith(_OS_LABEL))
        named = fields.clean(found[0]) if found else None
    return named or (preference.partition("/")[2] if preference else None)


def _matcher(spec: fields.Object, key: str, default_kind: str) -> str | None:
    """Return ``Kind/name`` of an instancetype or preference; KubeVirt takes an empty kind for the cluster's."""
    matcher = fields.object_(spec, key, "data.spec")
    name = fields.text(matcher, "name", f"data.spec.{key}")
    return f"{fields.text(matcher, 'kind', f'data.spec.{key}') or default_kind}/{name}" if name else None
