"""The inventory as a capability: it stores events about virtual machines and their instances.

An event counts as handled only when its change is committed, because Knative never sends it again after a 204.
So nothing here is kept in memory for later, and nothing is parsed that ``mapping`` parses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from function import errors, events, settings, turns
from function.clients import postgres
from function.inventory import references
from function.inventory.mapping import flat, instance, versions, vm
from function.inventory.storage import group_commit, store

if TYPE_CHECKING:
    from function.clients import kubernetes

log = logging.getLogger(__name__)

FOREIGN = "not of a VirtualMachine"
"""The outcome of an event about an instance that no VirtualMachine owns."""
READING_SECONDS = 45.0
"""For reading all objects that a request refers to; Knative's Service gives up after 90 seconds, with 504."""

Prepared = versions.Change | references.Reference
_MAKE: dict[str, Callable[..., versions.Change | None]] = {vm.KIND: vm.change, instance.KIND: instance.change}


class Ledger:
    """Turns events into changes (:meth:`prepare`, pure) and stores them (:meth:`perform`)."""

    def __init__(
        self, part: settings.Ledger, *, db: postgres.Database | None, api: kubernetes.Kube | None = None
    ) -> None:
        self._settings = part
        self._commits: group_commit.GroupCommit[versions.Change, store.Outcome] | None = None
        self._reader: references.Reader | None = None
        if db is None:
            return
        tables = store.Store(db)
        self._commits = group_commit.GroupCommit(tables.table, patience=db.timeout)
        if api is not None:
            self._reader = references.Reader(api, tables)

    def prepare(self, event: events.Event) -> Prepared | None:
        """Return what ``event`` changes, or refers to; None where that is not a virtual machine of KubeVirt.

        Raises :class:`errors.BadEvent` where it can never be stored, :class:`errors.Refused` where never here.
        """
        if not (event.api_version or vm.GROUP).startswith(vm.GROUP):
            return None
        if self._commits is None:
            raise errors.Refused(postgres.NOT_CONFIGURED)
        kind = event.kind or vm.KIND
        if event.type.startswith(references.PREFIX):
            return self._refer(event, kind)
        change = _MAKE[kind](event, cluster_name=self._settings.cluster_name)
        if change is not None:
            self._settings.admit(change.row.cluster)
        return change

    def _refer(self, event: events.Event, kind: str) -> references.Reference:
        """Return what an event of mode Reference names."""
        own = self._settings.cluster_name
        cluster = flat.text(event.attributes, "cluster") or own
        self._settings.admit(cluster)
        if self._reader is None:
            raise errors.Refused(references.NO_API.format(kind=kind))
        if cluster != own:
            shown = {"cluster": errors.shown(cluster), "own": errors.shown(own)}
            raise errors.Refused(references.ELSEWHERE.format(kind=kind, **shown))
        return references.reference(event, kind, cluster)

    def perform(self, prepared: Sequence[Prepared]) -> list[str]:
        """Store what was prepared; return the outcome of each, in a word, once all is committed.

        Raises where any of it was not stored; the rest may be stored, and storing it again changes nothing.
        """
        until = time.monotonic() + READING_SECONDS
        changes = [each if isinstance(each, versions.Change) else self._read(each, until) for each in prepared]
        chosen = [change for change in changes if change is not None]
        if not chosen or self._commits is None:
            return [FOREIGN] * len(changes)
        outcomes = iter(self._commits.submit(chosen))
        return [FOREIGN if change is None else _told(change, next(outcomes)) for change in turns.shared(changes)]

    def _read(self, named: references.Reference, until: float) -> versions.Change | None:
        if self._reader is None:
            raise errors.Refused(references.NO_API.format(kind=named.kind))
        if time.monotonic() > until:
            raise errors.Unavailable("there was no time to read all objects that the request refers to")
        return self._reader.change(named)


def _told(change: versions.Change, outcome: store.Outcome) -> str:
    """Return the outcome in a word; log what its sender should know of it."""
    _warn(change, outcome)
    return outcome.value


def _warn(change: versions.Change, outcome: store.Outcome) -> None:
    if outcome is not store.Outcome.OUTRANKED and (change.version.number >= 0 or change.version.time is not None):
        return
    cluster, namespace, name = change.key[:3]
    place = {"id": change.row.id, "cluster": cluster, "object": f"{namespace}/{name}"}
    if outcome is store.Outcome.OUTRANKED:
        log.warning(
            "the event has no resourceVersion and the VM has been stored with one: the history has it, and the state"
            " does not change; send the object, or the attribute resourceversion",
            extra={"action": "vm.outranked", **place},
        )
    else:
        log.warning(
            "the event has neither a resourceVersion nor a time: it cannot be ordered, and counts as the oldest",
            extra={"action": "vm.unordered", **place},
        )
