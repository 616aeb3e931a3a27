"""What is kept of a dead letter: why it is one, its attributes, and its data without secrets; pure.

Of an event that the inventory reads, the data are trimmed to what it reads, so a replay stores the same row. Of any
other, they are what the echo prints: masked, and cut where they are longer than ECHO_MAX_BYTES.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from function import errors, events
from function.echo import failures
from function.web import cloudevents

if TYPE_CHECKING:
    from function.echo import rendering

Trim = Callable[[events.Event], events.Json | None]
"""Returns the data of an event, trimmed; None where it is not one to trim."""

LONGEST_SENTENCE = 2000
_OWN = (*failures.EXTENSIONS, failures.HOPS)
"""Attributes that Knative added to make a dead letter of it; the event that is sent again has none of them."""


class Form(enum.Enum):
    """What the data of a letter are."""

    TRIMMED = "trimmed"
    """What the ledger reads of an object."""
    MASKED = "masked"
    """All of them, with secrets masked."""
    CUT = "cut"
    """Not all of them: they are too long, or cannot be shown."""
    BROKEN = "broken"
    """The body of a request that was not a CloudEvent."""

    @property
    def can_be_sent(self) -> bool:
        """Whether the letter is an event that can be sent again."""
        return self in (Form.TRIMMED, Form.MASKED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Letter:
    """One dead letter.

    key: the same for each delivery of one event. delivery: of this one; a number that nobody else has.
    count: how often the event was received; first_at, last_at: when. destination, code, sentence: who answered, with
    which status and what. attributes: a JSON object. data: JSON, None where there are none or they are bytes;
    data_base64: those bytes.
    """

    key: str
    delivery: str
    count: int = 1
    first_at: datetime.datetime
    last_at: datetime.datetime
    destination: str | None
    code: int | None
    sentence: str | None
    event_id: str | None
    source: str | None
    type: str | None
    attributes: str
    data: str | None
    data_base64: str | None
    form: Form

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return sum(len(text) for text in (self.attributes, self.data, self.data_base64, self.sentence) if text)


def of_event(event: events.Event, line: rendering.Line, trim: Trim, most: int) -> Letter | None:
    """Return the letter that an event is; None where it is not a dead letter.

    line: what the echo prints of it. most: bytes that trimmed data may have.
    """
    if line.failure is None:
        return None
    from function.echo import masking, rendering  # as the echo: a start without a dead letter does not pay for them

    inner, kept = _trimmed(event, trim)
    if kept is None:
        return _letter(event.attributes, line, *_printed(line))
    text = masking.Encoder(show=True).encode(kept)
    attributes = {name: value for name, value in inner.attributes.items() if name != "time"}
    attributes |= {"time": inner.time_text} if inner.time_text is not None else {}
    trimmed = dataclasses.replace(line, attributes=rendering.attributes(attributes, masking.Encoder()))
    fits = len(text.encode()) <= most
    return _letter(inner.attributes, trimmed, text if fits else None, None, Form.TRIMMED if fits else Form.CUT)


def of_body(attributes: Mapping[str, object], line: rendering.Line) -> Letter | None:
    """Return the letter that a request is whose body is not a CloudEvent, and whose headers have these attributes."""
    if line.failure is None:
        return None
    data, data_base64, _ = _printed(line)
    return _letter(attributes, line, data, data_base64, Form.BROKEN)


def document(attributes: str, data: str | None, data_base64: str | None) -> bytes:
    """Return the event of a letter in the JSON format of CloudEvents."""
    members = [attributes.strip()[1:-1]]
    if data is not None:
        members.append(f'"data":{data}')
    elif data_base64 is not None:
        members.append(f'"data_base64":{json.dumps(data_base64)}')
    return ("{" + ",".join(filter(None, members)) + "}").encode()


def _trimmed(event: events.Event, trim: Trim) -> tuple[events.Event, events.Json | None]:
    """Return the event that an event holds, or itself, and its trimmed data; None where there is nothing to trim."""
    try:
        inner = cloudevents.unwrapped(event)
    except errors.BadEvent:
        return event, None
    return inner, trim(inner)


def _printed(line: rendering.Line) -> tuple[str | None, str | None, Form]:
    """Return the data that a line of the echo shows: JSON, or bytes in base64; and whether they are all there."""
    members = {name.partition("_")[2]: text for name, text in line.data.items()}
    whole = "truncated" not in members and "hidden" not in members
    encoded = json.loads(members["base64"]) if "base64" in members else None
    return members.get("") or members.get("hidden"), encoded, Form.MASKED if whole else Form.CUT


def _letter(
    attributes: Mapping[str, object], line: rendering.Line, data: str | None, data_base64: str | None, form: Form
) -> Letter:
    from function.echo import rendering

    failure = line.failure or failures.NOTHING
    event_id, source, event_type = (_text(attributes.get(name)) for name in ("id", "source", "type"))
    kept = {name: text for name, text in line.attributes.items() if name not in _OWN}
    named = f"{source}\0{event_id}" if event_id and source else f"{sorted(kept.items())}\0{data}\0{data_base64}"
    now = datetime.datetime.now(datetime.UTC)
    return Letter(
        first_at=now,
        last_at=now,
        key=base64.b32encode(hashlib.sha256(named.encode("utf-8", "backslashreplace")).digest()[:20]).decode(),
        delivery=uuid.uuid4().hex,
        destination=_text(failure.destination),
        code=failure.code if isinstance(failure.code, int) else None,
        sentence=_text(failure.sentence),
        event_id=event_id,
        source=source,
        type=event_type,
        attributes=rendering.object_of(kept),
        data=data,
        data_base64=data_base64,
        form=form,
    )


def _text(value: object) -> str | None:
    """Return a text as the database can hold it, and not longer than a sentence."""
    if value is None:
        return None
    text = str(value).replace("\0", "").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST_SENTENCE else f"{text[: LONGEST_SENTENCE - 1]}…"
