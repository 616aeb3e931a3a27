"""KubeVirt objects as an API server returns them, for the model cluster of :mod:`tests.api_server`.

Shapes: the samples in tests/events/vm, and KubeVirt's ``api/core/v1/types.go``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from function.clients import kubernetes

Object = kubernetes.Object

OWNED_FIELDS = ("f:spec", "f:template", "f:domain", "f:devices", "f:disks", "f:interfaces", "f:volumes", "f:networks")


def vm(
    name: str = "web",
    namespace: str = "shop",
    *,
    cores: int = 2,
    memory: str = "4Gi",
    run_strategy: str = "Always",
    instancetype: str | None = None,
    status: str | None = None,
    labels: dict[str, str] | None = None,
    uid: str | None = None,
    size: int = 0,
) -> Object:
    """Return a VirtualMachine; with an instancetype it has no CPUs and memory of its own.

    ``size`` pads it to about so many bytes of JSON with what pads real ones: metadata.managedFields.
    """
    domain: Object = {
        "devices": {
            "disks": [
                {"name": "root", "disk": {"bus": "virtio"}},
                {"name": "cloudinit", "disk": {"bus": "virtio"}},
            ],
            "interfaces": [{"name": "default", "masquerade": {}, "macAddress": "02:5b:cc:00:00:01"}],
        },
        "machine": {"type": "q35"},
    }
    if instancetype is None:
        domain |= {"cpu": {"cores": cores, "sockets": 1, "threads": 1}, "memory": {"guest": memory}}
    found: Object = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {"app": name}},
        "spec": {
            "runStrategy": run_strategy,
            "dataVolumeTemplates": [_root_disk(name)],
            "template": {
                "metadata": {"creationTimestamp": None, "labels": {"kubevirt.io/vm": name}},
                "spec": {
                    "architecture": "amd64",
                    "domain": domain,
                    "networks": [{"name": "default", "pod": {}}],
                    "volumes": [
                        {"name": "root", "dataVolume": {"name": f"{name}-root"}},
                        {"name": "cloudinit", "cloudInitNoCloud": {"userData": "#cloud-config\npassword: hunter2"}},
                    ],
                },
            },
        },
    }
    if uid:
        found["metadata"]["uid"] = uid
    if instancetype:
        found["spec"]["instancetype"] = {"kind": "VirtualMachineClusterInstancetype", "name": instancetype}
    if status:
        running = status == "Running"
        found["status"] = {"printableStatus": status, "created": running, "ready": running, "runStrategy": run_strategy}
    return _padded(found, size)


def vmi(
    owner: Object,
    *,
    node: str | None = "node-1",
    addresses: tuple[str, ...] = ("10.244.1.23",),
    guest_os: str | None = "Fedora Linux 42 (Cloud Edition)",
    phase: str = "Running",
    cores: int = 2,
    memory: str = "4Gi",
    uid: str | None = None,
) -> Object:
    """Return the VirtualMachineInstance of a VirtualMachine that the model cluster holds: it needs the VM's uid."""
    name = owner["metadata"]["name"]
    status: Object = {
        "phase": phase,
        "currentCPUTopology": {"cores": cores, "sockets": 1, "threads": 1},
        "memory": {"guestAtBoot": memory, "guestCurrent": memory, "guestRequested": memory},
        "guestOSInfo": {"id": "fedora", "name": "Fedora Linux", "prettyName": guest_os} if guest_os else {},
        "interfaces": [{"name": "default", "ipAddress": addresses[0], "ipAddresses": list(addresses)}]
        if addresses
        else [{"name": "default"}],
    }
    if node:
        status["nodeName"] = node
    metadata: Object = {
        "name": name,
        "namespace": owner["metadata"]["namespace"],
        "labels": {"kubevirt.io/vm": name},
        "ownerReferences": [
            {
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachine",
                "name": name,
                "uid": owner["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if uid:
        metadata["uid"] = uid
    domain = {"cpu": {"cores": cores, "sockets": 1, "threads": 1}, "memory": {"guest": memory}, "devices": {}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": metadata,
        "spec": {"domain": domain},
        "status": status,
    }


def revision(
    name: str, namespace: str = "shop", *, instancetype: str = "u1.large", cpus: int = 2, memory: str = "8Gi"
) -> Object:
    """Return the ControllerRevision in which KubeVirt keeps what an instancetype said when the VM took it."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                "instancetype.kubevirt.io/object-kind": "VirtualMachineClusterInstancetype",
                "instancetype.kubevirt.io/object-name": instancetype,
                "instancetype.kubevirt.io/object-version": "v1beta1",
            },
        },
        "revision": 0,
        "data": {
            "apiVersion": "instancetype.kubevirt.io/v1beta1",
            "kind": "VirtualMachineClusterInstancetype",
            "metadata": {"name": instancetype, "uid": "0c6f2f0c-0000-4000-8000-000000000000"},
            "spec": {"cpu": {"guest": cpus}, "memory": {"guest": memory}},
        },
    }


def revised(name: str) -> Object:
    """Return the part of a VM's status that names its ControllerRevision; a patch for ``ApiServer.update``."""
    return {"status": {"instancetypeRef": {"controllerRevisionRef": {"name": name}}}}


def fleet(count: int, *, start: int = 0, namespaces: int = 20, size: int = 6000) -> Iterator[Object]:
    """Return many VirtualMachines of about ``size`` bytes, all different, numbered from ``start``."""
    for number in range(start, start + count):
        yield vm(
            f"vm-{number:05}",
            f"team-{number % namespaces:02}",
            cores=1 + number % 8,
            memory=f"{1 + number % 16}Gi",
            status="Running" if number % 5 else "Stopped",
            run_strategy="Always" if number % 5 else "Halted",
            size=size,
        )


def _root_disk(name: str) -> Object:
    storage = {"resources": {"requests": {"storage": "30Gi"}}, "storageClassName": "fast"}
    source = {"kind": "DataSource", "name": "fedora", "namespace": "images"}
    return {"metadata": {"name": f"{name}-root"}, "spec": {"storage": storage, "sourceRef": source}}


def _padded(found: Object, size: int) -> Object:
    missing = size - len(json.dumps(found, separators=(",", ":"))) - 150
    if missing <= 0:
        return found
    owned: dict[str, Any] = {}
    for number, part in enumerate(itertools.cycle(OWNED_FIELDS)):
        if missing <= 0:
            break
        key = f"{part}-{number}"
        owned[key] = {".": {}, "f:name": {}, "f:type": {}}
        missing -= len(key) + 38
    manager = {"manager": "virt-controller", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": owned}
    found["metadata"]["managedFields"] = [{**manager, "apiVersion": "kubevirt.io/v1"}]
    return found
