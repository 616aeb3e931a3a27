"""What is a secret in an event, and the event's data without it: pure, and never recursive without an end.

The echo prints whatever arrives, so this room decides before anything is cut: by a secret's name
(:mod:`function.echo.names`), by its place, as in the data of a Kubernetes Secret, and by how it looks
(:mod:`function.echo.looks`). Secrets are found in JSON at any depth, in lists of keys and values, in what is text
inside: JSON, whole or broken, XML, lines such as YAML's, and sentences; and in base64 and gzip of all that.
It rather hides too much than too little, and every step takes time in proportion to the text.
"""

from __future__ import annotations

import html
import json
import math
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any, Literal

from function import events
from function.echo import encodings, lines, looks, loose_json, markup, names, sentences

MASK = looks.MASK
DEEPEST = 8
"""How many texts a text may be found in; nothing honest goes deeper, and what does is hidden."""
READINGS = 6

Place = Literal["plain", "secret", "values", "hidden"]
"""Where a JSON value stands: anywhere; as a Kubernetes Secret; as its data; under a name that hides all of it."""

_ESCAPES = (
    (re.compile(r"&(?:lt|quot|apos|#34|#39|#x22|#x27|#x3c|#60);", re.IGNORECASE), html.unescape),
    (re.compile(r"%(?:22|27|3[ad]|7b|0a|26)", re.IGNORECASE), urllib.parse.unquote),
    (re.compile(r"\\(?:[\"n]|u00)"), loose_json.unescaped),
)
_UNSEEN = re.compile("[\0\u00ad\u200b-\u200d\u2060\ufeff]")
"""What nobody sees in the middle of a name; with zeros it may be UTF-16."""
_TAG = re.compile(r"<[A-Za-z][\w.:-]{0,64}+[\s/>]")
_SIMPLE = re.compile(r"[\w.\-]{0,13}")
"""A word that is too short for any secret that is not named: most texts of an object are."""
_LONGEST_WORD = 4096
_BLANKS = "\ufeff \t\r\n"


class Encoder:
    """Writes JSON on one line, with secrets masked unless ``show``; says in ``masked`` whether there were any.

    What may be unpacked is counted for all that one of them writes. within, depth: the text that this value is in, and
    how many others that is in. longest: characters that are written of one text; ``cut`` says whether there were more.
    """

    def __init__(
        self, *, show: bool = False, within: _Text | None = None, depth: int = 0, longest: int | None = None
    ) -> None:
        self._show = show
        self._longest = longest
        self.cut = False
        self._within = within
        self._depth = depth
        self._budget = encodings.Budget()
        self.masked = False

    def encode(self, value: Any, place: Place = "plain") -> str:
        """Return ``value`` as JSON text."""
        return "".join(self.pieces(value, place))

    def pieces(self, value: Any, place: Place = "plain") -> Iterator[str]:
        """Yield ``value`` as JSON text, piece by piece; without recursion, so that all that was read can be written."""
        todo: list[Iterator[str | tuple[Any, Place]]] = [iter([(value, "plain" if self._show else place)])]
        while todo:
            item = next(todo[-1], None)
            if item is None:
                todo.pop()
            elif isinstance(item, str):
                yield item
            elif isinstance(item[0], dict | list) and item[1] != "hidden":
                todo.append(self._container(*item))
            else:
                yield self._scalar(*item)

    def text(self, value: str) -> str:
        """Return ``value`` with the secrets in it masked."""
        if self._longest is not None and len(value) > self._longest:
            value = beginning(value, self._longest)
            self.cut = True
        if self._show:
            return value
        masked = (self._within or _Text(self._budget, len(value))).masked(value, self._depth)
        self.masked = self.masked or masked != value
        return masked

    def data(self, data: bytes) -> str | None:
        """Return bytes as text with the secrets in it masked; None where there are none, or they are shown."""
        if self._show:
            return None
        masked = _Text(self._budget, len(data)).of_bytes(data, 0)
        self.masked = self.masked or masked is not None
        return masked

    def _container(self, item: dict[str, Any] | list[Any], where: Place) -> Iterator[str | tuple[Any, Place]]:
        if isinstance(item, list):
            return self._elements(item, where)
        if not self._show and isinstance(item.get("ignition"), dict):
            self.masked = True  # Ignition's files and units may be secrets under any name
            return iter([f'"{MASK}"'])
        return self._members(item, where)

    def _members(self, item: dict[str, Any], where: Place) -> Iterator[str | tuple[Any, Place]]:
        named = not self._show and _names_secret(item)
        if not self._show and where == "plain" and _is_secret(item):
            where = "secret"
        separator = "{"
        for key, value in item.items():
            yield f"{separator}{quoted(key if len(key) < names.SHORTEST_TEXT else self.text(key))}:"
            yield value, self._place(key, value, where, named=named)
            separator = ","
        yield "}" if item else "{}"

    def _place(self, key: str, value: Any, where: Place, *, named: bool) -> Place:
        """Return the place of the member ``key`` of an object."""
        if self._show:
            return "plain"
        lowered = names.bare(key)
        if where == "values" or (named and lowered in names.VALUES):
            return "hidden"
        if where == "secret" and lowered in ("data", "stringdata"):
            return "values"
        if names.is_secret(key) and not names.is_reference(value):
            return "hidden"
        return "secret" if where == "secret" and lowered == "items" else "plain"

    def _elements(self, item: list[Any], where: Place) -> Iterator[str | tuple[Any, Place]]:
        inside: Place = "hidden" if where == "values" else where
        if not self._show and any(isinstance(value, str) and looks.begins_key(value) for value in item):
            inside = "hidden"  # a key's lines, one by one
        separator = "["
        for position, value in enumerate(item):
            may_be_named = not self._show and position > 0 and not isinstance(value, dict | list)
            named = may_be_named and names.introduces(item[position - 1], value, pair=len(item) == 2)
            yield separator
            yield value, "hidden" if named else inside
            separator = ","
        yield "]" if item else "[]"

    def _scalar(self, item: Any, where: Place) -> str:
        if where in ("values", "hidden") and item not in (None, "", [], {}):
            self.masked = True
            return f'"{MASK}"'
        if isinstance(item, str):
            return quoted(self.text(item))
        if isinstance(item, float) and not math.isfinite(item):  # JSON can say 1e999 and cannot say what it is
            return quoted(str(item))
        return json.dumps(item)


def beginning(text: str, most: int) -> str:
    """Return the beginning of a text, up to a blank near the end of so many characters: no word of it is halved."""
    if len(text) <= most:
        return text
    blank = re.search(r"\s\S*\Z", text[most - _LONGEST_WORD : most])
    return text[: most - _LONGEST_WORD + (blank.start() if blank else 0)]


def quoted(text: str) -> str:
    """Return ``text`` as a JSON string that stays on one line whatever splits lines, and that UTF-8 can carry."""
    encoded = json.dumps(text, ensure_ascii=False).translate(_LINE_ENDS)
    return encoded.encode("utf-8", "backslashreplace").decode()


_LINE_ENDS = {number: f"\\u{number:04x}" for number in (0x85, 0x2028, 0x2029)}


def _is_secret(item: dict[str, Any]) -> bool:
    """Whether an object is a Kubernetes Secret, or a list of them, by its kind in any case or by its type."""
    return any(
        isinstance(value, str)
        and (
            (names.bare(key) == "kind" and value.strip().lower() in ("secret", "secretlist"))
            or (names.bare(key) == "type" and names.SECRET_TYPES.fullmatch(value) is not None)
        )
        for key, value in item.items()
    )


def _names_secret(item: dict[str, Any]) -> bool:
    """Whether a member says that one such as ``value`` beside it holds a secret."""
    return any(
        (isinstance(value, str) and names.bare(key) in names.NAMING and names.is_name_of_secret(value))
        or (value is True and names.bare(key) in names.MARKING)
        for key, value in item.items()
    )


class _Text:
    """Masks one text of ``size`` characters, which may hold others.

    Each way to read a text is tried on what the ways before it found, so a hostile text could be read 2^DEEPEST times.
    It may be read :data:`READINGS` times in all; what is left then is hidden.
    """

    def __init__(self, budget: encodings.Budget, size: int) -> None:
        self._budget = budget
        self._left = READINGS * size + 4096

    def of_bytes(self, data: bytes, depth: int) -> str | None:
        """Return bytes as text with its secrets masked; None where there are none."""
        try:
            unpacked = self._budget.unpacked(data)
        except encodings.Unreadable:
            return MASK
        if encodings.is_key(unpacked):
            return MASK
        self._left += READINGS * max(0, len(unpacked) - len(data))
        best = None
        for text in encodings.readings(unpacked):
            masked = self.masked(text, depth + (unpacked is not data))
            if masked != text and (best is None or masked.replace("\ufffd", "") == best):
                best = masked
        return best if best is None or unpacked is data else MASK

    def masked(self, text: str, depth: int, *, document: bool = True) -> str:
        """Return ``text`` with its secrets masked: JSON, XML, lines or sentences.

        depth: how many texts this one was found in. document: it may be XML as a whole.
        """
        if _SIMPLE.fullmatch(text):
            return text
        self._left -= len(text)
        if depth > DEEPEST or self._left < 0:
            return MASK
        plain = _UNSEEN.sub("", text)
        masked = self._read(plain, depth, document=document)
        return text if masked == plain else masked

    def _read(self, text: str, depth: int, *, document: bool) -> str:
        lowered = text.lower()
        if not (names.may_name(lowered) or looks.may_hold(text)):
            return self._decoded(text, depth)
        start = text.lstrip(_BLANKS)[:1]
        if start in ("{", "[") and (whole := self._json(text, depth)) is not None:
            return whole
        if start == "<" and document:
            return self._markup(text, depth, document=True)
        return self._plain(text, lowered, depth)

    def _plain(self, text: str, lowered: str, depth: int) -> str:
        masked = text
        if "{" in text or text.lstrip(_BLANKS).startswith("["):
            masked = loose_json.masked(masked, lambda inner: self.masked(inner, depth + 1))
        if names.may_name(lowered):
            masked = sentences.masked(lines.masked(masked), lowered)
        masked = self._decoded(looks.masked(masked), depth)
        if _TAG.search(masked):
            masked = self._markup(masked, depth, document=False)
        return self._escaped(masked, depth)

    def _escaped(self, text: str, depth: int) -> str:
        """Mask what is only readable without HTML's, a URL's or JSON's escapes; where it is secret, they are gone."""
        for pattern, read in _ESCAPES:
            if pattern.search(text):
                plain = read(text)
                masked = self.masked(plain, depth + 1) if plain != text else plain
                text = text if masked == plain else masked
        return text

    def _json(self, text: str, depth: int) -> str | None:
        """Return JSON text with its secrets masked, as it was where there are none.

        Return None where it is not JSON, or of more values than are read.
        """
        if len(text) > events.MOST_VALUES and events.values(text.encode("utf-8", "replace")) > events.MOST_VALUES:
            return None
        try:
            value = json.loads(text.strip(_BLANKS))
        except (ValueError, RecursionError):
            return None
        encoder = Encoder(within=self, depth=depth + 1)
        encoded = encoder.encode(value)
        return encoded if encoder.masked else text

    def _markup(self, text: str, depth: int, *, document: bool) -> str:
        def inner(piece: str) -> str:
            # A piece that begins with "<" is not markup, such as a document type, or has been read as such.
            return self.masked(piece, depth + 1, document=piece.lstrip()[:1] != "<")

        return markup.Markup(text, inner, document=document).masked()

    def _decoded(self, text: str, depth: int) -> str:
        """Mask what is base64 of something with a secret in it."""
        return encodings.RUN.sub(lambda run: MASK if self._hides(run[0], depth) else run[0], text)

    def _hides(self, run: str, depth: int) -> bool:
        return any(decoded and self.of_bytes(decoded, depth + 1) is not None for decoded in encodings.candidates(run))


def mask_text(text: str) -> str:
    """Return ``text`` with the secrets in it masked."""
    return Encoder().text(text)
