"""Where metrics are served."""

from __future__ import annotations

import dataclasses

from function.settings import variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics(variables.Part):
    """Where metrics are served, if at all."""

    port: int | None = variables.variable(
        "METRICS_PORT",
        variables.whole(1, 65535),
        doc="Port that `/metrics` is served on, for Prometheus; unset, nothing is measured.",
    )
    folder: str | None = variables.variable(
        "PROMETHEUS_MULTIPROC_DIR",
        variables.text,
        doc="Folder of the workers' counts; it is made, and its counts are removed, at the start. Unset: one in"
        " `/dev/shm`, which can be written where the root file system cannot.",
    )
