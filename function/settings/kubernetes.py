"""Where the Kubernetes API is."""

from __future__ import annotations

import dataclasses

from function.settings import variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kubernetes(variables.Part):
    """Where the Kubernetes API is."""

    kubeconfig: str | None = variables.variable(
        "KUBECONFIG",
        variables.text,
        doc="File with the access to the Kubernetes API, for a laptop, or several with `:` between them; wins over the"
        " cluster's own.",
    )
    host: str | None = variables.variable(
        "KUBERNETES_SERVICE_HOST", variables.text, doc="Address of the Kubernetes API; Kubernetes sets it in each Pod."
    )
    port: int = variables.variable(
        "KUBERNETES_SERVICE_PORT",
        variables.whole(1, 65535),
        default=443,
        doc="Its port; Kubernetes sets it in each Pod.",
    )

    @property
    def configured(self) -> bool:
        """Whether the settings name a Kubernetes API."""
        return bool(self.kubeconfig or self.host)
