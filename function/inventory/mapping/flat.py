"""The published example's flat attributes -> the ledger's facts; pure.

The EventTransform of the example puts the facts into attributes; its newer versions put them into data.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from function import errors, events
from function.inventory.mapping import fields, quantity

_FACTS = frozenset(("instancetype", "cpucores", "cpusockets", "cputhreads", "memory", "storageclass", "network"))
_VERSION = frozenset(("uid", "resourceversion", "generation"))
KNOWN = _FACTS | _VERSION | {"name", "namespace", "kind", "apiversion", "cluster", "datasource", "deletiontimestamp"}
"""The names that published expressions put into data."""
_OBJECT = frozenset(("apiVersion", "metadata", "spec", "status"))

Attributes = fields.Object
_CONTAINERS = (dict, list)


def holds(data: Any) -> bool:
    """Return whether data holds the flat fields, as newer versions of the published example send them.

    It does if all its members are :data:`KNOWN`, or if it has a fact and no member that is an object.
    A name alone proves nothing, because every object has one.
    """
    if not isinstance(data, dict) or not data.keys().isdisjoint(_OBJECT):
        return False
    if data.keys() <= KNOWN:
        return True
    return any(data.get(name) for name in _FACTS) and not any(isinstance(value, dict) for value in data.values())


def facts(attributes: Attributes) -> dict[str, Any]:
    """Return the ledger's facts by column, as far as the attributes carry them.

    The name, the namespace and the kind are always there, None where they are not given.

    Raises :class:`errors.BadEvent` for a value that its column cannot hold.
    """
    columns: dict[str, Any] = {"kind": None, "name": None, "namespace": None}
    for name, column, read in _COLUMNS:
        value = attributes.get(name)
        if value is not None and value != "":
            columns[column] = read(value, name)
    cores, sockets, threads = columns.get("cpucores"), columns.get("cpusockets"), columns.get("cputhreads")
    if cores or sockets or threads:
        # KubeVirt counts a missing part of the topology as one.
        columns["vcpus"] = (cores or 1) * (sockets or 1) * (threads or 1)
    if "memory" in columns:
        columns["memory_bytes"] = quantity.whole(columns["memory"], "the attribute memory")
        if not columns["memory_bytes"]:
            columns["memory"] = columns["memory_bytes"] = None
    return columns


def complete(columns: dict[str, Any], event: events.Event) -> None:
    """Fill in name, namespace, uid and version from the event's attributes where its object lacks them."""
    columns["name"], columns["namespace"] = columns["name"] or event.name, columns["namespace"] or event.namespace
    for name, column, read in _COLUMNS:
        value = event.attributes.get(name)
        if name in _VERSION and value not in (None, "") and columns.get(column, "no column") is None:
            columns[column] = read(value, name)


def text(attributes: Attributes, name: str) -> str | None:
    """Return an attribute as text, each run of control characters as one space; None where it is empty."""
    value = attributes.get(name)
    return None if value is None or value == "" else _text(value, name)


def _text(value: Any, name: str) -> str:
    return fields.clean(_key(value, name))


def _key(value: Any, name: str) -> str:
    """Return a value as text, with its control characters."""
    if isinstance(value, str):
        return value
    if isinstance(value, _CONTAINERS):
        raise errors.BadEvent(f"{_path(name)} is not text")
    return str(value)


def _number(value: Any, name: str) -> int | None:
    return None if value == "null" else fields.number(value, _path, name)  # the Kafka Broker writes null as this text


def _count(value: Any, name: str) -> int | None:
    """Return a number; 0 counts as missing, because the example writes 0 for what an event does not carry."""
    return _number(value, name) or None


def _names(value: Any, name: str) -> str | None:
    """Return names joined with a comma; the Kafka Broker writes several names as the text of a JSON array."""
    if isinstance(value, str) and value.startswith('["'):
        with contextlib.suppress(errors.BadEvent):
            value = events.parse_json(value.encode("utf-8", "surrogatepass"), _path(name))
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
