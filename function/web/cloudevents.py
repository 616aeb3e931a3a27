"""HTTP request -> CloudEvents, in binary, structured and batched mode; the only room that knows the CloudEvents SDK.

Any bytes with any headers give a list of :class:`events.Event`, or :class:`errors.BadEvent`, and nothing else.

The SDK's class validates the attributes; its HTTP reader is not used, because it takes any ce- header for binary mode,
invents a missing id and time, turns broken JSON into text and knows no batches.
Rules: CloudEvents 1.0.2 HTTP protocol binding (section 3) and JSON format (sections 2 to 4).
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import msgspec
from cloudevents.core import exceptions
from cloudevents.core.v1 import event as sdk

from function import errors, events, turns
from function.web import heads

Choice = Callable[[Mapping[str, Any]], events.Shape | None]
_BATCH = "application/cloudevents-batch"
_REQUIRED = ("specversion", "id", "source", "type")
_CORE = frozenset((*_REQUIRED, "subject", "time", "datacontenttype", "dataschema"))
"""The context attributes of the specification itself; any other is an extension."""
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SIMPLE = (str, int)
"""What an attribute's value may be in JSON; bool is an int."""
_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_PLAIN = re.compile(r"[^!#-~]")
"""What a sender that percent-encodes never sends: it encodes blanks, quotes and all beyond ASCII (section 3.1.3.2)."""
_JSON_TYPE = re.compile(r"[^/;\s]+/(?:[^/;\s]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_TEXT_TYPE = re.compile(r"text/|[^/;\s]+/(?:[^/;\s]+\+)?xml\s*(?:;|$)", re.IGNORECASE)


class _Wrapped(TypedDict, total=False):
    """What tells that data is an event itself, see :func:`unwrapped`; nothing of it is decoded."""

    specversion: msgspec.Raw


UNREAD: events.Shape = msgspec.json.Decoder(_Wrapped)
"""Reads nothing of an event's data, unless it is an event itself."""
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)


def _whole(_: object) -> None:
    """Read all of an event's data."""


def is_batch(environ: Mapping[str, Any]) -> bool:
    """Whether a request is in batched mode."""
    return (environ.get("CONTENT_TYPE") or "").lstrip().lower().startswith(_BATCH)


def from_wsgi(environ: Mapping[str, Any], body: bytes, shape: Choice = _whole) -> list[events.Event]:
    """Read the events of one request: one in binary and structured mode, any number in batched mode.

    The mode is decided by Content-Type first; ce- headers of a structured request are ignored.
    A body without both is tried as a structured event, which is how people post a file with curl.

    shape: returns, by the attributes, what is read of binary mode's data: all of it for None.
    """
    content_type: str = environ.get("CONTENT_TYPE") or ""
    if "," in content_type and "," in _QUOTED.sub("", content_type):
        raise errors.BadEvent("the header Content-Type names more than one type: it may be there once, with one")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith(_BATCH):
        return _batch(media_type, body)
    if media_type.startswith("application/cloudevents"):
        _check_format(media_type)
        return [_structured(_document(body, "the body"))]
    attributes = header_attributes(environ)
    if attributes:
        if environ.get(heads.REPEATED):
            raise errors.BadEvent(f"the header {environ[heads.REPEATED]} is there more than once")
        return [_binary(attributes, content_type, body, shape(attributes))]
    if not body:
        raise errors.BadEvent("not a CloudEvent: there are no ce- headers and no body")
    return [_structured(_document(body, "not a CloudEvent: there are no ce- headers, and the body"))]


def unwrapped(event: events.Event) -> events.Event:
    """Return the event that ``event`` holds as its data, and ``event`` itself where it holds none.

    An EventTransform whose expression has ``"data": $``, as in Knative's documents, sends such an event.
    Extension attributes that the inner event lacks are those of the outer one, which a transform may have added.

    Raises :class:`errors.BadEvent` where the inner event has all that makes an event, and a part of it is wrong.
    """
    while isinstance(event.data, dict) and "specversion" in event.data and _is_event(event.data):
        outer = {name: value for name, value in event.attributes.items() if name not in _CORE}
        try:
            event = _structured({**outer, **event.data})
        except errors.BadEvent as exc:
            raise errors.BadEvent(f"the data is a CloudEvent itself, and cannot be read: {exc}") from exc
    return event


def _is_event(data: Mapping[str, events.Json]) -> bool:
    return "metadata" not in data and all(map(data.get, _REQUIRED))


def _document(body: bytes, what: str) -> dict[str, events.Json]:
    document = events.parse_json(body, what)
    if not isinstance(document, dict):
        raise errors.BadEvent(f"{what} is not a CloudEvent: it is JSON, but no object")
    return document


def _check_format(media_type: str) -> None:
    if not media_type.endswith("+json") and media_type != "application/cloudevents":
        raise errors.BadEvent(f"the CloudEvents format {errors.shown(media_type)} is not supported: send JSON")


def _batch(media_type: str, body: bytes) -> list[events.Event]:
    _check_format(media_type)
    documents = events.parse_json(body, "the body")
    if not isinstance(documents, list):
        raise errors.BadEvent("the body is not a batch: it is JSON, but no array")
    batch = []
    for position, document in enumerate(turns.shared(documents)):
        try:
            if not isinstance(document, dict):
                raise errors.BadEvent("not a CloudEvent: no JSON object")
            batch.append(_structured(document))
        except errors.BadEvent as exc:
            raise errors.BadEvent(f"event {position} of the batch: {exc}") from exc
    return batch


def _structured(document: dict[str, events.Json]) -> events.Event:
    attributes = {}
    for name, value in document.items():
        if name in ("data", "data_base64") or value is None:
            continue
        if not isinstance(value, _SIMPLE):
            raise errors.BadEvent(f"attribute {errors.shown(name)} is not a string, a whole number or a boolean")
        attributes[name] = value
    return _event(attributes, _structured_data(document, attributes.get("datacontenttype")))


def _structured_data(document: dict[str, events.Json], content_type: object) -> events.Json | str | bytes | None:
    encoded = document.get("data_base64")
    if encoded is None:
        return document.get("data")
    if document.get("data") is not None:
        raise errors.BadEvent("the event has both data and data_base64")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise errors.BadEvent("data_base64 is not base64") from exc
    if content_type:
        return _content(content, str(content_type))
    try:  # without a content type, data is JSON (JSON format, section 3.1.1)
        return events.parse_json(content, "the data")
    except errors.BadEvent:
        return content


def header_attributes(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that the ce- headers carry, unchecked; raise :class:`errors.BadEvent` for no UTF-8."""
    attributes = {name: environ[variable] for variable, name in _attribute_names(tuple(environ))}
    text = "".join(attributes.values())
    if text.isascii() and "%" not in text and '"' not in text:
        return attributes
    return {name: _header(name, value) for name, value in attributes.items()}


@functools.lru_cache(maxsize=256)  # each sender's requests bring the same headers
def _attribute_names(variables: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return those of a request's variables that stand for attributes, each with the attribute's name."""
    prefix = "HTTP_CE_"
    return [(variable, variable.removeprefix(prefix).lower()) for variable in variables if variable.startswith(prefix)]


def _binary(attributes: dict[str, Any], content_type: str, body: bytes, shape: events.Shape | None) -> events.Event:
    if "datacontenttype" in attributes:
        raise errors.BadEvent("the header ce-datacontenttype must not be there: Content-Type says it")
    if content_type:
        attributes["datacontenttype"] = content_type
    if not body:
        return _event(attributes, None)
    if content_type:
        return _event(attributes, _content(body, content_type, shape))
    try:
        return _event(attributes, events.parse_json(body, "the body"))
    except errors.BadEvent:
        return _event(attributes, _content(body, "text/plain"))


def _content(content: bytes, content_type: str, shape: events.Shape | None = None) -> events.Json | str | bytes:
    """Read data by its content type: JSON or refused; text where it is text; else as it is."""
    if _JSON_TYPE.match(content_type):
        if shape is UNREAD:
            if _holds_no_event(content):
                return None
            shape = None
        return events.parse_json(content, "the data", shape)
    if _TEXT_TYPE.match(content_type):
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content
    return content


def _holds_no_event(content: bytes) -> bool:
    """Whether data is JSON, and no event itself; where it is wrong, :func:`events.parse_json` says how."""
    try:
        content.decode()  # text that is left out is not decoded, and must be UTF-8 nevertheless
        try:
            return "specversion" not in UNREAD.decode(content)
        except msgspec.ValidationError:  # JSON, and no object
            return bool(_ANYTHING.decode(content))
    except (ValueError, RecursionError):
        return False


def _header(name: str, value: str) -> str:
    """Decode one header value: raw UTF-8 as Knative sends it, or percent-encoded as the binding asks.

    A value with a character that the binding has encoded was not encoded by its sender: a ``%41`` in it is meant.
    """
    try:
        if not value.isascii():
            return value.encode("latin-1").decode()  # WSGI shows bytes as latin-1 (PEP 3333)
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        elif _PLAIN.search(value):
            return value
        return urllib.parse.unquote(value, errors="strict")
    except UnicodeError as exc:
        raise errors.BadEvent(f"the header ce-{name} is not UTF-8") from exc


def _event(attributes: dict[str, Any], data: events.Json | str | bytes | None) -> events.Event:
    """Check the attributes by the SDK's rules, and those that the SDK would fill in by ours."""
    for name in _REQUIRED:
        if not attributes.get(name):
            raise errors.BadEvent(f"not a CloudEvent: the attribute {name} is missing or empty")
    if attributes["specversion"] != "1.0":
        raise errors.BadEvent(f"specversion {errors.shown(attributes['specversion'])} is not supported: send 1.0")
    time_text = attributes.get("time")
    if time_text is not None:
        attributes["time"] = events.parse_time(time_text, "the attribute time")
    shape = (*attributes, *map(type, attributes.values()))
    if shape not in _valid_shapes or "" in attributes.values():
        _validate(attributes)
        if len(_valid_shapes) < _MOST_SHAPES:
            _valid_shapes.add(shape)
    return events.Event(attributes, data, time_text)


_valid_shapes: set[tuple[Any, ...]] = set()
"""Names and types that the SDK has found valid: it asks no more of a value than its type and that it is not empty."""
_MOST_SHAPES = 1000


def _validate(attributes: Mapping[str, Any]) -> None:
    """Apply the SDK's rules, on a copy: it puts in an id and a time where there are none."""
    try:
        sdk.CloudEvent(dict(attributes))
    except exceptions.CloudEventValidationError as exc:
        name = next(iter(exc.errors))
        if not _NAME.fullmatch(name):
            raise errors.BadEvent(f"the attribute name {errors.shown(name)} has characters beyond a-z and 0-9") from exc
        raise errors.BadEvent(f"the attribute {name} is not valid: {exc.errors[name][0]}") from exc
