"""The requests of the benchmark: each is a new version of one of many VMs."""

from __future__ import annotations

import functools
import json
import time
from typing import Any, Protocol

from bench import load

ADDRESS = "https://10.96.0.1:443"
NAMESPACE = "bench"
UPDATE = "dev.knative.apiserver.resource.update"
BEGAN = time.time_ns() // 1000
"""When the benchmark began, in microseconds: the time of event 0. What was filled in before is older."""
STEP = 10
"""Microseconds from one event to the next."""
RUN = f"{BEGAN:x}"
STRIDE = 7919
"""A prime: events meet the VMs in a jumble, as in life, and each as often as the others."""
UID = "9467e988-29fb-4e31-bbfe-e7f2642ea7fa"
"""Of each VM of :func:`objects`: the key holds the name besides."""
MACHINES = "virtualmachines"
FIRST_VERSION = BEGAN // STEP
"""Of the objects; greater than all of an earlier run, which a ledger that is kept may have."""
NAME_MARK, VERSION_MARK = "@name", "@version"
"""What stands in a sample for the name of its machine, which may be there often, and for its resource version."""


class Whole(Protocol):
    """The bytes of the n-th request; ``whose``: another number, which tells whose event it is."""

    def __call__(self, number: int, whose: int | None = None, /) -> bytes:
        """Return the request."""


def identifier(number: int | str) -> str:
    """Return the CloudEvent's id of the n-th request."""
    return f"{RUN}-{number}"


def flat(machines: int, *, prefix: str = "vm", earlier: int = 0, step: int | None = STEP) -> load.Render:
    """Flat events, as the published example's transformer sends them; each happened so many events earlier.

    step: microseconds from one event to the next; None: an event's time is that at which it is sent.
    """
    head = (
        "POST / HTTP/1.1\r\nHost: bench\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\n"
        "Ce-Cpucores: 4\r\nCe-Cpusockets: 2\r\nCe-Kind: VirtualMachine\r\nCe-Memory: 8Gi\r\nCe-Network: default\r\n"
        f"Ce-Source: {ADDRESS}\r\nCe-Specversion: 1.0\r\nCe-Storageclass: coe-netapp-san\r\nCe-Type: {UPDATE}\r\n"
        f"Ce-Namespace: {NAMESPACE}\r\nCe-Knativearrivaltime: 2026-11-22T00:58:00.964680178Z\r\nKn-Namespace: ns\r\n"
        "Prefer: reply\r\nAccept-Encoding: gzip\r\n"
    ).encode()

    def render(number: int) -> bytes:
        return head + _attributes(number, machine(prefix, number, machines), earlier, step=step) + b"\r\n"

    return render


def shown(render: load.Render, token: str) -> load.Render:
    """The same requests with a token of their caller."""
    line = b"\r\nAuthorization: Bearer %s\r\n" % token.encode()
    return lambda number: render(number).replace(b"\r\n", line, 1)


def objects(machines: int, *, prefix: str = "object", verb: str = "update", earlier: int = 0) -> Whole:
    """Whole objects of about 4 kB, as the source sends them; each happened so many events earlier."""
    return whole(_machine(), MACHINES, machines, prefix=prefix, verb=verb, earlier=earlier)


def whole(
    sample: dict[str, Any], plural: str, machines: int, *, prefix: str, verb: str = "update", earlier: int = 0
) -> Whole:
    """Events with an object, which is a sample with marks where its name and its resource version go.

    plural: the kind as it is spelled in a path. The request can be told whose event it is, by another number.
    """
    before, after = json.dumps(sample, separators=(",", ":")).encode().split(VERSION_MARK.encode())
    pieces = [piece.split(NAME_MARK.encode()) for piece in (before, after)]
    start = _head(sample["kind"], f"dev.knative.apiserver.resource.{verb}")

    def render(number: int, whose: int | None = None) -> bytes:
        name = machine(prefix, number if whose is None else whose, machines)
        body = (b"%d" % (FIRST_VERSION + number - earlier)).join([name.join(each) for each in pieces])
        attributes = _attributes(number, name, earlier, plural.encode())
        return b"%s%sContent-Length: %d\r\n\r\n%s" % (start, attributes, len(body), body)

    return render


def _head(kind: str, kind_of_event: str) -> bytes:
    """Return the headers that all events with objects of a kind have."""
    return (
        "POST / HTTP/1.1\r\nHost: bench\r\nUser-Agent: Go-http-client/1.1\r\nContent-Type: application/json\r\n"
        f"Ce-Apiversion: kubevirt.io/v1\r\nCe-Kind: {kind}\r\nCe-Source: {ADDRESS}\r\nCe-Specversion: 1.0\r\n"
        f"Ce-Type: {kind_of_event}\r\nCe-Namespace: {NAMESPACE}\r\n"
        "Ce-Knativearrivaltime: 2026-11-22T01:27:18.865890505Z\r\nKn-Namespace: ns\r\nPrefer: reply\r\n"
        "Accept-Encoding: gzip\r\n"
    ).encode()


def machine(prefix: str, number: int, machines: int) -> bytes:
    """Return the name of the VM that the n-th request is about."""
    return b"%s-%06d" % (prefix.encode(), number * STRIDE % machines)


def _attributes(
    number: int, name: bytes, earlier: int, plural: bytes = MACHINES.encode(), *, step: int | None = STEP
) -> bytes:
    """The headers in which an event differs from the others."""
    at = time.time_ns() // 1000 if step is None else BEGAN + (number - earlier) * step
    second, micros = divmod(at, 1_000_000)
    subject = b"/apis/kubevirt.io/v1/namespaces/%s/%s/%s" % (NAMESPACE.encode(), plural, name)
    values = (identifier(number).encode(), name, _second(second), micros, subject)
    return b"Ce-Id: %s\r\nCe-Name: %s\r\nCe-Time: %s.%06dZ\r\nCe-Subject: %s\r\n" % values


@functools.lru_cache
def _second(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


def _machine() -> dict[str, Any]:
    """A VM whose spec is its own; managedFields are much of its size, as in a cluster."""
    owned: dict[str, Any] = {f"f:field-{number}": {".": {}, "f:inner": {}} for number in range(50)}
    managed = [
        {
            "apiVersion": "kubevirt.io/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": owned},
            "manager": "virt-controller",
        }
    ]
    storage = {"resources": {"requests": {"storage": "60Gi"}}, "storageClassName": "coe-netapp-san"}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": NAME_MARK,
            "namespace": NAMESPACE,
            "uid": UID,
            "resourceVersion": VERSION_MARK,
            "generation": 3,
            "creationTimestamp": "2026-08-20T09:14:02Z",
            "labels": {"app": "bench", "os.template.kubevirt.io/rhel9": "true"},
            "managedFields": managed,
        },
        "spec": {
            "runStrategy": "Always",
            "dataVolumeTemplates": [{"metadata": {"name": f"{NAME_MARK}-root"}, "spec": {"storage": storage}}],
            "template": {"metadata": {"labels": {"kubevirt.io/vm": "x"}}, "spec": _guest()},
        },
        "status": {"printableStatus": "Running", "created": True, "ready": True, "conditions": [
            {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-08-20T09:15:33Z"}
            for kind in ("Ready", "AgentConnected", "DataVolumesReady", "LiveMigratable", "StorageLiveMigratable")
        ]},
    }  # fmt: skip


def _guest() -> dict[str, Any]:
    """The spec of the VirtualMachine's template: two disks and two networks."""
    return {
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
            {"name": "rootdisk", "dataVolume": {"name": f"{NAME_MARK}-root"}},
            {"name": "cloudinit", "cloudInitNoCloud": {"userData": "#cloud-config\n" + "# comment\n" * 20}},
        ],
    }


def others() -> load.Render:
    """Kubernetes Events about Pods: a source of all Events sends them, and no capability handles them."""
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
    return lambda number: head + b"Ce-Id: %s\r\n\r\n" % identifier(number).encode() + body
