"""The inventory as a capability: events about VirtualMachines in, an acknowledged ledger out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from function import config, database, errors, events
from function.inventory import group, store, vm

log = logging.getLogger(__name__)

_REFERENCE = (
    "the event only refers to a VirtualMachine and does not hold it: set `mode: Resource` in the ApiServerSource"
)
NO_DATABASE = "no database is configured here: set DB_HOST or DATABASE_URL"


class Ledger:
    """Turns events into changes (:meth:`prepare`, pure) and stores them (:meth:`perform`)."""

    def __init__(self, settings: config.Settings, db: database.Database | None) -> None:
        self._cluster_name = settings.cluster_name
        self._group: group.GroupCommit[vm.Change, store.Outcome] | None = None
        if db is not None:
            self._group = group.GroupCommit(store.Store(db).write, patience=settings.db_timeout)

    def prepare(self, event: events.Event) -> vm.Change | None:
        """Return the change that ``event`` makes; None where the event is not about a VM of KubeVirt.

        Raises :class:`errors.BadEvent` where it can never be stored, :class:`errors.Refused` where never here.
        """
        if not _is_kubevirt(event):
            return None
        if event.type not in vm.STEPS:
            raise errors.Refused(_REFERENCE)
        if self._group is None:
            raise errors.Refused(NO_DATABASE)
        return vm.change(event, cluster_name=self._cluster_name)

    def perform(self, changes: Sequence[vm.Change]) -> list[str]:
        """Store ``changes``, all or none; return what became of each, in a word, once it is committed."""
        if self._group is None:
            raise errors.Refused(NO_DATABASE)
        outcomes = self._group.submit(changes)
        for change, outcome in zip(changes, outcomes, strict=True):
            _warn(change, outcome)
        return [outcome.value for outcome in outcomes]


def _is_kubevirt(event: events.Event) -> bool:
    """Whether the object's API group, where the event names one, is KubeVirt's."""
    version = event.attributes.get("apiversion")
    if version is None and isinstance(event.data, dict):
        version = event.data.get("apiVersion")
    return version is None or str(version).startswith(vm.GROUP)


def _warn(change: vm.Change, outcome: store.Outcome) -> None:
    cluster, namespace, name = change.key
    place = {"id": change.vm.id, "cluster": cluster, "object": f"{namespace}/{name}"}
    if outcome is store.Outcome.OUTRANKED:
        log.warning(
            "the VM is tracked by resourceVersion, and this event carries none: kept in the history, the state stays;"
            " send the object or the attribute resourceversion",
            extra={"action": "vm.outranked", **place},
        )
    elif change.version.number < 0 and change.version.time is None:
        log.warning(
            "the event has neither a resourceVersion nor a time: it cannot be ordered and counts as the oldest",
            extra={"action": "vm.unordered", **place},
        )
