"""What a reconcile says while it goes on."""

from __future__ import annotations

from function import progress
from function.inventory.mapping import versions


class Report(progress.Progress):
    """Says nothing; the command line overrides it."""

    def difference(self, what: str, row: versions.Row, *, was: int | None, now: int | None) -> None:
        """A dry run found a difference: the resource versions in the ledger and in the cluster."""
