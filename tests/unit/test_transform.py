"""The EventTransform of k8s/: a legal event, the same ledger row as the whole object, and no secret, for every VM.

The expression is read from what kustomize renders, and run by a JSONata engine.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import hypothesis
import jsonata
import pytest
from hypothesis import strategies as st

from function.inventory.mapping import versions, vm
from function.web import cloudevents
from tests import manifests

SAMPLES = sorted((pathlib.Path(__file__).parent.parent / "events" / "vm").glob("*.json"))
LIMIT = 102_400
"""Bytes of a body that the transformer takes; above it answers 413."""
TIME = "2026-11-22T10:00:00.832Z"
SECRET = "s3cr3t"
"""Stands in every place that may hold something nobody should read."""

Object = dict[str, Any]


@functools.cache
def expression() -> str:
    """The expression as the cluster gets it."""
    transform = manifests.named(manifests.overlay("transform"), "EventTransform", "vmdata-transform")
    text: str = transform["spec"]["jsonata"]["expression"]
    return text


@functools.cache
def engine() -> jsonata.Jsonata:
    """The expression, parsed."""
    return jsonata.Jsonata(expression())


def announced(machine: Object, **attributes: Any) -> Object:
    """The event that the source sends about an object, as the transformer's expression sees it; None is left out."""
    known = {
        "specversion": "1.0",
        "type": "dev.knative.apiserver.resource.update",
        "source": "https://10.96.0.1:443",
        "subject": "/apis/kubevirt.io/v1/namespaces/lab/virtualmachines/one",
        "id": "8c2f1a52-5c6e-4f7a-9d1c-0d6f6a0b7f11",
        "time": TIME,
        "datacontenttype": "application/json",
        "kind": "VirtualMachine",
        "apiversion": "kubevirt.io/v1",
        "name": machine["metadata"].get("name") or "one",
        "namespace": machine["metadata"].get("namespace") or "lab",
        "cluster": "prod-1",
        "knativearrivaltime": "2026-11-22T10:00:00.964680178Z",
        "data": machine,
        **attributes,
    }
    return {name: value for name, value in known.items() if value is not None}


def trimmed(event: Object) -> Object:
    """What the transformer makes of an event: the engine's result, through JSON."""
    result: Object = json.loads(json.dumps(engine().evaluate(json.loads(json.dumps(event)))))
    return result


def row(event: Object) -> vm.VirtualMachine:
    """The ledger's row for a structured event, through the receiver's own door."""
    body = json.dumps(event).encode()
    [read] = cloudevents.from_wsgi({"CONTENT_TYPE": "application/cloudevents+json"}, body)
    found = vm.change(read, cluster_name="unnamed").row
    assert isinstance(found, vm.VirtualMachine)
    return found


def illegal(event: Object) -> list[str]:
    """Attributes that Knative's ingress refuses or its next hop cannot send as a header."""
    wrong = [name for name in ("specversion", "id", "source", "type") if not event.get(name)]
    for name, value in event.items():
        whole = isinstance(value, int) and -(2**31) <= value < 2**31
        text = isinstance(value, str) and value and value.isprintable()
        if name != "data" and not (re.fullmatch("[a-z0-9]{1,20}", name) and (text or whole)):
            wrong.append(name)
    return wrong


def strays(part: Any, whole: Any, path: str = "data") -> Iterator[str]:
    """Places of ``part`` that ``whole`` does not have, or has otherwise."""
    if isinstance(part, dict) and isinstance(whole, dict):
        for key, value in part.items():
            if key in whole:
                yield from strays(value, whole[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(part, list) and isinstance(whole, list) and len(part) == len(whole):
        for position, (one, other) in enumerate(zip(part, whole, strict=True)):
            yield from strays(one, other, f"{path}[{position}]")
    elif part != whole and (part, whole) != ({}, None):
        yield path


def assert_holds(machine: Object, **attributes: Any) -> Object:
    """Assert all that is promised of the transformation of one object; return its result."""
    event = announced(machine, **attributes)
    result = trimmed(event)
    assert illegal(result) == []
    assert result["datacontenttype"] == "application/json"
    kept = set(event) - {"data", "knativearrivaltime"}
    assert {name: result[name] for name in kept} == {name: event[name] for name in kept}
    assert result["partitionkey"] == f"prod-1/{event['namespace']}/{event['name']}"
    assert list(strays(result["data"], machine)) == []
    assert row(result) == row(event)
    return result


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_gives_the_same_row_trimmed(path: pathlib.Path) -> None:
    """Attributes are kept and legal, the object has its own shape, and no column differs."""
    sample = json.loads(path.read_text())
    assert_holds(sample["object"], type=sample["type"])


NAMES = st.sampled_from(["default", "root", "data", "büro netz", "vlan-100", "a,b", "日本"])
SOME = st.sampled_from(["1Gi", "512Mi", "0.5", "129e6", "322122547200m", 1073741824])
COUNT = st.integers(0, 8)


def maybe(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    """An object whose every part may be missing or null."""
    return st.fixed_dictionaries({}, optional={name: st.none() | part for name, part in parts.items()})


def items(item: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """None, one or some: an engine that unwraps a list of one, or leaves out an empty one, is caught."""
    return st.lists(item, max_size=3)


CLAIM = maybe(
    storageClassName=NAMES,
    resources=maybe(requests=maybe(storage=SOME), limits=maybe(storage=SOME)),
    accessModes=st.just(["ReadWriteOnce"]),
)
INLINE = {
    "userData": SECRET,
    "userDataBase64": SECRET,
    "networkData": SECRET,
    "networkDataBase64": SECRET,
    "secretRef": {"name": SECRET},
}
SOURCES: list[Object] = [
    {"dataVolume": {"name": "root", "hotpluggable": True}},
    {"containerDisk": {"image": SECRET, "imagePullSecret": SECRET}},
    {"cloudInitNoCloud": INLINE},
    {"cloudInitConfigDrive": INLINE},
    {"sysprep": {"secret": {"name": SECRET}, "configMap": {"name": SECRET}, "inline": SECRET}},
    {"secret": {"secretName": SECRET}},
    {"downwardAPI": {"fields": [{"path": SECRET}]}},
    {"memoryDump": {"claimName": SECRET, "hotpluggable": True}},
    {"memoryDump": None},
    {"containerPath": {"path": SECRET}},
    {"whatever.comes.next": {"inline": [SECRET]}},
]
VOLUME = st.builds(lambda source, named: {**source, **named}, st.sampled_from(SOURCES), maybe(name=NAMES))
DEVICE = maybe(name=NAMES, state=st.sampled_from(["absent", "up"])).map(
    lambda named: {**named, "serial": SECRET, "disk": {"bus": "virtio"}}
)
DOMAIN = maybe(
    machine=maybe(type=st.just("q35")),
    cpu=maybe(cores=COUNT, sockets=COUNT, threads=COUNT, model=st.just("host-model")),
    memory=maybe(guest=SOME, maxGuest=SOME, hugepages=maybe(pageSize=st.just("2Mi"))),
    resources=maybe(requests=maybe(cpu=SOME, memory=SOME), limits=maybe(cpu=SOME, memory=SOME)),
    firmware=st.just({"uuid": "5d307ca9", "serial": SECRET, "acpi": {"slicNameRef": SECRET}}),
    devices=maybe(
        autoattachPodInterface=st.booleans(),
        disks=items(DEVICE),
        filesystems=items(DEVICE),
        interfaces=items(DEVICE),
    ),
)
GUEST = maybe(
    architecture=st.just("amd64"),
    terminationGracePeriodSeconds=COUNT,
    evictionStrategy=st.just("LiveMigrate"),
    networks=items(DEVICE),
    volumes=items(VOLUME),
    accessCredentials=st.just([{"userPassword": {"source": {"secret": {"secretName": SECRET}}}}]),
    hostname=st.just(SECRET),
).map(lambda guest: {"domain": {}, **guest})
MATCHER = maybe(kind=NAMES, name=NAMES, revisionName=NAMES, inferFromVolume=NAMES)
SPEC = maybe(
    runStrategy=st.sampled_from(["Always", "Halted", "Manual"]),
    running=st.booleans(),
    instancetype=MATCHER,
    preference=MATCHER,
    dataVolumeTemplates=items(
        maybe(
            metadata=maybe(name=NAMES, annotations=st.just({"secret": SECRET})),
            spec=maybe(storage=CLAIM, pvc=CLAIM, source=st.just({"http": {"url": f"https://u:{SECRET}@host"}})),
        )
    ),
)
CLAIMS = [
    None,
    "",
    "[]",
    "not JSON",
    '[{"metadata": {"name": "one-disk"}, "spec": {"storageClassName": "longhorn"}}]',
    '[{"spec": {"storageClassName": "longhorn", "resources": {"requests": {"storage": "10Gi"}}}}]',
]
METADATA = maybe(
    name=st.just("one"),
    namespace=st.just("lab"),
    uid=st.uuids().map(str),
    resourceVersion=st.integers(1, 2**63 - 1).map(str),
    generation=st.integers(1, 2**31),
    creationTimestamp=st.just("2026-08-20T09:14:02Z"),
    deletionTimestamp=st.just("2026-09-20T09:14:02Z"),
    labels=st.dictionaries(st.sampled_from(["app", "os.template.kubevirt.io/rhel9", "a.b/c"]), NAMES),
    managedFields=items(
        maybe(
            manager=st.sampled_from(["kubectl-edit", "virt-controller", "argocd-controller"]),
            time=st.sampled_from(["2026-09-20T09:14:02Z", "2026-09-20T09:14:03Z", "then"]),
            subresource=st.just("status"),
        ).map(lambda entry: {**entry, "fieldsV1": {f"f:{SECRET}": {}}})
    ),
    annotations=st.fixed_dictionaries(
        {"kubectl.kubernetes.io/last-applied-configuration": st.just(SECRET), "note": st.just(SECRET)},
        optional={
            "harvesterhci.io/volumeClaimTemplates": st.sampled_from(CLAIMS),
            "kubevirt.io/last-modified-by": st.sampled_from(["jane", "", None]),
        },
    ),
    ownerReferences=items(
        maybe(kind=st.just("VirtualMachinePool"), name=NAMES, controller=st.booleans()).map(
            lambda reference: {**reference, "uid": SECRET, "apiVersion": SECRET}
        )
    ),
)
MACHINES = st.builds(
    lambda metadata, spec, guest, os, status: {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": {
            **spec,
            "template": {"metadata": {"annotations": {**os, "note": SECRET}, "creationTimestamp": None}, "spec": guest},
        },
        **status,
    },
    METADATA,
    SPEC,
    st.builds(lambda guest, domain: {**guest, "domain": domain}, GUEST, DOMAIN),
    maybe(**{"vm.kubevirt.io/os": NAMES}),
    maybe(status=maybe(printableStatus=st.just("Running"), conditions=st.just([{"message": SECRET}]))),
)


@hypothesis.settings(max_examples=200, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.given(machine=MACHINES, step=st.sampled_from(list(versions.STEPS)[:3]), time=st.sampled_from([TIME, None]))
def test_any_machine_gives_a_legal_event_the_same_row_and_no_secret(
    machine: Object, step: str, time: str | None
) -> None:
    """Whatever is missing, null, empty, single or many."""
    result = assert_holds(machine, type=step, time=time)
    assert SECRET not in json.dumps(result)


@pytest.mark.parametrize("claim", [{"storageClassName": "fast"}, {"resources": {"requests": {"storage": "1Gi"}}}, {}])
@pytest.mark.parametrize("empty", [{}, {"accessModes": ["ReadWriteOnce"]}, None])
def test_a_volume_with_both_claims_gives_the_same_row(claim: Object, empty: Object | None) -> None:
    """The claim that has a class or a size counts, because of the other one the transform leaves nothing."""
    for spec in ({"storage": empty, "pvc": claim}, {"storage": claim, "pvc": empty}):
        machine = {"metadata": {"name": "one"}, "spec": {"dataVolumeTemplates": [{"spec": spec}]}}
        assert row(assert_holds(machine)).storageclass == claim.get("storageClassName")


def test_secrets_and_bulk_stay_behind() -> None:
    """A VM with a password in each place that KubeVirt has for one."""
    guest = {
        "domain": {"devices": {"disks": [{"name": "init"}]}},
        "volumes": [
            {"name": "init", "cloudInitNoCloud": INLINE},
            {"name": "drive", "cloudInitConfigDrive": INLINE},
            {"name": "sysprep", "sysprep": {"secret": {"name": SECRET}}},
        ],
        "accessCredentials": [{"sshPublicKey": {"source": {"secret": {"secretName": SECRET}}}}],
    }
    metadata = {
        "name": "one",
        "namespace": "lab",
        "resourceVersion": "5",
        "managedFields": [{"manager": "kubectl", "fieldsV1": {f"f:{SECRET}": {}}}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": SECRET},
    }
    result = assert_holds({"metadata": metadata, "spec": {"template": {"spec": guest}}})
    text = json.dumps(result)
    assert SECRET not in text
    assert result["data"]["metadata"]["managedFields"] == [{"manager": "kubectl"}]
    assert "annotations" not in result["data"]["metadata"]
    assert result["data"]["spec"]["template"]["spec"]["volumes"] == [
        {"name": "init"},
        {"name": "drive"},
        {"name": "sysprep"},
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_list_stays_a_list(count: int) -> None:
    """The published expression lost VMs with two networks, and JSONata unwraps a list of one."""
    names = [{"name": f"n{number}"} for number in range(count)]
    guest = {
        "domain": {"devices": {"disks": names, "interfaces": names, "filesystems": names}},
        "networks": names,
        "volumes": names,
    }
    machine = {
        "metadata": {"name": "one", "namespace": "lab"},
        "spec": {"dataVolumeTemplates": [{"metadata": name} for name in names], "template": {"spec": guest}},
    }
    assert assert_holds(machine)["data"] == machine


def test_an_event_without_a_cluster_is_legal() -> None:
    """A source without ceOverrides gives no attribute, never an empty or null one."""
    result = trimmed(announced({"metadata": {"name": "one", "namespace": "lab"}}, cluster=None))
    assert "cluster" not in result
    assert illegal(result) == []


def test_the_expression_is_jsonata_2_0() -> None:
    """What came after 2.0 stops the transformer at its start, and ``#`` is no comment."""
    bare = re.sub(r'/\*.*?\*/|"[^"]*"|`[^`]*`', "", expression(), flags=re.DOTALL)
    assert not re.search(r"\?\?|\?:|#|//", bare)


def test_what_a_transformer_refuses_the_direct_way_takes() -> None:
    """A body above 100 kB is 413 there; overlay direct has no transformer, and vmledger takes 20 times as much."""
    assert manifests.of_kind(manifests.overlay("direct"), "EventTransform") == []
    note = {"note": "x" * LIMIT}
    machine = {"metadata": {"name": "one", "namespace": "lab", "annotations": note}, "spec": {}}
    assert len(json.dumps(announced(machine))) > LIMIT
    assert row(announced(machine)).name == "one"
