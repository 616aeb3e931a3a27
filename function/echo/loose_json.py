"""Secrets in what looks like JSON and cannot be read as such: cut off, with one byte too many, in a sentence; pure.

Also Python's and JavaScript's way of writing objects, and YAML's flows. Braces, quotes, colons and commas are all that
is looked at, so that what one odd byte breaks is masked by name and place as what is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from function.echo import edits, looks, names

_TOKEN = re.compile(
    r'"(?![\s{}\[\],:]+")(?:[^"\\]|\\[\s\S])*+(?:"|\Z)'
    r"|(?<![\w])'(?:[^'\\\n]|\\.)*+'(?=\s{0,16}[:,}\])])"
    r"|[{}\[\],:]"
    r"|[^\s{}\[\],:\"][^{}\[\],:\"\r\n]*+"
)
"""A string, a sign, or a bare word. A string of signs alone is none: then a quote too many stands before it."""
_OPENING = re.compile(r"[{\[]")
_DEEPEST = 500
"""Open braces that are remembered; what is nested deeper is hidden to its end, as each of them takes memory."""
_LONGEST_NAME = 300
_DATA = ("data", "stringdata")
_OF_SECRET = re.compile(
    r"kind[\"']?\s{0,8}[:=]\s{0,8}[\"']?secret(?:list)?\b|stringdata"
    rf"|type[\"']?\s{{0,8}}:\s{{0,8}}[\"']?(?:{names.TYPES})\b",
    re.IGNORECASE,
)
"""A Secret is somewhere in the text: which object it is may be what is broken, so the data of all are hidden."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\s\S])|\Z)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": " ", "f": " "}


class _Frame:
    """A brace or bracket that is open: where it begins, and what its members say of one another."""

    __slots__ = ("before", "boots", "data", "elements", "key", "last", "named", "start", "values")

    def __init__(self, start: int) -> None:
        self.start = start
        self.key = ""
        self.last: tuple[int, int] | None = None
        """The value that was read last; a colon makes it a key."""
        self.named = False
        self.values: list[tuple[int, int]] = []
        self.data: list[tuple[int, int]] = []
        self.boots = False
        self.elements = 0
        self.before = ""
        """The element of a list that was read last, where it is short; it may name the next one."""


class Loose:
    """Masks one text; ``inner`` returns a text that is a value in it, masked."""

    def __init__(self, text: str, inner: Callable[[str], str]) -> None:
        self._text = text
        self._inner = inner
        self._of_secret = _OF_SECRET.search(text) is not None
        self._open: list[_Frame] = []
        self._all_json = _OPENING.match(text.lstrip()) is not None
        """Else there are sentences between the braces, in which a quote means nothing."""
        self._edits = edits.Edits(text)
        self._balanced = True
        """Each brace is closed, and no other; else it cannot be known where the data of a Secret end."""
        self._data_at: int | None = None
        self._named = False
        self._values: list[tuple[int, int]] = []

    def masked(self) -> str:
        """Return the text with the values of secret members replaced."""
        position = 0
        if self._all_json:
            self._open.append(_Frame(0))  # for what comes after a brace too many
        while token := (_TOKEN if self._open else _OPENING).search(self._text, position):
            self._read(token)
            position = token.end()
            if len(self._open) > _DEEPEST:
                self._hide(token.start(), len(self._text))
                break
        self._balanced = self._balanced and len(self._open) == self._all_json
        while self._open:
            self._end(len(self._text))
        if not self._balanced:
            self._hide_beyond_braces()
        return self._edits.applied()

    def _hide_beyond_braces(self) -> None:
        """Hide what a name or a kind anywhere may be about, where the braces do not say which object is which."""
        if self._data_at is not None and self._of_secret:
            self._hide(self._data_at, len(self._text))
        for span in self._values if self._named else ():
            self._hide(*span)

    def _read(self, token: re.Match[str]) -> None:
        text = token[0]
        if text in ("{", "["):
            self._open.append(_Frame(token.start()))
        elif text in ("}", "]"):
            self._close(text, token.end())
        elif text == ":":
            self._make_key(self._open[-1], token.end())
        elif text == ",":
            self._next(self._open[-1])
        else:
            self._value(*token.span())

    def _close(self, sign: str, end: int) -> None:
        is_open = len(self._open) > self._all_json
        if not is_open or self._text[self._open[-1].start] != ("{" if sign == "}" else "["):
            self._balanced = False
        if is_open:
            self._end(end)

    def _make_key(self, frame: _Frame, end: int) -> None:
        """Take what was read last for the key of what comes."""
        if frame.last:
            frame.key = self._plain(*frame.last)
            frame.last = None
            if self._data_at is None and names.bare(frame.key) in _DATA:
                self._data_at = end

    def _next(self, frame: _Frame) -> None:
        """Go on to the next member or element; a comma that stands where a value should is one too many."""
        if frame.key and not frame.last:
            return
        is_short = frame.last and not frame.key and frame.last[1] - frame.last[0] <= _LONGEST_NAME
        frame.before = self._plain(*frame.last) if frame.last and is_short else ""
        frame.elements += 1
        frame.key = ""
        frame.last = None

    def _end(self, end: int) -> None:
        """Close the innermost brace, and hide what its members say is secret."""
        frame = self._open.pop()
        if frame.elements == 1 and frame.last and not frame.key and names.introduces(frame.before, "", pair=True):
            self._hide(*frame.last)
        for span in [*(frame.values if frame.named else ()), *(frame.data if self._of_secret else ())]:
            self._hide(*span)
        if frame.boots:
            self._hide(frame.start, end)
        if self._open:
            self._value(frame.start, end)

    def _value(self, start: int, end: int) -> None:
        """Take a value, or what a colon will make a key."""
        frame = self._open[-1]
        key, frame.last = frame.key, (start, end)
        is_scalar = self._text[start] not in "{["
        if not key:
            if is_scalar:
                self._element(frame, start, end)
            return
        lowered = names.bare(key)
        if names.is_secret(key) and lowered not in _DATA:
            self._hide(start, end)
        elif lowered in _DATA:
            frame.data.append((start, end))
        elif lowered == "ignition" and not is_scalar:
            frame.boots = True
        if is_scalar:
            self._scalar(frame, lowered, start, end)
        elif lowered in names.VALUES:
            frame.values.append((start, end))

    def _element(self, frame: _Frame, start: int, end: int) -> None:
        is_short = end - start <= _LONGEST_NAME
        if frame.before and names.introduces(frame.before, self._plain(start, end) if is_short else "", pair=False):
            self._hide(start, end)
        self._look_into(start, end)

    def _scalar(self, frame: _Frame, key: str, start: int, end: int) -> None:
        self._look_into(start, end)
        if key in names.VALUES:
            frame.values.append((start, end))
            self._values.append((start, end))
        if end - start > _LONGEST_NAME:
            return
        value = self._plain(start, end)
        if (key in names.NAMING and names.is_name_of_secret(value)) or (key in names.MARKING and value == "true"):
            frame.named = self._named = True

    def _look_into(self, start: int, end: int) -> None:
        """Mask what a quoted value says, where its escapes hide that from those who read the text as it is."""
        if self._text[start] != '"' or "\\" not in self._text[start:end]:
            return
        plain = self._plain(start, end)
        masked = self._inner(plain)
        if masked != plain:
            self._edits.replace(start, end, json.dumps(masked, ensure_ascii=False))

    def _plain(self, start: int, end: int) -> str:
        """Return what a scalar says, without its quotes and escapes."""
        text = self._text[start:end].strip()
        return unescaped(text.strip(text[0])) if text[:1] in ('"', "'") else text

    def _hide(self, start: int, end: int) -> None:
        if self._text[start:end].strip("\"' \t\r\n{}[]"):
            mask = f'"{looks.MASK}"' if self._text[start] in '"{[' else looks.MASK
            self._edits.replace(start, end, mask)


def unescaped(text: str) -> str:
    """Return text without JSON's backslashes, wherever it was cut."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2] or "", found[2] or ""), text
    )


def masked(text: str, inner: Callable[[str], str]) -> str:
    """Return ``text`` with what its braces show to be secret masked."""
    return Loose(text, inner).masked()
