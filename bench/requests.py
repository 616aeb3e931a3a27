"""The requests of the benchmark: each is a new version of one of many VMs."""

from __future__ import annotations

import json
import time
from typing import Any

from bench import load

ADDRESS = "https://10.96.0.1:443"
UPDATE = "dev.knative.apiserver.resource.update"
RUN = f"{time.time_ns():x}"


def flat(machines: int) -> load.Render:
    """Flat events, as the published example's transformer sends them."""
    head = (
        "POST / HTTP/1.1\r\nHost: bench\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\n"
        "Ce-Cpucores: 4\r\nCe-Cpusockets: 2\r\nCe-Kind: VirtualMachine\r\nCe-Memory: 8Gi\r\nCe-Network: default\r\n"
        f"Ce-Source: {ADDRESS}\r\nCe-Specversion: 1.0\r\nCe-Storageclass: coe-netapp-san\r\nCe-Type: {UPDATE}\r\n"
        "Ce-Namespace: bench\r\nCe-Knativearrivaltime: 2026-11-22T00:58:00.964680178Z\r\nKn-Namespace: ns\r\n"
        "Prefer: reply\r\nAccept-Encoding: gzip\r\n"
    ).encode()

    def render(number: int) -> bytes:
        name = b"vm-%d" % (number % machines)
        return (
            head
            + b"Ce-Id: %s-%d\r\nCe-Name: %s\r\n" % (RUN.encode(), number, name)
            + b"Ce-Subject: /apis/kubevirt.io/v1/namespaces/bench/virtualmachines/%s\r\n" % name
            + b"Ce-Time: 2026-11-22T%02d:%02d:%02d.%06dZ\r\n\r\n"
            % (number // 3600000 % 24, number // 60000 % 60, number // 1000 % 60, number % 1000)
        )

    return render


def objects(machines: int) -> load.Render:
    """Whole objects of about 4 kB, as the source sends them."""
    body = json.dumps(_machine(), separators=(",", ":")).encode()
    before, between, after = body.split(b"@")
    head = (
        "POST / HTTP/1.1\r\nHost: bench\r\nUser-Agent: Go-http-client/1.1\r\nContent-Type: application/json\r\n"
        f"Ce-Apiversion: kubevirt.io/v1\r\nCe-Kind: VirtualMachine\r\nCe-Source: {ADDRESS}\r\nCe-Specversion: 1.0\r\n"
        f"Ce-Type: {UPDATE}\r\nCe-Namespace: bench\r\nCe-Time: 2026-11-22T01:27:18.865533737Z\r\n"
        "Ce-Knativearrivaltime: 2026-11-22T01:27:18.865890505Z\r\nKn-Namespace: ns\r\nPrefer: reply\r\n"
        "Accept-Encoding: gzip\r\n"
    ).encode()

    def render(number: int) -> bytes:
        name = b"object-%d" % (number % machines)
        whole = b"".join((before, name, between, b"%d" % (number + 1), after))
        return (
            head
            + b"Ce-Id: %s-%d\r\nCe-Name: %s\r\n" % (RUN.encode(), number, name)
            + b"Ce-Subject: /apis/kubevirt.io/v1/namespaces/bench/virtualmachines/%s\r\n" % name
            + b"Content-Length: %d\r\n\r\n" % len(whole)
            + whole
        )

    return render


def _machine() -> dict[str, Any]:
    """A VM with @ where its name and its resource version go; managedFields make up its size, as they do in life."""
    owned: dict[str, Any] = {f"f:field-{number}": {".": {}, "f:inner": {}} for number in range(50)}
    managed = [
        {
            "apiVersion": "kubevirt.io/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": owned},
            "manager": "virt-controller",
        }
    ]
    guest = {
        "architecture": "amd64",
        "domain": {
            "cpu": {"cores": 4, "sockets": 2, "threads": 1},
            "memory": {"guest": "8Gi"},
            "machine": {"type": "q35"},
            "devices": {
                "disks": [
                    {"name": "rootdisk", "disk": {"bus": "virtio"}},
                    {"name": "cloudinit", "disk": {"bus": "virtio"}},
                ],
                "interfaces": [{"name": "default", "masquerade": {}}, {"name": "vlan-100", "bridge": {}}],
            },
        },
        "networks": [{"name": "default", "pod": {}}, {"name": "vlan-100", "multus": {"networkName": "vlan-100"}}],
        "volumes": [
            {"name": "rootdisk", "dataVolume": {"name": "root"}},
            {"name": "cloudinit", "cloudInitNoCloud": {"userData": "#cloud-config\n" + "# comment\n" * 20}},
        ],
    }
    storage = {"resources": {"requests": {"storage": "60Gi"}}, "storageClassName": "coe-netapp-san"}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": "@",
            "namespace": "bench",
            "uid": "9467e988-29fb-4e31-bbfe-e7f2642ea7fa",
            "resourceVersion": "@",
            "generation": 3,
            "creationTimestamp": "2026-08-20T09:14:02Z",
            "labels": {"app": "bench", "os.template.kubevirt.io/rhel9": "true"},
            "managedFields": managed,
        },
        "spec": {
            "runStrategy": "Always",
            "dataVolumeTemplates": [{"metadata": {"name": "root"}, "spec": {"storage": storage}}],
            "template": {"metadata": {"labels": {"kubevirt.io/vm": "x"}}, "spec": guest},
        },
        "status": {"printableStatus": "Running", "created": True, "ready": True, "conditions": [
            {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-08-20T09:15:33Z"}
            for kind in ("Ready", "AgentConnected", "DataVolumesReady", "LiveMigratable", "StorageLiveMigratable")
        ]},
    }  # fmt: skip


def others() -> load.Render:
    """Kubernetes Events about Pods: what a source of all Events sends, and nobody here wants."""
    body = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "web-1.17f", "namespace": "shop", "uid": "u", "resourceVersion": "77"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web-1", "apiVersion": "v1", "uid": "p"},
            "reason": "Pulled",
            "message": "Container image already present on machine",
            "source": {"component": "kubelet", "host": "node-1"},
            "firstTimestamp": "2026-11-22T01:27:18Z",
            "lastTimestamp": "2026-11-22T01:27:18Z",
            "count": 1,
            "type": "Normal",
        }
    ).encode()
    head = (
        "POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nCe-Apiversion: v1\r\nCe-Kind: Event\r\n"
        f"Ce-Source: {ADDRESS}\r\nCe-Specversion: 1.0\r\nCe-Type: dev.knative.apiserver.resource.add\r\n"
        f"Ce-Namespace: shop\r\nCe-Name: web-1.17f\r\nContent-Length: {len(body)}\r\n"
    ).encode()
    return lambda number: head + b"Ce-Id: %s-%d\r\n\r\n" % (RUN.encode(), number) + body
