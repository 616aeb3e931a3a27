"""Events of mode Reference: they only name an object, which is read from the Kubernetes API as it is now.

An object that exists is stored as it is, with its own resource version.
An object that is gone is deleted at the event's time. A delete needs a version, and the API no longer has one: it gets
the number of the ledger's row, unless that is from a later event. So it is older than any higher resource version.
The words version and tombstone are those of docs/concepts.md.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from function import errors, events
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store

if TYPE_CHECKING:
    from function.clients import kubernetes

PREFIX = "dev.knative.apiserver.ref."
UPDATED = PREFIX + "update"
DELETED = PREFIX + "delete"
NO_API = (
    "the event only refers to a {kind}, and no access to the Kubernetes API is configured here to read it: set `mode:"
    " Resource` in the ApiServerSource, or give vmledger the access (KUBECONFIG, or a ServiceAccount)"
)
ELSEWHERE = (
    "the event only refers to a {kind} of the cluster {cluster}, and the Kubernetes API here is that of {own}"
    " (CLUSTER_NAME): set `mode: Resource` in that cluster's ApiServerSource, or run a vmledger there"
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """An event that names an object, without its data, and which object that is."""

    event: events.Event
    kind: str
    cluster: str
    namespace: str
    name: str


def reference(event: events.Event, kind: str, cluster: str) -> Reference:
    """Return what ``event`` names; raise :class:`errors.BadEvent` where it names nothing."""
    namespace, name = event.namespace, event.name
    if not namespace or not name:
        missing = "name" if namespace else "namespace"
        raise errors.BadEvent(f"the event refers to a {kind} and has no {missing}")
    return Reference(event, kind, cluster, namespace, name)


class Reader:
    """Turns references into changes."""

    def __init__(self, api: kubernetes.Kube, tables: store.Store) -> None:
        from function.clients import kubernetes  # where an API is configured, and only there

        self._api = api
        self._resources = {vm.KIND: kubernetes.VMS, instance.KIND: kubernetes.VMIS}
        self._store = tables

    def change(self, named: Reference) -> versions.Change | None:
        """Return the change that a reference stands for now.

        None for an instance that no VirtualMachine owns, and for one that is gone and was never stored.

        Raises what :meth:`kubernetes.Kube.get` and the database raise.
        """
        read = self._api.get(self._resources[named.kind], namespace=named.namespace, name=named.name, surely=True)
        if read is None:
            return self._gone(named)
        # An object that a delete refers to and that exists was made again since.
        kind = UPDATED if named.event.type == DELETED else named.event.type
        event = events.Event({**named.event.attributes, "type": kind}, read)
        make = vm.change if named.kind == vm.KIND else instance.change
        return make(event, cluster_name=named.cluster)

    def _gone(self, named: Reference) -> versions.Change | None:
        when = named.event.time or datetime.datetime.now(datetime.UTC)
        place = (named.cluster, named.namespace, named.name)
        delete: dict[str, Any] = {"type": DELETED, "id": named.event.id, "time": named.event.time, "deleted_at": when}
        delete |= dict.fromkeys(versions.NOTES)
        if named.kind == instance.KIND:
            stored_instance = self._store.instance(*place)
            if stored_instance is None:
                return None
            tombstone = msgspec.structs.replace(stored_instance.row, **delete, phase=instance.GONE)
            return instance.ordered(tombstone, number=stored_instance.number_at(when))
        stored = self._store.machine(*place)
        if stored is None:
            tombstone_alone = vm.VirtualMachine(
                cluster=named.cluster, namespace=named.namespace, name=named.name, kind=vm.KIND, **delete
            )
            return vm.ordered(tombstone_alone, number=-1)
        return vm.ordered(msgspec.structs.replace(stored.row, **delete), number=stored.number_at(when))
