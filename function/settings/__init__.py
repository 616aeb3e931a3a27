"""The settings: read once from the environment that the caller passes in, a part for each room.

Each variable is declared beside its field, with its default and one sentence; docs/settings.md is held to these
declarations by a test. Nothing else in the function reads the environment.
A value that cannot be used raises :class:`errors.BadSetting`, whose sentence names the variable and never its value.
A capability is given its own part alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

from function.settings import variables
from function.settings.callers import Callers
from function.settings.database import Database
from function.settings.dead_letters import DeadLetters
from function.settings.echo import Echo
from function.settings.kubernetes import Kubernetes
from function.settings.ledger import DEFAULT_CLUSTER, Ledger
from function.settings.metrics import Metrics
from function.settings.operations import Operations, OperationsAccess
from function.settings.page import Page
from function.settings.publish import Publish
from function.settings.receiver import Receiver
from function.settings.scaling import Scaling
from function.settings.tracing import PARENT, Tracing
from function.settings.webhooks import Webhooks

__all__ = [
    "DEFAULT_CLUSTER",
    "PARENT",
    "Callers",
    "Database",
    "DeadLetters",
    "Echo",
    "Kubernetes",
    "Ledger",
    "Metrics",
    "Operations",
    "OperationsAccess",
    "Page",
    "Publish",
    "Receiver",
    "Scaling",
    "Settings",
    "Tracing",
    "Webhooks",
    "corrections",
]


def corrections(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable whose value is not taken as it stands."""
    names = (field.metadata["variable"] for field in dataclasses.fields(Database) if "variable" in field.metadata)
    return [
        f"{name} ends with a newline, which was cut off"
        for name in names
        if environ.get(name, "") != variables.without_newline(environ.get(name, ""))
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the function was given by its environment, by room."""

    receiver: Receiver = dataclasses.field(default_factory=Receiver)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    callers: Callers = dataclasses.field(default_factory=Callers)
    ledger: Ledger = dataclasses.field(default_factory=Ledger)
    database: Database = dataclasses.field(default_factory=Database)
    kubernetes: Kubernetes = dataclasses.field(default_factory=Kubernetes)
    echo: Echo = dataclasses.field(default_factory=Echo)
    dead_letters: DeadLetters = dataclasses.field(default_factory=DeadLetters)
    scaling: Scaling = dataclasses.field(default_factory=Scaling)
    webhooks: Webhooks = dataclasses.field(default_factory=Webhooks)
    operations: Operations = dataclasses.field(default_factory=Operations)
    page: Page = dataclasses.field(default_factory=Page)
    tracing: Tracing = dataclasses.field(default_factory=Tracing)
    publish: Publish = dataclasses.field(default_factory=Publish)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read all parts from ``environ``; raise :class:`errors.BadSetting` for the first value that is wrong."""
        return cls(
            receiver=Receiver.from_env(environ),
            metrics=Metrics.from_env(environ),
            callers=Callers.from_env(environ),
            ledger=Ledger.from_env(environ),
            database=Database.from_env(environ),
            kubernetes=Kubernetes.from_env(environ),
            echo=Echo.from_env(environ),
            dead_letters=DeadLetters.from_env(environ),
            scaling=Scaling.from_env(environ),
            webhooks=Webhooks.from_env(environ),
            operations=Operations.from_env(environ),
            page=Page.from_env(environ),
            tracing=Tracing.from_env(environ),
            publish=Publish.from_env(environ),
        )

    @classmethod
    def declared(cls) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
        """Yield each variable as the field that declares it, with the name of its part."""
        for name, part in vars(cls()).items():
            for field in dataclasses.fields(part):
                if "variable" in field.metadata:
                    yield name, field
