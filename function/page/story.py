"""What a change says, and the spans of time in which a VM was on a node or in a phase; pure."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from function.page import wording

SIZES = frozenset({"memory_bytes", "disk_bytes", "live_memory_bytes"})
TIMES = frozenset({"created_at", "deleted_at"})
WORDS = {
    "cpucores": "cores",
    "cpusockets": "sockets",
    "cputhreads": "threads",
    "vcpus": "vCPUs",
    "memory": "memory, as written",
    "memory_bytes": "memory",
    "disk_bytes": "disk size",
    "ip_addresses": "addresses",
    "guest_os": "guest OS",
    "os": "OS",
    "uid": "UID",
    "live_vcpus": "vCPUs of the instance",
    "live_memory_bytes": "memory of the instance",
    "storageclass": "storage class",
}
"""Facts whose names people would not guess."""
NEW = frozenset({"appeared", "recreated", "started"})
"""Kinds of change at which all facts are new."""
DELETED, NOT_YET, NOT_RUNNING = "Deleted", "Not there yet", "Not running"


@dataclasses.dataclass(frozen=True)
class Fact:
    """A fact that changed, as people read it."""

    name: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True)
class Span:
    """In what state something was, from when to when; ``end`` is None where it is so still."""

    state: str
    begin: datetime.datetime
    end: datetime.datetime | None


def facts(changes: str) -> list[Fact]:
    """Return what a row of ``vm_changes`` says, from the text of its column ``changes``."""
    found: list[Fact] = []
    for name, sides in sorted(json.loads(changes).items()):
        old, new = sides.get("old"), sides.get("new")
        if name == "labels":
            found += _labels(old or {}, new or {})
        elif name != "kind":
            found.append(Fact(WORDS.get(name, name.replace("_", " ")), _shown(name, old), _shown(name, new)))
    return found


def _labels(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[Fact]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield Fact(f"label {key}", _shown(key, old.get(key)), _shown(key, new.get(key)))


def _shown(name: str, value: Any) -> str:
    """Return a value of a change, from JSON, as people read it."""
    if value is None or value in ("", []):
        return wording.UNKNOWN
    if name in SIZES and isinstance(value, int):
        return wording.size(value)
    if name in TIMES:
        return wording.time(datetime.datetime.fromisoformat(str(value)))
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return str(value)


def headline(what: str, found: Sequence[Fact]) -> str:
    """Return a change in one line."""
    if what in NEW or not found:
        return what
    shown = [f"{fact.name} {fact.old} → {fact.new}" for fact in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{what}: {', '.join(shown)}{more}" if what != "deleted" else what


def spans(states: Iterable[tuple[datetime.datetime, str]]) -> list[Span]:
    """Return the spans of states that begin at the given times, oldest first; equal neighbours become one."""
    found: list[Span] = []
    for begin, state in states:
        if found and found[-1].state == state:
            continue
        if found:
            found[-1] = dataclasses.replace(found[-1], end=begin)
        found.append(Span(state, begin, None))
    return found


def stays(runs: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Return where a VM ran, newest first, from the rows of ``runs_of``."""
    found = spans((row["effective_at"], row["node"] or "") for row in reversed(runs))
    return [span for span in reversed(found) if span.state]


def life(statuses: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Return how a VM was, oldest first: by its instance's phase, and where none was ever told, by its own status."""
    moments = sorted(
        [(row["effective_at"], 0, row) for row in statuses] + [(row["effective_at"], 1, row) for row in runs],
        key=lambda each: each[:2],
    )
    status, phase, deleted, found = None, None, False, []
    for at, of_run, row in moments:
        if of_run:
            phase = row["phase"]
        else:
            # A VM that was made again has not run yet.
            phase = None if deleted and not row["deleted"] else phase
            status, deleted = row["status"], row["deleted"]
        found.append((at, _state(status, phase, deleted=deleted)))
    return spans(found)


def _state(status: str | None, phase: str | None, *, deleted: bool) -> str:
    if deleted:
        return DELETED
    if phase is None:
        return status or "Unknown"
    return NOT_RUNNING if phase == "Gone" else phase


def window(found: Sequence[Span], begin: datetime.datetime, end: datetime.datetime) -> list[Span]:
    """Return the parts of spans, oldest first, that lie between two times, with what was before the first one."""
    cut = [
        Span(span.state, max(span.begin, begin), min(span.end or end, end))
        for span in found
        if span.begin < end and (span.end is None or span.end > begin)
    ]
    first = cut[0].begin if cut else end
    return ([Span(NOT_YET, begin, first)] if first > begin else []) + cut
