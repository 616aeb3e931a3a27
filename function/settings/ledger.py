"""What the ledger is called, and when it is in trouble."""

from __future__ import annotations

import dataclasses

from function.settings import variables


def cluster(value: str) -> str:
    """The name of a cluster: what fits the ledger's key."""
    if "\x00" in value or len(value.encode("utf-8", "surrogatepass")) > 253 or not value.isprintable():
        raise ValueError("must be at most 253 bytes of printable text")
    return value


DEFAULT_CLUSTER = "default"
"""The cluster of events where nobody named one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ledger(variables.Part):
    """The name of the cluster, and the limits of what is normal for it."""

    cluster_name: str = variables.variable(
        "CLUSTER_NAME", cluster, default=DEFAULT_CLUSTER, doc="Cluster of events that carry no `cluster` attribute."
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
