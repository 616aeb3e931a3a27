"""What the echo says of an event: the members of one line of JSON, with secrets masked; pure.

The line has the members of the event's own JSON format, so it can be sent again: the attributes and extensions as they
came, and ``data``, or ``data_base64`` for bytes. Members of ours have an underscore, which no attribute can have:
``dead_letter`` says what Knative's dead letter extensions mean; ``data_truncated`` that the data was longer than
ECHO_MAX_BYTES, and how long; ``data_hidden`` stands for bytes of which nothing can be shown. A body that is not a
CloudEvent has the member ``not_a_cloudevent`` with the reason, beside the attributes that its headers give: an event
whose data is broken is a dead letter that somebody has to find.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from function import errors, events
from function.echo import failures, masking, names

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:\-]+)", re.IGNORECASE | re.ASCII)
_DECLARED = re.compile(rb"<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:\-]+)", re.IGNORECASE)
_ENCODINGS = re.compile(r"utf|ucs|iso|latin|windows|cp\d|us-?ascii|big5|gb|shift|euc|koi", re.IGNORECASE)
_TEXT_TYPE = re.compile(r"text/|[^/;\s]+/(?:[^/;\s]+\+)?xml\b", re.IGNORECASE)
_READABLE_TYPE = re.compile(r"text/|[^/;\s]+/(?:[^/;\s]+\+)?(?:xml|json|yaml)\b|\Z", re.IGNORECASE)
_SECRETS_PATH = re.compile(r"/apis?/v1/namespaces/[^/]*/secrets/")
_MARGIN = 64 * 2**10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """What is said of an event, or of a body that is not one; each member by its name, as JSON.

    reason: why it is not an event. attributes: the event's. data: those that hold the data, and what was left out.
    failure: why it is a dead letter, with secrets masked as in the rest; None where it is none.
    """

    reason: Mapping[str, str]
    attributes: Mapping[str, str]
    data: Mapping[str, str]
    failure: failures.Failure | None

    @property
    def text(self) -> str:
        """The line, without its end."""
        return object_of({**self.reason, **self.attributes, **self._meaning(), **self.data})

    def _meaning(self) -> dict[str, str]:
        if self.failure is None:
            return {}
        said = {name: value for name, value in dataclasses.asdict(self.failure).items() if value is not None}
        return {"dead_letter": masking.Encoder(show=True).encode(said)}


class Renderer:
    """Makes lines; show: with their secrets. most: bytes of an event's data in a line."""

    def __init__(self, *, most: int, show: bool) -> None:
        self._most = most
        self._show = show

    def event(self, event: events.Event) -> Line:
        """Return what is said of a CloudEvent."""
        given = {**event.attributes}
        if event.time_text is not None:
            given["time"] = event.time_text
        return self._line(given, "data", event.data, str(given.get("datacontenttype", "")))

    def other(self, body: bytes, given: Mapping[str, Any], content_type: str, reason: str) -> Line:
        """Return what is said of a body that is not a CloudEvent; given: the attributes of its headers."""
        encoder = masking.Encoder(show=self._show)
        said = {"not_a_cloudevent": encoder.encode(reason)}
        if content_type:
            said["content_type"] = encoder.encode(content_type)
        return dataclasses.replace(self._line(given, "body", _read(body), content_type), reason=said)

    def _line(self, given: Mapping[str, Any], name: str, data: Any, content_type: str) -> Line:
        encoder = masking.Encoder(show=self._show)
        part = _Part(name, content_type, self._most, show=self._show)
        return Line(
            reason={},
            attributes=attributes(given, encoder, show=self._show),
            data=part.of(data, of_secret=_is_about_secret(given)),
            failure=_masked(failures.of(given), encoder),
        )


def attributes(given: Mapping[str, Any], encoder: masking.Encoder, *, show: bool = False) -> dict[str, str]:
    """Return attributes as JSON, each by its name; one with a secret's name is hidden whole."""
    return {
        name: encoder.encode(value, "hidden" if not show and names.is_secret(name) else "plain")
        for name, value in given.items()
    }


def object_of(members: Mapping[str, str]) -> str:
    """Return a JSON object of members whose values are JSON already."""
    return "{" + ",".join(f"{masking.quoted(name)}:{value}" for name, value in members.items()) + "}"


def _masked(failure: failures.Failure | None, encoder: masking.Encoder) -> failures.Failure | None:
    if failure is None:
        return None
    return failures.Failure(**json.loads(encoder.encode(dataclasses.asdict(failure))))


class _Part:
    """Shows the data of one event, or the body of one request, as members of its line."""

    def __init__(self, name: str, content_type: str, most: int, *, show: bool) -> None:
        self._name = name
        self._type = content_type
        self._most = most
        self._show = show
        self._window = most + _MARGIN
        """Characters that are masked of what is longer than can be shown: masking shortens, and never by so much."""
        self._encoder = masking.Encoder(show=show, longest=self._window)

    def of(self, data: Any, *, of_secret: bool) -> dict[str, str]:
        """Return the member that holds ``data``, and the one that says where it was cut, as JSON.

        of_secret: the attributes say that it is about a Secret of Kubernetes.
        """
        if data is None:
            return {}
        if of_secret and not self._show and not isinstance(data, dict | list):
            return {self._name: masking.quoted(masking.MASK)}
        if isinstance(data, bytes):
            return self._bytes(data)
        if isinstance(data, str):
            return self._text(data)
        return self._json(data, "secret" if of_secret else "plain")

    def _json(self, data: Any, place: masking.Place) -> dict[str, str]:
        pieces, size = [], 0
        for piece in self._encoder.pieces(data, place):
            pieces.append(piece)
            size += len(piece.encode())
            if size > self._most or self._encoder.cut:
                with contextlib.suppress(TypeError, ValueError, RecursionError):
                    size = max(size, len(msgspec.json.encode(data)))
                return self._cut("".join(pieces), size)
        return {self._name: "".join(pieces)}

    def _text(self, data: str) -> dict[str, str]:
        text = self._encoder.text(data)
        size = len(text.encode("utf-8", "surrogatepass"))
        if self._encoder.cut:
            size = max(size, len(data.encode("utf-8", "surrogatepass")))
        return {self._name: masking.quoted(text)} if size <= self._most else self._cut(text, size)

    def _bytes(self, data: bytes) -> dict[str, str]:
        """Return bytes as the text that they are said to be; else as base64, without the secrets in it."""
        text = _as_text(data, self._type)
        masked = self._encoder.data(data[: self._window])
        if text is not None and (masked is None or self._encoder.text(text[: self._window]) != text[: self._window]):
            return self._text(text)  # else the charset is wrong, and hides what another reading shows
        if masked is None:
            return self._base64(data, len(data))
        if masked == masking.MASK:
            digest = hashlib.sha256(data).hexdigest()
            return {f"{self._name}_hidden": json.dumps({"bytes": len(data), "sha256": digest})}
        return self._text(masked) if _READABLE_TYPE.match(self._type) else self._base64(masked.encode(), len(data))

    def _base64(self, data: bytes, size: int) -> dict[str, str]:
        members = {f"{self._name}_base64": masking.quoted(base64.b64encode(data[: self._most]).decode())}
        return members | (self._truncated(size) if len(data) > self._most else {})

    def _cut(self, text: str, size: int) -> dict[str, str]:
        """Return as much of ``text`` as fits; the whole has ``size`` bytes."""
        cut = text.encode("utf-8", "backslashreplace")[: self._most].decode("utf-8", "ignore")
        return {self._name: masking.quoted(cut)} | self._truncated(size)

    def _truncated(self, size: int) -> dict[str, str]:
        return {f"{self._name}_truncated": f'{{"bytes":{size},"printed":{self._most}}}'}


def _is_about_secret(given: Mapping[str, Any]) -> bool:
    """Whether an event is about a Secret of Kubernetes, which a trimmed object may not say of itself."""
    subject = given.get("subject")
    return names.is_kind_of_secret(given.get("kind")) or (
        isinstance(subject, str) and _SECRETS_PATH.match(subject) is not None
    )


def _read(body: bytes) -> Any:
    """Return what the body is: JSON, text, or bytes."""
    with contextlib.suppress(errors.BadEvent):
        return events.parse_json(body, "the body")
    with contextlib.suppress(UnicodeDecodeError):
        return body.decode()
    return body


def _as_text(data: bytes, content_type: str) -> str | None:
    """Return bytes as the text that their content type, mark or XML declaration says they are; None for no text."""
    if not _TEXT_TYPE.match(content_type):
        return None
    stated = _CHARSET.search(content_type)
    declared = _DECLARED.search(data[:200])
    charsets = [stated[1] if stated else "", declared[1].decode() if declared else ""]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        charsets.insert(0, "utf-16")
    for charset in charsets:
        if _ENCODINGS.match(charset):
            with contextlib.suppress(LookupError, ValueError):
                return data.decode(charset)
    return None
