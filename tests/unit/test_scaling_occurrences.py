"""What an Event of the HPA controller is taken for."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function import errors, events
from function.scaling import occurrences
from function.web import cloudevents
from tests import cluster


def read(document: dict[str, Any], cluster_name: str = "default") -> occurrences.Occurrence | None:
    """Read a CloudEvent's JSON."""
    import json

    [event] = cloudevents.from_wsgi({"CONTENT_TYPE": cluster.STRUCTURED}, json.dumps(document).encode())
    return occurrences.occurrence(event, cluster_name=cluster_name)


def known(document: dict[str, Any], cluster_name: str = "default") -> occurrences.Occurrence:
    """Read a CloudEvent that is an occurrence."""
    found = read(document, cluster_name)
    assert found is not None
    return found


def at(text: str) -> datetime.datetime:
    """Return a time of the samples' day."""
    return datetime.datetime.fromisoformat(f"2026-05-11T{text}+00:00")


@pytest.mark.parametrize(
    ("name", "reason", "size", "direction", "when", "count"),
    [
        ("up", "SuccessfulRescale", 6, "up", "06:30:12", 1),
        ("down-counted", "SuccessfulRescale", 2, "down", "06:41:30", 4),
        ("failed-quotes", "FailedGetScale", None, None, "06:44:45", 180),
        ("aggregated", "SuccessfulRescale", 31, "up", "06:58:20", 12),
        ("events-v1", "SuccessfulRescale", 6, "up", "06:30:12", 1),
        ("recreated", "SuccessfulRescale", 6, "up", "08:15:00", 2),
        ("failed-rescale", "FailedRescale", 9, "up", "06:59:00", 1),
    ],
)
def test_each_sample_is_the_occurrence_that_it_tells_of(
    name: str, reason: str, size: int | None, direction: str | None, when: str, count: int
) -> None:
    """Reason, size, direction and count are read; the time is the last one, not the first ever."""
    found = known(cluster.sample(name))
    assert (reason, size, direction, at(when), count) == (
        found.reason,
        found.new_size,
        found.direction,
        found.occurred_at,
        found.count,
    )
    assert (found.namespace, found.name) == ("shop", "cart")


@pytest.mark.parametrize("name", ["expired", "reference", "pod"])
def test_what_tells_of_no_scaling_is_no_occurrence(name: str) -> None:
    """An Event's own expiry, a reference and another controller's Event are nothing to tell."""
    assert read(cluster.sample(name)) is None


def test_both_api_groups_give_the_same_occurrence() -> None:
    """A source on v1 and one on events.k8s.io/v1 double every Event; the occurrence is one."""
    assert known(cluster.sample("up")) == known(cluster.sample("events-v1"))


def test_the_prefix_of_an_aggregate_is_stripped() -> None:
    """The controller did not say that it was combined from similar events; its recorder did."""
    assert known(cluster.sample("aggregated")).message.startswith("New size: 31; reason: external metric")


def test_a_later_count_of_the_same_message_is_another_occurrence() -> None:
    """The same uid and message with a later lastTimestamp is a new rescale."""
    assert known(cluster.sample("up")).key != known(cluster.sample("recreated")).key


def test_the_key_stays_whatever_else_of_the_event_changes() -> None:
    """Managed fields, resource version, count, the Event's uid and ce-id are no part of the occurrence."""
    first, second = cluster.sample("up"), cluster.sample("up")
    second["id"], second["type"] = "another", "dev.knative.apiserver.resource.update"
    second["data"].update(count=9, firstTimestamp="2026-01-01T00:00:00Z")
    second["data"]["metadata"].update(uid="another", resourceVersion="99", labels={"a": "b"}, managedFields=[])
    assert known(first).key == known(second).key


def test_clusters_are_told_apart() -> None:
    """The event's extension attribute cluster wins over CLUSTER_NAME."""
    stamped = {**cluster.sample("up"), "cluster": "west"}
    assert [known(stamped).cluster, known(cluster.sample("up"), "east").cluster] == ["west", "east"]
    assert known(stamped).key != known(cluster.sample("up"), "east").key


TIMES = ["lastTimestamp", "eventTime", "firstTimestamp"]


@pytest.mark.parametrize("given", range(5))
def test_the_first_time_that_is_there_is_when_it_happened(given: int) -> None:
    """The last time seen, else eventTime, else the first time, else the Event's creation, else the CloudEvent's."""
    event = cluster.sample("up")
    for index, name in enumerate(TIMES):
        event["data"][name] = f"2026-05-11T0{index}:00:00Z"
    event["data"]["metadata"]["creationTimestamp"] = "2026-05-11T03:00:00Z"
    event["time"] = "2026-05-11T04:00:00Z"
    for index, name in enumerate(TIMES[:given]):
        event["data"][name] = [None, "0001-01-01T00:00:00Z", ""][index]
    if given == 4:
        event["data"]["metadata"]["creationTimestamp"] = None
    assert known(event).occurred_at == at(f"0{given}:00:00")


@pytest.mark.parametrize("zero", ["0001-01-01T00:00:00.000000Z", "0001-01-01T00:00:00+00:00"])
def test_no_time_is_no_time_however_it_is_written(zero: str) -> None:
    """Go's zero time, with microseconds as a MicroTime has them."""
    event = cluster.sample("up")
    event["data"].update(lastTimestamp=zero, eventTime="2026-05-11T06:30:13.123456Z")
    assert known(event).occurred_at == at("06:30:13.123456")


def test_a_series_says_when_it_was_last_seen() -> None:
    """series.lastObservedTime wins, with its microseconds, and series.count."""
    event = cluster.sample("events-v1")
    event["data"]["series"] = {"count": 7, "lastObservedTime": "2026-05-11T06:31:00.250000Z"}
    assert (known(event).occurred_at, known(event).count) == (at("06:31:00.250"), 7)


@pytest.mark.parametrize(
    "change",
    [
        {"involvedObject": {"kind": "HorizontalPodAutoscaler", "namespace": "shop"}},
        {"involvedObject": {"kind": "HorizontalPodAutoscaler", "namespace": 5, "name": "cart"}},
        {"message": ["no", "text"]},
        {"lastTimestamp": "yesterday"},
        {"reason": 4},
    ],
)
def test_a_part_that_cannot_be_read_is_refused(change: dict[str, Any]) -> None:
    """An Event of the HPA controller that is broken is a bad event; it is not guessed at."""
    event = cluster.sample("up")
    event["data"].update(change)
    with pytest.raises(errors.BadEvent):
        read(event)


def test_an_old_control_plane_that_names_only_the_source_is_recognised() -> None:
    """ReportingComponent is missing in aggregates and in older versions."""
    event = cluster.sample("up")
    del event["data"]["reportingComponent"]
    assert read(event) is not None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("New size: 3; reason: Current number of replicas above Spec.MaxReplicas", (3, "down")),
        ("New size: 3; reason: Current number of replicas below Spec.MinReplicas", (3, "up")),
        ("New size: 0; reason: All metrics below target", (0, "down")),
        ("New size: 3; reason: who knows", (3, None)),
        ("selector is required", (None, None)),
        ("New size: many; reason: x", (None, None)),
    ],
)
def test_size_and_direction_are_what_the_message_says(message: str, expected: tuple[int | None, str | None]) -> None:
    """The controller's own wording is parsed; what it does not say is None."""
    event = cluster.sample("up")
    event["data"]["message"] = message
    assert (known(event).new_size, known(event).direction) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
PARTS = [
    "involvedObject",
    "metadata",
    "series",
    "source",
    "message",
    "reason",
    "type",
    "count",
    "lastTimestamp",
    "eventTime",
    "apiVersion",
]


@given(st.dictionaries(st.sampled_from(PARTS), JSON, max_size=4))
def test_any_content_gives_an_occurrence_or_nothing_or_a_bad_event(change: dict[str, Any]) -> None:
    """Whatever stands in an Event, nothing else comes out."""
    data = {**copy.deepcopy(cluster.sample("up")["data"]), **change}
    event = events.Event({"id": "1", "source": "s", "type": "dev.knative.apiserver.resource.add"}, data)
    try:
        found = occurrences.occurrence(event, cluster_name="default")
    except errors.BadEvent:
        return
    assert found is None or len(found.key) == 64
