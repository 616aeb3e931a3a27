"""The layout ``ansible``: the JSON of an inventory script, with groups and ``_meta.hostvars``; pure.

Its form: https://docs.ansible.com/ansible/latest/dev_guide/developing_inventory.html

A variable's text is a template to Ansible, which can run commands. The name of a guest's system is chosen by whoever
administers the guest, so a text with a mark of Jinja is wrapped as ``__ansible_unsafe``, which Ansible never evaluates.
"""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import msgspec

from function.lists import machine

PREFIX = "vm_"
"""Of each variable, because Ansible has meanings for some names of columns, such as ``name`` and ``environment``."""
NOT_VARIABLES = frozenset({"type", "id", "kind", "time", "deleted_at", "labels"})
_JINJA = re.compile(r"\{[{%#]")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
"""The keys that Kubernetes allows begin so; others could be Ansible's own, such as ``__ansible_vault``."""
_NOT_IN_GROUP = re.compile(r"[^A-Za-z0-9_]")
_LIKE_MARKED = re.compile(r"_[0-9a-f]{12}$")


def host(one: machine.Machine) -> str:
    """Return the name of a host, ``NAME.NAMESPACE.CLUSTER``: the same name may be in two namespaces and two clusters.

    Anything but letters, digits, ``-`` and ``_`` is escaped as in a URL, in the cluster anything but these and ``.``;
    so two machines never have the same name, and :func:`key` finds the machine again.
    """
    name, namespace = (_escaped(part).replace(".", "%2E") for part in (one.name, one.namespace))
    return f"{name}.{namespace}.{_escaped(one.cluster)}"


def key(name: str) -> tuple[str, str, str] | None:
    """Return the cluster, namespace and name that a host's name is made of; None for a name that no host has."""
    parts = name.split(".", 2)
    if len(parts) != 3:
        return None
    found, namespace, cluster = (urllib.parse.unquote(part, errors="replace") for part in parts)
    return None if "\0" in found + namespace + cluster else (cluster, namespace, found)


def variables(one: machine.Machine) -> dict[str, Any]:
    """Return the variables of a host; what the ledger was never sent has none."""
    columns = zip(machine.COLUMNS, msgspec.structs.astuple(one), strict=True)
    found = {
        PREFIX + name: _unevaluated(value) for name, value in columns if value is not None and name not in NOT_VARIABLES
    }
    labels = {name: _unevaluated(value) for name, value in _labels(one).items()}
    first = {"ansible_host": _unevaluated(one.ip_addresses[0])} if one.ip_addresses else {}
    return {**first, **found, PREFIX + "labels": labels}


def groups(one: machine.Machine) -> Iterator[tuple[str, str]]:
    """Yield the groups of a host: for each its name, and what it is made of.

    Two groups may have the same name; then :func:`marked` keeps them apart.
    """
    yield _group("cluster", one.cluster)
    yield _group("namespace", one.namespace)
    if system := one.guest_os or one.os:
        yield _group("os", system)
    for name, value in _labels(one).items():
        yield _group("label", name, value)


def marked(name: str, origin: str, *, shared: bool) -> str:
    """Return a group's name as it is written.

    shared: whether groups of another origin have the same name. A name that could be taken for a marked one is marked.
    """
    if not shared and not _LIKE_MARKED.search(name):
        return name
    return f"{name}_{hashlib.sha256(origin.encode()).hexdigest()[:12]}"


def _group(kind: str, *values: str) -> tuple[str, str]:
    name = _NOT_IN_GROUP.sub("_", "_".join((kind, *values)))
    return name, "\0".join((kind, *values))


def _labels(one: machine.Machine) -> dict[str, str]:
    return {name: value for name, value in machine.label_values(one).items() if _LABEL.fullmatch(name)}


def _escaped(text: str) -> str:
    return urllib.parse.quote(text, safe="").replace("~", "%7E")


def _unevaluated(value: Any) -> Any:
    """Return a value with each text that Ansible would evaluate marked as one that it may not."""
    if isinstance(value, str) and _JINJA.search(value):
        return {"__ansible_unsafe": value}
    if isinstance(value, list):
        return [_unevaluated(each) for each in value]
    return value
