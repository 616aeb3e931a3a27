"""The sizes that only an instancetype says, of machines that do not run."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from function import errors
from function.clients import kubernetes
from function.inventory.mapping import instancetype
from function.inventory.reconcile import plan, snapshot

log = logging.getLogger(__name__)

READERS = 8
"""Threads that look up the sizes of instancetypes."""


class Lookup:
    """Looks up sizes through the Kubernetes API, and stores them."""

    def __init__(self, api: kubernetes.Kube, ledger: snapshot.Snapshot) -> None:
        self._api = api
        self._ledger = ledger

    def run(self, moment: plan.Moment, stored: Callable[[int], None]) -> None:
        """Look up what is missing; ``stored`` gets the count of each batch.

        Where a look-up fails, the next run tries again.
        """
        failed: list[str] = []
        with concurrent.futures.ThreadPoolExecutor(READERS, "sizes") as readers:
            for batch in self._ledger.unsized(moment):
                try:
                    found = list(readers.map(self._sized, batch))
                    sized = [each for each in found if not isinstance(each, str)]
                    failed += [each for each in found if isinstance(each, str)]
                    if not sized:
                        self._api.cluster_uid()  # it raises where it is not these machines but the API
                except errors.VmledgerError as exc:
                    failed.append(str(exc))
                    break
                stored(self._ledger.size(sized))
        if failed:
            extra = {"action": "reconcile.unsized", "count": len(failed), "reason": failed[0]}
            log.warning("some sizes that only an instancetype says are not known", extra=extra)

    def _sized(self, machine: snapshot.Unsized) -> dict[str, Any] | str:
        """Return a machine with its size, or a sentence why that cannot be known; Refused where nothing can."""
        try:
            found = self._sizes(machine)
        except (errors.Unavailable, errors.BadEvent) as exc:
            return str(exc)
        if found is None:
            return f"the Kubernetes API does not expand {machine.namespace}/{machine.name} as the list had it"
        return {**dataclasses.asdict(machine), **found._asdict()}

    def _sizes(self, machine: snapshot.Unsized) -> instancetype.Sizes | None:
        if kubernetes.NAME.fullmatch(machine.revision):
            kept = self._api.get(kubernetes.CONTROLLER_REVISIONS, namespace=machine.namespace, name=machine.revision)
            if kept is not None:
                return instancetype.sizes(kept)
        expanded = self._api.expand(machine.namespace, machine.name)
        same = expanded is not None and instancetype.is_same(
            expanded, uid=machine.uid, resource_version=machine.resource_version, generation=machine.generation
        )
        return instancetype.expanded(expanded) if expanded is not None and same else None
