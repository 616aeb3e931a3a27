"""The words of a query string, bounded, and the query strings of the same with something changed."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Sequence

from function import errors

MOST_BYTES = 4000
MOST_WORDS = 60
MOST_TEXT = 300
"""Most characters of a value."""


class Query:
    """The pairs of a query string, in their order."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)

    @classmethod
    def parsed(cls, text: str) -> Query:
        """Read a query string; raise :class:`errors.BadQuestion` where it is too long or not text."""
        if len(text) > MOST_BYTES:
            raise errors.BadQuestion(f"the address is too long: its question may have {MOST_BYTES} bytes")
        try:
            pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_WORDS, errors="strict")
        except UnicodeDecodeError:
            raise errors.BadQuestion("the address holds bytes that are not UTF-8") from None
        except ValueError:
            raise errors.BadQuestion(f"the address asks for too much at once: {MOST_WORDS} words at most") from None
        for name, value in pairs:
            if len(value) > MOST_TEXT:
                raise errors.BadQuestion(f"{errors.shown(name)} is too long: {MOST_TEXT} characters at most")
            if "\x00" in name + value:
                raise errors.BadQuestion("the address holds a NUL, which no text of the ledger has")
        return cls(pairs)

    def check(self, names: frozenset[str]) -> None:
        """Raise :class:`errors.BadQuestion` for a word that is not one of ``names``."""
        for key, _ in self.pairs:
            if key not in names:
                taken = ", ".join(sorted(names)) or "none"
                raise errors.BadQuestion(f"{errors.shown(key)} is not known here: this view takes {taken}")

    def one(self, name: str, default: str = "") -> str:
        """Return the value of a name that is given once; raise :class:`errors.BadQuestion` if it is given again."""
        found = self.all(name)
        if len(found) > 1:
            raise errors.BadQuestion(f"{name}= is given twice")
        return found[0] if found else default

    def all(self, name: str) -> tuple[str, ...]:
        """Return the values of a name."""
        return tuple(value for key, value in self.pairs if key == name)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Return the value of a name, which must be one of ``choices``."""
        value = self.one(name) or default
        if value not in choices:
            raise errors.BadQuestion(f"{name}= must be one of {', '.join(choices)}")
        return value

    def but(self, **changed: str | None) -> Query:
        """Return the same with some names given once, or not at all (None)."""
        kept = [(key, value) for key, value in self.pairs if key not in changed]
        return Query([*kept, *((key, value) for key, value in changed.items() if value is not None)])

    def plus(self, name: str, value: str) -> Query:
        """Return the same with one more pair."""
        return Query([*self.pairs, (name, value)])

    def minus(self, name: str, value: str) -> Query:
        """Return the same without a pair."""
        return Query(pair for pair in self.pairs if pair != (name, value))

    def __str__(self) -> str:
        return urllib.parse.urlencode(self.pairs)
