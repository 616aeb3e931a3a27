"""Who made a version of an object and when it came to be, as far as the object says; pure.

Kubernetes notes in ``metadata.managedFields`` which client, its field manager, last changed a field that it owns, and
when (Kubernetes' documentation, Server-Side Apply). KubeVirt may note the person in an annotation (enhancement 373).
These are notes beside the facts: whatever is wrong with them is passed over, and no event is refused because of it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

from function import events
from function.inventory.mapping import fields, versions

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
LONGEST_WAY = datetime.timedelta(days=1)
"""How long before its event an object may have been written, for its time to count."""
AT_ONCE = datetime.timedelta(seconds=2)
"""What an event that was sent at once is after its object's creation, which is in whole seconds, at most."""
_LONGEST = 253
"""Characters that are kept of a name: a field manager's has at most 128, an annotation's value up to 256 KiB."""


class Note(NamedTuple):
    """An entry that has a time. Of a second's entries the object's own counts before that of a subresource."""

    time: str
    whole: bool
    place: int
    manager: Any


def notes(event: events.Event) -> dict[str, Any]:
    """Return, by column, who made this version of an object and when."""
    data: events.Json = event.data
    metadata = data.get("metadata") or {}
    newest = newest_note(metadata)
    who = changed_by(metadata, newest, step=versions.STEPS[event.type])
    return {"changed_by": who, "object_time": made_at(metadata, newest, event)}


def newest_note(metadata: fields.Object) -> Note | None:
    """Return the newest of the entries of ``managedFields``; of those of one second, the one that counts."""
    return max(_notes(metadata), default=None)


def changed_by(metadata: fields.Object, newest: Note | None, *, step: int) -> str | None:
    """Return who made this version: the annotation's person, else the field manager whose entry is the newest.

    None where nothing says so, as for a delete and for the request of one: they have no entry.
    Of entries of one second, the last in the API server's order counts, and that of a subresource, such as the status,
    only where no other has this second.
    """
    if step == versions.DELETE or _text_time(metadata, "deletionTimestamp") > (newest.time if newest else ""):
        return None
    annotations = metadata.get("annotations")
    person = _name(annotations.get(_PERSON)) if isinstance(annotations, dict) else None
    return person or _name(newest.manager if newest else None)


def made_at(metadata: fields.Object, newest: Note | None, event: events.Event) -> datetime.datetime | None:
    """Return when this version of an object came to be, by the API server's clock; None where the object does not say.

    It is the greatest of the times of ``managedFields``, creationTimestamp and deletionTimestamp, in whole seconds, but
    never later than the event's time: a deletionTimestamp lies in the future by its grace period.
    An update without ``managedFields`` does not say it, because its creation was before, nor does a delete without
    deletionTimestamp, because the object that it carries was written before. The creation alone says it of an add that
    comes later than at once: then the event's time is finer, and about this version.
    A time that is longer ago than :data:`LONGEST_WAY` says something else: Kubernetes notes no time where a change only
    removes something (``managedfields``, managedFieldsUpdater), and a delete may wait for days for a finalizer.
    """
    step = versions.STEPS[event.type]
    written = newest.time if newest else ""
    asked = _text_time(metadata, "deletionTimestamp")
    if not {versions.ADD: True, versions.UPDATE: written, versions.DELETE: asked}[step]:
        return None
    made = events.time_of(max(written, asked, _text_time(metadata, "creationTimestamp")))
    if made is None or event.time is None:
        return made
    way = event.time - made
    if not written and step == versions.ADD:
        return made if way >= AT_ONCE else None
    sent = step != versions.ADD and not event.type.startswith(versions.LISTED)
    return None if sent and way > LONGEST_WAY else min(made, event.time)


def _notes(metadata: fields.Object) -> Iterator[Note]:
    entries = metadata.get("managedFields")
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        time = entry.get("time") if isinstance(entry, dict) else None
        if isinstance(time, str) and _TIME.fullmatch(time):
            yield Note(time, not entry.get("subresource"), place, entry.get("manager"))


def _text_time(metadata: fields.Object, key: str) -> str:
    """Return a time of the object as text; an empty one where it has none."""
    time = metadata.get(key)
    return time if isinstance(time, str) and _TIME.fullmatch(time) else ""


def _name(value: Any) -> str | None:
    """Return a name without what cannot be printed or stored; None where there is no text."""
    if not isinstance(value, str):
        return None
    return "".join([char if char.isprintable() else " " for char in value[:_LONGEST]]).strip() or None
