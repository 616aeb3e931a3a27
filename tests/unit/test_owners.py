"""Whose a VM is, as its owner references say; whatever is in them, no event is refused because of it."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from function import events
from function.inventory.mapping import owners, trimmed, vm

UPDATE = "dev.knative.apiserver.resource.update"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "name", "controller", "uid"]), inner, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON, with the members of references; also with NUL and with halves of characters."""


def reference(kind: Any, name: Any, **more: Any) -> dict[str, Any]:
    """One owner reference."""
    return {"apiVersion": "example.com/v1", "kind": kind, "name": name, "uid": "u", **more}


def pool(name: str = "web", **more: Any) -> dict[str, Any]:
    """The reference to a pool, which is the controller of its VMs."""
    return reference("VirtualMachinePool", name, controller=True, **more)


def event(references: Any) -> events.Event:
    """An event about a VM with these owner references."""
    metadata = {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "5", "ownerReferences": references}
    attributes = {"id": "e", "type": UPDATE, "kind": vm.KIND, "specversion": "1.0", "source": "s"}
    return events.Event(attributes, {"metadata": metadata, "spec": {"running": True}})


@pytest.mark.parametrize(
    ("references", "owner"),
    [
        ([pool()], "VirtualMachinePool/web"),
        ([reference("Other", "x"), pool()], "VirtualMachinePool/web"),
        ([reference("Other", "x", controller=False), pool()], "VirtualMachinePool/web"),
        ([pool("one"), pool("two")], "VirtualMachinePool/one"),
        ([reference("KubevirtMachine", "capk"), reference("Other", "x")], "KubevirtMachine/capk"),
        ([], None),
        (None, None),
    ],
    ids=["a pool", "the controller last", "no controller first", "two controllers", "no controller", "empty", "null"],
)
def test_the_owner_is_the_controller_else_the_first(references: Any, owner: str | None) -> None:
    """As Kind/name, like an instancetype."""
    assert owners.owner({"ownerReferences": references}) == owner


def test_a_vm_without_references_has_no_owner() -> None:
    """NULL, as for all that is not known."""
    assert owners.owner({}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        *("VirtualMachinePool/web", 7, True, {"kind": "Pool", "name": "x"}, [None], ["Pool"], [[pool()]], [{}]),
        *([reference("Pool", name)] for name in ("", None, 7, ["x"], {"x": 1}, "x" * 254, "x\x00y", "\ud800", "a\nb")),
        *([reference(kind, "x")] for kind in ("", None, 7, "K" * 64, "P\x00", "\udfff")),
    ],
    ids=repr,
)
def test_a_reference_that_kubernetes_would_not_take_is_passed_over(wrong: Any) -> None:
    """It names no owner, and hides none beside it."""
    assert vm.change(event(wrong), cluster_name="here").row == vm.change(event(None), cluster_name="here").row
    if isinstance(wrong, list):
        assert owners.owner({"ownerReferences": [*wrong, pool()]}) == "VirtualMachinePool/web"


def test_the_longest_names_of_kubernetes_are_kept() -> None:
    """A kind of 63 characters and a name of 253."""
    assert owners.owner({"ownerReferences": [reference("K" * 63, "n" * 253)]}) == f"{'K' * 63}/{'n' * 253}"


@hypothesis.given(JSON | st.lists(JSON, max_size=4))
def test_any_owner_references_give_a_row_and_its_dead_letter_the_same(references: Any) -> None:
    """No value raises, none makes the row too large, and what is kept of a dead letter says the same."""
    given = event(references)
    row = vm.change(given, cluster_name="here").row
    assert isinstance(row, vm.VirtualMachine)
    assert row.owner is None or (row.owner.isprintable() and len(row.owner) <= 63 + 1 + 253)
    kept = vm.change(events.Event(given.attributes, trimmed.data(given)), cluster_name="here").row
    assert kept == row


def test_a_flat_event_has_no_owner() -> None:
    """The published example carries none."""
    flat = {"id": "e", "type": UPDATE, "name": "a", "namespace": "b", "cpucores": "2", "owner": "Pool/x"}
    row = vm.change(events.Event(flat, None), cluster_name="here").row
    assert isinstance(row, vm.VirtualMachine)
    assert row.owner is None
