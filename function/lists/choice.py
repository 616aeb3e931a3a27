"""Which machines a list shows; pure."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What is asked for; nothing is everything that lives.

    at: as they were at that moment. deleted: the deleted ones too. clusters, namespaces: those of one of these.
    labels: those that have all of these. key: the one with this cluster, namespace and name.
    """

    at: datetime.datetime | None = None
    deleted: bool = False
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    key: tuple[str, str, str] | None = None

    @property
    def source(self) -> str:
        """Where the cursor reads: live, all or past."""
        if self.at is not None:
            return "past"
        return "all" if self.deleted else "live"

    def as_json(self) -> str:
        """Return it for the statement ``choose``."""
        return json.dumps(
            {
                "source": self.source,
                "at": self.at and self.at.isoformat(),
                "clusters": self.clusters or None,
                "namespaces": self.namespaces or None,
                "labels": self.labels or None,
                "key": self.key,
            }
        )
