"""Which VMs a query string asks for, and in which order; pure.

The words of the search: each must be found in a name, namespace, node, address or label, in any case. A word with one
of the prefixes of :data:`FIELDS` is looked for there alone, and ``label:app=web`` wants that label, ``label:app`` any
value of it. A word with another prefix is a word: addresses have colons.
"""

from __future__ import annotations

import dataclasses
import json
import string
from collections.abc import Mapping
from typing import Any

from function import errors
from function.page import query

FACETS = ("cluster", "namespace", "status", "phase", "node", "guest_os", "instancetype")
"""What VMs are counted by and filtered by: names in the query string and in the rows."""
CHOICES = (*FACETS, "owner")
"""What VMs are filtered by. Owners are not counted: there may be nearly as many as VMs."""
PARAMETERS = dict(
    zip(
        CHOICES,
        ("clusters", "namespaces", "statuses", "phases", "nodes", "guest_oses", "instancetypes", "owners"),
        strict=True,
    )
)
"""The statements' parameter of each choice."""
FIELDS = {
    "name": "name_words",
    "namespace": "namespace_words",
    "ns": "namespace_words",
    "node": "node_words",
    "address": "address_words",
    "ip": "address_words",
}
"""The prefixes of the search, and the statements' parameter of each."""
LABEL = "label"
SORTS = {
    **dict.fromkeys(("cluster", "namespace", "name", "status", "phase", "node", "guest_os", "instancetype"), "text"),
    **dict.fromkeys(("owner", "run_strategy"), "text"),
    **dict.fromkeys(("vcpus", "memory", "disk", "created", "updated"), "number"),
}
"""What can be sorted by, and of which type its key is. By cluster means by cluster, namespace and name."""
DEFAULT_SORT = "cluster"
MOST_WORDS = 10
MOST_VALUES = 20
LAST_TEXT, LAST_NUMBER = "\U0010ffff", 2**63 - 1
FIRST_TEXT, FIRST_NUMBER = "", -(2**63)
NAMES = frozenset({*CHOICES, "q", "sort", "after", "before"})
"""The words of the query string that are read here."""
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

Key = tuple[str, int, str, str, str]
"""The place of a VM in an order: the sort's key as a text and as a number, then cluster, namespace and name."""


@dataclasses.dataclass(frozen=True)
class Search:
    """The words of a search: patterns by the statements' parameter, labels as JSON objects, and keys of labels."""

    patterns: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()
    label_keys: tuple[str, ...] = ()

    @classmethod
    def parsed(cls, text: str) -> Search:
        """Read the search; raise :class:`errors.BadQuestion` where it has too many words."""
        words = text.split()
        if len(words) > MOST_WORDS:
            raise errors.BadQuestion(f"the search has more than {MOST_WORDS} words")
        patterns: dict[str, list[str]] = {}
        labels: list[str] = []
        keys: list[str] = []
        for word in words:
            prefix, colon, rest = word.partition(":")
            if not (colon and rest and (prefix in FIELDS or prefix == LABEL)):
                patterns.setdefault("words", []).append(pattern(word))
            elif prefix != LABEL:
                patterns.setdefault(FIELDS[prefix], []).append(pattern(rest))
            elif "=" in rest:
                key, _, value = rest.partition("=")
                labels.append(json.dumps({key: value}))
            else:
                keys.append(rest)
        return cls({name: tuple(found) for name, found in patterns.items()}, tuple(labels), tuple(keys))

    def parameters(self) -> dict[str, list[str] | None]:
        """Return the statements' parameters: NULL for what is not asked."""
        names = {"words", *FIELDS.values()}
        return {
            **{name: list(self.patterns[name]) if name in self.patterns else None for name in names},
            "labels": list(self.labels) or None,
            "label_keys": list(self.label_keys) or None,
        }


def pattern(word: str) -> str:
    """Return the LIKE pattern of texts that contain the word, once they are in small letters."""
    escaped = word.translate(_LOWER)
    for special in ("\\", "%", "_"):
        escaped = escaped.replace(special, f"\\{special}")
    return f"%{escaped}%"


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which VMs are asked for. chosen: values by choice; ``""`` is for what is unknown."""

    search: Search
    chosen: Mapping[str, tuple[str, ...]]

    @classmethod
    def parsed(cls, asked: query.Query) -> Filter:
        """Read the filter of a query string; raise :class:`errors.BadQuestion`."""
        chosen = {choice: tuple(dict.fromkeys(asked.all(choice))) for choice in CHOICES}
        for choice, values in chosen.items():
            if len(values) > MOST_VALUES:
                raise errors.BadQuestion(f"{choice}= is given more than {MOST_VALUES} times")
        return cls(Search.parsed(asked.one("q")), {choice: values for choice, values in chosen.items() if values})

    @property
    def key(self) -> str:
        """What tells filters apart."""
        return json.dumps(self.parameters(), sort_keys=True)

    def parameters(self) -> dict[str, Any]:
        """Return the statements' parameters."""
        chosen = {name: list(self.chosen.get(choice, ())) or None for choice, name in PARAMETERS.items()}
        return {**chosen, **self.search.parameters()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """In which order, and from where on.

    falling: from the greatest to the least. key: of the VM that was shown last, or first where backwards is set; None
    at the beginning. What is unknown is last in both directions.
    """

    sort: str = DEFAULT_SORT
    falling: bool = False
    key: Key | None = None
    backwards: bool = False

    @classmethod
    def parsed(cls, asked: query.Query) -> Order:
        """Read the order of a query string, ``sort=-vcpus&after=…``; raise :class:`errors.BadQuestion`."""
        text = asked.one("sort") or DEFAULT_SORT
        sort = text.removeprefix("-")
        if sort not in SORTS:
            raise errors.BadQuestion(f"sort= must be one of {', '.join(SORTS)}, with - before it for the other way")
        after, before = asked.one("after"), asked.one("before")
        if after and before:
            raise errors.BadQuestion("after= and before= cannot both be given")
        given = after or before
        return cls(sort=sort, falling=text.startswith("-"), key=key(given) if given else None, backwards=bool(before))

    def parameters(self) -> dict[str, Any]:
        """Return the statements' parameters."""
        names = ("after_text", "after_number", "after_cluster", "after_namespace", "after_name")
        return {
            "sort": self.sort,
            "down": self.falling != self.backwards,
            "missing_text": FIRST_TEXT if self.falling else LAST_TEXT,
            "missing_number": FIRST_NUMBER if self.falling else LAST_NUMBER,
            **dict(zip(names, self.key or (None,) * len(names), strict=True)),
        }


def key(text: str) -> Key:
    """Read the key of a VM from the query string; raise :class:`errors.BadQuestion`."""
    try:
        found = json.loads(text)
        "".join(part for part in found if isinstance(part, str)).encode()
    except (ValueError, TypeError, RecursionError):
        found = None
    match found:
        case [str() as first, int() as number, str() as cluster, str() as namespace, str() as name] if _fits(found):
            return first, number, cluster, namespace, name
    raise errors.BadQuestion("after= and before= are made by the page's own links, and this is not one of them")


def _fits(found: list[Any]) -> bool:
    """Whether Postgres takes the parts of a key: no NUL, and a number (not true or false) within its bounds."""
    return (
        type(found[1]) is int
        and FIRST_NUMBER <= found[1] <= LAST_NUMBER
        and not any("\x00" in str(part) for part in found)
    )


def written(found: Key) -> str:
    """Return a key as the query string has it."""
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))
