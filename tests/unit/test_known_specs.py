"""A spec that came before is not read again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from function.inventory.mapping import known_specs, vm_spec


def spec(cores: int = 2, **more: Any) -> msgspec.Raw:
    """The text of a machine's spec."""
    domain = {"cpu": {"cores": cores}, "devices": {}}
    whole = {"runStrategy": "Always", "template": {"spec": {"domain": domain}}, **more}
    return msgspec.Raw(json.dumps(whole).encode())


def read(known: known_specs.KnownSpecs, text: msgspec.Raw) -> vm_spec.Spec:
    """What is read of a spec, which is as it should be."""
    found = known.read(text)
    assert isinstance(found, vm_spec.Spec)
    return found


def test_a_spec_is_read_once() -> None:
    """Another one is another one, however little it differs."""
    known = known_specs.KnownSpecs()
    first = read(known, spec())
    assert read(known, spec()) is first
    assert first.columns["cpucores"] == 2
    assert read(known, spec(3)).columns["cpucores"] == 3
    assert read(known, spec()).columns["cpucores"] == 2


def test_of_many_specs_the_last_that_were_asked_for_are_known() -> None:
    """So that the memory has an end."""
    known = known_specs.KnownSpecs(most=2 * (known_specs.BESIDES + memoryview(spec()).nbytes))
    first, second = read(known, spec(1)), read(known, spec(2))
    assert read(known, spec(1)) is first
    read(known, spec(3))
    assert read(known, spec(1)) is first
    assert read(known, spec(2)) is not second


def test_long_specs_count_more_than_short_ones() -> None:
    """What is read of them may be as long."""
    known = known_specs.KnownSpecs(most=5 * known_specs.BESIDES)
    first, second = read(known, spec(1)), read(known, spec(2))
    assert read(known, spec(1)) is first
    read(known, spec(3, note="x" * 2 * known_specs.BESIDES))
    assert read(known, spec(1)) is first
    assert read(known, spec(2)) is not second


def test_no_text_of_a_spec_is_kept() -> None:
    """It may hold cloud-init's passwords."""
    known = known_specs.KnownSpecs()
    volumes = [{"name": "root"}, {"name": "init", "cloudInitNoCloud": {"userData": "password: hunter2"}}]
    kept = read(known, spec(volumes=volumes))
    assert "hunter2" not in repr(vars(known)) + repr(kept)


@pytest.mark.parametrize(
    "whole",
    [
        {"runStrategy": "Always", "note": "x" * known_specs.LONGEST},
        {"runStrategy": 5},
        {"template": []},
        {},
        [],
        7,
        None,
    ],
    ids=["long", "wrong", "wrong inside", "empty", "list", "number", "null"],
)
def test_a_spec_that_is_wrong_or_long_stays_json(whole: Any) -> None:
    """Whoever reads the event says what is wrong, if it is for us."""
    known = known_specs.KnownSpecs()
    for _ in range(2):
        assert known.read(msgspec.Raw(json.dumps(whole).encode())) == whole
