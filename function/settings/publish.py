"""Where the changes of the ledger are sent."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse

from function.settings import variables


def sink_url(value: str) -> str:
    """The URL of a sink, http or https; a SinkBinding gives one of the cluster's."""
    try:
        parts = urllib.parse.urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.fragment or not re.fullmatch(r"[!-~]{1,2000}", value):
        raise ValueError("must be the http or https URL of a sink, without a user in it")
    return value


def overrides(value: str) -> tuple[tuple[str, str], ...]:
    """A SinkBinding's ceOverrides: a JSON object whose ``extensions`` are texts by their names; names and texts."""
    try:
        found = json.loads(value).get("extensions") or {}
        sound = all(re.fullmatch(r"[a-z0-9]+", name) and isinstance(text, str) for name, text in found.items())
    except (ValueError, AttributeError, TypeError):
        sound = False
    if not sound or found.keys() & {"id", "source", "specversion", "type", "data", "datacontenttype"}:
        raise ValueError('must be a JSON object such as {"extensions": {"name": "text"}}, of extensions alone')
    return tuple(found.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Publish(variables.Part):
    """Where `publish` sends the changes of the ledger, and how many at once."""

    sink: str | None = variables.variable(
        "K_SINK", sink_url, doc="URL that `publish` sends the changes to; a SinkBinding sets it."
    )
    overrides: tuple[tuple[str, str], ...] = variables.variable(
        "K_CE_OVERRIDES",
        overrides,
        default=(),
        doc="Extensions for each event of `publish`, as JSON; a SinkBinding sets it from its ceOverrides.",
    )
    in_flight: int = variables.variable(
        "PUBLISH_IN_FLIGHT",
        variables.whole(1, 256),
        default=32,
        doc="Most VMs whose changes `publish` sends at once; those of one VM go one after the other.",
    )
    timeout: float = variables.variable(
        "PUBLISH_TIMEOUT",
        variables.seconds(0.1, 300),
        default=30.0,
        doc="Longest wait for the sink's answer, in seconds; then the change is sent again.",
    )
    ca_file: str | None = variables.variable(
        "PUBLISH_CA_FILE", variables.certificates, doc="PEM file of the authorities that the sink is verified with."
    )
