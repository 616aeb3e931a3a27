"""Secret -> Template -> the request that is sent; pure.

The body is parsed as JSON first and placeholders are replaced inside its strings, so no message can break it.
Nothing here quotes a Secret: its errors name the key and what is wrong with it, its values have no ``repr``.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import html
import json
import re
from collections.abc import Mapping
from typing import Any

from function import errors, events
from function.scaling import address_policy, conventions, placeholders

KEYS = ("url", "headers", "body", "success")
IDEMPOTENCY = "Idempotency-Key"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_OURS = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect")
)
"""Headers that decide how, and to whom, a request is sent; a Secret may not."""
_SLACK = re.compile(r"(?:[a-z0-9-]+\.)*slack(?:-gov)?\.com\.?")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is sent: a POST of ``body``, JSON in ASCII, to ``url``. success: what the Secret asks of the answer."""

    url: address_policy.Url
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    body: bytes = dataclasses.field(repr=False)
    success: conventions.Success | None = None

    def holds(self, word: str) -> bool:
        """Whether ``word`` is part of what is sent: then it may be a part of a secret."""
        sent = (self.url.path, self.url.userinfo, *self.headers.values(), self.body.decode())
        return any(word.lower() in part.lower() for part in sent)


@dataclasses.dataclass(frozen=True)
class Template:
    """The contents of a Secret, checked. remarks: a sentence for each text that only looks like a placeholder."""

    url: address_policy.Url
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    body: events.Json = dataclasses.field(repr=False)
    success: conventions.Success | None
    remarks: tuple[str, ...]

    def render(self, values: Mapping[str, placeholders.Value]) -> Request:
        """Return the request with the placeholders replaced."""
        # Slack reads & < > as its markup, and <!channel> as a call to everybody.
        in_body = escaped if _SLACK.fullmatch(self.url.host) else placeholders.plain
        defaults = {"Content-Type": "application/json", "User-Agent": "vmledger", **_authorization(self.url)}
        given = {
            name: header_text(value, values)
            for name, value in self.headers.items()
            if name.lower() != IDEMPOTENCY.lower()
        }
        names = {name.lower() for name in given}
        kept = {name: value for name, value in defaults.items() if name.lower() not in names}
        headers = {**kept, **given, IDEMPOTENCY: str(values["occurrence"])}
        body = json.dumps(placeholders.filled(self.body, values, in_body)).encode()
        return Request(self.url, headers, body, self.success)


def contents(secret: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the keys of a Secret object as text: ``data`` is base64, ``stringData`` (in a file) is text and wins.

    Raises :class:`errors.Refused`; ``where`` names the Secret in its sentence.
    """
    encoded, written = (secret.get(part) or {} for part in ("data", "stringData"))
    if not (isinstance(encoded, dict) and isinstance(written, dict)):
        raise errors.Refused(f"{where} is not a Secret: its data is not an object")
    return {
        **{key: _decoded(encoded[key], key, where) for key in KEYS if key in encoded},
        **{key: _written(written[key], key, where) for key in KEYS if key in written},
    }


def _decoded(value: object, key: str, where: str) -> str:
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True).decode("utf-8-sig")
    except (binascii.Error, ValueError):
        raise errors.Refused(f"{where}: the key {key} is not text in base64") from None


def _written(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise errors.Refused(f"{where}: the key {key} is not text")
    return value


def read(content: Mapping[str, str], where: str) -> Template:
    """Return the template that the keys of a Secret hold.

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
    remarks = dict.fromkeys((*placeholders.remarks(body), *placeholders.remarks(list(headers.values()))))
    return Template(url, headers, body, _success(content.get("success", ""), where), tuple(remarks))


def _success(text: str, where: str) -> conventions.Success | None:
    try:
        return conventions.success(text, f"{where}: the key success")
    except errors.BadEvent as exc:
        raise errors.Refused(str(exc)) from None


def _headers(text: str, where: str) -> dict[str, str]:
    if not text.strip():
        return {}
    headers = _json(text, "headers", where)
    if not isinstance(headers, dict):
        raise errors.Refused(f"{where}: the key headers is JSON, but not an object")
    found = {}
    for position, (name, value) in enumerate(headers.items(), 1):
        if not _HEADER_NAME.fullmatch(name):
            raise errors.Refused(f"{where}: the key headers has a name, number {position}, that no header can have")
        if name.lower() in _OURS:
            raise errors.Refused(f"{where}: the key headers may not set {name}")
        if isinstance(value, bool | dict | list) or value is None:
            raise errors.Refused(f"{where}: the key headers has a value, of number {position}, that is not text")
        found[name] = str(value)
    return found


def _body(text: str, where: str) -> events.Json:
    try:
        body = _json(text, "body", where)
    except errors.Refused:
        quoted = placeholders.quoted(text)
        if quoted == text:
            raise
        body = _json(quoted, "body", where)
    try:
        json.dumps(placeholders.filled(body, dict.fromkeys(placeholders.NAMES, 0)), allow_nan=False)
    except RecursionError:
        raise errors.Refused(f"{where}: the key body is nested too deep") from None
    except ValueError:  # 1e999 can be read, and would be written as Infinity
        raise errors.Refused(f"{where}: the key body has a number that JSON cannot carry") from None
    return body


def _json(text: str, key: str, where: str) -> events.Json:
    try:
        return events.parse_json(text.encode("utf-8", "surrogatepass"), f"{where}: the key {key}")
    except errors.BadEvent as exc:  # its sentence has the line and the column, and quotes nothing
        raise errors.Refused(str(exc)) from None


def _authorization(url: address_policy.Url) -> dict[str, str]:
    """Return what a user and a password in the url mean (RFC 7617)."""
    if not url.userinfo:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(url.userinfo.encode()).decode()}"}


def escaped(text: str) -> str:
    """Return a text as Slack wants it, with & < > as entities."""
    return html.escape(text, quote=False)


def header_text(text: str, values: Mapping[str, placeholders.Value]) -> str:
    """Return a header's value: placeholders replaced, on one line, without control characters."""
    return _CONTROL.sub(" ", placeholders.replaced(text, values)).strip()
