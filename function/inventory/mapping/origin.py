"""Who made a version of an object, as far as the object says; pure.

Kubernetes notes in ``metadata.managedFields`` which client, its field manager, last changed a field that it owns, and
when (Kubernetes' documentation, Server-Side Apply). KubeVirt may note the person in an annotation (enhancement 373).
These are notes beside the facts: whatever is wrong with them is passed over, and no event is refused because of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

from function import events
from function.inventory.mapping import fields

Annotations = TypedDict("Annotations", {"kubevirt.io/last-modified-by": Any}, total=False)
"""The annotation that is read."""


class Entry(TypedDict, total=False):
    """What is read of an entry of ``metadata.managedFields``; most of it is the names of the fields."""

    manager: Any
    time: Any
    subresource: Any


(_PERSON,) = Annotations.__annotations__
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""The one form in which the API server writes times; in it the later of two times is the greater text."""
_LONGEST = 253
"""Characters that are kept of a name: a field manager's has at most 128, an annotation's value up to 256 KiB."""


class _Note(NamedTuple):
    """An entry that has a time. Of a second's entries the object's own counts before that of a subresource."""

    time: str
    whole: bool
    place: int
    manager: Any


def changed_by(data: events.Json, *, deleted: bool) -> str | None:
    """Return who made this version: the annotation's person, else the field manager whose entry is the newest.

    None where nothing says so, as for a delete and for the request of one: they have no entry.
    Of entries of one second, the last in the API server's order counts, and that of a subresource, such as the status,
    only where no other has this second.
    """
    metadata = data.get("metadata") or {}
    newest = max(_notes(metadata), default=None)
    if deleted or _asked_to_end(metadata) > (newest.time if newest else ""):
        return None
    annotations = metadata.get("annotations")
    person = _name(annotations.get(_PERSON)) if isinstance(annotations, dict) else None
    return person or _name(newest.manager if newest else None)


def _notes(metadata: fields.Object) -> Iterator[_Note]:
    entries = metadata.get("managedFields")
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        time = entry.get("time") if isinstance(entry, dict) else None
        if isinstance(time, str) and _TIME.fullmatch(time):
            yield _Note(time, not entry.get("subresource"), place, entry.get("manager"))


def _asked_to_end(metadata: fields.Object) -> str:
    """Return when the object's deletion was asked for, as text; an empty one where it was not."""
    time = metadata.get("deletionTimestamp")
    return time if isinstance(time, str) and _TIME.fullmatch(time) else ""


def _name(value: Any) -> str | None:
    """Return a name without what cannot be printed or stored; None where there is no text."""
    if not isinstance(value, str):
        return None
    return "".join([char if char.isprintable() else " " for char in value[:_LONGEST]]).strip() or None
