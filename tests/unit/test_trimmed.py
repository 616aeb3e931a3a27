"""What is kept of a dead letter gives the same row as the whole event, and holds no secret."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from function import events
from function.inventory.mapping import instance, trimmed, versions, vm
from tests import masking_corpus
from tests.unit import test_transform

SAMPLES = pathlib.Path(__file__).parent.parent / "events"
MAKE = {vm.KIND: vm.change, instance.KIND: instance.change}


def event(kind: str, data: Any, *, type: str = "dev.knative.apiserver.resource.update") -> events.Event:  # noqa: A002
    """An event of the source about an object."""
    attributes = {"specversion": "1.0", "id": "1", "source": "here", "type": type, "kind": kind, "cluster": "east"}
    return events.Event(attributes, data)


def row(of: events.Event) -> tuple[Any, ...] | str:
    """The change that an event makes, nothing where it makes none, or the sentence that refuses it."""
    try:
        change = MAKE[of.kind or ""](of, cluster_name="unnamed")
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    return () if change is None else (change.key, change.version, change.row)


def solid(value: Any) -> Any:
    """A value without what is null or an empty object in it, which means the same as not being there."""
    if isinstance(value, dict):
        return {key: inner for key, part in value.items() if (inner := solid(part)) not in (None, {})}
    return [solid(item) for item in value] if isinstance(value, list) else value


def samples() -> list[tuple[str, str, dict[str, Any]]]:
    """Each sample of a machine and of an instance: its kind, its name and its object."""
    return [
        (kind, path.stem, json.loads(path.read_text())["object"])
        for folder, kind in (("vm", vm.KIND), ("vmi", instance.KIND))
        for path in sorted((SAMPLES / folder).glob("*.json"))
    ]


@pytest.mark.parametrize(("kind", "name", "data"), samples(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_trimmed_object_gives_the_same_row(kind: str, name: str, data: dict[str, Any]) -> None:
    """For every sample of a machine and of an instance."""
    whole = event(kind, data)
    kept = trimmed.data(whole)
    assert row(event(kind, kept)) == row(whole)
    assert trimmed.data(event(kind, kept)) == kept


@pytest.mark.parametrize(("kind", "name", "data"), samples()[: len(test_transform.SAMPLES)], ids=str)
def test_what_is_kept_of_a_machine_is_what_the_transform_keeps(kind: str, name: str, data: dict[str, Any]) -> None:
    """The expression in k8s/ and the form here are two ways to say one thing."""
    assert solid(trimmed.data(event(kind, data))) == solid(
        test_transform.trimmed(test_transform.announced(data))["data"]
    )


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.given(test_transform.MACHINES, strategies.sampled_from(list(versions.STEPS)[:3]))
def test_any_machine_gives_the_same_row_and_no_secret(machine: dict[str, Any], step: str) -> None:
    """Whatever is missing, null, empty, single or many, and with a secret in each place that KubeVirt has for one."""
    whole = event(vm.KIND, machine, type=step)
    kept = trimmed.data(whole)
    assert test_transform.SECRET not in json.dumps(kept)
    assert row(event(vm.KIND, kept, type=step)) == row(whole)


@hypothesis.given(strategies.data())
def test_an_object_that_is_refused_is_refused_trimmed(data: strategies.DataObject) -> None:
    """A part of another form than it should have: nothing of it is kept, and the sentence is the same kind of one."""
    kind, _, machine = data.draw(strategies.sampled_from(samples()))
    part: Any = machine
    path: list[str] = []
    while isinstance(part, dict) and part and (not path or data.draw(strategies.booleans())):
        path.append(data.draw(strategies.sampled_from(sorted(part))))
        part = part[path[-1]]
    wrong = data.draw(
        strategies.sampled_from([{masking_corpus.SECRET: masking_corpus.SECRET}, [masking_corpus.SECRET]])
    )
    broken = json.loads(json.dumps(machine))
    functools.reduce(dict.__getitem__, path[:-1], broken)[path[-1]] = wrong
    whole = event(kind, broken)
    kept = trimmed.data(whole)
    if path[:2] != ["metadata", "labels"]:
        assert masking_corpus.SECRET not in json.dumps(kept)
    if row(whole) != ():
        assert isinstance(row(event(kind, kept)), str) == isinstance(row(whole), str)


def test_flat_data_and_references_are_kept_without_what_nobody_reads() -> None:
    """The published example's newer form, and Knative's mode Reference."""
    flat = {"name": "one", "namespace": "lab", "cpucores": 4, "memory": "8Gi", "network": ["a", "b"], "note": "x"}
    assert trimmed.data(event(vm.KIND, flat)) == {key: value for key, value in flat.items() if key != "note"}
    assert row(event(vm.KIND, trimmed.data(event(vm.KIND, flat)))) == row(event(vm.KIND, flat))
    named = {"apiVersion": "kubevirt.io/v1", "kind": vm.KIND, "name": "one", "namespace": "lab"}
    assert trimmed.data(event(vm.KIND, named, type="dev.knative.apiserver.ref.update")) == named


@pytest.mark.parametrize(
    "other",
    [
        event("Event", {"metadata": {}}),
        event(vm.KIND, "text"),
        event(vm.KIND, None),
        event(vm.KIND, {"metadata": {}}, type="com.example.other"),
        event(vm.KIND, {"apiVersion": "example.com/v1", "kind": vm.KIND}),
    ],
)
def test_what_the_inventory_does_not_read_is_not_trimmed(other: events.Event) -> None:
    """Other kinds, other groups, other types, no object."""
    assert trimmed.data(other) is None
