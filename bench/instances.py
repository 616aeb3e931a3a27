"""The requests about running instances: whole VirtualMachineInstances of about 4 kB, as the source sends them."""

from __future__ import annotations

from typing import Any

from bench import requests


def updates(machines: int, *, prefix: str = "object") -> requests.Whole:
    """Updates of the instances of the machines that :func:`requests.objects` sends, which must be stored before."""
    return requests.whole(_instance(), "virtualmachineinstances", machines, prefix=prefix)


def _instance() -> dict[str, Any]:
    """An instance on a node, with a guest agent."""
    owned: dict[str, Any] = {f"f:field-{number}": {".": {}, "f:inner": {}} for number in range(40)}
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "x", "uid": requests.UID}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": requests.NAME_MARK,
            "namespace": requests.NAMESPACE,
            "uid": "0b8a4b51-6f3c-4d6a-9a44-3b62c1f4a9b1",
            "resourceVersion": requests.VERSION_MARK,
            "generation": 3,
            "creationTimestamp": "2026-08-20T09:15:02Z",
            "labels": {"kubevirt.io/nodeName": "node-7"},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
            "managedFields": [{"manager": "virt-handler", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": owned}}],
        },
        "spec": {"domain": {"cpu": {"cores": 4, "sockets": 2, "threads": 1}, "memory": {"guest": "8Gi"}}},
        "status": _status(),
    }


def _status() -> dict[str, Any]:
    conditions = ("Ready", "AgentConnected", "DataVolumesReady", "LiveMigratable", "StorageLiveMigratable")
    return {
        "phase": "Running",
        "nodeName": "node-7",
        "currentCPUTopology": {"cores": 4, "sockets": 2, "threads": 1},
        "memory": {"guestAtBoot": "8Gi", "guestCurrent": "8Gi", "guestRequested": "8Gi"},
        "guestOSInfo": {"id": "rhel", "prettyName": "Red Hat Enterprise Linux 9.4"},
        "interfaces": [
            {
                "name": name,
                "ipAddress": address,
                "ipAddresses": [address, f"fe80::{number}"],
                "mac": "02:00",
            }
            for number, (name, address) in enumerate({"default": "10.128.2.15", "vlan-100": "192.168.100.7"}.items())
        ],
        "conditions": [
            {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-08-20T09:15:33Z"}
            for kind in conditions
        ],
        "volumeStatus": [
            {"name": "rootdisk", "target": "vda"},
            {"name": "cloudinit", "target": "vdb", "size": 1048576},
        ],
    }
