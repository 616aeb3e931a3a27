"""Secrets in XML and HTML, by the tags alone; pure.

It is never parsed as a document, so no entity is expanded and no error is possible; what is not closed, or closed
twice, is masked too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from xml.sax import saxutils

from function.echo import edits, looks, names

_MARKUP = re.compile(
    r"<!--(.*?)(?:-->|\Z)|<!\[CDATA\[(.*?)(?:\]\]>|\Z)|<\?(.*?)(?:\?>|\Z)|<(/?)([^\W\d][\w.:\-]*+)", re.DOTALL
)
_ATTRIBUTE = re.compile(r"""\s*+([^\s=<>"'/]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s<>"']++))""")
_TAG_END = re.compile(r"[^<>]*+>?")
_ENTITY = re.compile(r"""(<!ENTITY\s+(?:%\s+)?)(\S+)(\s+)(?:"[^"]*+"|'[^']*+')""")
_REFERENCE = re.compile(r"&(?!(?:lt|gt|amp|quot|apos|#\w+);)[^\s;&<]+;")
_LONGEST_KEY = 512
_NEAREST = 64
"""How many open elements an end tag may close at once; more would take time in proportion to the square."""
_DEEPEST = 2000
"""Open elements that are remembered; what is nested deeper is hidden to its end, as each of them takes memory."""
_VALUES = names.VALUES | {"integer"}
"""In a property list the element after the key is named by its type."""


class _Element:
    """An element that is open: where its content begins, and what is known of it."""

    __slots__ = ("data", "hidden", "is_leaf", "keyed", "local", "name", "of_secret", "start", "values")

    def __init__(self, name: str, start: int, *, hidden: bool, keyed: bool) -> None:
        self.name = name
        self.local = _local(name).lower()
        self.start = start
        self.hidden = hidden
        self.keyed = keyed
        """A child or an attribute is a secret's name: the children that hold a value are hidden."""
        self.values: list[tuple[int, int]] = []
        self.of_secret = self.local == "secret"
        """A Secret of Kubernetes, by its own name or a child ``kind``: the children that hold its data are hidden."""
        self.data: list[tuple[int, int]] = []
        self.is_leaf = True


class Markup:
    """Masks one text.

    inner: returns text that stands between tags, masked. document: the text between the tags has XML's character
    references, and secrets of its own; else it is a sentence, and masked already.
    """

    def __init__(self, text: str, inner: Callable[[str], str], *, document: bool) -> None:
        self._text = text
        self._inner = inner
        self._document = document
        self._open: list[_Element] = []
        self._edits = edits.Edits(text)

    def masked(self) -> str:
        """Return the text with secret contents and attribute values replaced."""
        position, seen = 0, 0
        while (position := self._text.find("<", position)) >= 0:
            markup = _MARKUP.match(self._text, position)
            if markup is None:
                position += 1
                continue
            self._between(seen, position)
            seen = position = self._tag(markup, position)
            if len(self._open) > _DEEPEST:
                self._hide(position, len(self._text))
                break
        else:
            self._between(seen, len(self._text))
        while self._open and (self._document or "</" in self._text):  # else a sentence has a word in angle brackets
            self._ended(self._open.pop(), len(self._text))
        return self._rewritten()

    def _tag(self, markup: re.Match[str], position: int) -> int:
        """Read a tag, a comment or the like; return where it ends."""
        if markup[5] is None:
            self._between(*markup.span(markup.lastindex or 0), escaped=False)
            return markup.end()
        if markup[4]:
            self._close(markup[5], position)
            return markup.end()
        return self._start(markup[5], markup.end())

    def _start(self, name: str, position: int) -> int:
        """Read a start tag; return where it ends."""
        attributes = []
        while attribute := _ATTRIBUTE.match(self._text, position):
            attributes.append((_local(attribute[1]), attribute.span(attribute.lastindex or 0)))
            position = attribute.end()
        keyed = any(
            local.lower() in names.NAMING and names.is_name_of_secret(html.unescape(self._text[slice(*span)]))
            for local, span in attributes
        )
        for local, span in attributes:
            if names.is_secret(local) or (keyed and local.lower() in _VALUES):
                self._hide(*span)
            else:
                self._between(*span)
        end = _TAG_END.match(self._text, position)
        position = end.end() if end else position
        if not (end and end[0].endswith("/>")):
            hidden = keyed or (names.is_secret(_local(name)) and _local(name).lower() != "secret")
            if self._open:
                self._open[-1].is_leaf = False
            self._open.append(_Element(name, position, hidden=hidden, keyed=keyed))
        return position

    def _close(self, name: str, position: int) -> None:
        """Close the innermost open element of that name, and what was left open inside it."""
        if any(element.name == name for element in self._open[-_NEAREST:]):
            while (element := self._open.pop()).name != name:
                self._ended(element, position)
            self._ended(element, position)

    def _ended(self, element: _Element, end: int) -> None:
        if element.hidden or (element.local == "secret" and element.is_leaf):
            self._hide(element.start, end)
        for span in [*(element.values if element.keyed else ()), *(element.data if element.of_secret else ())]:
            self._hide(*span)
        if self._open:
            self._tell(self._open[-1], element, end)

    def _tell(self, parent: _Element, element: _Element, end: int) -> None:
        """Note in an element what its child says of it."""
        if element.local in names.NAMING and end - element.start < _LONGEST_KEY:
            content = html.unescape(self._text[element.start : end]).strip()
            parent.keyed = parent.keyed or names.is_name_of_secret(content)
        elif element.local in _VALUES:
            parent.values.append((element.start, end))
        elif element.local in ("data", "stringdata"):
            parent.data.append((element.start, end))
        elif element.local == "kind" and end - element.start < _LONGEST_KEY:
            parent.of_secret = parent.of_secret or names.is_kind_of_secret(self._text[element.start : end])

    def _hide(self, start: int, end: int) -> None:
        if self._text[start:end].strip():
            self._edits.replace(start, end, looks.MASK)

    def _between(self, start: int, end: int, *, escaped: bool = True) -> None:
        """Mask a piece of text, in which a sentence, JSON or XML may hold secrets."""
        text = self._text[start:end]
        if not self._document or not text or text.isspace():
            return
        plain = html.unescape(text) if escaped and "&" in text else text
        masked = self._inner(plain)
        if masked != plain:
            self._edits.replace(start, end, saxutils.escape(masked, {'"': "&#34;"}) if escaped else masked)

    def _rewritten(self) -> str:
        text = self._edits.applied()
        if "<!ENTITY" not in text:
            return text
        # A secret element may hold &pw; only, and the document's own declarations say what that is.
        references = any(map(_REFERENCE.search, self._edits.replaced()))
        return _ENTITY.sub(
            lambda found: (
                f'{found[1]}{found[2]}{found[3]}"{looks.MASK}"' if references or names.is_secret(found[2]) else found[0]
            ),
            text,
        )


def _local(name: str) -> str:
    return name.rpartition(":")[2]
