"""What is a secret in an event, and the event's data without it: pure, and never recursive.

The echo prints whatever arrives, so this room decides by name and by place, before anything is cut:
names that contain password or token, session ids, the keys of an encrypted VM (``encryption.bundle``), cloud-init
data, the data of a Kubernetes Secret, last-applied-configuration, Authorization.
They are found in JSON at any depth, in lists of keys and values, in JSON or YAML that is text inside, in XML and in
sentences such as vCenter's ``config.extraConfig("encryption.bundle").value: "a" -> "b"``.
It rather hides too much than too little, and every step takes time in proportion to the text.
"""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any, Literal
from xml.sax import saxutils

MASK = "***"

_WORDS = (
    r"password|passwd|token|session[-_. ]?id(?!le|ent)|encryption[-_.]?(?:bundle|keysafe|data)"
    r"|last-?applied-?configuration|(?:user|network)[-_.]?data(?:[-_.]?base64)?(?![a-z])|authorization"
)
_HINTS = ("passw", "token", "session", "encryption", "applied", "data", "authorization", "bearer")
"""Each secret has one of these in it; looking for them first is what makes a large event cheap."""
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_NAMES = frozenset({"key", "name", "path"})
"""Members that name what the member beside them holds: vSphere's OptionValue, a container's env, a JSON patch."""
_VALUES = frozenset({"value", "values", "val", "content"})

Place = Literal["plain", "secret", "values", "hidden"]
"""Where a JSON value stands: anywhere; as a Kubernetes Secret; as its data; under a name that hides all of it."""


def is_secret_name(name: str) -> bool:
    """Whether what ``name`` names is a secret."""
    return _SECRET.search(name) is not None


def _may_hold(text: str) -> bool:
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


# --- JSON -------------------------------------------------------------------------------------------------------------


class _Encoded(str):
    """A piece of JSON text that is ready."""

    __slots__ = ()


class Encoder:
    """Writes JSON on one line, with secrets masked unless ``show``; says in ``masked`` whether there were any."""

    def __init__(self, *, show: bool = False, depth: int = 0) -> None:
        self._show = show
        self._depth = depth
        self.masked = False

    def encode(self, value: Any, place: Place = "plain") -> str:
        """Return ``value`` as JSON text; without recursion, so that whatever could be read can be written."""
        pieces: list[str] = []
        todo: list[tuple[Any, Place]] = [(value, "plain" if self._show else place)]
        while todo:
            item, where = todo.pop()
            if isinstance(item, _Encoded):
                pieces.append(item)
            elif where == "hidden" and item not in (None, "", [], {}):
                self.masked = True
                pieces.append(f'"{MASK}"')
            elif isinstance(item, dict):
                todo += reversed(self._members(item, where))
            elif isinstance(item, list):
                todo += reversed(self._elements(item, where))
            else:
                pieces.append(self._scalar(item, where))
        return "".join(pieces)

    def text(self, value: str) -> str:
        """Return ``value`` with the secrets in it masked."""
        masked = value if self._show else mask_text(value, self._depth)
        self.masked = self.masked or masked != value
        return masked

    def _members(self, item: dict[str, Any], where: Place) -> list[tuple[Any, Place]]:
        pairs = {} if self._show else item
        named = any(
            isinstance(value, str) and key.lower() in _NAMES and is_secret_name(value) for key, value in pairs.items()
        )
        kind = item.get("kind")
        members: list[tuple[Any, Place]] = [(_Encoded("{"), "plain")]
        for key, value in item.items():
            members.append((_Encoded(f"{',' if len(members) > 1 else ''}{quoted(key)}:"), "plain"))
            members.append((value, self._place(key, where, kind, named=named)))
        return [*members, (_Encoded("}"), "plain")]

    def _place(self, key: str, where: Place, kind: object, *, named: bool) -> Place:
        """Return the place of the member ``key`` of an object."""
        if self._show:
            return "plain"
        if where == "values" or is_secret_name(key) or (named and key.lower() in _VALUES):
            return "hidden"
        if key in ("data", "stringData") and (where == "secret" or kind == "Secret"):
            return "values"
        return "secret" if key == "items" and kind == "SecretList" else "plain"

    def _elements(self, item: list[Any], where: Place) -> list[tuple[Any, Place]]:
        inside: Place = "hidden" if where == "values" else where
        elements: list[tuple[Any, Place]] = [(_Encoded("["), "plain")]
        for position, value in enumerate(item):
            hidden = not self._show and position > 0 and _introduces(item[position - 1], pair=len(item) == 2)
            if position:
                elements.append((_Encoded(","), "plain"))
            elements.append((value, "hidden" if hidden and not isinstance(value, dict | list) else inside))
        return [*elements, (_Encoded("]"), "plain")]

    def _scalar(self, item: Any, where: Place) -> str:
        if where == "values" and item not in (None, ""):
            self.masked = True
            return f'"{MASK}"'
        if isinstance(item, str):
            return quoted(self.text(item))
        if isinstance(item, float) and not math.isfinite(item):  # JSON can say 1e999 and cannot say what it is
            return quoted(str(item))
        return json.dumps(item)


def quoted(text: str) -> str:
    """Return ``text`` as a JSON string that stays on one line whatever splits lines, and that UTF-8 can carry."""
    encoded = json.dumps(text, ensure_ascii=False).translate(_LINE_ENDS)
    return encoded.encode("utf-8", "backslashreplace").decode()


_LINE_ENDS = {number: f"\\u{number:04x}" for number in (0x85, 0x2028, 0x2029)}


def _introduces(before: Any, *, pair: bool) -> bool:
    """Whether a list's element names the next one: ``--password`` in a command, or the first of a pair."""
    return (
        isinstance(before, str)
        and (pair or before.startswith("-"))
        and not re.search(r"[\s=]", before)
        and is_secret_name(before)
    )


# --- text -------------------------------------------------------------------------------------------------------------

_REST = r"[\w.\-/]{0,64}+"
_BARE = r"""(?:[^\s;&"'<>,)\]}]|["',)\]}](?=[^\s;&"'<>,)\]}]))++"""
_VALUE = (
    r"""(?:\\"(?:[^"\\]|\\[^"])*+(?:\\?"|\Z)|"(?:[^"\\]|\\[\s\S])*+(?:"|\Z)|'[^']*+(?:'|\Z)|<[^<>\n]{0,64}>"""
    rf"|{_BARE})"
)
_ASSIGNED = re.compile(
    rf"""((?:{_WORDS}){_REST}(?:\\?["')\]]){{0,4}}+{_REST}
        (?:\s{{0,8}}(?:=>|->|:=|[:=])\s{{0,8}}
          |\s{{0,8}},\s{{0,8}}\\?["']?(?:value|val)\\?["']?\s{{0,8}}[:=]\s{{0,8}}))
        (?:(?:basic|bearer|digest|negotiate|\w{{0,32}}token)[ ])?
        {_VALUE}(?:\s{{0,8}}(?:->|=>)\s{{0,8}}{_VALUE})*+""",
    re.IGNORECASE | re.VERBOSE,
)
_SCHEMED = re.compile(r"((?:bearer|vrealizeopstoken|opstoken|sso2token|csptoken)[ ]+)[\w.~+/:=-]{8,}+", re.IGNORECASE)
_HEADER = re.compile(r"(authorization[\"']?[ \t]*[:=][ \t]*)[^\r\n\"']+", re.IGNORECASE)
_LINE = re.compile(
    rf"^([ \t\-]*+[\"']?[\w.\-/]{{0,64}}?(?:{_WORDS}){_REST}[\"']?[ \t]*+:[ \t]++)(?![|>&\"'{{\[])[^\r\n]+",
    re.IGNORECASE | re.MULTILINE,
)
_BLOCK = re.compile(
    rf"^(([ ]*+)(-[ ]+)?[\w.\-/]{{0,64}}?(?:{_WORDS}){_REST}[ \t]*:[ \t]*(?:[|>][-+\d]*)?[ \t]*\r?\n)"
    r"(?:\2(?:[ ]+|(?(3)(?!)|-[ ]))[^\n]*(?:\n|\Z)|[ \t]*\r?\n)++",
    re.IGNORECASE | re.MULTILINE,
)
_YAML_SECRET = re.compile(r"^[ \t]*(?:-[ ]+)?kind:[ \t]*[\"']?Secret\b", re.MULTILINE)
_YAML_DATA = re.compile(
    r"^(([ ]*+)(?:-[ ]+)?(?:data|stringData):[ \t]*\r?\n)(?:\2[ ]+[^\n]*(?:\n|\Z)|[ \t]*\r?\n)++", re.MULTILINE
)
_YAML_INLINE = re.compile(r"^([ \t\-]*+(?:data|stringData):[ \t]*)\{[^}]*+(?:\}[^\n]*+)?", re.MULTILINE)
DEEPEST = 8
_CLOUD_CONFIG = re.compile(r"\s*(?:#cloud-config\b|## template: jinja\s*\n#cloud-config\b)")


def mask_text(text: str, depth: int = 0) -> str:
    """Return ``text`` with the secrets in it masked, be it JSON, XML, YAML or a sentence.

    depth: how many texts this one was found in; nothing honest goes deeper than DEEPEST, and all of it is hidden.
    """
    if depth > DEEPEST or _CLOUD_CONFIG.match(text):
        return MASK
    start = text.lstrip()[:1]
    if start in ("{", "[") and (masked := _mask_json(text, depth)) is not None:
        return masked
    if start == "<":
        return _Xml(text, depth, document=True).masked()
    masked = _mask_sentences(text)
    if "</" in masked:
        masked = _Xml(masked, depth, document=False).masked()
    if "&lt;/" in masked:
        plain = html.unescape(masked)
        again = mask_text(plain, depth + 1)
        masked = masked if again == plain else saxutils.escape(again)
    return masked


def _mask_json(text: str, depth: int) -> str | None:
    """Return JSON text with its secrets masked, as it was where there are none; None where it is no JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    encoder = Encoder(depth=depth + 1)
    encoded = encoder.encode(value)
    return encoded if encoder.masked else text


def _mask_sentences(text: str) -> str:
    if _YAML_SECRET.search(text):
        text = _YAML_INLINE.sub(rf"\1{MASK}", _YAML_DATA.sub(rf"\1\2  {MASK}\n", text))
    if not _may_hold(text):
        return text
    text = _BLOCK.sub(rf"\1\2  {MASK}\n", text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    text = _LINE.sub(rf"\1{MASK}", text)
    text = _ASSIGNED.sub(rf"\1{MASK}", text)
    return _SCHEMED.sub(rf"\1{MASK}", text)


# --- XML --------------------------------------------------------------------------------------------------------------

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


class _Element:
    """An element that is open: where its content begins, and what is known of it."""

    __slots__ = ("data", "hidden", "keyed", "local", "name", "secret", "start", "values")

    def __init__(self, name: str, start: int, *, hidden: bool, keyed: bool) -> None:
        self.name = name
        self.local = _local(name)
        self.start = start
        self.hidden = hidden
        self.keyed = keyed
        """A child or an attribute says a secret's name: the children that hold a value are hidden."""
        self.values: list[tuple[int, int]] = []
        self.secret = self.local == "secret"
        """A Secret of Kubernetes, by its own name or a child ``kind``: the children that hold its data are hidden."""
        self.data: list[tuple[int, int]] = []


class _Xml:
    """Masks XML by its tags alone: it is never parsed as a document, so no entity is expanded and no error possible.

    document: the text between the tags is XML's, with character references; else it is a sentence, masked already.
    """

    def __init__(self, text: str, depth: int, *, document: bool) -> None:
        self._text = text
        self._depth = depth
        self._document = document
        self._open: list[_Element] = []
        self._edits: list[tuple[int, int, str]] = []
        """What to replace: start, minus the end, by what; so that sorting puts the outermost first."""

    def masked(self) -> str:
        """Return the text with secret contents and attribute values replaced."""
        position, seen = 0, 0
        while (position := self._text.find("<", position)) >= 0:
            markup = _MARKUP.match(self._text, position)
            if markup is None:
                position += 1
                continue
            self._between(seen, position)
            if markup[5] is None:
                group = markup.lastindex or 0
                self._between(*markup.span(group), escaped=False)
                position = markup.end()
            elif markup[4]:
                self._close(markup[5], position)
                position = markup.end()
            else:
                position = self._start(markup[5], markup.end())
            seen = position
        self._between(seen, len(self._text))
        while self._open:
            self._ended(self._open.pop(), len(self._text))
        return self._rewritten()

    def _start(self, name: str, position: int) -> int:
        """Read a start tag; return where it ends."""
        attributes = []
        while attribute := _ATTRIBUTE.match(self._text, position):
            attributes.append((_local(attribute[1]), attribute.span(attribute.lastindex or 0)))
            position = attribute.end()
        keyed = any(
            local in _NAMES and is_secret_name(html.unescape(self._text[slice(*span)])) for local, span in attributes
        )
        for local, span in attributes:
            if is_secret_name(local) or (keyed and local in _VALUES):
                self._hide(*span)
            else:
                self._between(*span)
        end = _TAG_END.match(self._text, position)
        position = end.end() if end else position
        if not (end and end[0].endswith("/>")):
            hidden = keyed or is_secret_name(_local(name))
            self._open.append(_Element(name, position, hidden=hidden, keyed=keyed))
        return position

    def _close(self, name: str, position: int) -> None:
        """Close the innermost open element of that name, and what was left open inside it."""
        if any(element.name == name for element in self._open[-_NEAREST:]):
            while (element := self._open.pop()).name != name:
                self._ended(element, position)
            self._ended(element, position)

    def _ended(self, element: _Element, end: int) -> None:
        if element.hidden:
            self._hide(element.start, end)
        for span in [*(element.values if element.keyed else ()), *(element.data if element.secret else ())]:
            self._hide(*span)
        if not self._open:
            return
        parent = self._open[-1]
        if element.local in _NAMES and end - element.start < _LONGEST_KEY:
            content = html.unescape(self._text[element.start : end])
            parent.keyed = parent.keyed or is_secret_name(content)
        elif element.local in _VALUES:
            parent.values.append((element.start, end))
        elif element.local in ("data", "stringdata"):
            parent.data.append((element.start, end))
        elif element.local == "kind":
            parent.secret = parent.secret or self._text[element.start : end].strip() == "Secret"

    def _hide(self, start: int, end: int) -> None:
        if self._text[start:end].strip():
            self._edits.append((start, -end, MASK))

    def _between(self, start: int, end: int, *, escaped: bool = True) -> None:
        """Mask a piece of text, in which a sentence, JSON or XML may hold secrets."""
        text = self._text[start:end]
        if not self._document or not text or ("&" not in text and not _may_hold(text)):
            return
        plain = html.unescape(text) if escaped else text
        # A piece that begins with "<" is no markup, such as a document type; only what was escaped may be.
        stray = plain == text and text.lstrip()[:1] == "<"
        masked = _mask_sentences(plain) if stray else mask_text(plain, self._depth + 1)
        if masked != plain:
            replacement = saxutils.escape(masked, {'"': "&#34;"}) if escaped else masked
            self._edits.append((start, -end, replacement))

    def _rewritten(self) -> str:
        pieces, position, references = [], 0, False
        for start, minus_end, replacement in sorted(self._edits):
            if start < position:
                continue  # inside what is hidden already
            pieces += [self._text[position:start], replacement]
            references = references or _REFERENCE.search(self._text[start:-minus_end]) is not None
            position = -minus_end
        text = "".join([*pieces, self._text[position:]])
        if "<!ENTITY" not in text:
            return text
        # A secret element may hold &pw; only, and the document's own declarations say what that is.
        return _ENTITY.sub(
            lambda found: (
                f'{found[1]}{found[2]}{found[3]}"{MASK}"' if references or is_secret_name(found[2]) else found[0]
            ),
            text,
        )


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()
