"""What the echo prints."""

from __future__ import annotations

import dataclasses

from function.settings import variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Echo(variables.Part):
    """What the echo prints."""

    switch: str = variables.variable(
        "ECHO", variables.one_of("ON", "OFF"), default="ON", doc="`off` closes POST /echo: 404."
    )
    max_bytes: int = variables.variable(
        "ECHO_MAX_BYTES",
        variables.whole(1, 2**30),
        default=64 * 2**10,
        doc="Maximum bytes of event data to print; longer data is truncated and marked.",
    )
    secrets: str = variables.variable(
        "ECHO_SECRETS",
        variables.one_of("MASK", "SHOW"),
        default="MASK",
        doc="`show` makes the echo print secrets, which it masks otherwise.",
    )

    @property
    def open(self) -> bool:
        """Whether POST /echo prints."""
        return self.switch == "ON"

    @property
    def masks(self) -> bool:
        """Whether secrets are masked."""
        return self.secrets == "MASK"
