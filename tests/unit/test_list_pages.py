"""The pages of a list: what is one, and where a list must end."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import errors
from function.clients import kubernetes, list_pages

NAMED = {"name": "web", "namespace": "shop"}


def page(*items: Any, version: Any = "7", **metadata: Any) -> dict[str, Any]:
    """Return what an API says for a page of virtual machines."""
    return {"kind": "VirtualMachineList", "metadata": {"resourceVersion": version, **metadata}, "items": list(items)}


def machine(**fields: Any) -> dict[str, Any]:
    """Return a virtual machine with other fields."""
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": NAMED, **fields}


@pytest.mark.parametrize(
    ("version", "plausible"),
    [
        ("1", True),
        ("1728394817298495008", True),
        (str(2**62 - 1), True),
        (str(2**62), False),
        (str(2**63 - 1), False),
        ("0", False),
        ("007", False),
        ("-1", False),
        ("1.0", False),
        ("", False),
        (7, False),
        (None, False),
    ],
)
def test_a_version_is_plausible_where_a_store_can_come_to_it(version: Any, plausible: bool) -> None:
    """A count of writes, or nanoseconds since 1970; a higher one would outrank all that follows."""
    if plausible:
        assert list_pages.read(kubernetes.VMS, page(version=version))[0].resource_version == int(version)
    else:
        with pytest.raises(errors.Unavailable, match="number of a plausible size"):
            list_pages.read(kubernetes.VMS, page(version=version))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "Pod"},
        {"kind": None},
        {"kind": ["VirtualMachine"]},
        {"apiVersion": "example.com/v1"},
        {"apiVersion": "v1"},
        {"apiVersion": ""},
        {"apiVersion": None},
        {"apiVersion": "kubevirt.io"},
        {"apiVersion": "kubevirt.io/"},
        {"apiVersion": "x/kubevirt.io/v1"},
    ],
)
def test_an_object_of_another_kind_or_group_makes_it_no_list(fields: dict[str, Any]) -> None:
    """It would be written as a virtual machine."""
    with pytest.raises(errors.Unavailable, match="virtualmachines holds an object of another kind"):
        list_pages.read(kubernetes.VMS, page(machine(), machine(**fields)))


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        "web",
        {"name": "a"},
        {"namespace": "a"},
        {"namespace": "a", "name": 3},
        {"namespace": "a", "name": ""},
        {"namespace": "a", "name": "b\x00"},
        {"namespace": "a/b", "name": "c"},
    ],
)
def test_a_list_with_a_nameless_object_is_no_list(metadata: Any) -> None:
    """It cannot say what is gone."""
    with pytest.raises(errors.Unavailable, match="virtualmachines holds an object without a name"):
        list_pages.read(kubernetes.VMS, page(machine(metadata=metadata)))


def test_a_list_may_say_the_kind_once() -> None:
    """As it does for built-in kinds; objects of the cluster have no namespace."""
    said = {"kind": "NamespaceList", "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "shop"}}]}
    assert list_pages.read(kubernetes.NAMESPACES, said) == (
        list_pages.Page([{"metadata": {"name": "shop"}}], 7, None),
        "",
    )
    said["items"] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}]
    assert list_pages.read(kubernetes.NAMESPACES, said)[0].items == said["items"]


def added(progress: list_pages.Progress, *names: str, version: int = 7, following: str = "") -> None:
    """Count a page with virtual machines of these names."""
    items = [{"metadata": {"namespace": "shop", "name": name}} for name in names]
    progress.add(list_pages.Page(items, version, None), following)


def test_an_object_may_be_in_a_list_once() -> None:
    """In one page or in two; the same name in another namespace is another object."""
    progress = list_pages.Progress(kubernetes.VMS, 500)
    added(progress, "a", "b", following="x")
    progress.add(list_pages.Page([{"metadata": {"namespace": "lab", "name": "a"}}], 7, None), "y")
    with pytest.raises(errors.Unavailable, match="holds an object twice"):
        added(progress, "c", "b")
    with pytest.raises(errors.Unavailable, match="holds an object twice"):
        added(list_pages.Progress(kubernetes.VMS, 500), "a", "a")


def test_a_list_takes_no_longer_than_its_moment_can_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object now and then is no list either."""
    monkeypatch.setattr(list_pages, "LONGEST_SECONDS", 0.0)
    progress = list_pages.Progress(kubernetes.VMS, 500)
    with pytest.raises(errors.Unavailable, match="does not come to an end"):
        added(progress, "a", following="x")


@hypothesis.given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), min_size=1, max_size=400))
def test_any_pages_come_to_an_end(pages: list[list[str]]) -> None:
    """With as many different names as there are, and so many empty pages."""
    progress = list_pages.Progress(kubernetes.VMS, 500)
    taken: list[str] = []
    sparse = 0
    for number, found in enumerate(pages):
        try:
            added(progress, *found, following=f"token-{number}")
        except errors.Unavailable:
            break
        taken += found
        sparse += 1
    assert len(taken) == len(set(taken))
    assert sparse <= list_pages.MOST_SPARSE
