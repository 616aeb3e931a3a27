"""What an event says of a running instance becomes the right row."""

from __future__ import annotations

import datetime
import json
import pathlib
from typing import Any

import hypothesis
import pytest

from function import errors, events
from function.inventory.mapping import instance, versions
from tests import mutations

SAMPLES = sorted((pathlib.Path(__file__).parent.parent / "events" / "vmi").glob("*.json"))
ADD, UPDATE, DELETE = (f"dev.knative.apiserver.resource.{step}" for step in ("add", "update", "delete"))
TIME = "2026-10-01T00:00:00Z"
OWNER = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "name": "a",
    "uid": "the-machine",
    "controller": True,
}


def event(data: Any, **attributes: Any) -> events.Event:
    """An event as the edge gives it."""
    known: dict[str, Any] = {"id": "e1", "source": "s", "specversion": "1.0", "type": UPDATE, "time": TIME} | attributes
    if known["time"] is not None:
        known["time"] = events.parse_time(known["time"], "time")
    return events.Event({key: value for key, value in known.items() if value is not None}, data)


def change(data: Any, **attributes: Any) -> versions.Change:
    """The change that an event makes."""
    made = instance.change(event(data, **attributes), cluster_name="here")
    assert made is not None
    return made


def row(data: Any, **attributes: Any) -> instance.Instance:
    """The row that an event gives."""
    given = change(data, **attributes).row
    assert isinstance(given, instance.Instance)
    return given


def running(
    status: dict[str, Any] | None = None, domain: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    """An object with just what every instance of a VM has."""
    known = {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "5", "ownerReferences": [OWNER]} | metadata
    return {"metadata": known, "spec": {"domain": domain or {}}, "status": status or {}}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_gives_its_row(path: pathlib.Path) -> None:
    """Each sample says which columns it must give, or that it makes no change."""
    sample = json.loads(path.read_text())
    given_event = event(sample["object"], type=sample["type"], **sample.get("attributes", {}))
    made = instance.change(given_event, cluster_name="here")
    given = made and {name: getattr(made.row, name) for name in sample["row"]}
    shown = given and {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value for name, value in given.items()
    }
    assert shown == sample["row"], sample["covers"]


def test_the_payload_is_the_row_as_json() -> None:
    """It holds the columns that are known, an empty list among them, and the order."""
    sent = json.loads(change(running({"phase": "Running", "interfaces": []}), cluster="prod").payload)
    assert isinstance(sent.pop("digest"), int)
    assert sent == {
        "type": UPDATE,
        "id": "e1",
        "name": "a",
        "namespace": "b",
        "cluster": "prod",
        "time": TIME,
        "resource_version": 5,
        "uid": "u",
        "owner_uid": "the-machine",
        "phase": "Running",
        "ip_addresses": [],
        "version_number": 5,
        "version_time": "-infinity",
        "version_step": 1,
        "shape": versions.OBJECT,
    }


def test_instances_are_told_apart_by_their_machine() -> None:
    """A machine that was made anew under the same name has instances of its own."""
    again = [{**OWNER, "uid": "another"}]
    assert change(running()).key == ("here", "b", "a", "the-machine")
    assert change(running(ownerReferences=again)).key == ("here", "b", "a", "another")


def test_a_restart_is_a_later_version_of_the_same_machine() -> None:
    """The new instance has a uid of its own and a higher resource version."""
    last, first = change(running(), type=DELETE), change(running(uid="next", resourceVersion="6"), type=ADD)
    assert last.key == first.key
    assert last.version.order < first.version.order


def test_the_version_may_be_given() -> None:
    """A list that lacks an instance outranks it by the list's version."""
    made = instance.change(event(running(), type="vmledger.reconcile.delete"), cluster_name="here", number=90)
    assert made is not None
    assert made.version == versions.Version(90, None, versions.DELETE)
    assert made.row.resource_version == 5


def test_an_object_without_its_version_takes_that_of_the_event() -> None:
    """As a transform may send it; what the object has itself counts."""
    bare = running(uid=None, resourceVersion=None, name=None, namespace=None)
    said = {"name": "n", "namespace": "s", "uid": "by-attribute", "resourceversion": "7", "generation": "3"}
    given = row(bare, **said)
    assert (given.name, given.namespace, given.uid, given.resource_version) == ("n", "s", "by-attribute", 7)
    assert row(running(), **said).resource_version == 5


def test_a_delete_is_dated_by_its_event() -> None:
    """Else by the object, else by the epoch; always the same for the same event."""
    ending = running(deletionTimestamp="2026-09-01T00:00:00Z")
    assert row(ending, type=DELETE).deleted_at == events.parse_time(TIME, "")
    assert row(ending, type=DELETE, time=None).deleted_at == events.parse_time("2026-09-01T00:00:00Z", "")
    assert row(running(), type=DELETE, time=None).deleted_at == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert row(ending).deleted_at is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Unknown", "WaitingForSync"])
def test_a_phase_is_kept_until_the_delete(phase: str) -> None:
    """An instance that ended is still there; only its delete makes it gone."""
    assert row(running({"phase": phase})).phase == phase
    assert row(running({"phase": phase}), type=DELETE).phase == instance.GONE


@pytest.mark.parametrize(
    ("interfaces", "addresses"),
    [
        (None, None),
        ([], []),
        ([{}, {"ipAddresses": []}, {"ipAddresses": None}, {"ipAddress": ""}], []),
        ([{"ipAddress": "10.0.0.1"}], ["10.0.0.1"]),
        ([{"ipAddress": "10.0.0.1", "ipAddresses": ["10.0.0.1", "fd00::1"]}], ["10.0.0.1", "fd00::1"]),
        (
            [{"ipAddresses": ["10.0.0.2", "", None]}, {"ipAddresses": ["10.0.0.1", "10.0.0.2"]}],
            ["10.0.0.2", "10.0.0.1"],
        ),
        ([{"ipAddresses": ["10.0.0.1\n"]}], ["10.0.0.1 "]),
        ([{"ipAddresses": ["10.0.0.1/8", "10.0.0.1", "fe80::1/64", "/24"]}], ["10.0.0.1", "fe80::1"]),
        ([{"ipAddress": "10.0.0.1/24"}], ["10.0.0.1"]),
    ],
)
def test_addresses_are_those_of_all_interfaces(interfaces: Any, addresses: list[str] | None) -> None:
    """Each once, in their order; no interfaces at all is not the same as none with an address."""
    assert row(running({"interfaces": interfaces})).ip_addresses == addresses


@pytest.mark.parametrize(
    ("topology", "cpu", "vcpus"),
    [
        ({"cores": 2, "sockets": 3, "threads": 2}, {"cores": 1}, 12),
        ({"sockets": 3}, {"cores": 8}, 3),
        ({"cores": 0, "sockets": 0, "threads": 0}, {"cores": 8}, 8),
        (None, {"cores": 4, "sockets": 2}, 8),
        (None, {"model": "host-model"}, 1),
    ],
)
def test_vcpus_are_what_runs_else_what_was_defined(topology: Any, cpu: Any, vcpus: int) -> None:
    """A missing part counts one; a status that says nothing leaves it to the domain, by KubeVirt's defaults."""
    assert row(running({"currentCPUTopology": topology}, {"cpu": cpu})).live_vcpus == vcpus


@pytest.mark.parametrize(
    ("memory", "domain", "size"),
    [
        ({"guestCurrent": "2Gi", "guestAtBoot": "1Gi", "guestRequested": "4Gi"}, {"memory": {"guest": "4Gi"}}, 2**31),
        ({"guestAtBoot": "1Gi", "guestRequested": "4Gi"}, {"memory": {"guest": "4Gi"}}, 2**30),
        ({"guestRequested": "4Gi"}, {"memory": {"guest": "1Gi"}}, 2**30),
        (None, {"resources": {"requests": {"memory": "1500m"}}}, 2),
        (None, {"memory": {"hugepages": {"pageSize": "2Mi"}}}, 2**21),
        (None, {"devices": {}}, None),
        ({"guestCurrent": 0, "guestAtBoot": "1Gi"}, {}, 2**30),
        ({"guestCurrent": "0", "guestAtBoot": "0Mi"}, {"memory": {"guest": "2Gi"}}, 2**31),
        ({"guestCurrent": "0"}, {"memory": {"guest": "0"}}, None),
    ],
)
def test_memory_is_what_the_guest_has_else_what_was_defined(memory: Any, domain: Any, size: int | None) -> None:
    """Never what is only requested of a running guest."""
    assert row(running({"memory": memory}, domain)).live_memory_bytes == size


@pytest.mark.parametrize(
    ("info", "system"),
    [
        (None, None),
        ({}, None),
        ({"prettyName": "", "name": "", "id": ""}, None),
        ({"version": "41"}, None),
        ({"prettyName": "Fedora Linux 41", "name": "Fedora Linux", "version": "41"}, "Fedora Linux 41"),
        (
            {"name": "Fedora Linux", "version": "41 (Cloud Edition)", "versionId": "41"},
            "Fedora Linux 41 (Cloud Edition)",
        ),
        ({"name": "Fedora Linux", "versionId": "41", "id": "fedora"}, "Fedora Linux 41"),
        ({"name": "Arch Linux", "id": "arch"}, "Arch Linux"),
        ({"id": "fedora", "versionId": "41"}, "fedora 41"),
        ({"name": "Microsoft Windows", "version": "Microsoft Windows 11"}, "Microsoft Windows 11"),
    ],
)
def test_the_guest_os_is_its_pretty_name_else_name_and_version(info: Any, system: str | None) -> None:
    """QEMU's agent sends each of them only where the guest says it."""
    assert row(running({"guestOSInfo": info})).guest_os == system


@pytest.mark.parametrize(
    "owners",
    [
        None,
        [],
        [{**OWNER, "kind": "VirtualMachineInstanceReplicaSet"}],
        [{**OWNER, "apiVersion": "example.com/v1"}],
        [{**OWNER, "apiVersion": None}],
        [{"uid": "x"}],
    ],
)
def test_an_instance_without_a_machine_makes_no_change(owners: Any) -> None:
    """Whatever else it says."""
    assert instance.change(event(running(ownerReferences=owners, name=None)), cluster_name="here") is None


def test_the_controller_is_the_owner() -> None:
    """Where several machines own it; else the first of them."""
    first, second = {**OWNER, "uid": "1", "controller": None}, {**OWNER, "uid": "2"}
    assert row(running(ownerReferences=[first, second])).owner_uid == "2"
    assert row(running(ownerReferences=[first, {**second, "controller": False}])).owner_uid == "1"


REFUSED: list[tuple[str, Any, dict[str, Any]]] = [
    ("the event holds no VirtualMachineInstance: it has no data", None, {"name": "a", "namespace": "b"}),
    ("it has no data", {}, {}),
    ("it is not a JSON object", [running()], {}),
    ("it is not a JSON object", b"bytes", {}),
    ("it has no metadata", {"name": "a", "namespace": "b"}, {"name": "a", "namespace": "b"}),
    ("it has no metadata", {"kind": "VirtualMachineInstance", "metadata": None}, {}),
    ("its kind is 'Pod'", {**running(), "kind": "Pod"}, {}),
    ("its apiVersion is 'v1'", {**running(), "apiVersion": "v1"}, {}),
    ("the VirtualMachineInstance has no name", running(name=""), {}),
    ("the VirtualMachineInstance has no namespace", running(namespace=None), {}),
    ("data.metadata.ownerReferences[0].uid is missing", running(ownerReferences=[{**OWNER, "uid": ""}]), {}),
    ("ownerReferences[0].uid is longer than 253", running(ownerReferences=[{**OWNER, "uid": "ü" * 127}]), {}),
    ("ownerReferences is not a list of JSON objects", running(ownerReferences=["a"]), {}),
    ("the owner_uid holds half a character", running(ownerReferences=[{**OWNER, "uid": "\ud800"}]), {}),
    ("the name is longer than 253 bytes", running(name="ü" * 127), {}),
    ("the node holds a NUL", running({"nodeName": "a\0"}), {}),
    ("the guest_os holds half a character", running({"guestOSInfo": {"prettyName": "\udfff"}}), {}),
    ("the ip_addresses holds a NUL", running({"interfaces": [{"ipAddresses": ["::1", "\0"]}]}), {}),
    ("the ip_addresses holds half", running({"interfaces": [{"ipAddresses": ["\ud800"]}]}), {}),
    (
        "status.interfaces[1].ipAddresses is not a list of texts",
        running({"interfaces": [{}, {"ipAddresses": [4]}]}),
        {},
    ),
    ("status.interfaces[0].ipAddresses is not a list of texts", running({"interfaces": [{"ipAddresses": "::1"}]}), {}),
    ("status.interfaces[0].ipAddress is not text", running({"interfaces": [{"ipAddress": 4}]}), {}),
    ("status.interfaces is not a list", running({"interfaces": {}}), {}),
    ("data.status.phase is not text", running({"phase": 1}), {}),
    ("currentCPUTopology.cores 'x' is not a whole", running({"currentCPUTopology": {"cores": "x"}}), {}),
    ("currentCPUTopology has a negative", running({"currentCPUTopology": {"cores": -1, "sockets": -1}}), {}),
    ("the live_vcpus 2147483648", running({"currentCPUTopology": {"cores": 2**31}}), {}),
    ("data.spec.domain.cpu has a negative", running(domain={"cpu": {"cores": -1}}), {}),
    ("data.status.memory.guestCurrent 'lots'", running({"memory": {"guestCurrent": "lots"}}), {}),
    ("data.spec.domain.memory.guest 'lots'", running(domain={"memory": {"guest": "lots"}}), {}),
    ("the live_memory_bytes", running({"memory": {"guestCurrent": "8Ei"}}), {}),
    ("the live_memory_bytes -1 is past", running({"memory": {"guestCurrent": -1}}), {}),
    ("the resource_version 9223372036854775808", running(resourceVersion=str(2**63)), {}),
    ("data.metadata.deletionTimestamp 'noon'", running(deletionTimestamp="noon"), {}),
]


@pytest.mark.parametrize(("sentence", "data", "attributes"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_can_never_be_a_row_is_refused_with_its_place(
    sentence: str, data: Any, attributes: dict[str, Any]
) -> None:
    """The sentence says what was wrong and where."""
    with pytest.raises(errors.BadEvent) as refusal:
        row(data, **attributes)
    assert sentence in str(refusal.value)


WHOLE: dict[str, Any] = json.loads((SAMPLES[0].parent / "dual-stack.json").read_text())["object"]


@hypothesis.given(data=mutations.of(WHOLE), step=hypothesis.strategies.sampled_from([ADD, UPDATE, DELETE]))
def test_any_value_at_any_place_is_a_row_or_a_sentence_or_nothing(data: Any, step: str) -> None:
    """An object that is broken anywhere gives a change, no change or a BadEvent, and nothing else."""
    try:
        made = instance.change(event(data, type=step), cluster_name="here")
    except errors.BadEvent as exc:
        assert 0 < len(str(exc)) < 300
        assert "\n" not in str(exc)
    else:
        assert made is None or json.loads(made.payload)["name"] == made.row.name
