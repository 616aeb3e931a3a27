"""The size that an instancetype gives a virtual machine, which the machine's own object lacks; pure.

KubeVirt stores a copy of the instancetype in a ControllerRevision of the machine's namespace when it first handles the
machine.
Where there is none, the API server returns the machine with its instancetype written out (``expand-spec``).
Which revision counts: KubeVirt ``pkg/instancetype/find/revision.go``; what it holds:
``pkg/instancetype/compatibility/compatibility.go``; expanding: ``pkg/instancetype/expand/expand.go``.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from function import errors, events
from function.inventory.mapping import fields, versions, vm_object


class RevisionName(NamedTuple):
    """Where a ControllerRevision is; the name was written into a machine by anybody, and may be impossible."""

    namespace: str
    name: str


class Sizes(NamedTuple):
    """vCPUs and bytes of memory of the guest; None where it is not given."""

    vcpus: int | None
    memory_bytes: int | None


def revision(machine: fields.Object) -> RevisionName | None:
    """Return the revision that a VirtualMachine object refers to; None where it has none, or no instancetype.

    The revision that the spec names comes first, as in KubeVirt, whose older releases wrote it there themselves.
    The status names the revision of the former instancetype until KubeVirt has handled a change; that one is not used.

    Raises :class:`errors.BadEvent` where the object has another shape.
    """
    data = fields.Node(machine)
    matcher = data.object("spec").object("instancetype")
    namespace = data.object("metadata").name("namespace")
    if not matcher or not namespace:
        return None
    name = matcher.name("revisionName")
    if not name:
        handled = data.object("status").object("instancetypeRef")
        if handled.name("name") in (None, matcher.name("name")):
            name = handled.object("controllerRevisionRef").name("name")
    return RevisionName(namespace, name) if name else None


def sizes(revision: fields.Object) -> Sizes:
    """Return the sizes of the instancetype that a ControllerRevision object holds.

    Its ``data`` is the instancetype as it was, in any version of instancetype.kubevirt.io; the oldest (v1alpha1) may
    hold the spec alone, as JSON in base64.

    Raises :class:`errors.BadEvent` where it holds something else, or numbers past what the ledger can hold.
    """
    data = fields.Node(revision, "ControllerRevision").object("data")
    spec = _unpacked(data) if isinstance(data.items.get("spec"), str) else data.object("spec")
    return _checked(spec.object("cpu").whole("guest"), spec.object("memory").amount("guest"))


def is_same(machine: fields.Object, *, uid: str | None, resource_version: int | None, generation: int | None) -> bool:
    """Return whether a VirtualMachine object has the spec of a stored one: its resource version or its generation.

    ``expand-spec`` returns the machine as it is now, which may have another instancetype by then.

    Raises :class:`errors.BadEvent` where the object has another shape.
    """
    now = vm_object.facts(machine)
    if resource_version is not None and now.get("resource_version") == resource_version:
        return True
    return None not in (uid, generation) and (now.get("uid"), now.get("generation")) == (uid, generation)


def expanded(machine: fields.Object) -> Sizes:
    """Return the sizes of a VirtualMachine object that ``expand-spec`` returned: it has no instancetype any more.

    Raises :class:`errors.BadEvent` as :func:`sizes`.
    """
    columns = vm_object.facts(machine)
    return _checked(columns.get("vcpus"), columns.get("memory_bytes"))


def _unpacked(data: fields.Node) -> fields.Node:
    where = data.path("spec")
    try:
        text = base64.b64decode(data.items["spec"], validate=True)
    except ValueError as exc:
        raise errors.BadEvent(f"{where} is not base64") from exc
    spec = events.parse_json(text, where)
    if not isinstance(spec, dict):
        raise errors.BadEvent(f"{where} is not a JSON object")
    return fields.Node(spec, "spec", data)


def _checked(vcpus: int | None, memory_bytes: int | None) -> Sizes:
    """Return the sizes, if the ledger can hold them; 0 counts as not given."""
    for what, value, most in (("vCPUs", vcpus, versions.INT4), ("bytes of memory", memory_bytes, versions.INT8)):
        if value is not None and not 0 <= value <= most:
            raise errors.BadEvent(f"the {what} of the instancetype are past what the ledger can hold, 0 to {most}")
    return Sizes(vcpus or None, memory_bytes or None)
