"""The request that a Secret would send about an event, as it may be shown to others; nobody is asked for it.

The url's path, the values of the Secret's headers, and in the body what stands under the key of a secret are masked.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from function import errors, events, settings
from function.scaling import address_policy, occurrences, placeholders, subscriptions, template

MASK = "***"
_KEYS = re.compile(
    r"(?:^|[-_.])(?:key|sid)$|(?:routing|integration|service|api|app|access|auth|license|write|account|user)[-_]?key"
    r"|token|secret|passw|credential|authoriz|signature|webhook[-_]?url",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"(?:dedup|aggregation|incident|idempotency)[-_]?key", re.IGNORECASE)

SAMPLE = events.Event(
    {"id": "sample", "source": "https://10.96.0.1:443", "type": "dev.knative.apiserver.resource.add", "kind": "Event"},
    {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "php-apache.189998892946cc55", "namespace": "default"},
        "involvedObject": {
            "kind": occurrences.KIND,
            "namespace": "default",
            "name": "php-apache",
            "uid": "7f0b2c0e-9a41-4f0e-8d0a-2f5a0f4f6c11",
        },
        "source": {"component": occurrences.CONTROLLER},
        "type": "Normal",
        "reason": occurrences.RESCALED,
        "message": "New size: 4; reason: cpu resource utilization (percentage of request) above target",
        "lastTimestamp": "2026-03-04T09:14:03Z",
        "count": 1,
    },
)
"""php-apache in namespace default was scaled to 4."""


@dataclasses.dataclass(frozen=True)
class Preview:
    """What would be sent, masked. url: without its path. notes: sentences about what may not be meant.

    closed: the closed address that the url leads to with these settings, or None. A name is not resolved for it.
    """

    url: str
    headers: Mapping[str, str]
    body: events.Json
    notes: tuple[str, ...]
    closed: str | None


def preview(secret: Mapping[str, Any], where: str, event: events.Event, configuration: settings.Settings) -> Preview:
    """Return what the Secret, an object of the Kubernetes API, would send about ``event``.

    Raises :class:`errors.Refused` where the Secret cannot be used, or the event would notify nobody, and
    :class:`errors.BadEvent` where it cannot be read. ``where`` names the Secret in sentences.
    """
    read = template.read(template.contents(secret, where), where)
    occurrence = occurrences.occurrence(event, cluster_name=configuration.ledger.cluster_name)
    if occurrence is None:
        raise errors.Refused(
            "the event would notify nobody: it is not about a HorizontalPodAutoscaler, only refers to an Event, or is"
            " the deletion of one"
        )
    target = f"Deployment/{occurrence.name}"  # a guess: what is scaled stands in the HPA, which is not read here
    request = read.render(placeholders.values_of(occurrence, target=target))
    theirs = {name.lower() for name in read.headers} - {template.IDEMPOTENCY.lower()} | {"authorization"}
    return Preview(
        url=f"{request.url.scheme}://{request.url.authority}/{MASK}",
        headers={name: MASK if name.lower() in theirs else value for name, value in request.headers.items()},
        body=_masked(json.loads(request.body)),
        notes=(*read.remarks, *_notes(occurrence, configuration.scaling)),
        closed=_closed(read.url, configuration.webhooks),
    )


def _notes(occurrence: occurrences.Occurrence, scaling: settings.Scaling) -> list[str]:
    if subscriptions.ALL in scaling.reasons or occurrence.reason in scaling.reasons:
        return []
    reason = errors.shown(occurrence.reason)
    return [f"the reason {reason} notifies only if HPA_REASONS, or the annotation {subscriptions.REASONS}, has it"]


def _closed(url: address_policy.Url, webhooks: settings.Webhooks) -> str | None:
    """Return why the url is closed, as far as its text shows it."""
    policy = address_policy.Policy(
        denied=address_policy.Rules.read(webhooks.denied_hosts),
        allowed=address_policy.Rules.read(webhooks.allowed_hosts),
    )
    host = url.host.rstrip(".")
    try:
        where = address_policy.address("127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host)
    except ValueError:
        # The name may yet resolve into a network that is allowed; an address in it leaves the decision to the names.
        where = next((network[0] for network in policy.allowed.networks), address_policy.address("203.0.113.1"))
    return policy.closed(url, where, ())


def _masked(node: Any, *, hidden: bool = False) -> Any:
    match node:
        case dict():
            return {key: _masked(value, hidden=hidden or _is_secret(key)) for key, value in node.items()}
        case list():
            return [_masked(item, hidden=hidden) for item in node]
        case _:
            return MASK if hidden and node not in (None, "") else node


def _is_secret(key: str) -> bool:
    return bool(_KEYS.search(key)) and not _HARMLESS.fullmatch(key)
