"""How large an instancetype makes a virtual machine, which the machine's own object does not say; pure.

KubeVirt keeps a copy of the instancetype as each machine first saw it, in a ControllerRevision of its namespace.
Where there is none, the API server answers the machine expanded (``expand-spec``).
Which revision counts: KubeVirt ``pkg/instancetype/find/revision.go``; what it holds:
``pkg/instancetype/compatibility/compatibility.go``; expanding: ``pkg/instancetype/expand/expand.go``.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from function import errors, events
from function.inventory.mapping import fields, versions, vm_object


class Reference(NamedTuple):
    """Where a ControllerRevision is; the name is what somebody wrote into a machine, and may be no name at all."""

    namespace: str
    name: str


class Sizes(NamedTuple):
    """vCPUs and bytes of memory of the guest; None for what is not said."""

    vcpus: int | None
    memory_bytes: int | None


def reference(machine: fields.Object) -> Reference | None:
    """Return the revision that a VirtualMachine object refers to; None where it has none, or no instancetype.

    The revision that the spec names comes first, as in KubeVirt, whose older releases wrote it there themselves.
    The status may still name another instancetype's, until KubeVirt has taken notice of a change: it is not used.

    Raises :class:`errors.BadEvent` where the object has another shape.
    """
    data = fields.Node(machine)
    matcher = data.object("spec").object("instancetype")
    namespace = data.object("metadata").name("namespace")
    if not matcher or not namespace:
        return None
    name = matcher.name("revisionName")
    if not name:
        known = data.object("status").object("instancetypeRef")
        if known.name("name") in (None, matcher.name("name")):
            name = known.object("controllerRevisionRef").name("name")
    return Reference(namespace, name) if name else None


def sizes(revision: fields.Object) -> Sizes:
    """Return what the instancetype in a ControllerRevision object says.

    Its ``data`` is the instancetype as it was, of any version of instancetype.kubevirt.io; the oldest (v1alpha1) may
    hold the spec alone, as JSON in base64.

    Raises :class:`errors.BadEvent` where it holds something else, or numbers past what the ledger can hold.
    """
    data = fields.Node(revision, "ControllerRevision").object("data")
    spec = _unpacked(data) if isinstance(data.items.get("spec"), str) else data.object("spec")
    return _checked(spec.object("cpu").whole("guest"), spec.object("memory").amount("guest"))


def is_same(machine: fields.Object, *, uid: str | None, resource_version: int | None, generation: int | None) -> bool:
    """Return whether a VirtualMachine object has the spec of a known one: it is that version, or of its generation.

    ``expand-spec`` answers the machine as it is now, which may have another instancetype by then.

    Raises :class:`errors.BadEvent` where the object has another shape.
    """
    now = vm_object.facts(machine)
    if resource_version is not None and now.get("resource_version") == resource_version:
        return True
    return None not in (uid, generation) and (now.get("uid"), now.get("generation")) == (uid, generation)


def expanded(machine: fields.Object) -> Sizes:
    """Return what a VirtualMachine object says that ``expand-spec`` answered: it has no instancetype any more.

    Raises :class:`errors.BadEvent` as :func:`sizes`.
    """
    known = vm_object.facts(machine)
    return _checked(known.get("vcpus"), known.get("memory_bytes"))


def _unpacked(data: fields.Node) -> fields.Node:
    where = data.path("spec")
    try:
        text = base64.b64decode(data.items["spec"], validate=True)
    except ValueError as exc:
        raise errors.BadEvent(f"{where} is not base64") from exc
    spec = events.parse_json(text, where)
    if not isinstance(spec, dict):
        raise errors.BadEvent(f"{where} is no JSON object")
    return fields.Node(spec, "spec", data)


def _checked(vcpus: int | None, memory_bytes: int | None) -> Sizes:
    """Return the sizes, if the ledger can hold them; 0 says as little as nothing."""
    for what, value, most in (("vCPUs", vcpus, versions.INT4), ("bytes of memory", memory_bytes, versions.INT8)):
        if value is not None and not 0 <= value <= most:
            raise errors.BadEvent(f"the {what} of the instancetype are past what the ledger can hold, 0 to {most}")
    return Sizes(vcpus or None, memory_bytes or None)
