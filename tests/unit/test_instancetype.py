"""The size of a machine with an instancetype is found where KubeVirt keeps it."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import hypothesis
import pytest

from function import errors
from function.inventory.mapping import instancetype
from tests import mutations

SAMPLES = pathlib.Path(__file__).parent.parent / "events" / "vm"
SPEC = {"cpu": {"guest": 4, "dedicatedCPUPlacement": False}, "memory": {"guest": "8Gi"}}
STATUS = {
    "instancetypeRef": {
        "kind": "VirtualMachineClusterInstancetype",
        "name": "u1.large",
        "controllerRevisionRef": {"name": "web-u1.large-v1beta1-2f1d-1"},
    }
}


def machine(matcher: dict[str, Any] | None, status: dict[str, Any] | None = None) -> dict[str, Any]:
    """A VirtualMachine with what is asked for, and what KubeVirt took down."""
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"instancetype": matcher}, "status": status}


def revision(data: Any) -> dict[str, Any]:
    """A ControllerRevision as KubeVirt writes it."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": "web-u1.large-v1beta1-2f1d-1",
            "namespace": "shop",
            "labels": {"instancetype.kubevirt.io/object-name": "u1.large"},
        },
        "data": data,
        "revision": 0,
    }


def whole(version: str, kind: str = "VirtualMachineClusterInstancetype", spec: Any = SPEC) -> dict[str, Any]:
    """A ControllerRevision of a whole instancetype."""
    return revision(
        {
            "apiVersion": f"instancetype.kubevirt.io/{version}",
            "kind": kind,
            "metadata": {"generation": 1, "name": "u1.large", "uid": "2f1d", "creationTimestamp": None},
            "spec": spec,
        }
    )


def packed(text: bytes, version: str = "instancetype.kubevirt.io/v1alpha1") -> dict[str, Any]:
    """A ControllerRevision with no more than the spec, as Go writes bytes."""
    return revision({"apiVersion": version, "spec": base64.b64encode(text).decode()})


@pytest.mark.parametrize(
    ("matcher", "status", "name"),
    [
        (None, STATUS, None),
        (None, {"instancetypeRef": {"controllerRevisionRef": {"name": "r"}}}, None),
        ({"name": "u1.large"}, STATUS, "web-u1.large-v1beta1-2f1d-1"),
        ({"name": "u1.large", "revisionName": ""}, STATUS, "web-u1.large-v1beta1-2f1d-1"),
        ({"name": "u1.large", "revisionName": "pinned"}, STATUS, "pinned"),
        ({"name": "u1.large", "revisionName": "pinned"}, None, "pinned"),
        ({"name": "u1.large"}, None, None),
        ({"name": "u1.large"}, {"instancetypeRef": None}, None),
        ({"name": "u1.large"}, {"instancetypeRef": {"name": "u1.large"}}, None),
        ({"name": "u1.small"}, STATUS, None),
        ({"name": "u1.small"}, {"instancetypeRef": {"controllerRevisionRef": {"name": "r"}}}, "r"),
    ],
)
def test_the_revision_is_the_one_that_counts_for_kubevirt(matcher: Any, status: Any, name: str | None) -> None:
    """The spec's before the status's; and none that is of another instancetype."""
    expected = None if name is None else instancetype.RevisionName("shop", name)
    assert instancetype.revision(machine(matcher, status)) == expected


def test_a_machine_without_a_namespace_refers_to_nothing() -> None:
    """A revision is found by both."""
    assert instancetype.revision({"spec": {"instancetype": {"revisionName": "pinned"}}}) is None


def test_a_sample_of_an_older_release_names_its_revision() -> None:
    """There KubeVirt wrote it into the spec."""
    sample = json.loads((SAMPLES / "instancetype.json").read_text())["object"]
    assert instancetype.revision(sample) == ("lab", "typed-u1.large-v1")


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha2", "v1alpha1"])
@pytest.mark.parametrize("kind", ["VirtualMachineInstancetype", "VirtualMachineClusterInstancetype"])
def test_a_whole_instancetype_of_any_version_gives_its_sizes(version: str, kind: str) -> None:
    """All have the two numbers at the same place."""
    assert instancetype.sizes(whole(version, kind)) == instancetype.Sizes(4, 2**33)


@pytest.mark.parametrize("version", ["instancetype.kubevirt.io/v1alpha1", ""])
def test_a_packed_spec_gives_its_sizes(version: str) -> None:
    """The version may have been lost."""
    assert instancetype.sizes(packed(json.dumps(SPEC).encode(), version)) == instancetype.Sizes(4, 2**33)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"cpu": {"guest": 2}}, (2, None)),
        ({"memory": {"guest": "1500m"}}, (None, 2)),
        ({"memory": {"guest": "0"}, "cpu": {"guest": 0}}, (None, None)),
        ({"cpu": {"preferredCPUTopology": "preferCores"}}, (None, None)),  # a preference
        (None, (None, None)),
    ],
)
def test_what_is_not_said_is_unknown(spec: Any, expected: tuple[int | None, int | None]) -> None:
    """Never 0 or 1."""
    assert instancetype.sizes(whole("v1beta1", spec=spec)) == expected


def test_overcommitted_memory_is_the_guest_s() -> None:
    """The percentage is the pod's affair."""
    overcommitted = {"cpu": {"guest": 1}, "memory": {"guest": "512Mi", "overcommitPercent": 50}}
    assert instancetype.sizes(whole("v1", spec=overcommitted)) == (1, 2**29)


REFUSED = [
    ("ControllerRevision.data is not a JSON object", revision("text")),
    ("ControllerRevision.data.spec is not a JSON object", whole("v1", spec=[1])),
    ("ControllerRevision.data.spec.cpu.guest 'x' is not a whole number", whole("v1", spec={"cpu": {"guest": "x"}})),
    ("ControllerRevision.data.spec.memory.guest 'x' is not a", whole("v1", spec={"memory": {"guest": "x"}})),
    ("the vCPUs of the instancetype", whole("v1", spec={"cpu": {"guest": 2**31}})),
    ("the vCPUs of the instancetype", whole("v1", spec={"cpu": {"guest": -1}})),
    ("the bytes of memory of the instancetype", whole("v1", spec={"memory": {"guest": "8Ei"}})),
    ("ControllerRevision.data.spec is not base64", whole("v1", spec="?")),
    ("ControllerRevision.data.spec is not base64", whole("v1", spec="ü")),
    ("ControllerRevision.data.spec is not JSON", packed(b"{")),
    ("ControllerRevision.data.spec is not JSON", packed(b"\xff")),
    ("ControllerRevision.data.spec is not a JSON object", packed(b"[]")),
    ("ControllerRevision.data.spec.cpu is not a JSON object", packed(b'{"cpu": 4}')),
]


@pytest.mark.parametrize(("sentence", "given"), REFUSED)
def test_a_revision_of_another_shape_is_refused_with_its_place(sentence: str, given: Any) -> None:
    """The sentence says what was wrong and where."""
    with pytest.raises(errors.BadEvent) as refusal:
        instancetype.sizes(given)
    assert sentence in str(refusal.value)


def test_an_expanded_machine_has_its_sizes() -> None:
    """Expanding puts them where a machine without an instancetype has them."""
    domain = {"cpu": {"sockets": 4, "cores": 1, "threads": 1}, "memory": {"guest": "8Gi"}}
    answer = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"template": {"spec": {"domain": domain}}}}
    assert instancetype.expanded(answer) == instancetype.Sizes(4, 2**33)


def test_a_machine_that_was_not_expanded_has_none() -> None:
    """An instancetype that is still there holds them."""
    sample = json.loads((SAMPLES / "instancetype.json").read_text())["object"]
    assert instancetype.expanded(sample) == instancetype.Sizes(None, None)


def test_an_expanded_machine_may_be_too_large() -> None:
    """Such as nothing in the ledger could hold."""
    with pytest.raises(errors.BadEvent, match="the bytes of memory"):
        instancetype.expanded({"spec": {"template": {"spec": {"domain": {"memory": {"guest": "8Ei"}}}}}})


@hypothesis.given(given=mutations.of(whole("v1")) | mutations.of(packed(json.dumps(SPEC).encode())))
def test_any_revision_has_sizes_or_a_sentence(given: Any) -> None:
    """A ControllerRevision that is broken anywhere gives sizes or a BadEvent, and nothing else."""
    hypothesis.assume(isinstance(given, dict))
    try:
        assert isinstance(instancetype.sizes(given), instancetype.Sizes)
    except errors.BadEvent as exc:
        assert 0 < len(str(exc)) < 300


@hypothesis.given(text=hypothesis.strategies.binary() | mutations.of(SPEC).map(lambda spec: json.dumps(spec).encode()))
def test_any_packed_spec_has_sizes_or_a_sentence(text: bytes) -> None:
    """Whatever was packed."""
    try:
        assert isinstance(instancetype.sizes(packed(text)), instancetype.Sizes)
    except errors.BadEvent as exc:
        assert 0 < len(str(exc)) < 300


@hypothesis.given(given=mutations.of(machine({"name": "u1.large", "revisionName": None}, STATUS)))
def test_any_machine_has_a_reference_or_none_or_a_sentence(given: Any) -> None:
    """And never a reference without a name."""
    hypothesis.assume(isinstance(given, dict))
    try:
        found = instancetype.revision(given)
    except errors.BadEvent as exc:
        assert 0 < len(str(exc)) < 300
    else:
        assert found is None or all(found)
