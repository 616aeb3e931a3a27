"""The echo: one JSON line on standard output for each event, whole, with secrets masked.

The line has the members of the event's own JSON format, so it can be sent again: the attributes and extensions as they
came, and ``data``, or ``data_base64`` for bytes. Members of ours have an underscore, which no attribute can have:
``dead_letter`` says what Knative's dead letter extensions mean; ``data_truncated`` that the data was longer than
ECHO_MAX_BYTES, and how long. A body that is no CloudEvent has the member ``not_a_cloudevent`` with the reason, beside
the attributes that its headers give: an event whose data is broken is a dead letter that somebody has to find.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import fcntl
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from function import errors, events, settings
from function.echo import masking
from function.web import cloudevents

log = logging.getLogger(__name__)

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:\-]+)", re.IGNORECASE | re.ASCII)
_DECLARED = re.compile(rb"<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:\-]+)", re.IGNORECASE)
_ENCODINGS = re.compile(r"utf|ucs|iso|latin|windows|cp\d|us-?ascii|big5|gb|shift|euc|koi", re.IGNORECASE)
_TEXT_TYPE = re.compile(r"text/|[^/;\s]+/(?:[^/;\s]+\+)?xml\b", re.IGNORECASE)
_DEAD_LETTER = {"knativeerrordest": "destination", "knativeerrorcode": "code", "knativeerrordata": "answer"}
"""Extensions that Knative adds for the dead letter sink (knative/eventing, pkg/kncloudevents/attributes)."""


class Echo:
    """Prints events; several threads and several processes may print to the same standard output."""

    def __init__(self, part: settings.Echo) -> None:
        self._show = not part.masks
        self._most = part.max_bytes
        self._printer = _Printer()

    def event(self, event: events.Event) -> None:
        """Print a CloudEvent."""
        given = {**event.attributes}
        if event.time_text is not None:
            given["time"] = event.time_text
        members = self._attributes(given)
        kind = given.get("kind")
        members |= self._data("data", event.data, str(given.get("datacontenttype", "")), kind=kind)
        self._printer.line(members)

    def other(self, body: bytes, environ: Mapping[str, Any], reason: str) -> None:
        """Print a request's body that is no CloudEvent, the reason, and what its headers say."""
        members = {"not_a_cloudevent": masking.Encoder(show=self._show).encode(reason)}
        with contextlib.suppress(errors.BadEvent):
            members |= self._attributes(cloudevents.header_attributes(environ))
        content_type = environ.get("CONTENT_TYPE") or ""
        if content_type:
            members["content_type"] = masking.quoted(content_type)
        self._printer.line(members | self._data("body", _read(body), content_type))

    def _attributes(self, given: dict[str, Any]) -> dict[str, str]:
        """Return the attributes as JSON, each by its name, and what the dead letter extensions say."""
        dead_letter = self._dead_letter(given)
        encoder = masking.Encoder(show=self._show)
        members = {
            name: encoder.encode(value, "hidden" if masking.is_secret_name(name) else "plain")
            for name, value in given.items()
        }
        return members | ({"dead_letter": _object(dead_letter)} if dead_letter else {})

    def _dead_letter(self, given: dict[str, Any]) -> dict[str, str]:
        """Return what the dead letter extensions mean, as JSON; a secret in the answer is masked in the raw one too."""
        meaning: dict[str, str] = {}
        for extension, name in _DEAD_LETTER.items():
            value = given.get(extension)
            if value is None:
                continue
            if extension != "knativeerrordata":
                whole = str(value).isascii() and str(value).isdigit() and len(str(value)) < 10
                meaning[name] = masking.Encoder(show=self._show).encode(int(value) if whole else value)
                continue
            content = _decoded(str(value))
            if isinstance(content, bytes):
                continue  # no text: the raw extension says all there is
            encoder = masking.Encoder(show=self._show)
            text = encoder.text(content) if isinstance(content, str) else encoder.encode(content)
            meaning[name] = masking.quoted(text) if isinstance(content, str) else text
            if encoder.masked:
                given[extension] = text if content is value else base64.b64encode(text.encode()).decode()
        return meaning

    def _data(self, name: str, data: Any, content_type: str, *, kind: object = None) -> dict[str, str]:
        """Return the member that holds ``data``, and the one that says where it was cut."""
        if data is None:
            return {}
        if isinstance(data, bytes):
            text = _as_text(data, content_type)
            return self._bytes(name, data) if text is None else self._data(name, text, content_type)
        encoder = masking.Encoder(show=self._show)
        if isinstance(data, str):
            text = encoder.text(data)
            size = len(text.encode("utf-8", "surrogatepass"))
            if size <= self._most:
                return {name: masking.quoted(text)}
        else:
            text = encoder.encode(data, "secret" if kind == "Secret" else "plain")
            size = len(text.encode())
            if size <= self._most:
                return {name: text}
        return {name: masking.quoted(_cut(text, self._most)), f"{name}_truncated": self._truncated(size)}

    def _bytes(self, name: str, data: bytes) -> dict[str, str]:
        """Return bytes as base64; where they are text of an unknown kind, with the secrets in it masked before."""
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode()
            masked = masking.Encoder(show=self._show).text(text)
            data = data if masked == text else masked.encode()
        members = {f"{name}_base64": masking.quoted(base64.b64encode(data[: self._most]).decode())}
        if len(data) > self._most:
            members[f"{name}_truncated"] = self._truncated(len(data))
        return members

    def _truncated(self, size: int) -> str:
        return f'{{"bytes":{size},"printed":{self._most}}}'


class _Printer:
    """Writes whole lines to standard output.

    A pipe keeps only writes of up to 4096 bytes together (pipe(7), PIPE_BUF), so the processes of one container take
    turns by a lock on this very file, which all of them can read, and the threads of each by a lock of their own.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._file: int | None = None

    def line(self, members: Mapping[str, str]) -> None:
        """Print one object; what cannot be printed must not fail the event."""
        text = _object(members) + "\n"
        if (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8":
            text = re.sub(r"[^\x00-\x7f]", _escaped, text)
        try:
            with self._turn, self._alone():
                sys.stdout.write(text)
                sys.stdout.flush()
        except (OSError, ValueError) as exc:
            log.warning("the echo cannot print (%s)", type(exc).__name__, extra={"action": "echo.failed"})

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._file is None:
            with contextlib.suppress(OSError):
                self._file = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
        if self._file is None:
            yield
            return
        with contextlib.suppress(OSError):  # a file system without locks: lines may mix, and are printed
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)


def _object(members: Mapping[str, str]) -> str:
    """Return a JSON object of members whose values are JSON already."""
    return "{" + ",".join(f"{masking.quoted(name)}:{value}" for name, value in members.items()) + "}"


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _cut(text: str, most: int) -> str:
    """Return as much of ``text`` as fits into so many bytes of UTF-8."""
    return text.encode("utf-8", "backslashreplace")[:most].decode("utf-8", "ignore")


def _read(body: bytes) -> Any:
    """Return what the body is: JSON, text, or bytes."""
    try:
        return events.parse_json(body, "the body")
    except errors.BadEvent:
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _decoded(value: str) -> Any:
    """Return what knativeerrordata says: the base64 of an answer's body, cut at some length; or plain text."""
    try:
        content = base64.b64decode(value[: len(value) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return value
    read = _read(content)
    if isinstance(read, bytes):
        if re.fullmatch(r"[A-Za-z]{1,40}", value):
            return value
        with contextlib.suppress(UnicodeDecodeError):
            return codecs.utf_8_decode(content)[0]  # without the half of a character that the cut has left at the end
    return read


def _as_text(data: bytes, content_type: str) -> str | None:
    """Return bytes as the text that their content type, mark or XML declaration says they are; None for no text."""
    if not _TEXT_TYPE.match(content_type):
        return None
    stated = _CHARSET.search(content_type)
    declared = _DECLARED.search(data[:200])
    names = [stated[1] if stated else "", declared[1].decode() if declared else ""]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        names.insert(0, "utf-16")
    for name in names:
        if _ENCODINGS.match(name):
            with contextlib.suppress(LookupError, ValueError):
                return data.decode(name)
    return None
