"""The sizes that only an instancetype says, of machines that do not run."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from function import errors
from function.clients import kubernetes
from function.inventory.mapping import instancetype
from function.inventory.reconcile import plan, snapshot

log = logging.getLogger(__name__)

READERS = 8
"""Threads that look up the sizes of instancetypes."""


NOT_KNOWN = instancetype.Sizes(None, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answer:
    """What became of a look-up.

    sizes: what is stored, None where the next run must ask again. trouble: why a size is not known.
    """

    sizes: Mapping[str, Any] | None = None
    trouble: str | None = None


class Lookup:
    """Looks up sizes through the Kubernetes API, and stores them."""

    def __init__(self, api: kubernetes.Kube, ledger: snapshot.Snapshot) -> None:
        self._api = api
        self._ledger = ledger

    def run(self, moment: plan.Moment, stored: Callable[[int], None]) -> None:
        """Look up what is missing; ``stored`` gets the count of each batch.

        Where a look-up fails, the next run tries again; what the API does not have is asked for again once the machine
        or its revision changes.
        """
        failed: list[str] = []
        with concurrent.futures.ThreadPoolExecutor(READERS, "sizes") as readers:
            for batch in self._ledger.unsized(moment):
                try:
                    found = list(readers.map(self._looked_up, batch))
                    answered = [each.sizes for each in found if each.sizes is not None]
                    failed += [each.trouble for each in found if each.trouble is not None]
                    if not answered:
                        self._api.cluster_uid()  # it raises where it is not these machines but the API
                except errors.VmledgerError as exc:
                    failed.append(str(exc))
                    break
                stored(self._ledger.size(answered))
        if failed:
            extra = {"action": "reconcile.unsized", "count": len(failed), "reason": failed[0]}
            log.warning("some sizes that only an instancetype says are not known", extra=extra)

    def _looked_up(self, machine: snapshot.Unsized) -> _Answer:
        """Return a machine with its size, or why that is not known; Refused where nothing can be known."""
        place = f"{machine.namespace}/{machine.name}"
        try:
            found = self._sizes(machine)
        except errors.Unavailable as exc:
            return _Answer(trouble=str(exc))
        except errors.BadEvent as exc:
            return _Answer(sizes={**dataclasses.asdict(machine), **NOT_KNOWN._asdict()}, trouble=str(exc))
        if found is None:
            return _Answer(trouble=f"{place} has changed since it was listed")
        trouble = f"the Kubernetes API has no size of {place}" if found == NOT_KNOWN else None
        return _Answer(sizes={**dataclasses.asdict(machine), **found._asdict()}, trouble=trouble)

    def _sizes(self, machine: snapshot.Unsized) -> instancetype.Sizes | None:
        """Return the sizes, or None where the machine is another by now; NOT_KNOWN where the API has none."""
        if kubernetes.NAME.fullmatch(machine.revision):
            kept = self._api.get(kubernetes.CONTROLLER_REVISIONS, namespace=machine.namespace, name=machine.revision)
            if kept is not None:
                return instancetype.sizes(kept)
        expanded = self._api.expand(machine.namespace, machine.name)
        if expanded is None:
            return NOT_KNOWN
        same = instancetype.is_same(
            expanded, uid=machine.uid, resource_version=machine.resource_version, generation=machine.generation
        )
        return instancetype.expanded(expanded) if same else None
