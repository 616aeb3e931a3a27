"""Where traces are sent."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

from function import errors
from function.settings import variables

SAMPLERS = ("always_on", "always_off", "traceidratio")
PARENT = "parentbased_"
"""Before a sampler's name: it decides only where the sender has not."""
PROTOCOL = "http/protobuf"


def collector(value: str) -> str:
    """The URL of a collector."""
    try:
        parts = urllib.parse.urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]{1,1000}", value):
        raise ValueError("must be the http or https URL of a collector, such as http://collector:4318")
    return value


def share(value: str) -> float:
    """A number from 0 to 1."""
    if not re.fullmatch(r"[01](\.\d{1,12})?|\.\d{1,12}", value, re.ASCII) or float(value) > 1:
        raise ValueError("must be a number from 0 to 1")
    return float(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracing(variables.Part):
    """Whether traces are recorded, and where they are sent; the names are OpenTelemetry's."""

    endpoint: str | None = variables.variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        collector,
        doc="URL of the collector that traces are sent to, as OTLP over HTTP; turns tracing on (docs/tracing.md).",
        secret=True,
    )
    traces_endpoint: str | None = variables.variable(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        collector,
        doc="Whole URL for traces, where it is not the endpoint with `/v1/traces`.",
        secret=True,
    )
    protocol: str = variables.variable(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        variables.text,
        default=PROTOCOL,
        doc="`http/protobuf`, the one that is spoken; a collector listens for it on port 4318.",
    )
    traces_protocol: str | None = variables.variable(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", variables.text, doc="The same for traces alone; wins."
    )
    disabled: bool = variables.variable(
        "OTEL_SDK_DISABLED", variables.flag, default=False, doc="`true` turns tracing off, whatever else is set."
    )
    exporter: str = variables.variable(
        "OTEL_TRACES_EXPORTER", variables.text, default="otlp", doc="`otlp`, or `none` to turn tracing off."
    )
    sampler: str = variables.variable(
        "OTEL_TRACES_SAMPLER",
        variables.text,
        default="parentbased_always_on",
        doc="Which requests are recorded: always_on, always_off or traceidratio; with parentbased_ before it, only"
        " where the sender has not decided.",
    )
    ratio: float = variables.variable(
        "OTEL_TRACES_SAMPLER_ARG", share, default=1.0, doc="For traceidratio: the share that is recorded, from 0 to 1."
    )
    name: str | None = variables.variable(
        "OTEL_SERVICE_NAME", variables.utf8, doc="The service's name in traces; wins over K_SERVICE."
    )
    resource: str | None = variables.variable(
        "OTEL_RESOURCE_ATTRIBUTES",
        variables.utf8,
        doc="Further attributes of the service, such as `deployment.environment.name=prod,team=vm`.",
    )
    batch: int = variables.variable(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        variables.whole(1, 10_000),
        default=128,
        doc="Spans that are sent at once; to pack 128 takes 4 ms, in which no event is handled.",
    )
    queue: int = variables.variable(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        variables.whole(1, 100_000),
        default=2048,
        doc="Spans of a process that wait to be sent; beyond it the oldest are dropped.",
    )
    delay: int = variables.variable(
        "OTEL_BSP_SCHEDULE_DELAY",
        variables.whole(1, 600_000),
        default=5000,
        doc="Longest that a span waits to be sent, in milliseconds.",
    )
    service: str = variables.variable(
        "K_SERVICE", variables.utf8, default="vmledger", doc="The service's name in traces; Knative sets it."
    )
    revision: str | None = variables.variable(
        "K_REVISION", variables.utf8, doc="The revision in traces (`faas.version`); Knative sets it."
    )

    @property
    def on(self) -> bool:
        """Whether traces are recorded."""
        return bool(self.endpoint) and not self.disabled and self.exporter.lower() != "none"

    @property
    def url(self) -> str:
        """Where traces are sent."""
        return self.traces_endpoint or f"{(self.endpoint or '').rstrip('/')}/v1/traces"

    def check(self) -> None:
        """Raise :class:`errors.BadSetting` for what is not done here; nothing is wrong while tracing is off."""
        if not self.on:
            return
        if (self.traces_protocol or self.protocol).strip().lower() != PROTOCOL:
            raise errors.BadSetting(
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" if self.traces_protocol else "OTEL_EXPORTER_OTLP_PROTOCOL",
                f"must be {PROTOCOL}, the one that is spoken here: a collector listens for it on port 4318",
            )
        if self.exporter.lower() != "otlp":
            raise errors.BadSetting("OTEL_TRACES_EXPORTER", "must be otlp or none")
        if self.sampler.lower().removeprefix(PARENT) not in SAMPLERS:
            names = ", ".join(SAMPLERS)
            raise errors.BadSetting("OTEL_TRACES_SAMPLER", f"must be {names}, or {PARENT} and one of them")
        if self.batch > self.queue:
            raise errors.BadSetting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "must not be above OTEL_BSP_MAX_QUEUE_SIZE")
