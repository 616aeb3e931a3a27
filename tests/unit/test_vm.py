"""What an event says becomes the right row."""

from __future__ import annotations

import datetime
import json
import pathlib
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import errors, events
from function.inventory.mapping import versions, vm

SAMPLES = sorted((pathlib.Path(__file__).parent.parent / "events" / "vm").glob("*.json"))
ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
TIME = "2026-10-01T00:00:00Z"


def event(data: Any, **attributes: Any) -> events.Event:
    """An event as the edge gives it."""
    known: dict[str, Any] = {
        "id": "e1",
        "source": "https://10.96.0.1:443",
        "specversion": "1.0",
        "type": UPDATE,
        "time": TIME,
    }
    known |= attributes
    if known["time"] is not None:
        known["time"] = events.parse_time(known["time"], "time")
    return events.Event({key: value for key, value in known.items() if value is not None}, data)


def row(data: Any, **attributes: Any) -> vm.VirtualMachine:
    """The row that an event gives."""
    found = vm.change(event(data, **attributes), cluster_name="here").row
    assert isinstance(found, vm.VirtualMachine)
    return found


def machine(**spec: Any) -> dict[str, Any]:
    """An object with just what every VM has."""
    return {"metadata": {"name": "a", "namespace": "b", "resourceVersion": "5"}, "spec": spec}


def guest(**parts: Any) -> dict[str, Any]:
    """An object with a template's spec."""
    return machine(template={"spec": parts})


def flat(**attributes: Any) -> vm.VirtualMachine:
    """The row of a flat event."""
    return row(None, **{"name": "a", "namespace": "b", **attributes})


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_gives_its_row(path: pathlib.Path) -> None:
    """Each sample says which columns it must give."""
    sample = json.loads(path.read_text())
    given = row(sample["object"], type=sample["type"], **sample.get("attributes", {}))
    shown = {name: getattr(given, name) for name in sample["row"]}
    shown = {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value for name, value in shown.items()
    }
    assert shown == sample["row"], sample["covers"]


def test_the_flat_form_gives_what_it_carries() -> None:
    """Numbers come as text; what is not carried is None; a missing part of the topology counts one."""
    given = flat(
        cpucores="4", cpusockets="2", memory="8Gi", storageclass="san", network="default", kind="VirtualMachine"
    )
    assert (given.cpucores, given.cpusockets, given.cputhreads, given.vcpus) == (4, 2, None, 8)
    assert (given.memory, given.memory_bytes) == ("8Gi", 2**33)
    assert (given.storageclass, given.network, given.kind) == ("san", "default", "VirtualMachine")
    assert (given.uid, given.resource_version, given.disks, given.run_strategy) == (None, None, None, None)


def test_a_flat_event_of_an_instancetype_vm_knows_no_size() -> None:
    """Absent attributes are unknown, never 1 and 0."""
    given = flat()
    assert (given.cpucores, given.cpusockets, given.vcpus, given.memory, given.memory_bytes) == (None,) * 5


def test_empty_attributes_are_absent() -> None:
    """A transformer may send empty text where there was nothing."""
    given = flat(cpucores="", memory="", network="", storageclass="", resourceversion="")
    assert (given.cpucores, given.memory, given.network, given.storageclass) == (None,) * 4


def test_the_flat_form_may_carry_uid_and_resource_version() -> None:
    """Then it is ordered as an object is."""
    change = vm.change(event(None, name="a", namespace="b", uid="u", resourceversion="12"), cluster_name="here")
    assert isinstance(change.row, vm.VirtualMachine)
    assert (change.row.uid, change.row.resource_version, change.version) == ("u", 12, versions.Version(12, None, 1))


def test_the_flat_fields_may_be_data() -> None:
    """Newer versions of the published example send them so, networks as a list."""
    given = row({"name": "a", "namespace": "b", "cpucores": 2, "memory": "1Gi", "network": ["x", "y", "x"]})
    assert (given.name, given.cpucores, given.memory_bytes, given.network) == ("a", 2, 2**30, "x,y")


def test_flat_data_of_an_instancetype_vm_needs_no_sizes() -> None:
    """It may hold nothing but that."""
    given = row({"generation": 3, "instancetype": "u1.large"}, name="a", namespace="b")
    assert (given.name, given.generation, given.instancetype, given.vcpus) == ("a", 3, "u1.large", None)


def test_nothing_is_zero() -> None:
    """A count or a quantity of 0 says as little as none."""
    given = flat(cpucores="0", cpusockets=0, memory="0Gi")
    assert (given.cpucores, given.cpusockets, given.vcpus) == (None, None, None)
    assert (given.memory, given.memory_bytes) == (None, None)


@pytest.mark.parametrize("zero", ["0", 0, "0Gi", "0.0", "+0", "-0", "0e3", "0m", 0.0])
def test_a_memory_of_zero_is_not_set(zero: Any) -> None:
    """However zero is written, the next place that says how much counts."""
    requests, limits, page = {"memory": "2Gi"}, {"memory": "3Gi"}, {"pageSize": "1Gi"}
    for domain, memory in (
        ({"memory": {"guest": zero, "hugepages": page}, "resources": {"requests": requests, "limits": limits}}, "2Gi"),
        ({"memory": {"guest": zero}, "resources": {"requests": {"memory": zero}, "limits": limits}}, "3Gi"),
        (
            {"memory": {"hugepages": page}, "resources": {"requests": {"memory": zero}, "limits": {"memory": zero}}},
            "1Gi",
        ),
        ({"memory": {"guest": zero, "hugepages": {"pageSize": zero}}}, None),
    ):
        given = row(guest(domain=domain))
        assert (given.memory, given.memory_bytes and given.memory_bytes >> 30) == (memory, memory and int(memory[0]))


@pytest.mark.parametrize(
    ("limits", "requests", "sockets"),
    [("3", "1", 3), ("0", "4", 1), (None, "4", 4), (None, "0", 1), ("0", None, 1), ("1m", "4", 1), (None, None, 1)],
)
def test_a_limit_for_cpus_counts_though_it_is_zero(limits: str | None, requests: str | None, sockets: int) -> None:
    """KubeVirt asks whether the limit is there, and gives a guest at least one socket."""
    given = row(guest(domain={"resources": {"limits": {"cpu": limits}, "requests": {"cpu": requests}}}))
    assert (given.cpucores, given.cpusockets, given.cputhreads, given.vcpus) == (1, sockets, 1, sockets)


@pytest.mark.parametrize("size", [None, "", "0", 0, "0Gi"])
def test_a_sum_with_an_unknown_part_is_unknown(size: Any) -> None:
    """A template that does not say its size, in whatever way, makes the sum of all unknown."""
    known, other = [{"spec": {"pvc": {"resources": {"requests": {"storage": value}}}}} for value in ("1Gi", size)]
    assert row(machine(dataVolumeTemplates=[known, known])).disk_bytes == 2**31
    assert row(machine(dataVolumeTemplates=[known, other])).disk_bytes is None
    assert (
        row(machine(dataVolumeTemplates=[known, {"spec": {"storage": {"storageClassName": "x"}}}])).disk_bytes is None
    )
    assert row(machine(dataVolumeTemplates=[known, {"spec": {}}])).disk_bytes is None
    assert row(machine(dataVolumeTemplates=[])).disk_bytes is None


KINDS = {
    "instancetype": ("VirtualMachineInstancetype", "VirtualMachineClusterInstancetype"),
    "preference": ("VirtualMachinePreference", "VirtualMachineClusterPreference"),
}


@pytest.mark.parametrize(("column", "kind"), [(column, kind) for column, kinds in KINDS.items() for kind in kinds])
def test_a_kind_is_one_in_every_spelling(column: str, kind: str) -> None:
    """KubeVirt takes the singular and the plural in any case; what it does not take stays."""
    spellings = [kind, kind.lower(), kind.upper(), f"{kind}s", f"{kind}s".lower(), f"{kind}S".upper(), kind.swapcase()]
    assert {getattr(row(machine(**{column: {"name": "x", "kind": it}})), column) for it in spellings} == {f"{kind}/x"}
    assert getattr(row(machine(**{column: {"name": "x", "kind": f"{kind}ss"}})), column) == f"{kind}ss/x"
    assert getattr(row(machine(**{column: {"name": "x"}})), column) == f"{KINDS[column][1]}/x"


@pytest.mark.parametrize(
    ("volume", "disks"),
    [
        ({"memoryDump": {"claimName": "c"}}, 0),
        ({"memoryDump": {}}, 0),
        ({"memoryDump": None, "persistentVolumeClaim": {"claimName": "c"}}, 1),
        ({"containerPath": {"path": "/run/x"}}, 0),
        ({"persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}, 1),
        ({"downwardMetrics": {}}, 1),
        ({"serviceAccount": {"serviceAccountName": "s"}}, 1),
        ({"configMap": {"name": "c"}}, 1),
        ({"sysprep": {"secret": {"name": "s"}}}, 1),
    ],
)
def test_a_volume_that_can_never_be_a_disk_is_none(volume: dict[str, Any], disks: int) -> None:
    """Each other one that nothing attaches becomes a disk."""
    assert row(guest(domain={"devices": {}}, volumes=[{"name": "v", **volume}])).disks == disks


@pytest.mark.parametrize(
    ("states", "network"),
    [
        ([None, None], "a,b"),
        ([None, "absent"], "a"),
        (["absent", "absent"], None),
        (["up", "down"], "a,b"),
        (["", "Absent"], "a,b"),
        ([None], "a,b"),
    ],
)
def test_the_network_of_an_absent_interface_is_not_listed(states: list[str | None], network: str | None) -> None:
    """It is unplugged; a link that is down is not."""
    interfaces = [{"name": name, "state": state} for name, state in zip("ab", states, strict=False)]
    given = guest(domain={"devices": {"interfaces": interfaces}}, networks=[{"name": "a"}, {"name": "b"}])
    assert row(given).network == network


CLAIM = {"spec": {"storageClassName": "longhorn", "resources": {"requests": {"storage": "1Gi"}}}}


@pytest.mark.parametrize(
    ("text", "storage_class", "size"),
    [
        (None, None, None),
        ("", None, None),
        ("[]", None, None),
        (json.dumps([CLAIM]), "longhorn", 2**30),
        (json.dumps([CLAIM, CLAIM]), "longhorn", 2**31),
        (json.dumps([CLAIM, {}]), "longhorn", None),
        (json.dumps([CLAIM, {"spec": None}]), "longhorn", None),
        (json.dumps([{"spec": {"resources": {"requests": {"storage": 1024}}}}]), None, 1024),
        (json.dumps([{"spec": {"resources": {"requests": {"storage": "much"}}}}]), None, None),
        (json.dumps([{"spec": {"storageClassName": "a,b"}}]), None, None),
        (json.dumps([{"spec": {"storageClassName": "a\0"}}]), None, None),
        (json.dumps(CLAIM), None, None),
        (json.dumps([CLAIM, 5]), None, None),
        ("not JSON", None, None),
        ("\ud800", None, None),
        ("[" * 5000, None, None),
        (json.dumps([CLAIM] + [{"spec": {}}] * 30_000), None, None),
        (5, None, None),
        ([CLAIM], None, None),
    ],
)
def test_harvesters_claims_are_read_from_its_annotation(text: Any, storage_class: str | None, size: int | None) -> None:
    """Whatever the annotation is, it gives the class and the size or neither, and never refuses the machine."""
    given = machine(template={"spec": {"domain": {}}})
    given["metadata"]["annotations"] = {"harvesterhci.io/volumeClaimTemplates": text}
    assert (row(given).storageclass, row(given).disk_bytes) == (storage_class, size)


def test_claims_of_harvester_come_after_templates() -> None:
    """A machine with both has asked for both; and an unreadable annotation makes the sum unknown."""
    given = machine(dataVolumeTemplates=[{"spec": {"storage": {**CLAIM["spec"], "storageClassName": "fast"}}}])
    given["metadata"]["annotations"] = {"harvesterhci.io/volumeClaimTemplates": json.dumps([CLAIM])}
    assert (row(given).storageclass, row(given).disk_bytes) == ("fast,longhorn", 2**31)
    given["metadata"]["annotations"] = {"harvesterhci.io/volumeClaimTemplates": "?"}
    assert (row(given).storageclass, row(given).disk_bytes) == ("fast", None)


@pytest.mark.parametrize(
    ("metadata", "attributes", "place"),
    [
        ({"uid": "u"}, {"name": "n", "namespace": "s"}, ("s", "n")),
        ({"uid": "u", "name": "own"}, {"name": "n", "namespace": "s"}, ("s", "own")),
        ({"uid": "u", "namespace": "own"}, {"name": "n", "namespace": "s"}, ("own", "n")),
        ({"uid": "u", "name": "", "namespace": None}, {"name": "n", "namespace": "s"}, ("s", "n")),
        ({"uid": "u", "name": "own", "namespace": "own"}, {}, ("own", "own")),
    ],
)
def test_the_object_names_itself_else_the_attributes_do(
    metadata: dict[str, Any], attributes: dict[str, str], place: tuple[str, str]
) -> None:
    """ApiServerSource sends name and namespace as attributes too."""
    given = row({"metadata": metadata}, **attributes)
    assert (given.namespace, given.name, given.uid) == (*place, "u")


def test_an_object_without_its_version_takes_that_of_the_event() -> None:
    """As a transform may send it: the spec as data, and who it is as attributes."""
    said = {"name": "n", "namespace": "s", "uid": "u", "resourceversion": "7", "generation": "3", "cpucores": "many"}
    change = vm.change(event({"spec": {"template": {"spec": {"domain": {}}}}}, **said), cluster_name="here")
    assert change.version == versions.Version(7, None, versions.UPDATE)
    given = row({"spec": {"template": {"spec": {"domain": {}}}}}, **said)
    assert (given.name, given.uid, given.resource_version, given.generation) == ("n", "u", 7, 3)
    own = row({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "5"}}, **said)
    assert (own.name, own.uid, own.resource_version) == ("a", "u", 5)


def test_a_spec_without_a_template_says_no_run_strategy() -> None:
    """Every machine has a template; a part of a spec is not a machine that is halted."""
    assert row(machine(dataVolumeTemplates=[])).run_strategy is None
    assert row(machine(running=False)).run_strategy == "Halted"
    assert row(machine(template={"spec": {"domain": {}}})).run_strategy == "Halted"


def test_a_time_at_the_end_of_times_is_earlier_than_none() -> None:
    """As Postgres has it: infinity is later."""
    late = vm.change(event(machine(), time="9999-12-31T23:59:59.999999Z", id="b"), cluster_name="here")
    timeless = vm.change(event(machine(), time=None, id="a"), cluster_name="here")
    assert late.rank < timeless.rank


def test_an_array_that_kafka_made_text_is_joined() -> None:
    """The Kafka Broker writes an attribute that is an array as JSON text."""
    assert flat(network='["default","vlan-100"]').network == "default,vlan-100"


def test_object_and_flat_form_agree_where_they_carry_the_same() -> None:
    """The same facts give the same columns."""
    domain = {"cpu": {"cores": 4, "sockets": 2}, "memory": {"guest": "0.5Gi"}}
    whole = row(guest(domain=domain, networks=[{"name": "n"}]))
    same = flat(cpucores="4", cpusockets="2", memory="0.5Gi", network="n")
    for column in ("name", "namespace", "cpucores", "cpusockets", "vcpus", "memory", "memory_bytes", "network", "kind"):
        assert getattr(whole, column) == getattr(same, column), column


@pytest.mark.parametrize(
    ("attributes", "cluster"), [({"cluster": "prod-1"}, "prod-1"), ({}, "here"), ({"cluster": ""}, "here")]
)
def test_the_cluster_is_the_attribute_else_the_setting(attributes: dict[str, str], cluster: str) -> None:
    """The event's source is an address that many clusters share."""
    assert row(machine(), **attributes).cluster == cluster


def test_a_delete_is_dated_by_its_event() -> None:
    """The tombstone has the event's time, or the object's, or the epoch; always the same for the same event."""
    gone = {"metadata": {"name": "a", "namespace": "b", "deletionTimestamp": "2026-09-01T00:00:00Z"}}
    assert row(gone, type=DELETE).deleted_at == events.parse_time(TIME, "")
    assert row(gone, type=DELETE, time=None).deleted_at == events.parse_time("2026-09-01T00:00:00Z", "")
    assert row(machine(), type=DELETE, time=None).deleted_at == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert row(gone, type=UPDATE).deleted_at is None


def test_a_resource_version_outranks_any_time() -> None:
    """And among times the later, and at one time delete over update over add."""
    order = [
        versions.Version(-1, None, 2),
        versions.Version(-1, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), 0),
        versions.Version(-1, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), 2),
        versions.Version(-1, datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC), 0),
        versions.Version(1, None, 0),
        versions.Version(9, None, 1),
        versions.Version(10, None, 0),
    ]
    assert sorted(order, key=lambda version: version.order) == order


def test_the_fuller_then_earlier_then_smaller_event_is_kept() -> None:
    """Of two events about one version: object over flat, earlier time, smaller id."""
    data = machine()
    flat_first = event(None, name="a", namespace="b", resourceversion="5", time="2026-01-01T00:00:00Z", id="1")
    early = event(data, time="2026-01-02T00:00:00Z", id="9")
    small = event(data, id="a")
    large = event(data, id="b")
    timeless = event(data, id="0", time=None)
    ranked = [early, small, large, timeless, flat_first]
    changes = [vm.change(item, cluster_name="here") for item in reversed(ranked)]
    assert len({change.version for change in changes}) == 1
    assert [change.row.id for change in sorted(changes, key=lambda change: change.rank)] == ["9", "a", "b", "0", "1"]


REFUSED: list[tuple[str, Any, dict[str, Any]]] = [
    ("no name", {"metadata": {"namespace": "b"}}, {"name": "a"}),
    ("no name", None, {"namespace": "b"}),
    ("no name", {"metadata": {"name": "", "namespace": "b"}}, {}),
    ("no namespace", {"metadata": {"name": "a"}}, {}),
    ("no name", {"spec": {}}, {"name": "a", "namespace": "b"}),
    ("data.metadata.name is not text", {"metadata": {"name": 5, "namespace": "b"}}, {}),
    ("the name holds a NUL", {"metadata": {"name": "a\0", "namespace": "b"}}, {}),
    ("the labels hold", {"metadata": {"name": "a", "namespace": "b", "labels": {"x": "\0"}}}, {}),
    ("the labels hold", {"metadata": {"name": "a", "namespace": "b", "labels": {"\0": "x"}}}, {}),
    ("the status holds a NUL", {**machine(), "status": {"printableStatus": "a\0b"}}, {}),
    ("the name holds half a character", {"metadata": {"name": "\ud800", "namespace": "b"}}, {}),
    ("the name is longer than 253 bytes", {"metadata": {"name": "ü" * 127, "namespace": "b"}}, {}),
    (
        "the ledger takes 65536",
        {"metadata": {"name": "a", "namespace": "b", "labels": {str(number): "x" * 63 for number in range(1000)}}},
        {},
    ),
    ("the id holds a NUL", machine(), {"id": "a\0"}),
    (
        "resource_version 9223372036854775808",
        {"metadata": {"name": "a", "namespace": "b", "resourceVersion": str(2**63)}},
        {},
    ),
    ("data.metadata.resourceVersion 'x1'", {"metadata": {"name": "a", "namespace": "b", "resourceVersion": "x1"}}, {}),
    ("data.metadata.resourceVersion '٣'", {"metadata": {"name": "a", "namespace": "b", "resourceVersion": "٣"}}, {}),
    ("generation", {"metadata": {"name": "a", "namespace": "b", "generation": 2**63}}, {}),
    (
        "data.metadata.creationTimestamp 'noon'",
        {"metadata": {"name": "a", "namespace": "b", "creationTimestamp": "noon"}},
        {},
    ),
    ("data.metadata.labels is not a JSON object", {"metadata": {"name": "a", "namespace": "b", "labels": []}}, {}),
    ("data.spec is not a JSON object", {"metadata": {"name": "a", "namespace": "b"}, "spec": [1]}, {}),
    ("cpucores 2147483648", guest(domain={"cpu": {"cores": 2**31}}), {}),
    ("the vcpus", guest(domain={"cpu": {"cores": 2**20, "sockets": 2**20}}), {}),
    ("negative", guest(domain={"cpu": {"cores": -1}}), {}),
    ("domain.cpu.cores 'four'", guest(domain={"cpu": {"cores": "four"}}), {}),
    ("memory.guest 'lots' is not a Kubernetes quantity", guest(domain={"memory": {"guest": "lots"}}), {}),
    ("memory_bytes", guest(domain={"memory": {"guest": "8Ei"}}), {}),
    (
        "disk_bytes",
        machine(dataVolumeTemplates=[{"spec": {"pvc": {"resources": {"requests": {"storage": "5E"}}}}}] * 2),
        {},
    ),
    ("networks is not a list of JSON objects", guest(networks=["default"]), {}),
    ("it is not a JSON object", [1, 2], {}),
    ("it is not a JSON object", "text", {}),
    ("it is not a JSON object", b"bytes", {}),
    ("the attribute cpucores 'x' is not a whole number", None, {"name": "a", "namespace": "b", "cpucores": "x"}),
    ("the attribute cpucores '-1'", None, {"name": "a", "namespace": "b", "cpucores": "-1"}),
    ("the attribute memory '1KB'", None, {"name": "a", "namespace": "b", "memory": "1KB"}),
    ("cpusockets 99999999999", None, {"name": "a", "namespace": "b", "cpusockets": "99999999999"}),
    ("the network holds a NUL", None, {"name": "a", "namespace": "b", "network": "a\0b"}),
]


@pytest.mark.parametrize(("sentence", "data", "attributes"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_can_never_be_a_row_is_refused_with_its_place(
    sentence: str, data: Any, attributes: dict[str, Any]
) -> None:
    """The sentence says what was wrong and where."""
    with pytest.raises(errors.BadEvent) as refusal:
        row(data, **attributes)
    assert sentence in str(refusal.value)


FOREIGN: list[Any] = [
    {"name": "a"},
    {"name": "a", "namespace": "b", "kind": "VirtualMachine"},
    {"name": "a", "state": "Running"},
    {"name": "a", "generation": 3, "image": "x"},
    {"name": "a", "memory": "1Gi", "limits": {"cpu": 1}},
    {"name": "a", "memory": None, "size": 3},
    {"message": "hello"},
    {"vm": {"metadata": {"name": "a", "namespace": "b"}}},
    {"object": machine(running=True)},
    {"specversion": "1.0", "type": UPDATE, "kind": "VirtualMachine", "name": "a", "data": machine(running=True)},
    {"items": [machine()]},
    {"spec": {"replicas": 3}},
    {"spec": {"template": {}}},
    {"spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "a"}]}}}},
    {"memory": None},
    {"cpucores": 0, "memory": "0"},
    {"status": {"phase": "Running"}},
    {"metadata": {}},
    {"metadata": {"labels": {"a": "b"}, "generation": 4}},
    {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"},
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b", "uid": "u"}},
    {"kind": "VirtualMachineInstance", "metadata": {"name": "a", "namespace": "b", "uid": "u"}},
    {"kind": "PartialObjectMetadata", "metadata": {"name": "a", "namespace": "b", "uid": "u"}},
    {"apiVersion": "example.com/v1", "kind": "VirtualMachine", "metadata": {"name": "a", "namespace": "b", "uid": "u"}},
]


@pytest.mark.parametrize("data", FOREIGN)
def test_what_only_has_a_key_of_a_machine_is_refused(data: Any) -> None:
    """The attributes name a machine, and the data is something else: no row, whose columns would all be NULL."""
    with pytest.raises(errors.BadEvent, match=r"^the data is not a VirtualMachine"):
        row(data, name="a", namespace="b", kind="VirtualMachine", apiversion="kubevirt.io/v1")


@pytest.mark.parametrize(
    "data",
    [
        {"name": "a", "memory": "1Gi", "owner": "team"},
        {"generation": 3},
        {"generation": 3, "deletiontimestamp": None, "cpucores": None, "memory": None, "network": []},
        {"name": "a", "uid": "u"},
        {"network": ["default"], "datasource": ["10Gi"]},
    ],
)
def test_flat_fields_in_data_are_known_by_more_than_a_name(data: Any) -> None:
    """One fact beside fields of somebody's own, or known fields alone."""
    assert row(data, name="a", namespace="b").name == "a"


@hypothesis.given(
    data=st.dictionaries(
        st.sampled_from(["name", "kind", "memory", "cpucores", "network", "generation", "uid", "x", "spec"]),
        st.none()
        | st.integers(0, 9)
        | st.sampled_from(["", "0", "1Gi", "a", {}, {"template": {}}, {"replicas": 1}, {"name": "a"}, [], ["a"]]),
        min_size=1,
    )
)
def test_no_data_gives_a_row_of_nulls(data: dict[str, Any]) -> None:
    """Any data beside the attributes that name a machine: a row that says something about it, or a refusal."""
    try:
        given = row(data, name="a", namespace="b", kind="VirtualMachine")
    except errors.BadEvent:
        return
    named = {"type", "id", "time", "kind", "name", "namespace", "cluster"}
    assert [name for name in vm.COLUMNS if name not in named and getattr(given, name) is not None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WHOLE: dict[str, Any] = json.loads((SAMPLES[0].parent / "storage.json").read_text())["object"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at one place."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@hypothesis.given(place=st.sampled_from(places(WHOLE)), new=JSON)
def test_any_value_at_any_place_is_a_row_or_a_sentence(place: tuple[Any, ...], new: Any) -> None:
    """An object that is broken anywhere gives a row or a BadEvent, and nothing else."""
    try:
        change = vm.change(event(replaced(WHOLE, place, new)), cluster_name="here")
    except errors.BadEvent as exc:
        assert 0 < len(str(exc)) < 300
        assert "\n" not in str(exc)
    else:
        assert json.loads(change.payload)["name"] == change.row.name


@hypothesis.given(
    attributes=st.dictionaries(
        st.sampled_from(
            [
                "name",
                "namespace",
                "cpucores",
                "memory",
                "network",
                "storageclass",
                "uid",
                "resourceversion",
                "cluster",
                "kind",
            ]
        ),
        st.text() | st.integers() | st.booleans(),
    )
)
def test_any_attributes_are_a_row_or_a_sentence(attributes: dict[str, Any]) -> None:
    """The same for the flat form."""
    try:
        change = vm.change(event(None, **attributes), cluster_name="here")
    except errors.BadEvent as exc:
        assert 0 < len(str(exc)) < 300
    else:
        assert change.row.name
        assert change.row.namespace
