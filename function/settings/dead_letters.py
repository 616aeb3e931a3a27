"""Which dead letters are kept."""

from __future__ import annotations

import dataclasses

from function.settings import variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeadLetters(variables.Part):
    """Which dead letters are kept in the database, where there is one."""

    most: int = variables.variable(
        "DEAD_LETTERS_MAX",
        variables.whole(0, 10_000_000),
        default=10_000,
        doc="Maximum number of dead letters to keep; the oldest are removed. 0 keeps none.",
    )
    days: int = variables.variable(
        "DEAD_LETTERS_DAYS",
        variables.whole(1, 36_500),
        default=30,
        doc="Days after which a dead letter that did not come again is removed.",
    )
