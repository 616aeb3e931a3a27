"""What the ledger is called, and when it is in trouble."""

from __future__ import annotations

import dataclasses

from function import errors
from function.settings import variables


def cluster(value: str) -> str:
    """The name of a cluster: what fits the ledger's key."""
    if "\x00" in value or len(value.encode("utf-8", "surrogatepass")) > 253 or not value.isprintable():
        raise ValueError("must be at most 253 bytes of printable text")
    return value


def clusters(value: str) -> tuple[str, ...]:
    """Names of clusters separated by commas, or ``*`` for any."""
    return tuple(cluster(name) for name in variables.words(value))


ANY = "*"
"""In CLUSTERS: events may name any cluster."""
NOT_NAMED = (
    "the event names the cluster {cluster}, which is not taken here: add it to CLUSTERS if it may write to this ledger,"
    " or correct the attribute `cluster` of its source"
)
DEFAULT_CLUSTER = "default"
"""The cluster of events where nobody named one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ledger(variables.Part):
    """The name of the cluster, those that events may name besides, and the limits of what is normal."""

    cluster_name: str = variables.variable(
        "CLUSTER_NAME", cluster, default=DEFAULT_CLUSTER, doc="Cluster of events that carry no `cluster` attribute."
    )
    clusters: tuple[str, ...] = variables.variable(
        "CLUSTERS",
        clusters,
        default=(),
        doc="Names that the attribute `cluster` of events may have besides CLUSTER_NAME, separated by commas; `*` takes"
        " any, for a hub. Another name is 422.",
    )
    max_silence: int = variables.variable(
        "HEALTH_MAX_SILENCE",
        variables.duration,
        default=3600,
        doc="Longest silence of a healthy ledger, in seconds or as 90s, 15m, 1h, 2d; 0 for no limit.",
    )
    max_deletes: int = variables.variable(
        "RECONCILE_MAX_DELETES",
        variables.whole(0, 100),
        default=20,
        doc="Most that `reconcile` deletes without `--force`, in percent of the VMs that live; 10 VMs always.",
    )

    def admit(self, name: str) -> None:
        """Raise :class:`errors.Refused` where events may not name this cluster."""
        if name != self.cluster_name and name not in self.clusters and ANY not in self.clusters:
            raise errors.Refused(NOT_NAMED.format(cluster=errors.shown(name)))
