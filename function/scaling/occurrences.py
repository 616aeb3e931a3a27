"""CloudEvent -> Occurrence: what the HPA controller reports, once for each time that it happened; pure.

An occurrence is one message about one HPA at one time. It is not an Event: the controller's recorder (client-go,
tools/record/events_cache.go) counts up one Event when the same message comes again, rewrites one for similar messages,
and each Event expires. The key of an occurrence stays the same over redelivery, a second source, both API groups, and
whatever else changes in the Event.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
from typing import Any

from function import errors, events

KIND = "HorizontalPodAutoscaler"
CONTROLLER = "horizontal-pod-autoscaler"
RESCALED = "SuccessfulRescale"
DELETED = "dev.knative.apiserver.resource.delete"
"""The Event's own expiry, with its full old message: nothing happened to the HPA."""

_AGGREGATE = "(combined from similar events): "
_SIZE = re.compile(r"New size: (\d{1,18}); reason: (.*?)(?:; error: .*)?", re.DOTALL | re.ASCII)
_DIRECTIONS = (
    ("Current number of replicas above Spec.MaxReplicas", "down"),
    ("Current number of replicas below Spec.MinReplicas", "up"),
    ("All metrics below target", "down"),
    (" above target", "up"),
)
"""How the controller's reasons end (horizontal.go, reconcileAutoscaler), and which way each scales."""
_TIMES = (
    ("series", "lastObservedTime"),
    ("deprecatedLastTimestamp",),
    ("lastTimestamp",),
    ("eventTime",),
    ("firstTimestamp",),
    ("deprecatedFirstTimestamp",),
    ("metadata", "creationTimestamp"),
)
_ZERO_TIME = "0001-01-01T00:00:00"


@dataclasses.dataclass(frozen=True, slots=True)
class Occurrence:
    """One thing that the HPA controller did or could not do, at one time.

    uid may be empty. event_type is Normal or Warning. occurred_at is in UTC. new_size, direction (up, down) and count
    are None where the Event does not say.
    """

    cluster: str
    namespace: str
    name: str
    uid: str
    reason: str
    event_type: str
    message: str
    occurred_at: datetime.datetime
    count: int | None
    new_size: int | None
    direction: str | None

    @property
    def key(self) -> str:
        """The same for the same occurrence, however often and in whatever shape it is received."""
        return _digest(self.cluster, self._object, self.reason, self.message, self.occurred_at.isoformat())

    @property
    def topic(self) -> str:
        """The same for all occurrences of one reason about one HPA."""
        return _digest(self.cluster, self._object, self.reason)

    @property
    def hpa(self) -> str:
        """The same for all occurrences about one HPA: by the name that it is looked up by, not by what an Event adds.

        An Event may name any uid, and any cluster that is allowed; the HPA that it notifies for is one.
        """
        return _digest(self.namespace, self.name)

    @property
    def _object(self) -> str:
        return self.uid or f"{self.namespace}/{self.name}"


def occurrence(event: events.Event, *, cluster_name: str) -> Occurrence | None:
    """Return the occurrence that ``event`` reports; None where it is not about an HPA, or only an Event's expiry.

    Reads core/v1 Events and events.k8s.io/v1 ones. Raises :class:`errors.BadEvent` for an HPA's Event with a part that
    cannot be read.
    """
    data = event.data
    if not isinstance(data, dict) or event.type == DELETED:
        return None
    involved = data.get("involvedObject") or data.get("regarding")
    if not (isinstance(involved, dict) and involved.get("kind") == KIND and _is_ours(data)):
        return None
    message = _text(data, "message") or _text(data, "note")
    message = message.removeprefix(_AGGREGATE)
    new_size, direction = _scale(message)
    return Occurrence(
        cluster=str(event.attributes.get("cluster") or cluster_name),
        namespace=_needed(involved, "namespace", data),
        name=_needed(involved, "name", data),
        uid=_text(involved, "uid"),
        reason=_text(data, "reason"),
        event_type=_text(data, "type"),
        message=message,
        occurred_at=_time(data, event),
        count=_count(data),
        new_size=new_size,
        direction=direction,
    )


def _is_ours(data: dict[str, Any]) -> bool:
    """Whether the Event is of the HPA controller, in one of the two API groups of Events."""
    version = data.get("apiVersion", "v1")
    if version != "v1" and not str(version).startswith("events.k8s.io/"):
        return False
    sources = (data.get("source"), data.get("deprecatedSource"))
    components = [source.get("component") for source in sources if isinstance(source, dict)]
    return CONTROLLER in (data.get("reportingComponent"), data.get("reportingController"), *components)


def _text(holder: dict[str, Any], key: str) -> str:
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise errors.BadEvent(f"the Event's {key} is not text")
    return value or ""


def _needed(involved: dict[str, Any], key: str, data: dict[str, Any]) -> str:
    value = _text(involved, key)
    if not value and key == "namespace" and isinstance(metadata := data.get("metadata"), dict):
        value = _text(metadata, key)
    if not value:
        raise errors.BadEvent(f"the Event does not name the HPA: its {key} is missing")
    return value


def _time(data: dict[str, Any], event: events.Event) -> datetime.datetime:
    """Return when it happened last: firstTimestamp stays the first ever while the Event is counted up."""
    for path in _TIMES:
        value: Any = data
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value not in (None, "") and not str(value).startswith(_ZERO_TIME):
            return events.parse_time(value, f"the Event's {path[-1]}")
    if event.time is None:
        raise errors.BadEvent("neither the Event nor the CloudEvent has the time at which it happened")
    return event.time.astimezone(datetime.UTC)


def _count(data: dict[str, Any]) -> int | None:
    series = data.get("series")
    counts = (series.get("count") if isinstance(series, dict) else None, data.get("count"), data.get("deprecatedCount"))
    return next((count for count in counts if isinstance(count, int) and not isinstance(count, bool)), None)


def _scale(message: str) -> tuple[int | None, str | None]:
    """Return the new size and the direction from a message; None for what it does not have."""
    found = _SIZE.fullmatch(message)
    if found is None:
        return None, None
    direction = next((way for end, way in _DIRECTIONS if found[2].endswith(end)), None)
    return int(found[1]), direction


def _digest(*parts: str) -> str:
    # JSON keeps the parts apart whatever they hold, and is ASCII whatever half characters they hold.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
