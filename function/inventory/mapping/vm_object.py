"""A VirtualMachine object of KubeVirt -> the ledger's facts; pure.

The whole object and the one that our EventTransform trimmed have the same shape, so there is one mapping.
"""

from __future__ import annotations

from typing import Any

from function import errors
from function.inventory.mapping import fields, owners, vm_spec, volume_templates

GROUP = "kubevirt.io/"
_OS_LABEL = "os.template.kubevirt.io/"


def check_kind(data: fields.Object, kind: str) -> None:
    """Raise :class:`errors.BadEvent` where an object has another kind, or another API group than KubeVirt's."""
    given_kind, version = data.get("kind"), data.get("apiVersion")
    if given_kind != kind and given_kind:
        raise errors.BadEvent(f"the data is not a {kind}: its kind is {errors.shown(given_kind)}")
    if version and not str(version).startswith(GROUP):
        raise errors.BadEvent(f"the data is not a {kind} of KubeVirt: its apiVersion is {errors.shown(version)}")


def has_domain(machine: fields.Object) -> bool:
    """Return whether an object has a domain, as machines alone do: many kinds have a ``spec.template.spec``."""
    return _spec(machine, fields.Node(machine)).has_domain


def facts(machine: fields.Object) -> dict[str, Any]:
    """Return the ledger's facts by column; raise :class:`errors.BadEvent` where the object has another shape.

    machine: its spec is JSON, or what was read of it before (:class:`vm_spec.Spec`).
    """
    data = fields.Node(machine)
    metadata, spec = data.object("metadata"), _spec(machine, data)
    labels = metadata.object("labels").items if metadata.items.get("labels") is not None else None
    columns: dict[str, Any] = {
        "kind": machine.get("kind") or None,
        "name": metadata.name("name"),
        "namespace": metadata.name("namespace"),
        "uid": metadata.text("uid"),
        "resource_version": metadata.digits("resourceVersion"),
        "generation": metadata.whole("generation"),
        "status": data.object("status").text("printableStatus"),
        "os": spec.os or _labelled_os(labels) or _name_in(spec.columns["preference"]),
        "labels": labels,
        "owner": owners.owner(metadata.items),
        "created_at": metadata.time("creationTimestamp"),
        "deleted_at": metadata.time("deletionTimestamp"),
        **spec.columns,
    }
    claims = volume_templates.claims(metadata) if machine.get("spec") else ()
    if claims:
        columns |= volume_templates.facts([*spec.volumes, *claims])
    return columns


def _spec(machine: fields.Object, data: fields.Node) -> vm_spec.Spec:
    spec = machine.get("spec")
    return spec if isinstance(spec, vm_spec.Spec) else vm_spec.read(data.object("spec"))


def _labelled_os(labels: fields.Object | None) -> str | None:
    """Return the OS of the label of OpenShift's templates."""
    if not labels:
        return None
    found = sorted([label.removeprefix(_OS_LABEL) for label in labels if label.startswith(_OS_LABEL)])
    return fields.clean(found[0]) if found else None


def _name_in(matcher: str | None) -> str | None:
    return matcher.partition("/")[2] if matcher else None
