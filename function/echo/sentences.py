"""Secrets in sentences: a name, something between, and a value, wherever they stand in a text; pure.

Such as vCenter's ``config.extraConfig("encryption.bundle").value: "a" -> "b"``, a URL's query, a header, a command.
"""

from __future__ import annotations

import base64
import binascii
import re

from function.echo import looks, names

_REST = r"[\w.\-/]{0,64}+"
_QUOTE = r"(?:\\?[\"'`]|\*|&(?:quot|apos|\#34|\#39|\#x22|\#x27);)"
_BARE = r"""(?:[^\s;&"'<>,)\]}]|["',)\]}](?=[^\s;&"'<>,)\]}]))++"""
_VALUE = (
    r"""(?:\"{3}(?:[^"]|"(?!""))*+(?:\"{3}|\Z)|\\"(?:[^"\\]|\\[^"])*+(?:\\?"|\Z)|"(?:[^"\\]|\\[\s\S])*+(?:"|\Z)|'[^']*+(?:'|\Z)|`[^`]*+(?:`|\Z)"""
    rf"|<[^<>\n]{{0,64}}>|\[[^\[\]\n]++\]?|\{{[^{{}}\n]++\}}?|&(?:quot|\#34);[^&]*+(?:&(?:quot|\#34);)?|{_BARE})"
)
_NAME = re.compile(rf"(?:{names.SCAN}){_REST}", re.IGNORECASE)
_STRIDE, _LONGEST_NAME = 2**16, 256
_SEPARATOR = re.compile(
    rf"""(?:{_QUOTE}|[)\]]){{0,4}}+{_REST}[\]\[}}{{,\\]?
        (?:(?:[ \t]{{1,4}}(?:is|was))?[ \t]{{0,8}}(?:=>|->|:=|[:=|]|%3[AaDd])[ \t]{{0,8}}(?:[\]}},\\][ \t]{{0,8}})?
          |\s{{0,8}}[,;]?\s{{0,32}}{_QUOTE}?(?:value|val|content){_QUOTE}?\s{{0,8}}[:=]\s{{0,8}}
          |[\x00-\x1f\ufffd]{{0,3}}[\x00-\x08\x0b\x0c\x0e-\x1f\ufffd][\x00-\x1f\ufffd]{{0,3}})
        (?:(?:basic|bearer|digest|negotiate|apikey|\w{{0,32}}token)[ ]{{1,4}})?""",
    re.IGNORECASE | re.VERBOSE,
)
"""What stands between a name and its value; in protobuf and the like, lengths and tags."""
_ASSIGNED = re.compile(rf"{_VALUE}(?:\s{{0,8}}(?:->|=>)\s{{0,8}}{_VALUE})*+", re.VERBOSE)
_GAP = re.compile(r"[ \t]{1,4}(?:(?:is|was|equals|--plaintext|--iscrypted)[ \t]{1,4})?")
_TOLD = re.compile(
    r"'[^'\s]{3,}+'|\"[^\"\s]{3,}+\"|`[^`\s]{3,}+`|(?![-\[({<:=])(?=[^\s\d!#$%^*@_+~|]{0,64}[\d!#$%^*@_+~|])[^\s,;\"']++"
)
"""A value that follows its name after a blank: quoted, or with a digit or a sign that words do not have."""
_ARGUMENT = re.compile(r"[ \t]{1,4}(?!-)(?:\"[^\"]*+\"|'[^']*+'|[^\s\"';|&]++)")
_ELEMENT = re.compile(r"[^<>]{0,200}>([^\s<>]++)")
_LEFT = re.compile(r"[\w.\-/]*+")
_POINTING = re.compile(r"secrets?", re.IGNORECASE)
"""A name after which a sentence says which one, not what it is: ``secret "db" not found``."""

_HEADER = re.compile(r"((?:authorization|cookie)[\"']?[ \t]*[:=][ \t]*)(?!\*\*\*)[^\r\n\"']+", re.IGNORECASE)
_SCHEMED = re.compile(
    r"((?:bearer|vrealizeopstoken|opstoken|sso2token|csptoken)[ ]+)"
    r"(?:[\w.~+/:=-]{8,}+|(?=[^\s\d]{0,8}\d)[\w.~+/:=-]{4,}+)",
    re.IGNORECASE,
)
_FORM_PART = re.compile(
    r"(name=\"?([^\"\r\n;]{1,100})\"?[^\r\n]{0,200}\r?\n(?:[\w-]{1,40}:[^\r\n]{0,200}\r?\n){0,5}\r?\n)(.*?)(?=\r?\n--|\Z)",
    re.DOTALL,
)
_BASIC = re.compile(r"(?<![a-z])(basic[ ]+)([A-Za-z0-9+/]{6,}+={0,2})", re.IGNORECASE)


def masked(text: str, lowered: str) -> str:
    """Return ``text`` with the secrets in its sentences masked; ``lowered`` is the text in lower case."""
    if "authorization" in lowered or "cookie" in lowered:
        text = _HEADER.sub(rf"\1{looks.MASK}", text)
    if "form-data" in lowered:
        text = _FORM_PART.sub(lambda found: found[1] + looks.MASK if names.is_secret(found[2]) else found[0], text)
    text = _named(text)
    if "bearer" in lowered or "token" in lowered:
        text = _SCHEMED.sub(rf"\1{looks.MASK}", text)
    return _BASIC.sub(_user_and_password, text) if "basic " in lowered else text


def _named(text: str) -> str:
    """Mask the value after each name of a secret."""
    pieces, done, position = [], 0, 0
    while found := _next_name(text, position):
        position = found.end()
        if not names.is_secret(_whole_name(text, found)):
            continue
        start, end = _value(text, found)
        if end > start and text[start:end] != looks.MASK:
            pieces += [text[done:start], looks.MASK]
            done = end
        position = max(position, end)
    return "".join([*pieces, text[done:]]) if pieces else text


def _next_name(text: str, position: int) -> re.Match[str] | None:
    """Find the next part of a text that may name a secret, some way at a time.

    A search of a long text is one step for the interpreter, in which nothing else runs.
    """
    while position < len(text):
        end = position + _STRIDE
        found = _NAME.search(text, position, end + _LONGEST_NAME)
        if found and found.start() < end:
            return found
        position = end
    return None


def _whole_name(text: str, found: re.Match[str]) -> str:
    """Return the name of which a part was found, from its beginning."""
    before = _LEFT.match(text[max(0, found.start() - 64) : found.start()][::-1])
    return (before[0][::-1] if before else "") + found[0]


def _value(text: str, found: re.Match[str]) -> tuple[int, int]:
    """Return where the value of a name begins and ends; nowhere where none follows."""
    position = found.end()
    separator = _SEPARATOR.match(text, position)
    if separator:
        value = _ASSIGNED.match(text, separator.end())
        return value.span() if value and not names.is_flow_of_reference(value[0]) else (0, 0)
    if text[found.start() - 1 : found.start()] in ("<", ":") and (element := _ELEMENT.match(text, position)):
        return element.span(1)
    is_option = text[max(0, found.start() - 64) : found.start()].rpartition(" ")[2].startswith("-")
    if is_option:
        value = _ARGUMENT.match(text, position)
        return (position + 1, value.end()) if value else (0, 0)
    gap = _GAP.match(text, position)
    told = _TOLD.match(text, gap.end()) if gap and not _POINTING.fullmatch(found[0]) else None
    return told.span() if told else (0, 0)


def _user_and_password(found: re.Match[str]) -> str:
    try:
        decoded = base64.b64decode(found[2] + "=" * (-len(found[2]) % 4))
    except (binascii.Error, ValueError):
        return found[0]
    return found[1] + looks.MASK if b":" in decoded else found[0]
