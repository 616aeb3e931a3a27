"""The published example's flat attributes -> the ledger's facts; pure.

What its EventTransform sends is in the attributes, or, in newer versions of it, in data.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from function import errors, events
from function.inventory.mapping import fields, quantity

_FACTS = frozenset(("instancetype", "cpucores", "cpusockets", "cputhreads", "memory", "storageclass", "network"))
_VERSION = frozenset(("uid", "resourceversion", "generation"))
KNOWN = _FACTS | _VERSION | {"name", "namespace", "kind", "apiversion", "cluster", "datasource", "deletiontimestamp"}
"""What published expressions put into data."""
_OBJECT = frozenset(("apiVersion", "metadata", "spec", "status"))

Attributes = fields.Object
_CONTAINERS = (dict, list)


def holds(data: Any) -> bool:
    """Whether data holds the flat fields, as newer versions of the published example send them.

    That is where all its fields are known, or where it has a fact, and beside it only plain values of somebody's own.
    A name alone is no evidence, because every object has one.
    """
    if not isinstance(data, dict) or not data.keys().isdisjoint(_OBJECT):
        return False
    if data.keys() <= KNOWN:
        return True
    return any(data.get(name) for name in _FACTS) and not any(isinstance(value, dict) for value in data.values())


def facts(attributes: Attributes) -> dict[str, Any]:
    """Return the ledger's facts by column, those that there are; raise :class:`errors.BadEvent` for what is none.

    The name, the namespace and the kind are always among them, None where they are not given.
    """
    known: dict[str, Any] = {"kind": None, "name": None, "namespace": None}
    for name, column, read in _COLUMNS:
        value = attributes.get(name)
        if value is not None and value != "":
            known[column] = read(value, name)
    cores, sockets, threads = known.get("cpucores"), known.get("cpusockets"), known.get("cputhreads")
    if cores or sockets or threads:
        # KubeVirt counts a part of the topology that is not given as one.
        known["vcpus"] = (cores or 1) * (sockets or 1) * (threads or 1)
    if "memory" in known:
        known["memory_bytes"] = quantity.whole(known["memory"], "the attribute memory")
        if not known["memory_bytes"]:
            known["memory"] = known["memory_bytes"] = None
    return known


def complete(known: dict[str, Any], event: events.Event) -> None:
    """Take from the event what its object lacks of name, namespace, uid and version."""
    known["name"], known["namespace"] = known["name"] or event.name, known["namespace"] or event.namespace
    for name, column, read in _COLUMNS:
        value = event.attributes.get(name)
        if name in _VERSION and value not in (None, "") and known.get(column, "no column") is None:
            known[column] = read(value, name)


def text(attributes: Attributes, name: str) -> str | None:
    """Return an attribute as text, each run of control characters as one blank; None where it is empty."""
    value = attributes.get(name)
    return None if value is None or value == "" else _text(value, name)


def _text(value: Any, name: str) -> str:
    return fields.clean(_key(value, name))


def _key(value: Any, name: str) -> str:
    """Return a value as the text that it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, _CONTAINERS):
        raise errors.BadEvent(f"{_path(name)} is no text")
    return str(value)


def _number(value: Any, name: str) -> int | None:
    return None if value == "null" else fields.number(value, _path, name)  # the Kafka Broker writes null so


def _count(value: Any, name: str) -> int | None:
    """Return a number of which 0 says as little as nothing."""
    return _number(value, name) or None


def _names(value: Any, name: str) -> str | None:
    """Return names joined by a comma; the Kafka Broker writes several as the text of a JSON array."""
    if isinstance(value, str) and value.startswith('["'):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return fields.joined(map(fields.clean, value))
    return _text(value, name)


def _path(name: str) -> str:
    return f"the attribute {name}"


_COLUMNS: list[tuple[str, str, Callable[[Any, str], Any]]] = [
    ("kind", "kind", _text),
    ("name", "name", _key),
    ("namespace", "namespace", _key),
    ("uid", "uid", _text),
    ("resourceversion", "resource_version", _number),
    ("generation", "generation", _number),
    ("cpucores", "cpucores", _count),
    ("cpusockets", "cpusockets", _count),
    ("cputhreads", "cputhreads", _count),
    ("memory", "memory", _text),
    ("storageclass", "storageclass", _names),
    ("network", "network", _names),
    ("instancetype", "instancetype", _text),
]
"""Each attribute that is read, the column that it gives, and how it is read."""
