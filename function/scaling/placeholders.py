"""Placeholders in the texts of a Secret: which ones exist, where they are found and what replaces them; pure.

A placeholder is ``_name_``, or ``_name:option_`` with one or more options:

    text      always text: "6" in place of the number 6, "" in place of null
    max=140   at most so many characters as they are sent, the last one an ellipsis where something was cut
    or=none   what stands in place of a value that is missing

No letter, digit or underscore may touch it, so ``__name__`` and ``kube_cluster_name`` stay as they are; placeholders
may touch each other. Everything is replaced in one pass: a placeholder in a message stays as it is.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from function import events
from function.scaling import occurrences

Value = str | int | None
Show = Callable[[str], str]
"""How a value stands in a text of its receiver: as it is, or with the receiver's markup escaped."""

NUMBERS = frozenset(("time_s", "time_ms", "time_us", "time_ns", "time_ms_plus_1", "new_size", "count"))
"""Placeholders that become a number where they are all that a string holds."""
TEXTS = frozenset(
    (
        *("message", "time", "namespace", "name", "cluster", "reason", "type"),
        *("direction", "target", "hpa_uid", "occurrence"),
    )
)
NAMES = NUMBERS | TEXTS
"""Every placeholder, without its underscores."""

_NAME = "|".join(sorted(NAMES, key=len, reverse=True))
_OPTION = r":(?:text|max=[1-9][0-9]{0,5}|or=[^_:\"\\\x00-\x1f]{0,200})"
_ONE = re.compile(rf"_({_NAME})((?:{_OPTION})*)_")
_TOUCHED = "[A-Za-z0-9_]"
_RUN = re.compile(rf"(?<!{_TOUCHED})(?:_(?:{_NAME})(?:{_OPTION})*_)+(?!{_TOUCHED})")
_BARE = re.compile(rf'"(?:[^"\\]|\\.)*"|(?<!{_TOUCHED}){_ONE.pattern}(?!{_TOUCHED})', re.DOTALL)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")

_EDGES = re.compile(r"""[\s/:,;()|#*=<>{}"'\[\]]+""")
_UNKNOWN = re.compile(r"_([a-z0-9]+(?:_[a-z0-9]+)*)_", re.ASCII)
_MISSPELT = re.compile(r"_([A-Za-z0-9][A-Za-z0-9_.-]{0,30})_", re.ASCII)
_INSIDE = re.compile(rf"(?=_|.*_$)[A-Za-z0-9_.-]*?_({_NAME})_[A-Za-z0-9_.-]*")
"""A word that begins or ends as a placeholder does. kube_cluster_name is a word of a receiver, and not meant for us."""
_BAD_OPTION = re.compile(rf"(?<!{_TOUCHED})_({_NAME}):")
_SQUEEZED = frozenset(name.replace("_", "") for name in NAMES)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def values_of(occurrence: occurrences.Occurrence, *, target: str | None) -> dict[str, Value]:
    """Return the value of each placeholder; ``target`` is what the HPA scales, Kind/name."""
    at = occurrence.occurred_at
    microseconds = (at - _EPOCH) // _MICROSECOND
    return {
        "message": occurrence.message,
        "time": at.isoformat().replace("+00:00", "Z"),
        "time_s": microseconds // 1_000_000,
        "time_ms": microseconds // 1000,
        "time_us": microseconds,
        "time_ns": microseconds * 1000,
        "time_ms_plus_1": microseconds // 1000 + 1,
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


def plain(text: str) -> str:
    """Return a text as it is: how most receivers want it."""
    return text


def replaced(text: str, values: Mapping[str, Value], show: Show = plain) -> str:
    """Return ``text`` with its placeholders replaced by texts."""
    return _RUN.sub(lambda run: _ONE.sub(lambda one: _Placeholder.of(one).text(values, show), run[0]), text)


def filled(node: events.Json, values: Mapping[str, Value], show: Show = plain) -> events.Json:
    """Return JSON with the placeholders in its strings replaced; keys stay as they are."""
    match node:
        case str():
            whole = _ONE.fullmatch(node)
            return _Placeholder.of(whole).value(values, show) if whole else replaced(node, values, show)
        case dict():
            return {key: filled(value, values, show) for key, value in node.items()}
        case list():
            return [filled(item, values, show) for item in node]
        case _:
            return node


def quoted(text: str) -> str:
    """Return the text of a JSON document with the placeholders outside of its strings in quotes.

    A bare ``_time_``, as in the published Wavefront Secret, becomes ``_time_ms_``: JSON has no time without quotes, and
    Wavefront wants milliseconds.
    """

    def quote(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        return '"_time_ms_"' if found[0] == "_time_" else f'"{found[0]}"'

    return _BARE.sub(quote, text)


@dataclasses.dataclass(frozen=True, slots=True)
class _Placeholder:
    """One placeholder. most: its option max. other: its option or. as_text: whether it has the option text."""

    name: str
    as_text: bool
    most: int | None
    other: str | None

    @classmethod
    def of(cls, found: re.Match[str]) -> Self:
        """Read a match of :data:`_ONE`; of an option that is given twice, the last one counts."""
        options = dict(option.partition("=")[::2] for option in found[2].split(":")[1:])
        return cls(found[1], "text" in options, int(options["max"]) if "max" in options else None, options.get("or"))

    def value(self, values: Mapping[str, Value], show: Show) -> Value:
        """Return what replaces a string that holds nothing else: a number or null where it is one."""
        value = values[self.name]
        if self.as_text or self.most is not None or isinstance(value, str):
            return self.text(values, show)
        if value is None and self.other is not None:
            is_number = self.name in NUMBERS and _INTEGER.fullmatch(self.other)
            return int(self.other) if is_number else self.other
        return value

    def text(self, values: Mapping[str, Value], show: Show) -> str:
        """Return what replaces it inside a text."""
        value = values[self.name]
        if value is None:
            return self.other or ""
        return show(str(value)) if self.most is None else _cut(str(value), self.most, show)


def _cut(text: str, most: int, show: Show) -> str:
    """Return at most ``most`` characters of what ``show`` makes of ``text``, never a part of one escape."""
    if len(show(text)) <= most:
        return show(text)
    kept = ""
    for character in map(show, text):
        if len(kept) + len(character) >= most:
            break
        kept += character
    return f"{kept}…"


def remarks(node: events.Json) -> Iterator[str]:
    """Yield a sentence for each text that looks like a placeholder and is not replaced.

    A sentence quotes a name of ours, or a word between blanks or marks that is written as a placeholder is: a piece of
    a token that looks like one must not reach a log.
    """
    match node:
        case str():
            yield from _of_text(node)
        case dict():
            for key, value in node.items():
                yield from (f"{run[0]} is in a key, where nothing is replaced" for run in _RUN.finditer(key))
                yield from remarks(value)
        case list():
            for item in node:
                yield from remarks(item)


def _of_text(text: str) -> Iterator[str]:
    left = _RUN.sub(" ", text)
    for word in (part.rstrip(".!?") for part in _EDGES.split(left)):
        if _is_unknown(word):
            yield f"{word} is not a placeholder"
        elif found := _INSIDE.fullmatch(word):
            yield f"_{found[1]}_ is part of a longer word: no letter, digit or underscore may touch a placeholder"
    for found in _BAD_OPTION.finditer(left):
        yield f"_{found[1]}_ has an option that does not exist: there are text, max=NUMBER and or=TEXT"


def _is_unknown(word: str) -> bool:
    """Whether a word is written as a placeholder is, or is a name of ours in another spelling."""
    if _UNKNOWN.fullmatch(word):
        return True
    misspelt = _MISSPELT.fullmatch(word)
    return misspelt is not None and re.sub("[_.-]", "", misspelt[1]).lower() in _SQUEEZED
