"""What is made Python objects of a request's JSON, and what is only looked through."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from dev import attacks
from function import errors, events
from function.web import cloudevents, routing

ADD = "dev.knative.apiserver.resource.add"
BINARY = {"specversion": "1.0", "id": "1", "source": "s"}
MOST = events.MOST_VALUES


def read(body: bytes, choice: cloudevents.Choice = routing.shape, /, **attributes: str) -> events.Event:
    """Read an event in binary mode, as the receiver does."""
    environ = {f"HTTP_CE_{name.upper()}": value for name, value in {**BINARY, **attributes}.items()}
    [event] = cloudevents.from_wsgi({**environ, "CONTENT_TYPE": "application/json"}, body, choice)
    return event


def whole(_: object) -> None:
    """Read all of it."""


@pytest.mark.parametrize("item", [b"{}", b"[]", b"0", b'""', b'{"":0}', b'"a\\"b"', b"[[],[]]"])
def test_json_of_too_many_values_is_413(item: bytes) -> None:
    """Of whatever shape; what is below the limit is read."""
    values = item.count(b"{") + item.count(b"[") + item.count(b",") + 1
    assert len(events.parse_json(b"[" + b",".join([item] * (MOST // values)) + b"]", "it")) == MOST // values
    with pytest.raises(errors.TooLarge, match="more than 262144 JSON values"):
        events.parse_json(b"[" + b",".join([item] * (MOST // values + 1)) + b"]", "it")


@pytest.mark.parametrize("text", [",[{" * 400_000, '\\",' * 400_000, "\\," * 400_000])
def test_what_stands_in_a_text_is_not_counted(text: str) -> None:
    """A ConfigMap may hold a table."""
    assert events.parse_json(json.dumps([text, text]).encode(), "it") == [text, text]


def test_the_densest_batch_that_a_request_may_hold_has_fewer() -> None:
    """By default: 2 MiB of events that have what an event must have."""
    body = b"[" + b",".join([b'{"specversion":"1.0","id":"1","source":"s","type":"t"}'] * (2**21 // 54)) + b"]"
    assert events.values(body) < MOST


def test_a_structured_event_of_too_many_values_is_413() -> None:
    """And a batch."""
    document = json.dumps({**BINARY, "type": ADD, "data": []}).encode()[:-2]
    dense = attacks.dense(b"{}", before=document, after=b"]}")
    for kind, body in (("", dense), ("-batch", b"[" + dense + b"]")):
        with pytest.raises(errors.TooLarge):
            cloudevents.from_wsgi({"CONTENT_TYPE": f"application/cloudevents{kind}+json"}, body, routing.shape)


@pytest.mark.parametrize("about", [{"type": "other"}, {"type": ADD, "kind": "Pod"}])
@pytest.mark.parametrize("body", [attacks.dense(b"{}"), attacks.dense(b"1.5", before=b"[", after=b"]")])
def test_what_is_not_for_us_is_not_made_objects(about: dict[str, str], body: bytes) -> None:
    """However much of it there is, it is done; what is for us by its attributes has the limit."""
    assert read(body, **about).data is None
    with pytest.raises(errors.TooLarge):
        read(body, type=ADD, kind="VirtualMachine")


def test_an_event_in_the_data_of_one_that_is_not_for_us_is_read() -> None:
    """A transform's own type is on the outside."""
    inner = {**BINARY, "type": ADD, "kind": "VirtualMachine"}
    assert read(json.dumps(inner).encode(), type="transformed").data == inner


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["specversion", "id", "metadata"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
BODIES = (
    JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20) | st.text(max_size=20).map(str.encode)
)


def outcome(body: bytes, choice: cloudevents.Choice) -> Any:
    """What becomes of an event that is not for us: its attributes, or the sentence that refuses it."""
    try:
        return read(body, choice, type="other").attributes
    except errors.BadEvent as exc:
        return str(exc)


@hypothesis.given(BODIES)
def test_what_is_only_looked_through_is_refused_as_what_is_read(body: bytes) -> None:
    """With the same sentence."""
    assert outcome(body, routing.shape) == outcome(body, whole)
