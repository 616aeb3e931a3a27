"""The published example's flat attributes -> the ledger's facts; pure.

What its EventTransform sends is in the attributes, or, in newer versions of it, in data.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from function import errors
from function.inventory import fields, quantity

FIELDS = frozenset(
    ("name", "generation", "instancetype", "cpucores", "cpusockets", "cputhreads", "memory", "storageclass", "network")
)
_OBJECT = frozenset(("apiVersion", "metadata", "spec", "status"))

Attributes = fields.Object
_CONTAINERS = (dict, list)


def holds(data: Any) -> bool:
    """Whether data holds the flat fields, as newer versions of the published example send them."""
    return isinstance(data, dict) and data.keys().isdisjoint(_OBJECT) and not data.keys().isdisjoint(FIELDS)


def facts(attributes: Attributes) -> dict[str, Any]:
    """Return the ledger's facts by column; raise :class:`errors.BadEvent` for a value that is none."""
    # None of it can be 0: that says as little as nothing.
    cores, sockets, threads = (_number(attributes, name) or None for name in ("cpucores", "cpusockets", "cputhreads"))
    memory = text(attributes, "memory")
    counted = cores or sockets or threads
    return {
        "kind": text(attributes, "kind"),
        "name": _key(attributes, "name"),
        "namespace": _key(attributes, "namespace"),
        "uid": text(attributes, "uid"),
        "resource_version": _number(attributes, "resourceversion"),
        "generation": _number(attributes, "generation"),
        "cpucores": cores,
        "cpusockets": sockets,
        "cputhreads": threads,
        # KubeVirt counts a part of the topology that is not given as one.
        "vcpus": (cores or 1) * (sockets or 1) * (threads or 1) if counted else None,
        "memory": memory,
        "memory_bytes": None if memory is None else quantity.whole(memory, "the attribute memory"),
        "storageclass": _names(attributes, "storageclass"),
        "network": _names(attributes, "network"),
        "instancetype": text(attributes, "instancetype"),
    }


def text(attributes: Attributes, name: str) -> str | None:
    """Return an attribute as text, each run of control characters as one blank; None where it is empty."""
    value = attributes.get(name)
    if value is None or value == "":
        return None
    return fields.clean(_key(attributes, name) or "")


def _key(attributes: Attributes, name: str) -> str | None:
    """Return an attribute as the text that it is."""
    value = attributes.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, _CONTAINERS):
        raise errors.BadEvent(f"{_path(name)} is no text")
    return str(value)


def _number(attributes: Attributes, name: str) -> int | None:
    value = attributes.get(name)
    if value is None or value in ("", "null"):  # the Kafka Broker writes null so
        return None
    return fields.number(value, _path, name)


def _names(attributes: Attributes, name: str) -> str | None:
    """Return names joined by a comma; the Kafka Broker writes several as the text of a JSON array."""
    value = attributes.get(name)
    if isinstance(value, str) and value.startswith('["'):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return fields.joined(map(fields.clean, value))
    return text(attributes, name)


def _path(name: str) -> str:
    return f"the attribute {name}"
