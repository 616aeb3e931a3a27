"""How the receiver serves."""

from __future__ import annotations

import dataclasses

from function.settings import variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Receiver(variables.Part):
    """How the receiver serves."""

    port: int = variables.variable(
        "PORT", variables.whole(1, 65535), default=8080, doc="Port that the receiver listens on; Knative sets it."
    )
    workers: int | None = variables.variable(
        "WEB_CONCURRENCY",
        variables.whole(1, 64),
        doc="Processes of gunicorn, each with one connection to Postgres. Unset: 2, or 1 without a database.",
    )
    log_level: str = variables.variable(
        "LOG_LEVEL",
        variables.one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        default="INFO",
        doc="Least level that is logged: DEBUG, INFO, WARNING or ERROR.",
    )
    max_event_bytes: int = variables.variable(
        "MAX_EVENT_BYTES",
        variables.whole(1024, 2**30),
        default=2 * 2**20,
        doc="Largest request body, in bytes; above it: 413.",
    )
    max_inflight_bytes: int = variables.variable(
        "MAX_INFLIGHT_BYTES",
        variables.whole(2**20, 2**40),
        default=64 * 2**20,
        doc="Memory that the large requests in flight of one process may take, in bytes; beyond it: 503.",
    )
    debug: bool = variables.variable(
        "FUNCTION_DEBUG",
        variables.flag,
        default=False,
        doc="`true` prints every event on `/` as the echo does, and handles it.",
    )
