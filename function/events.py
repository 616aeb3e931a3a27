"""The CloudEvent that the capabilities are given, and the parsers of its JSON and its times; pure.

Nothing here is about HTTP or about one capability. How a request becomes events is :mod:`function.web.cloudevents`.
Rules: CloudEvents 1.0.2, JSON format; RFC 3339 for times.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import msgspec

from function import errors

Json = Any
"""A value of JSON: dict, list, str, int, float, bool or None."""


class Shape(Protocol):
    """Makes objects of the parts of a JSON text that are read, and skips the rest."""

    def decode(self, text: bytes, /) -> Any:
        """Return the parts; raise what msgspec raises."""


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Event(msgspec.Struct, frozen=True):
    """One CloudEvent.

    attributes: every context attribute and extension that was given, by its lower-case name; ``time`` is an aware
    datetime, the others are str, int or bool (binary mode knows text only).
    data: JSON as Python objects, as far as the shape of its kind has them; str for text and XML, bytes for all else,
    None where there is none.
    time_text: the time as it was written, which may be finer than a microsecond.
    """

    attributes: Mapping[str, Any]
    data: Json | str | bytes | None
    time_text: str | None = None

    @property
    def id(self) -> str:
        """The event's id: new for each send of the source, the same for each delivery of one send."""
        return str(self.attributes["id"])

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.attributes["type"])

    @property
    def time(self) -> datetime.datetime | None:
        """When it happened, according to the source; aware, or None where the event has no time."""
        return self.attributes.get("time")

    @property
    def kind(self) -> str | None:
        """The kind of the Kubernetes object that the event is about, such as VirtualMachine.

        ApiServerSource sends kind, apiversion, namespace and name as attributes (Knative Eventing
        ``pkg/adapter/apiserver/events``). Where one is missing, it is read from the object itself.
        """
        given = self.attributes.get("kind")
        return given if given and isinstance(given, str) else self._from_object("kind")

    @property
    def api_version(self) -> str | None:
        """The API group and version of that object, such as kubevirt.io/v1."""
        given = self.attributes.get("apiversion")
        return given if given and isinstance(given, str) else self._from_object("apiVersion")

    @property
    def namespace(self) -> str | None:
        """The namespace of that object."""
        given = self.attributes.get("namespace")
        return given if given and isinstance(given, str) else self._from_object("namespace", within="metadata")

    @property
    def name(self) -> str | None:
        """The name of that object."""
        given = self.attributes.get("name")
        return given if given and isinstance(given, str) else self._from_object("name", within="metadata")

    def _from_object(self, key: str, *, within: str = "") -> str | None:
        """Return the text at ``key`` of the data, or of the object ``within`` it where there is one."""
        if not isinstance(self.data, dict):
            return None
        inner = self.data.get(within)
        value = (inner if isinstance(inner, dict) else self.data).get(key)
        return value if value and isinstance(value, str) else None


def parse_time(text: object, where: str) -> datetime.datetime:
    """Return the time that an RFC 3339 ``text`` names, in UTC, cut to microseconds.

    Raises :class:`errors.BadEvent` with ``where`` in its sentence.
    """
    time = time_of(text)
    if time is None:
        raise errors.BadEvent(f"{where} {errors.shown(text)} is not an RFC 3339 time")
    return time


def time_of(text: object) -> datetime.datetime | None:
    """Return the time that an RFC 3339 ``text`` names, in UTC, cut to microseconds; None where it names none."""
    if isinstance(text, str) and _TIME.fullmatch(text):
        try:
            time = datetime.datetime.fromisoformat(text.upper())
            return time if time.tzinfo is datetime.UTC else time.astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            pass  # such as the 30th of February, or the year 0 in UTC
    return None


MOST_VALUES = 2**18
"""Values and keys that are made Python objects of one JSON text: up to 120 bytes each, whatever they are (measured).

The densest batch of events that MAX_EVENT_BYTES lets through by default has fewer.
"""


def values(text: bytes) -> int:
    """Return how many members and elements a JSON text has at most, and its objects and lists."""
    if len(text) <= MOST_VALUES:
        return len(text)
    count = _punctuation(text)
    if count > MOST_VALUES >= text.count(b'"') // 4:  # or there are too many strings to look at each
        count = _punctuation(_STRING.sub(b"", text))
    return count


def _punctuation(text: bytes) -> int:
    return text.count(b",") + text.count(b"{") + text.count(b"[")


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def parse_json(body: bytes, what: str, shape: Shape | None = None) -> Json:
    """Return what the JSON text ``body`` says; ``what`` names it in the sentence of :class:`errors.BadEvent`.

    Raises :class:`errors.TooLarge` for a text with more than MOST_VALUES values.
    """
    if values(body) > MOST_VALUES:
        raise errors.TooLarge(f"{what} has more than {MOST_VALUES} JSON values")
    try:
        if shape is None:
            return _fast_decoder.decode(body)
        body.decode()  # a shape skips parts without decoding them, and these must be UTF-8 as well
        try:
            return shape.decode(body)
        except msgspec.ValidationError:
            return _fast_decoder.decode(body)
    except (ValueError, RecursionError):
        return _parse_slowly(body, what)


_fast_decoder = msgspec.json.Decoder()


def _parse_slowly(body: bytes, what: str) -> Json:
    """Parse what the fast decoder refuses (a byte order mark, half a character), or raise with the place of the fault.

    msgspec's error has a position without a line, and ``json`` alone would take twice as long for each whole object.
    """
    try:
        return _decoder.decode(body.decode("utf-8-sig" if body.startswith(b"\xef\xbb\xbf") else "utf-8"))
    except json.JSONDecodeError as exc:
        raise errors.BadEvent(f"{what} is not JSON: {exc.msg} at line {exc.lineno} column {exc.colno}") from exc
    except UnicodeDecodeError as exc:
        raise errors.BadEvent(f"{what} is not JSON: byte {exc.start} is not UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise errors.BadEvent(f"{what} is not JSON that can be read: a number too long, or nesting too deep") from exc


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not a JSON value", name, 0)


_decoder = json.JSONDecoder(parse_constant=_no_constant)
