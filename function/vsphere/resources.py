"""Hosts and vCenters from the answers of Operations; pure.

An entry of another form is left out and raises nothing, because Operations lists resources of many kinds and versions.
Shapes: the OpenAPI documents of VCF Operations 9.0 and 9.1, and of vRealize Operations 8.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from function.vsphere import maintenance


def at(value: Any, *path: str) -> Any:
    """Return the value at a path of names inside an object; None where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def listed(answer: Mapping[str, Any], name: str) -> list[Any]:
    """Return the list of that name; an empty one where there is none."""
    found = answer.get(name)
    return found if isinstance(found, list) else []


def _identifiers(resource: Any) -> dict[str, str]:
    """Return the identifiers of a resource by their names: VMEntityObjectID, VMEntityVCID, VCURL."""
    entries = at(resource, "resourceKey", "resourceIdentifiers")
    found = {}
    for entry in entries if isinstance(entries, list) else []:
        name, value = at(entry, "identifierType", "name"), at(entry, "value")
        if isinstance(name, str) and isinstance(value, str) and value:
            found[name] = value
    return found


def host(resource: Any) -> maintenance.Host | None:
    """Return the host that a resource describes; None for a resource of another kind, or without a name."""
    identifier, name = at(resource, "identifier"), at(resource, "resourceKey", "name")
    kind = at(resource, "resourceKey", "resourceKindKey")
    if (
        not isinstance(identifier, str)
        or not identifier
        or not isinstance(name, str)
        or kind not in (None, "HostSystem")
    ):
        return None
    identifiers = _identifiers(resource)
    states = [state for state in listed(resource, "resourceStatusStates") if isinstance(state, dict)]
    return maintenance.Host(
        identifier=identifier,
        name=name,
        moref=identifiers.get("VMEntityObjectID"),
        vcenter_uuid=identifiers["VMEntityVCID"].lower() if "VMEntityVCID" in identifiers else None,
        adapters=frozenset(str(state.get("adapterInstanceId")) for state in states),
        states=tuple(str(state.get("resourceState")) for state in states),
    )


def vcenter(adapter: Any) -> maintenance.VCenter | None:
    """Return the vCenter that an adapter instance collects from."""
    identifiers = _identifiers(adapter)
    if "VCURL" not in identifiers or at(adapter, "resourceKey", "adapterKindKey") not in (None, "VMWARE"):
        return None
    uuid = identifiers.get("VMEntityVCID")
    return maintenance.VCenter(
        adapter=str(at(adapter, "id")),
        host=maintenance.host_of(identifiers["VCURL"]),
        uuid=uuid.lower() if uuid else None,
    )
