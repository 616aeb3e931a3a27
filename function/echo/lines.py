"""Secrets in text that is lines of keys and values: YAML, INI, properties, headers, shell; pure.

Nothing is parsed as a document, because what is broken must be masked too: a line is an indent, perhaps dashes, a key,
a separator and a value, and what is indented deeper belongs to the key above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from function.echo import looks, names

_LINE = re.compile(
    r"(?P<indent>[ \t]*+)(?:-[ \t]++)*+(?:(?:export|set|setx|env)[ \t]+)?(?P<quote>[\"']?)"
    r"(?P<key>[\w.\-/@]{1,200}+)(?P=quote)[ \t]*+(?P<separator>[:=])[ \t]*+(?P<value>.*)",
    re.DOTALL,
)
_INDENT = re.compile(r"[ \t]*+")
_CLOUD = re.compile(r"[ \t]*+#cloud-(?:config|boothook)\b")
_BLOCK_VALUE = re.compile(r"(?:[|>][-+\d]{0,3}|![\w!/-]{1,40}|&\w{1,40})?[ \t\r]*(?:#.*)?\Z")
_NEXT_PAIR = re.compile(r"[ \t;,&][\w.\-]{1,64}(?:=|:[ \t])")
_BUTANE = re.compile(r"variant:[ \t]*[\"']?(?:fcos|flatcar|openshift|r4e|fiot)\b")
_SECRET_KIND = re.compile(r"[\"']?(?:secret|secretlist)[\"']?\s*(?:#.*)?\Z", re.IGNORECASE)


class _Line:
    """A line with a key and a value."""

    __slots__ = ("bullet", "column", "head", "indent", "key", "separator", "text", "value")

    def __init__(self, found: re.Match[str]) -> None:
        self.text = found.string
        self.key = found["key"]
        self.separator = found["separator"]
        self.value = found["value"].rstrip()
        self.head = self.text[: found.start("value")]
        self.indent = len(found["indent"])
        self.column = found.start("quote")
        """Where the key begins; keys of one mapping begin in one column."""
        self.bullet = self.text.startswith("-", self.indent)

    @property
    def is_block(self) -> bool:
        """Whether the value is not on this line but on those below."""
        return self.separator == ":" and _BLOCK_VALUE.match(self.value) is not None


def masked(text: str) -> str:
    """Return ``text`` with the secrets among its lines masked."""
    lines = text.split("\n")
    hidden: dict[int, str | None] = {}
    for start, end in _documents(lines):
        _Document(lines, start, end, hidden).mask()
    if not hidden:
        return text
    kept = (hidden.get(number, line) for number, line in enumerate(lines))
    return "\n".join(line for line in kept if line is not None)


def _documents(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for number, line in enumerate(lines):
        if line.startswith("---") and line.rstrip() == "---":
            yield start, number
            start = number + 1
    yield start, len(lines)


def _key_of(text: str) -> _Line | None:
    found = _LINE.match(text) if ":" in text or "=" in text else None
    return _Line(found) if found else None


def _says_secret(text: str) -> bool:
    """Whether a line says that its document is a Secret of Kubernetes."""
    line = _key_of(text)
    if line is None:
        return False
    if line.key.lower() == "kind":
        return _SECRET_KIND.match(line.value) is not None
    return line.key == "type" and names.SECRET_TYPES.match(line.value.strip("\"'")) is not None


class _Document:
    """Masks the lines of one YAML document, or of any other text.

    lines: those of the whole text, of which it looks at some. hidden: where it notes what is there instead of a line;
    None where a line goes.
    """

    def __init__(self, lines: Sequence[str], start: int, end: int, hidden: dict[int, str | None]) -> None:
        self._lines = lines
        self._start = start
        self._end = end
        self._hidden = hidden
        own = range(start, end)
        self._boots = any(_BUTANE.match(lines[number]) for number in own)
        self._of_secret = any(_says_secret(lines[number]) for number in own)
        self._named: set[int] = set()
        """Columns in which a key such as ``name`` has a secret's name; the values beside it are hidden."""
        self._valued: dict[int, int] = {}
        """Columns in which a key such as ``value`` came before its name, and the number of its line."""

    def mask(self) -> None:
        """Note in ``hidden`` what is to be masked."""
        number = self._start
        if self._boots:
            self._hide(self._start, self._end)
            number = self._end
        while number < self._end:
            text = self._lines[number]
            if _CLOUD.match(text):
                number = self._hide_cloud_init(number)
                continue
            line = _key_of(text)
            number = number + 1 if line is None else self._pair(number, line)

    def _pair(self, number: int, line: _Line) -> int:
        """Mask a line with a key and what belongs to it, where that is a secret; return the next line's number."""
        if line.bullet or not line.column:
            self._named = {column for column in self._named if column < line.column}
            self._valued = {column: value for column, value in self._valued.items() if column < line.column}
        key = line.key.lower()
        of_secret = self._of_secret and key in ("data", "stringdata") and line.separator == ":"
        if of_secret or (names.is_secret(line.key) and not self._is_reference(number, line)):
            return self._hide_value(number, line)
        if key in names.NAMING and names.is_name_of_secret(line.value.strip("\"',; \t")):
            self._named.add(line.column)
            if line.column in self._valued:
                before = self._valued.pop(line.column)
                earlier = _key_of(self._lines[before])
                if earlier is not None:
                    self._hide_value(before, earlier)
        elif key in names.VALUES:
            if line.column in self._named:
                return self._hide_value(number, line)
            self._valued[line.column] = number
        return number + 1

    def _below(self, number: int, line: _Line) -> int:
        """Return the number of the first line that does not belong to the key of this one."""
        bullets = line.is_block and line.column == line.indent
        end = last = number + 1
        while end < self._end:
            text = self._lines[end]
            indent = _INDENT.match(text).end()  # type: ignore[union-attr]  # it matches nothing too
            blank = indent == len(text) or text.isspace()
            if not (blank or indent > line.column or (bullets and indent == line.column and text[indent] == "-")):
                break
            end += 1
            last = last if blank else end
        return last

    def _is_reference(self, number: int, line: _Line) -> bool:
        """Whether what is below the key only points to a secret."""
        if not line.is_block:
            return False
        keys = [_key_of(text) for text in self._lines[number + 1 : self._below(number, line)] if text.strip()]
        return bool(keys) and all(key is not None and key.key.lower() in names.REFERENCE for key in keys)

    def _hide_value(self, number: int, line: _Line) -> int:
        """Mask the value of a line, and the lines that belong to it; return the number of the next one."""
        end = self._below(number, line) if line.separator == ":" else number + 1
        if line.is_block:
            self._hide(number + 1, end)
            return end
        several = line.separator == "=" and line.value[:1] not in ("'", '"') and _NEXT_PAIR.search(line.value)
        points = names.is_flow_of_reference(line.value)
        if several or points or line.value in ("", looks.MASK):
            return number + 1  # what has a name of its own in there is found by that
        quotes = line.value[:3]
        if quotes in ('"""', "'''") and quotes not in line.value[3:]:
            end = next((at + 1 for at in range(number + 1, self._end) if quotes in self._lines[at]), self._end)
        while end < self._end and self._lines[end - 1].rstrip().endswith("\\"):
            end += 1  # properties and shell go on in the next line
        self._hide(number, end, head=line.head)
        return end

    def _hide_cloud_init(self, number: int) -> int:
        """Mask cloud-init's data: all that is indented as its first line is, or deeper."""
        indent = _INDENT.match(self._lines[number]).end()  # type: ignore[union-attr]
        end = number + 1
        while end < self._end:
            text = self._lines[end]
            if text.strip() and _INDENT.match(text).end() < indent:  # type: ignore[union-attr]
                break
            end += 1
        self._hide(number, end)
        return end

    def _hide(self, start: int, end: int, head: str | None = None) -> None:
        """Put the mask in the place of some lines, after ``head`` or the first one's indent."""
        if start >= end:
            return
        first = self._lines[start]
        before = first[: len(first) - len(first.lstrip(" \t"))] if head is None else head
        self._hidden.update(dict.fromkeys(range(start, end)))
        self._hidden[start] = before + looks.MASK + ("\r" if first.endswith("\r") else "")
