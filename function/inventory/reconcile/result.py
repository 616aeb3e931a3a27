"""What a person asks of a reconcile, and what became of it."""

from __future__ import annotations

import dataclasses
from typing import Literal

Outcome = Literal["clean", "repaired", "refused", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the person who runs it asks for.

    force: delete however many are missing. accept_rewind: the cluster was restored from a backup. accept_cluster:
    another cluster has taken the name. page: objects in a page of the list. in_flight: seconds before the list for
    which a change counts as on its way, not as missed.
    """

    dry_run: bool = False
    force: bool = False
    accept_rewind: bool = False
    accept_cluster: bool = False
    page: int = 500
    in_flight: float = 60.0


@dataclasses.dataclass(kw_only=True)
class Run:
    """What became of a run; the fields before ``instances`` are a row of ``reconcile_runs``.

    seen: virtual machines in the list. missed_*: those that were written, or in a dry run would be. corrected: machines
    and instances of which the ledger had a version that the list refutes. error: why it was refused or failed, or what
    it left undone. instances: running instances that were written; instance_*: as what. sized: machines whose size was
    looked up. unreadable: objects that can be no rows of the ledger. in_flight: machines and instances that were
    written, but not counted as missed: they changed so shortly before the list began that their events may come.
    """

    cluster: str
    dry_run: bool = False
    outcome: Outcome = "clean"
    seconds: float = 0.0
    seen: int = 0
    missed_adds: int = 0
    missed_updates: int = 0
    missed_deletes: int = 0
    corrected: int = 0
    list_version: int | None = None
    error: str | None = None
    instances: int = 0
    instance_adds: int = 0
    instance_updates: int = 0
    instance_deletes: int = 0
    sized: int = 0
    unreadable: int = 0
    in_flight: int = 0

    def count(self, field: str, more: int = 1) -> None:
        """Add to one of the numbers."""
        setattr(self, field, getattr(self, field) + more)

    def finish(self) -> None:
        """Note that it came to its end.

        Sizes are not counted as repairs: no event carries them, so none was missed.
        """
        if self.unreadable:
            self.outcome, self.error = (
                "failed",
                f"{self.unreadable} objects cannot be read: the log says why",
            )
            return
        missed = self.missed_adds or self.missed_updates or self.missed_deletes or self.instances
        if missed or self.corrected or self.in_flight:
            self.outcome = "repaired"

    def break_off(self, outcome: Outcome, error: str) -> None:
        """Note that it ended before that."""
        self.outcome, self.error = outcome, error
