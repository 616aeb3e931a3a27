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
    given = {"managedFields": list(entries), **metadata}
    return origin.changed_by(given, origin.newest_note(given), step=versions.UPDATE)


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
    assert origin.changed_by({"annotations": {PERSON: "jane"}}, None, step=versions.ADD) == "jane"
    assert changed_by(entry("kubectl-edit", LATE), annotations={PERSON: " "}) == "kubectl-edit"


def test_who_deleted_it_is_noted_nowhere() -> None:
    """The last object that the API server stored names its last writer, who need not have deleted it."""
    metadata = {"managedFields": [entry("kubectl-edit", EARLY)], "annotations": {PERSON: "jane"}}
    newest = origin.newest_note(metadata)
    assert origin.changed_by(metadata, newest, step=versions.DELETE) is None
    assert origin.changed_by({**metadata, "deletionTimestamp": LATE}, newest, step=versions.UPDATE) is None
    assert origin.changed_by({**metadata, "deletionTimestamp": EARLY}, newest, step=versions.UPDATE) == "jane"


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
    assert origin.changed_by(metadata, origin.newest_note(metadata), step=versions.UPDATE) is None


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


def made(kind: str, at: str | None, **metadata: Any) -> str | None:
    """When a version came to be, of an event with a time of day."""
    time = at and events.parse_time(f"2026-11-22T{at}Z", "the time")
    found = origin.made_at(metadata, origin.newest_note(metadata), events.Event({"type": kind, "time": time}, None))
    return f"{found:%d %H:%M:%S.%f}".removesuffix(".000000") if found else None


WRITTEN: Object = {"creationTimestamp": "2026-11-22T09:00:00Z", "managedFields": [entry("a", EARLY), entry("b", LATE)]}
SENT = "10:03:20.5"


@pytest.mark.parametrize(
    ("kind", "metadata", "expected"),
    [
        (UPDATE, WRITTEN, "22 10:00:07"),
        (ADD, WRITTEN, "22 10:00:07"),
        (ADD, {"creationTimestamp": EARLY}, "22 10:00:00"),
        (ADD, {"creationTimestamp": LATE, "managedFields": [entry("a", EARLY)]}, "22 10:00:07"),
        (UPDATE, {"creationTimestamp": EARLY}, None),
        (UPDATE, {**WRITTEN, "deletionTimestamp": "2026-11-22T10:01:00Z"}, "22 10:01:00"),
        (DELETE, {**WRITTEN, "deletionTimestamp": "2026-11-22T10:01:00Z"}, "22 10:01:00"),
        (DELETE, {**WRITTEN, "deletionTimestamp": EARLY}, "22 10:00:07"),
        (DELETE, WRITTEN, None),
        (UPDATE, {"managedFields": [entry("a", "2026-99-22T10:00:00Z")]}, None),
        (UPDATE, {"managedFields": "b"}, None),
    ],
)
def test_a_version_came_to_be_at_the_greatest_of_its_object_s_times(
    kind: str, metadata: Object, expected: str | None
) -> None:
    """However late the event is; where the object does not say it, the event's time is left."""
    assert made(kind, SENT, **metadata) == expected


def test_no_version_came_to_be_after_its_event() -> None:
    """A deletionTimestamp lies in the future by its grace period, and the API server's clock may be ahead."""
    assert made(DELETE, SENT, deletionTimestamp="2026-11-22T10:10:00Z") == "22 10:03:20.500000"
    assert made(UPDATE, "10:00:06.9", **WRITTEN) == "22 10:00:06.900000"
    assert made(UPDATE, None, **WRITTEN) == "22 10:00:07"


def test_the_creation_alone_counts_where_the_event_was_not_sent_at_once() -> None:
    """Its time is in whole seconds, and it says nothing of this version."""
    assert made(ADD, "10:00:01.9", creationTimestamp=EARLY) is None
    assert made(ADD, "10:00:02", creationTimestamp=EARLY) == "22 10:00:00"
    assert made(ADD, "09:00:00", creationTimestamp=EARLY) is None


def test_what_is_older_than_a_day_says_something_else() -> None:
    """A label that is taken away leaves no time, and a delete may have waited. But a list finds what is old."""
    old = {"managedFields": [entry("a", "2026-11-21T10:03:20Z")]}
    new = {"managedFields": [entry("a", "2026-11-21T10:03:21Z")]}
    assert [made(UPDATE, SENT, **each) for each in (old, new)] == [None, "21 10:03:21"]
    assert made(DELETE, SENT, deletionTimestamp="2026-11-21T10:03:20Z") is None
    assert made("vmledger.reconcile.update", SENT, **old) == "21 10:03:20"
    assert made(ADD, SENT, **old) == "21 10:03:20"
