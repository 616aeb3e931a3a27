"""How a variable of the environment is declared and read, and the kinds of values that several parts share.

A parser is given the text of a variable and returns its value, or raises ValueError with the rest of a sentence that
begins with the variable's name and does not repeat the text: a setting may be a secret.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from function import errors


def text(value: str) -> str:
    """Any text."""
    return value


def utf8(value: str) -> str:
    """Any text that is UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 come from the environment as lone surrogates
        raise ValueError("must be UTF-8 text") from None
    return value


def without_newline(value: str) -> str:
    """Return a value as it was meant: ``echo`` without ``-n`` ends whatever it writes with a newline."""
    return value.rstrip("\r\n")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number between ``least`` and ``most``."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and least <= int(value[:20]) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """One of ``words``, in any case."""

    def parse(value: str) -> str:
        if value.upper() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value.upper()

    return parse


def flag(value: str) -> bool:
    """True or false, as people write it."""
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A number of seconds between ``least`` and ``most``."""

    def parse(value: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII) or not least <= float(value) <= most:
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return float(value)

    return parse


UNITS = {"d": 24 * 3600, "h": 3600, "m": 60, "s": 1}
"""The units of a duration, in seconds, the greatest first."""


def duration(value: str) -> int:
    """A span of time in seconds: 5400, 90s, 15m, 1h, 2d."""
    found = re.fullmatch(r"(\d{1,9})([dhms]?)", value.strip().lower(), re.ASCII)
    if not found:
        raise ValueError("must be a number of seconds, or a number with a unit, such as 90s, 15m, 1h or 2d")
    return int(found[1]) * UNITS[found[2] or "s"]


def certificates(value: str) -> str:
    """The path of a file with certificates in PEM form."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
    except (OSError, ValueError):  # ssl.SSLError is an OSError; a path with NUL is a ValueError
        raise ValueError("is not a file with certificates in PEM form that can be read") from None
    return value


def words(value: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(word for part in value.split(",") if (word := part.strip()))


UNRESOLVED = (
    "holds a reference to a Secret or a ConfigMap, which only `func deploy` resolves:"
    " on a laptop give the value itself, with `func run --env NAME=VALUE`"
)
_REFERENCE = re.compile(r"\s*\{\{\s*(secret|configMap)\s*:.*\}\}\s*", re.DOTALL)
"""What func.yaml says for a key of a Secret or a ConfigMap; ``func run`` passes it on as it stands."""


def variable(name: str, parse: Callable[[str], Any], *, default: Any = None, doc: str, secret: bool = False) -> Any:
    """Declare a field that is read from the variable ``name``; unset or empty gives ``default``."""
    return dataclasses.field(
        default=default,
        repr=not secret,
        metadata={"variable": name, "parse": parse, "doc": doc},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """The settings of one room; its fields are declared with :func:`variable`."""

    cuts_newlines: ClassVar[bool] = False
    """Whether a newline at the end of a value is cut off; elsewhere a password may end with one."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the part from ``environ``; raise :class:`errors.BadSetting` for the first value that is wrong."""
        part = cls(**cls.read(environ))
        part.check()
        return part

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of the variables that are set, by field."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name = field.metadata.get("variable", "")
            given = environ.get(name, "")
            given = without_newline(given) if cls.cuts_newlines else given
            if not given:
                continue
            if _REFERENCE.fullmatch(given):
                raise errors.BadSetting(name, UNRESOLVED)
            try:
                values[field.name] = field.metadata["parse"](given)
            except ValueError as exc:
                raise errors.BadSetting(name, str(exc)) from None
        return values

    def check(self) -> None:
        """Raise :class:`errors.BadSetting` where the values do not go together."""
