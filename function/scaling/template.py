"""Secret -> Template -> the request that is sent; pure.

The body is parsed as JSON first and placeholders are replaced inside its strings, so no message can break it.
Nothing here quotes a Secret: its errors name the key and what is wrong with it, its values have no ``repr``.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from function import errors, events
from function.scaling import address_policy, occurrences

Value = str | int | None
IDEMPOTENCY = "Idempotency-Key"

_TOKEN = re.compile(r"_([a-z0-9]+(?:_[a-z0-9]+)*)_", re.ASCII)
_EDGE = r"""[\s/:,;()|#*=<>{}"'\[\]]"""
_ALONE = re.compile(rf"(?:(?<={_EDGE})|^){_TOKEN.pattern}(?={_EDGE}|[.!?]|$)", re.ASCII)
"""A placeholder that stands for itself: a piece of a token that looks like one is no business of a log."""
_BARE = re.compile(rf'"(?:[^"\\]|\\.)*"|{_TOKEN.pattern}', re.ASCII | re.DOTALL)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_OURS = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect")
)
"""Headers that decide how, and to whom, a request is sent; a Secret may not."""
_SLACK = re.compile(r"hooks\.slack(?:-gov)?\.com\.?")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

NAMES = frozenset(
    (
        *("message", "time", "time_s", "time_ms", "time_ms_plus_1", "namespace", "name", "cluster", "reason", "type"),
        *("new_size", "direction", "target", "count", "hpa_uid", "occurrence"),
    )
)
"""Every placeholder, without its underscores."""
PUBLISHED = frozenset(("message", "time"))
"""Those of hpa-sender, which replaces them inside words of the body too."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is sent: a POST of ``body``, JSON in ASCII, to ``url``."""

    url: address_policy.Url
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    body: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Template:
    """What a Secret says, checked. ``unknown``: what stands in it like a placeholder and is none of ours."""

    url: address_policy.Url
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    body: events.Json = dataclasses.field(repr=False)
    unknown: frozenset[str]

    def render(self, values: Mapping[str, Value]) -> Request:
        """Return the request with the placeholders replaced."""
        # Slack reads & < > as its markup, and <!channel> as a call to everybody.
        in_body = escaped if _SLACK.fullmatch(self.url.host) else plain
        defaults = {"Content-Type": "application/json", "User-Agent": "vmledger", **_authorization(self.url)}
        given = {
            name: header_text(value, values)
            for name, value in self.headers.items()
            if name.lower() != IDEMPOTENCY.lower()
        }
        names = {name.lower() for name in given}
        kept = {name: value for name, value in defaults.items() if name.lower() not in names}
        headers = {**kept, **given, IDEMPOTENCY: str(values["occurrence"])}
        return Request(self.url, headers, json.dumps(_filled(self.body, values, in_body)).encode())


def values_of(occurrence: occurrences.Occurrence, *, target: str | None) -> dict[str, Value]:
    """Return the value of each placeholder; ``target`` is what the HPA scales, Kind/name."""
    at = occurrence.occurred_at
    milliseconds = (at - _EPOCH) // datetime.timedelta(milliseconds=1)
    return {
        "message": occurrence.message,
        "time": at.isoformat().replace("+00:00", "Z"),
        "time_s": milliseconds // 1000,
        "time_ms": milliseconds,
        "time_ms_plus_1": milliseconds + 1,
        "namespace": occurrence.namespace,
        "name": occurrence.name,
        "cluster": occurrence.cluster,
        "reason": occurrence.reason or None,
        "type": occurrence.event_type or None,
        "new_size": occurrence.new_size,
        "direction": occurrence.direction,
        "target": target,
        "count": occurrence.count,
        "hpa_uid": occurrence.uid or None,
        "occurrence": occurrence.key,
    }


def contents(secret: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the keys of a Secret object as text: ``data`` is base64, ``stringData`` (in a file) is text and wins.

    Raises :class:`errors.Refused`; ``where`` names the Secret in its sentence.
    """
    encoded, written = (secret.get(part) or {} for part in ("data", "stringData"))
    if not (isinstance(encoded, dict) and isinstance(written, dict)):
        raise errors.Refused(f"{where} is no Secret: its data is no object")
    return {
        **{key: _decoded(encoded[key], key, where) for key in ("url", "headers", "body") if key in encoded},
        **{key: _written(written[key], key, where) for key in ("url", "headers", "body") if key in written},
    }


def _decoded(value: object, key: str, where: str) -> str:
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True).decode("utf-8-sig")
    except (binascii.Error, ValueError):
        raise errors.Refused(f"{where}: the key {key} is no text in base64") from None


def _written(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise errors.Refused(f"{where}: the key {key} is no text")
    return value


def read(content: Mapping[str, str], where: str) -> Template:
    """Return what the keys url, headers and body of a Secret say.

    Raises :class:`errors.Refused` with a sentence that names what is wrong with which key, never its value.
    """
    for key in ("url", "body"):
        if not content.get(key, "").strip():
            raise errors.Refused(f"{where}: the key {key} is missing or empty")
    try:
        url = address_policy.parse(content["url"])
    except address_policy.BadUrl as exc:
        raise errors.Refused(f"{where}: the key url {exc}") from None
    headers = _headers(content.get("headers", ""), where)
    body = _body(content["body"], where)
    return Template(url, headers, body, frozenset((*_unknown(body), *_unknown(headers))))


def _headers(text: str, where: str) -> dict[str, str]:
    if not text.strip():
        return {}
    headers = _json(text, "headers", where)
    if not isinstance(headers, dict):
        raise errors.Refused(f"{where}: the key headers is JSON, but no object")
    found = {}
    for position, (name, value) in enumerate(headers.items(), 1):
        if not _HEADER_NAME.fullmatch(name):
            raise errors.Refused(f"{where}: the key headers has a name, number {position}, that no header can have")
        if name.lower() in _OURS:
            raise errors.Refused(f"{where}: the key headers may not set {name}")
        if isinstance(value, bool | dict | list) or value is None:
            raise errors.Refused(f"{where}: the key headers has a value, of number {position}, that is no text")
        found[name] = str(value)
    return found


def _body(text: str, where: str) -> events.Json:
    try:
        body = _json(text, "body", where)
    except errors.Refused:
        quoted = _BARE.sub(_quoted, text)
        if quoted == text:
            raise
        body = _json(quoted, "body", where)
    try:
        json.dumps(_filled(body, dict.fromkeys(NAMES, 0), plain), allow_nan=False)
    except RecursionError:
        raise errors.Refused(f"{where}: the key body is nested too deep") from None
    except ValueError:  # 1e999 can be read, and would be written as Infinity
        raise errors.Refused(f"{where}: the key body has a number that JSON cannot carry") from None
    return body


def _quoted(found: re.Match[str]) -> str:
    """Quote a placeholder outside of strings, as in ``"startTime": _time_`` of the published Wavefront Secret.

    JSON can hold no time as text there, and Wavefront wants milliseconds.
    """
    if found[1] not in NAMES:
        return found[0]
    return '"_time_ms_"' if found[1] == "time" else f'"{found[0]}"'


def _json(text: str, key: str, where: str) -> events.Json:
    try:
        return events.parse_json(text.encode("utf-8", "surrogatepass"), f"{where}: the key {key}")
    except errors.BadEvent as exc:  # its sentence says the line and the column, and quotes nothing
        raise errors.Refused(str(exc)) from None


def _authorization(url: address_policy.Url) -> dict[str, str]:
    """Return what a user and a password in the url mean (RFC 7617)."""
    if not url.userinfo:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(url.userinfo.encode()).decode()}"}


def plain(value: Value) -> str:
    """Return a value as it stands inside a text; nothing for one that is not known."""
    return "" if value is None else str(value)


def escaped(value: Value) -> str:
    """As :func:`plain`, with & < > as Slack wants them."""
    return html.escape(plain(value), quote=False)


def header_text(text: str, values: Mapping[str, Value]) -> str:
    """Return a header's value: placeholders replaced, on one line, without control characters."""
    return _CONTROL.sub(" ", _replaced(text, values, plain)).strip()


def _replaced(
    text: str, values: Mapping[str, Value], show: Callable[[Value], str], *, anywhere: frozenset[str] = frozenset()
) -> str:
    """Replace placeholders that stand apart, and those of ``anywhere`` inside words too.

    One pass: what a message says is never read as a placeholder.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in NAMES or not (name in anywhere or _apart(found)):
            return found[0]
        return show(values[name])

    return _TOKEN.sub(value, text)


def _apart(found: re.Match[str]) -> bool:
    """Whether no letter or digit touches it: source_type_name and kube_cluster_name are words of the receivers."""
    around = found.string[max(found.start() - 1, 0) : found.start()] + found.string[found.end() : found.end() + 1]
    return not re.search("[A-Za-z0-9]", around)


def _filled(node: events.Json, values: Mapping[str, Value], show: Callable[[Value], str]) -> events.Json:
    match node:
        case str():
            whole = _TOKEN.fullmatch(node)
            if whole and whole[1] in NAMES:
                value = values[whole[1]]
                return show(value) if isinstance(value, str) else value
            return _replaced(node, values, show, anywhere=PUBLISHED)
        case dict():
            return {_replaced(key, values, show): _filled(value, values, show) for key, value in node.items()}
        case list():
            return [_filled(item, values, show) for item in node]
        case _:
            return node


def _unknown(node: events.Json) -> Iterator[str]:
    match node:
        case str():
            yield from (found[0] for found in _ALONE.finditer(node) if found[1] not in NAMES)
        case dict():
            for value in node.values():
                yield from _unknown(value)
        case list():
            for item in node:
                yield from _unknown(item)
