"""Where webhooks may lead."""

from __future__ import annotations

import dataclasses
import ipaddress
import re

from function.settings import variables


def hosts(value: str) -> tuple[str, ...]:
    """Host names, globs of them, addresses and networks, separated by commas."""
    found = tuple(word.lower().strip("[]") for word in variables.words(value))
    for word in found:
        try:
            ipaddress.ip_network(word, strict=False)
        except ValueError:
            if not re.fullmatch(r"[a-z0-9_.*?-]+", word):
                raise ValueError("must list host names, globs, addresses or networks, separated by commas") from None
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Webhooks(variables.Part):
    """Where webhooks may lead, and how long they may take."""

    timeout: float = variables.variable(
        "WEBHOOK_TIMEOUT",
        variables.seconds(0.1, 30),
        default=10.0,
        doc="Longest wait for a webhook's connection, and for its answer, in seconds.",
    )
    ca_file: str | None = variables.variable(
        "WEBHOOK_CA_FILE", variables.certificates, doc="PEM file of the authorities that webhooks are verified with."
    )
    denied_hosts: tuple[str, ...] = variables.variable(
        "WEBHOOK_DENIED_HOSTS",
        hosts,
        default=(),
        doc="Names, globs, addresses and networks that no webhook may lead to, separated by commas; wins.",
    )
    allowed_hosts: tuple[str, ...] = variables.variable(
        "WEBHOOK_ALLOWED_HOSTS",
        hosts,
        default=(),
        doc="Once set, webhooks lead only there. Networks open loopback and link-local addresses too, names do not.",
    )
