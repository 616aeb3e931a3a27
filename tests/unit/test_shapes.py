"""What is left out of an event's data is looked at by nobody."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import errors, events
from function.clients import list_pages
from function.inventory.mapping import instance, instancetype, shapes, versions, vm
from function.web import cloudevents, routing

SAMPLES = sorted((pathlib.Path(__file__).parent.parent / "events" / "vm").glob("*.json"))
NOTES = {
    "managedFields": [{"manager": "kubectl", "time": "2026-09-01T08:30:00Z", "subresource": "status"}],
    "annotations": {"kubevirt.io/last-modified-by": "jane"},
}
WHOLE: dict[str, Any] = json.loads((SAMPLES[0].parent / "storage.json").read_text())["object"]
WHOLE["metadata"] |= NOTES
RUNS = sorted((SAMPLES[0].parent.parent / "vmi").glob("*.json"))
RUNNING: dict[str, Any] = json.loads((RUNS[0].parent / "dual-stack.json").read_text())["object"]
RUNNING["metadata"] |= NOTES
FLAT = {"name": "a", "namespace": "b", "cpucores": 2, "memory": "1Gi", "network": ["x", "y"], "generation": 3}
ENVIRON = {
    "CONTENT_TYPE": "application/json",
    "HTTP_CE_SPECVERSION": "1.0",
    "HTTP_CE_ID": "1",
    "HTTP_CE_SOURCE": "s",
    "HTTP_CE_TYPE": "dev.knative.apiserver.resource.update",
    "HTTP_CE_KIND": vm.KIND,
    "HTTP_CE_NAME": "by-header",
    "HTTP_CE_NAMESPACE": "by-header",
}
DELETE = "dev.knative.apiserver.resource.delete"
MAKE: Mapping[str, Callable[..., versions.Change | None]] = {vm.KIND: vm.change, instance.KIND: instance.change}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def read(body: bytes, kind: str, shape: events.Shape | None, *, deleted: bool = False) -> events.Event:
    """Read an event in binary mode: an update, or a delete that only its object dates."""
    environ = {**ENVIRON, "HTTP_CE_KIND": kind}
    environ |= {"HTTP_CE_TYPE": DELETE} if deleted else {"HTTP_CE_TIME": "2026-10-01T00:00:00Z"}
    [event] = cloudevents.from_wsgi(environ, body, lambda _: shape)
    return event


def outcome(body: bytes, kind: str, shape: events.Shape | None, *, deleted: bool = False) -> object:
    """What becomes of an event with such data: its row, or the sentence that refuses it."""
    try:
        change = MAKE[kind](read(body, kind, shape, deleted=deleted), cluster_name="here")
    except errors.BadEvent as exc:
        return str(exc)
    return change and change.row


def assert_same(data: Any, kind: str = vm.KIND) -> None:
    """Whole data and its parts give the same, also of parts that were read before."""
    body = json.dumps(data).encode()
    for deleted in (False, True):
        expected = outcome(body, kind, None, deleted=deleted)
        for _ in range(2):
            assert outcome(body, kind, routing.SHAPES[kind], deleted=deleted) == expected


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


@pytest.mark.parametrize("path", [*SAMPLES, *RUNS], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_sample_gives_the_same_row(path: pathlib.Path) -> None:
    """With and without what is left out."""
    assert_same(json.loads(path.read_text()).get("object"), vm.KIND if path in SAMPLES else instance.KIND)


def test_flat_fields_in_data_give_the_same_row() -> None:
    """As newer versions of the published example send them."""
    for name in FLAT:
        assert_same({key: value for key, value in FLAT.items() if key != name})
    assert_same({**FLAT, "cputhreads": 1, "cpusockets": "2", "storageclass": "san", "instancetype": "u1", "uid": "u"})
    assert_same({**FLAT, "resourceversion": "7", "kind": "VirtualMachine"})


@hypothesis.given(place=st.sampled_from(places(WHOLE)), new=JSON)
def test_any_value_at_any_place_gives_the_same(place: tuple[Any, ...], new: Any) -> None:
    """The same row, or the same sentence."""
    assert_same(replaced(WHOLE, place, new))


@hypothesis.given(place=st.sampled_from(places(RUNNING)), new=JSON)
def test_any_value_at_any_place_of_an_instance_gives_the_same(place: tuple[Any, ...], new: Any) -> None:
    """The same row, or the same sentence."""
    assert_same(replaced(RUNNING, place, new), instance.KIND)


BROKEN = {
    "half a character": rb'"\ud800"',
    "no end": b"1e999999",
    "digits": b"9" * 5000,
    "no UTF-8": b'"\xff"',
    "depth": b"[" * 1500 + b"]" * 1500,
    "no word": b"nul",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("place", ["runStrategy", "note"])
def test_a_spec_that_is_hardly_json_gives_the_same(place: str, broken: bytes) -> None:
    """A row, or a sentence that gives the fault's place in the whole."""
    body = json.dumps({**WHOLE, "spec": {**WHOLE["spec"], place: "@"}}).encode().replace(b'"@"', broken)
    assert outcome(body, vm.KIND, shapes.MACHINE) == outcome(body, vm.KIND, None)


def test_what_nobody_looks_at_is_left_out() -> None:
    """It is most of an object."""
    data = {**RUNNING, "metadata": {**RUNNING["metadata"], "managedFields": [{"manager": "x", "fieldsV1": {}}]}}
    kept: Any = read(json.dumps(data).encode(), instance.KIND, shapes.INSTANCE).data
    assert kept["metadata"]["managedFields"] == [{"manager": "x"}]
    assert (kept["apiVersion"], kept["kind"]) == (RUNNING["apiVersion"], RUNNING["kind"])
    assert kept["spec"] == {"domain": RUNNING["spec"]["domain"]}


def test_what_is_left_out_is_json_nevertheless() -> None:
    """A body with half a character in it is refused, wherever that is."""
    body = json.dumps({**WHOLE, "extra": "@"}).encode().replace(b"@", b"\xff")
    with pytest.raises(errors.BadEvent, match="is not UTF-8"):
        read(body, vm.KIND, shapes.MACHINE)


LISTED = {"vm": (shapes.ListedMachine, vm), "vmi": (shapes.Instance, instance)}


@pytest.mark.parametrize("folder", LISTED)
def test_a_list_s_objects_give_the_same_rows_whole_and_in_parts(folder: str) -> None:
    """And name the same revision of an instancetype; of each sample that has an object."""
    item, kind = LISTED[folder]
    found = [
        json.loads(path.read_text()).get("object") for path in sorted((SAMPLES[0].parent.parent / folder).glob("*"))
    ]
    items = [each for each in found if isinstance(each, dict) and each.get("metadata")]
    assert len(items) > 10
    page = json.dumps({"kind": "List", "metadata": {"resourceVersion": "7"}, "items": items}).encode()
    parts = list_pages.decoder(item).decode(page)["items"]
    attributes = {"id": "1", "type": "vmledger.reconcile.update", "time": None}
    for whole, part in zip(items, parts, strict=True):
        rows = []
        for each in (whole, part):
            try:
                change = kind.change(events.Event(attributes, each), cluster_name="here")
                rows.append((change and change.row, instancetype.revision(each)))
            except errors.BadEvent as exc:
                rows.append((str(exc), None))
        assert rows[0] == rows[1]
