"""Reads fields out of JSON, or says in a sentence what is wrong where; pure.

Null is taken for absent, as Kubernetes does.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any

from function import errors, events

Object = Mapping[str, Any]

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def object_(parent: Object, key: str, path: str) -> Object:
    """Return the object at ``key``; an empty one where there is none or null."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.BadEvent(f"{path}.{key} is no JSON object")
    return value


def objects(parent: Object, key: str, path: str) -> list[Object]:
    """Return the list of objects at ``key``; an empty one where there is none or null."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise errors.BadEvent(f"{path}.{key} is no list of JSON objects")
    return value


def text(parent: Object, key: str, path: str) -> str | None:
    """Return the text at ``key``, each run of control characters as one blank; None where there is none."""
    value = parent.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise errors.BadEvent(f"{path}.{key} is no text")
    return clean(value)


def clean(text: str) -> str:
    """Replace each run of control characters; NUL stays, to be refused."""
    if text.isprintable() or "\x00" in text:
        return text
    return _CONTROLS.sub(" ", text)


def name(metadata: Object, key: str) -> str | None:
    """Return the name at ``key`` as it is: it is a key, not a text to be read."""
    value = metadata.get(key)
    if value is not None and not isinstance(value, str):
        raise errors.BadEvent(f"data.metadata.{key} is no text")
    return value


def whole(parent: Object, key: str, path: str) -> int | None:
    """Return the whole number at ``key``."""
    value = parent.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise errors.BadEvent(f"{path}.{key} {errors.shown(value)} is no whole number")
    return value


def digits(parent: Object, key: str, path: str) -> int | None:
    """Return the number that a text of digits names, as Kubernetes writes resource versions."""
    value = parent.get(key)
    if value is None or value == "":
        return None
    return number(value, f"{path}.{key}")


def number(value: Any, where: str) -> int:
    """Return the number that ``value`` is or that its digits name; 40 digits are more than any column holds."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 40:
        return int(value)
    raise errors.BadEvent(f"{where} {errors.shown(value)} is no whole number that the ledger can hold")


def quantity_(parent: Object, key: str, path: str) -> str | None:
    """Return a quantity's text; JSON numbers are allowed by the CRD."""
    value = parent.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise errors.BadEvent(f"{path}.{key} is no quantity")
    return str(value)


def time(metadata: Object, key: str) -> datetime.datetime | None:
    """Return the time at ``key``."""
    value = metadata.get(key)
    return None if value is None else events.parse_time(value, f"data.metadata.{key}")


def joined(names: Iterable[str | None]) -> str | None:
    """Join the names that there are with a comma, each once, in their order."""
    return ",".join(dict.fromkeys(name for name in names if name)) or None
