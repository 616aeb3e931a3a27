"""Who made a version is what the object notes of it; whatever is wrong with that is passed over."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import events
from function.inventory.mapping import instance, origin, versions, vm

EARLY, LATE = "2026-11-22T10:00:00Z", "2026-11-22T10:00:07Z"
PERSON = "kubevirt.io/last-modified-by"
ADD, UPDATE, DELETE = list(versions.STEPS)[:3]

Object = dict[str, Any]


def entry(manager: Any, time: Any, **more: Any) -> Object:
    """An entry of managedFields, as the API server writes it."""
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": {"f:spec": {}}, **more}


def changed_by(*entries: Any, **metadata: Any) -> str | None:
    """Who made a version with such entries."""
    return origin.changed_by({"metadata": {"managedFields": list(entries), **metadata}}, deleted=False)


def test_the_newest_entry_names_who_changed_it() -> None:
    """Wherever it stands in the list."""
    entries = entry("virt-controller", EARLY), entry("kubectl-edit", LATE)
    assert changed_by(*entries) == changed_by(*reversed(entries)) == "kubectl-edit"
    assert changed_by(entry("argocd-controller", EARLY)) == "argocd-controller"


def test_of_one_second_the_object_s_own_entry_counts_before_that_of_its_status() -> None:
    """A person's edit is not hidden by the status that follows it at once; of two of a kind the later counts."""
    status = entry("virt-controller", LATE, subresource="status")
    assert changed_by(status, entry("kubectl-edit", LATE)) == changed_by(entry("kubectl-edit", LATE), status)
    assert changed_by(status, entry("kubectl-edit", LATE)) == "kubectl-edit"
    assert changed_by(entry("kubectl-edit", EARLY), status) == "virt-controller"
    assert changed_by(entry("a", LATE), entry("b", LATE)) == "b"


def test_the_annotation_names_a_person_and_counts_more() -> None:
    """As far as the cluster's KubeVirt has it."""
    assert changed_by(entry("kubectl-edit", LATE), annotations={PERSON: "jane@example.com"}) == "jane@example.com"
    assert origin.changed_by({"metadata": {"annotations": {PERSON: "jane"}}}, deleted=False) == "jane"
    assert changed_by(entry("kubectl-edit", LATE), annotations={PERSON: " "}) == "kubectl-edit"


def test_who_deleted_it_is_noted_nowhere() -> None:
    """The last object that the API server stored names its last writer, who need not have deleted it."""
    metadata = {"managedFields": [entry("kubectl-edit", EARLY)], "annotations": {PERSON: "jane"}}
    assert origin.changed_by({"metadata": metadata}, deleted=True) is None
    assert origin.changed_by({"metadata": {**metadata, "deletionTimestamp": LATE}}, deleted=False) is None
    assert origin.changed_by({"metadata": {**metadata, "deletionTimestamp": EARLY}}, deleted=False) == "jane"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"managedFields": None},
        {"managedFields": True},
        {"managedFields": [None, 7, {}]},
        {"managedFields": [entry("a", None)]},
        {"managedFields": [entry("a", "yesterday")]},
        {"managedFields": [entry(7, LATE)]},
        {"managedFields": [entry("", LATE)]},
        {"annotations": [PERSON]},
        {"annotations": {PERSON: {"name": "jane"}}},
    ],
)
def test_where_nothing_says_so_it_is_null(metadata: Object) -> None:
    """No event is refused because of a note."""
    assert origin.changed_by({"metadata": metadata}, deleted=False) is None


@hypothesis.given(name=st.text())
def test_any_name_can_be_stored(name: str) -> None:
    """An annotation may have any text of 256 KiB in it."""
    kept = changed_by(annotations={PERSON: name * 300})
    assert kept is None or (kept.isprintable() and 0 < len(kept) <= 253)


@pytest.mark.parametrize("kind", [vm.KIND, instance.KIND])
def test_a_row_names_who_made_its_version(kind: str) -> None:
    """A machine's and an instance's; a delete's does not."""
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "a", "uid": "u"}
    metadata = {"name": "a", "namespace": "n", "resourceVersion": "5", "ownerReferences": [owner]}
    data = {"metadata": {**metadata, "managedFields": [entry("virt-handler", LATE)]}}
    make = {vm.KIND: vm.change, instance.KIND: instance.change}[kind]
    rows = []
    for step in (ADD, UPDATE, DELETE):
        change = make(events.Event({"id": "1", "type": step, "kind": kind}, data), cluster_name="here")
        assert change is not None
        rows.append(change.row.changed_by)
    assert rows == ["virt-handler", "virt-handler", None]
