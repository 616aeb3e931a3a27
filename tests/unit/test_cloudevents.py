"""Any request is a list of events, or one sentence."""

from __future__ import annotations

import base64
import datetime
import io
import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from werkzeug import test as werkzeug

from function import errors, events
from function.web import cloudevents

REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def read(headers: dict[str, Any], body: bytes = b"", content_type: str | None = None) -> list[events.Event]:
    """Read a request as a WSGI server hands it over."""
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    if content_type is not None:
        environ["CONTENT_TYPE"] = content_type
    return cloudevents.from_wsgi(environ, body)


def binary(body: bytes = b"", content_type: str | None = None, **attributes: str) -> events.Event:
    """Read one event in binary mode."""
    headers = {f"ce-{name}": value for name, value in {**REQUIRED, **attributes}.items()}
    [event] = read(headers, body, content_type)
    return event


def structured(document: Any, content_type: str = "application/cloudevents+json") -> events.Event:
    """Read one event in structured mode."""
    [event] = read({}, json.dumps(document).encode(), content_type)
    return event


def test_binary_mode_reads_headers_and_body() -> None:
    """Attributes are the headers, data is the body, datacontenttype its Content-Type."""
    event = binary(
        b'{"a": [1]}', "application/json; charset=utf-8", time="2026-11-22T01:27:18.865890505Z", cpucores="4"
    )
    assert (event.id, event.type, event.data) == ("1", "t", {"a": [1]})
    assert event.time == datetime.datetime(2026, 11, 22, 1, 27, 18, 865890, tzinfo=datetime.UTC)
    assert event.attributes["cpucores"] == "4"
    assert event.attributes["datacontenttype"] == "application/json; charset=utf-8"


def test_structured_mode_reads_the_body_and_ignores_headers() -> None:
    """Content-Type decides first (HTTP binding 3.2.3: the body wins)."""
    body = json.dumps({**REQUIRED, "id": "body", "n": 5, "yes": True, "none": None, "data": {"a": 1}}).encode()
    [event] = read({"ce-id": "header"}, body, "Application/CloudEvents+JSON; charset=UTF-8")
    assert (event.id, event.data) == ("body", {"a": 1})
    assert (event.attributes["n"], event.attributes["yes"], "none" in event.attributes) == (5, True, False)


def test_batched_mode_reads_every_event() -> None:
    """In their order; an empty batch is one."""
    batch = json.dumps([{**REQUIRED, "id": str(number)} for number in range(3)]).encode()
    kind = "application/cloudevents-batch+json"
    assert [event.id for event in read({}, batch, kind)] == ["0", "1", "2"]
    assert read({}, b"[]", kind) == []


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded"])
def test_a_posted_file_is_tried_as_structured(content_type: str | None) -> None:
    """`curl -d @event.json` sends no ce- headers and a content type that says nothing."""
    [event] = read({}, json.dumps({**REQUIRED, "data": 1}).encode(), content_type)
    assert event.data == 1


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        (b"", None, None),
        (b"", "application/json", None),
        (b"[1]", None, [1]),
        (b"{oops", None, "{oops"),
        (b"\xff", None, b"\xff"),
        (b"\xef\xbb\xbf{}", "application/json", {}),
        (b'"x"', "text/json", "x"),
        (b"{}", "application/vnd.x+json", {}),
        (b"<a/>", "application/xml", "<a/>"),
        (b"<a/>", "text/xml; charset=utf-8", "<a/>"),
        ("ü".encode(), "text/plain", "ü"),
        (b"\xff", "text/plain", b"\xff"),
        (b"{}", "application/octet-stream", b"{}"),
    ],
)
def test_data_is_read_by_its_content_type(body: bytes, content_type: str | None, data: Any) -> None:
    """JSON is parsed, text is text, a body without a type is tried as JSON, the rest stays bytes."""
    assert binary(body, content_type).data == data


@pytest.mark.parametrize(
    ("document", "data"),
    [
        ({"data": "text"}, "text"),
        ({"data": None}, None),
        ({"datacontenttype": "text/xml", "data": "<a/>"}, "<a/>"),
        ({"data_base64": base64.b64encode(b"\x00\xff").decode()}, b"\x00\xff"),
        ({"data_base64": base64.b64encode(b"{}").decode(), "datacontenttype": "application/json"}, {}),
        ({"data_base64": base64.b64encode(b"{}").decode()}, {}),
        ({"data_base64": base64.b64encode(b"{}").decode(), "datacontenttype": "image/png"}, b"{}"),
    ],
)
def test_structured_data_is_read(document: dict[str, Any], data: Any) -> None:
    """``data`` as it stands, ``data_base64`` decoded."""
    assert structured({**REQUIRED, **document}).data == data


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("büro netz %41".encode(), "büro netz %41"),
        (b"b%C3%BCro%20netz", "büro netz"),
        (b"100%", "100%"),
        (b"a%2525", "a%25"),
        (b'"quoted \\" text"', 'quoted " text'),
        (b"plain text %41", "plain text %41"),
        ("日本".encode(), "日本"),
        (b"", ""),
    ],
)
def test_header_values_are_raw_utf8_or_percent_encoded(raw: bytes, value: str) -> None:
    """Knative sends raw UTF-8 and encodes nothing; others encode as the binding asks."""
    assert binary(network=raw.decode("latin-1")).attributes["network"] == value


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-22T01:27:18Z", "2026-11-22T01:27:18+00:00"),
        ("2026-11-22T01:27:18.46Z", "2026-11-22T01:27:18.460000+00:00"),
        ("2026-11-22t01:27:18.123456789+01:30", "2026-11-21T23:57:18.123456+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_times_of_any_precision_and_offset_are_read(text: str, time: str) -> None:
    """RFC 3339, cut to microseconds, in UTC."""
    assert events.parse_time(text, "x").isoformat() == time


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-22", "2026-11-22T01:27:18", "2026-02-30T00:00:00Z", "20261122T012718Z", "2026-W01-1T00:00:00Z",
     "2026-11-22T25:00:00Z", "2026-11-22T01:27:18+99:00", "٢٠٢٦-11-22T01:27:18Z", "0001-01-01T00:00:00+01:00",
     "9999-12-31T23:59:59-01:00", None, 5, "2026-11-22T01:27:18Z\n"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: Any) -> None:
    """With the place."""
    with pytest.raises(errors.BadEvent, match="the attribute time"):
        events.parse_time(text, "the attribute time")


BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
REFUSED: list[tuple[str, dict[str, str], bytes, str | None]] = [
    ("no ce- headers and no body", {}, b"", None),
    ("the attribute id is missing", {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "s"}, b"", None),
    ("the attribute id is missing or empty", {f"ce-{k}": v for k, v in {**REQUIRED, "id": ""}.items()}, b"", None),
    ("the attribute source is missing", {}, b'{"specversion":"1.0","id":"1","type":"t"}', STRUCTURED),
    ("the attribute type is missing", {}, b'{"specversion":"1.0","id":"1","source":"t"}', STRUCTURED),
    ("specversion is missing", {}, b"{}", "application/json"),
    ("specversion '0.3' is not", {f"ce-{k}": v for k, v in {**REQUIRED, "specversion": "0.3"}.items()}, b"", None),
    ("the attribute id is not valid", {}, json.dumps({**REQUIRED, "id": 5}).encode(), STRUCTURED),
    ("the body is not JSON: Expecting", {}, b"{oops", STRUCTURED),
    ("byte 0 is not UTF-8", {}, b"\xff\xfe", STRUCTURED),
    ("the data is not JSON", {f"ce-{k}": v for k, v in REQUIRED.items()}, b"{oops", "application/json"),
    ("NaN is not a JSON value", {f"ce-{k}": v for k, v in REQUIRED.items()}, b'{"a": NaN}', "application/json"),
    ("nesting too deep", {f"ce-{k}": v for k, v in REQUIRED.items()}, b"[" * 100_000, "application/json"),
    ("a number too long", {f"ce-{k}": v for k, v in REQUIRED.items()}, b"1" * 10_000, "application/json"),
    ("it is JSON, but no object", {}, b"[]", STRUCTURED),
    ("it is JSON, but no array", {}, b"{}", BATCH),
    ("event 1 of the batch: not a CloudEvent", {}, json.dumps([REQUIRED, 5]).encode(), BATCH),
    ("event 1 of the batch: not a CloudEvent: the attribute", {}, json.dumps([REQUIRED, {}]).encode(), BATCH),
    ("'application/cloudevents+avro' is not supported", {}, b"x", "application/cloudevents+avro"),
    ("attribute 'network' is not a string", {}, json.dumps({**REQUIRED, "network": ["a"]}).encode(), STRUCTURED),
    ("attribute 'f' is not a string", {}, json.dumps({**REQUIRED, "f": 1.5}).encode(), STRUCTURED),
    ("attribute name 'cpu_cores'", {}, json.dumps({**REQUIRED, "cpu_cores": 1}).encode(), STRUCTURED),
    ("attribute name 'cpu_cores'", {f"ce-{k}": v for k, v in {**REQUIRED, "cpu-cores": "1"}.items()}, b"", None),
    ("ce-datacontenttype must not", {f"ce-{k}": v for k, v in {**REQUIRED, "datacontenttype": "x"}.items()}, b"", None),
    ("the attribute time 'noon'", {f"ce-{k}": v for k, v in {**REQUIRED, "time": "noon"}.items()}, b"", None),
    ("the header ce-name is not UTF-8", {f"ce-{k}": v for k, v in {**REQUIRED, "name": "\xff"}.items()}, b"", None),
    ("the header ce-name is not UTF-8", {f"ce-{k}": v for k, v in {**REQUIRED, "name": "%FF"}.items()}, b"", None),
    ("both data and data_base64", {}, json.dumps({**REQUIRED, "data": 1, "data_base64": "AA=="}).encode(), STRUCTURED),
    ("data_base64 is not base64", {}, json.dumps({**REQUIRED, "data_base64": "?"}).encode(), STRUCTURED),
    ("data_base64 is not base64", {}, json.dumps({**REQUIRED, "data_base64": 7}).encode(), STRUCTURED),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "headers", "body", "content_type"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_is_no_event_is_refused_with_a_sentence(
    sentence: str, headers: dict[str, str], body: bytes, content_type: str | None
) -> None:
    """It says what was wrong and where."""
    with pytest.raises(errors.BadEvent) as refusal:
        read(headers, body, content_type)
    assert sentence in str(refusal.value)


def test_nothing_is_invented() -> None:
    """The SDK would fill in a time; what an event does not say stays unsaid."""
    assert binary().time is None
    assert set(binary().attributes) == set(REQUIRED)


def assert_complete(event: events.Event) -> None:
    """Assert that an event has what every event has."""
    assert event.id
    assert event.type
    assert event.attributes["source"]
    assert event.attributes["specversion"] == "1.0"


INNER = {
    **REQUIRED,
    "id": "inner",
    "time": "2026-11-20T10:00:00Z",
    "kind": "VirtualMachine",
    "name": "a",
    "data": {"b": 1},
}


@pytest.mark.parametrize(
    "outer",
    [
        {"type": "t", "data": INNER},
        {"type": "user.extracted", "datacontenttype": "application/json", "data": INNER},
        {"type": "t", "data_base64": base64.b64encode(json.dumps(INNER).encode()).decode()},
        {"type": "t", "data": {**REQUIRED, "id": "middle", "data": INNER}},
    ],
)
def test_an_event_in_data_is_the_event(outer: dict[str, Any]) -> None:
    """An expression with ``"data": $`` makes it, whatever type it gives to the outer one."""
    event = cloudevents.unwrapped(structured({**REQUIRED, **outer}))
    assert (event.id, event.type, event.name, event.data) == ("inner", "t", "a", {"b": 1})
    assert event.time == datetime.datetime(2026, 11, 20, 10, tzinfo=datetime.UTC)


def test_an_event_in_data_is_the_event_in_binary_mode() -> None:
    """Its data is read by its own content type."""
    inner = {
        **REQUIRED,
        "id": "inner",
        "datacontenttype": "text/xml",
        "data_base64": base64.b64encode(b"<a/>").decode(),
    }
    event = cloudevents.unwrapped(binary(json.dumps(inner).encode(), "application/json"))
    assert (event.id, event.data, event.attributes["datacontenttype"]) == ("inner", "<a/>", "text/xml")


def test_the_inner_event_keeps_what_a_transform_added() -> None:
    """Extensions that it lacks are the outer event's; its own, and all of the specification's, are its own."""
    outer = {
        **REQUIRED,
        "id": "outer",
        "cluster": "prod",
        "name": "other",
        "subject": "s",
        "time": "2020-01-01T00:00:00Z",
    }
    inner = {**REQUIRED, "id": "inner", "name": "a"}
    event = cloudevents.unwrapped(structured({**outer, "data": inner}))
    assert event.attributes == {**REQUIRED, "id": "inner", "name": "a", "cluster": "prod"}
    assert event.time is None


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        [INNER],
        {"specversion": "1.0"},
        {**REQUIRED, "id": ""},
        {**REQUIRED, "source": None},
        {**REQUIRED, "metadata": {"name": "a"}},
    ],
)
def test_what_is_not_an_event_stays_data(data: Any) -> None:
    """All four attributes that every event has make one."""
    event = structured({**REQUIRED, "data": data})
    assert cloudevents.unwrapped(event) is event


@pytest.mark.parametrize(
    ("sentence", "wrong"),
    [
        ("specversion '0.3' is not supported", {"specversion": "0.3"}),
        ("the attribute time 'noon' is not", {"time": "noon"}),
        ("attribute 'extra' is not a string", {"extra": {}}),
        ("both data and data_base64", {"data": 1, "data_base64": "MQ=="}),
    ],
)
def test_a_broken_event_in_data_is_refused(sentence: str, wrong: dict[str, Any]) -> None:
    """It is not taken for something else."""
    with pytest.raises(errors.BadEvent, match=r"^the data is a CloudEvent itself, and cannot be read: ") as refusal:
        cloudevents.unwrapped(structured({**REQUIRED, "data": {**REQUIRED, **wrong}}))
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("attributes", "data", "about"),
    [
        ({}, None, (None, None, None, None)),
        ({"kind": "A", "apiversion": "g/v1", "namespace": "s", "name": "n"}, None, ("A", "g/v1", "s", "n")),
        ({"kind": "", "name": ""}, {"kind": "B", "metadata": {"name": "m"}}, ("B", None, None, "m")),
        (
            {"kind": "A", "name": "n"},
            {"kind": "B", "apiVersion": "g/v1", "metadata": {"name": "m", "namespace": "s"}},
            ("A", "g/v1", "s", "n"),
        ),
        ({}, {"apiVersion": "g/v1", "kind": "B", "namespace": "s", "name": "n"}, ("B", "g/v1", "s", "n")),
        ({"kind": 5, "name": True}, {"kind": "B", "metadata": {"name": "m"}}, ("B", None, None, "m")),
        ({"kind": 5, "name": True}, None, (None, None, None, None)),
        ({}, {"kind": {}, "metadata": {"name": []}}, (None, None, None, None)),
        ({}, [{"kind": "B"}], (None, None, None, None)),
    ],
)
def test_what_an_event_is_about_is_its_attributes_else_its_object(
    attributes: dict[str, Any], data: Any, about: tuple[str | None, ...]
) -> None:
    """Kind, API version, namespace and name; what is not text names nothing."""
    event = events.Event(attributes, data)
    assert (event.kind, event.api_version, event.namespace, event.name) == about


NAMES = st.sampled_from([*REQUIRED, "time", "subject", "name", "x-y", "datacontenttype"]) | st.text(
    "abc_-1Ü", min_size=1
)
VALUES = st.sampled_from([*REQUIRED.values(), "2026-11-22T01:27:18Z"]) | st.text(st.characters(max_codepoint=255))
TYPES = st.sampled_from([None, "", STRUCTURED, BATCH, "application/json", "text/plain", ";"]) | st.text()
BODIES = (
    st.binary()
    | st.text().map(str.encode)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from([*REQUIRED, "data", "data_base64", "time"]), inner)
        ),
    ).map(lambda document: json.dumps(document).encode())
    | st.lists(st.fixed_dictionaries({name: st.just(value) | st.text() for name, value in REQUIRED.items()})).map(
        lambda document: json.dumps(document).encode()
    )
)


@hypothesis.given(headers=st.dictionaries(NAMES, VALUES), body=BODIES, content_type=TYPES)
def test_any_bytes_with_any_headers_are_events_or_a_sentence(
    headers: dict[str, str], body: bytes, content_type: str | None
) -> None:
    """Nothing else comes out, and every event has its required attributes."""
    environ = werkzeug.EnvironBuilder(method="POST", input_stream=io.BytesIO(body)).get_environ()
    environ |= {f"HTTP_CE_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    environ["CONTENT_TYPE"] = content_type
    try:
        received = cloudevents.from_wsgi(environ, body)
    except errors.BadEvent as exc:
        assert 0 < len(str(exc)) < 400
    else:
        for event in received:
            assert_complete(event)
            try:
                inner = cloudevents.unwrapped(event)
            except errors.BadEvent as exc:
                assert "the data is a CloudEvent itself" in str(exc)
            else:
                assert_complete(inner)
