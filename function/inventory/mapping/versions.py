"""The order of the ledger's changes, and the JSON of a row that the store sends; pure.

A change is what one event says about one object: a VirtualMachine or its running instance.
Each has a version, versions have a total order, and the rank decides which of two events about one version is kept.
So the same set of events gives the same ledger, in whatever order it arrives.
The rules, with an example: docs/concepts.md, "How changes are ordered".
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from function import errors

ADD, UPDATE, DELETE = 0, 1, 2
"""Where versions are otherwise equal, delete is later than update, and update is later than add."""
STEPS = {
    "dev.knative.apiserver.resource.add": ADD,
    "dev.knative.apiserver.resource.update": UPDATE,
    "dev.knative.apiserver.resource.delete": DELETE,
    "dev.knative.apiserver.ref.add": UPDATE,
    "dev.knative.apiserver.ref.update": UPDATE,
    "dev.knative.apiserver.ref.delete": DELETE,
    "vmledger.reconcile.add": UPDATE,
    "vmledger.reconcile.update": UPDATE,
    "vmledger.reconcile.delete": DELETE,
    "vmledger.reconcile.correct": UPDATE,
}
"""The event types that change the ledger, and their step.

An add with a resource version counts as an update. So what was read, listed, added, or announced once more by a source
that started again is one version of the object, and the history holds it once.
"""
FLAT, OBJECT = 0, 1
"""The shapes of an event; of two events about one version, the greater is kept."""
KEY_BYTES = 253
"""Longest name that Kubernetes allows; three of them fit into one row of the key's index."""
ROW_BYTES = 64 * 1024
"""Of a row as JSON; it is labels that make one large, and Kubernetes allows 63 characters for each value."""
INT4 = 2**31 - 1
INT8 = 2**63 - 1

LISTED = "vmledger.reconcile."
"""How the types of the changes begin that come from a list, not from an event."""
NOTES = ("changed_by", "object_time")
"""The columns of a row that are no facts of the object, but are noted beside each version."""

_NUL = re.compile("\x00")
_SURROGATE = re.compile("[\ud800-\udfff]")
_END = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_encode = msgspec.json.Encoder().encode


class Version(NamedTuple):
    """The place of a change in the order of its object's changes, inside an epoch of the cluster.

    number: the resource version, or -1, so that any resource version outranks none.
    time: the event's where it decides, else None. step: add, update, delete.
    """

    number: int
    time: datetime.datetime | None
    step: int

    @property
    def order(self) -> tuple[int, bool, datetime.datetime, int]:
        """The version as a value that sorts."""
        return self.number, self.time is not None, self.time or _END, self.step


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every row of the ledger has; its fields are columns, by their names.

    Sizes are in bytes; times are aware. changed_by, object_time: who made the version, and when, as far as the object
    says (:mod:`origin`).
    A struct of msgspec: to make one and write it as JSON takes 1 microsecond; a dataclass, its asdict and json take 43.
    """

    type: str
    id: str
    name: str
    namespace: str
    cluster: str
    time: datetime.datetime | None = None
    resource_version: int | None = None
    changed_by: str | None = None
    object_time: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One event's change of the ledger.

    key: cluster, namespace, name, and what else distinguishes the object. version: its place in the object's order.
    rank: which of two events about the same version is kept, the smaller. payload: the row as a JSON object.
    """

    row: Row
    key: tuple[str, ...]
    version: Version
    rank: tuple[int, bool, datetime.datetime, str, int]
    payload: bytes

    @property
    def order(self) -> tuple[object, ...]:
        """What sorts changes by object, then by version, and the kept one of each version first."""
        return self.key, self.version.order, self.rank


def version(row: Row, *, number: int | None = None, at: datetime.datetime | None = None) -> Version:
    """Return the place of ``row`` in the order of its object.

    number: the version's where it is not the resource version. at: its time, where a number alone does not decide.
    """
    if number is None:
        number = -1 if row.resource_version is None else row.resource_version
    step = STEPS[row.type]
    if number >= 0 and step == ADD:
        step = UPDATE  # the number says it all: an add and a list may both tell of that one version
    return Version(number, at or (row.time if number < 0 else None), step)


def change(
    row: Row,
    shape: int,
    *,
    limits: Limits,
    key: tuple[str, ...] = (),
    number: int | None = None,
    at: datetime.datetime | None = None,
) -> Change:
    """Return the change that ``row`` makes: its version, its rank, and the JSON that the store sends.

    key: what distinguishes the object besides cluster, namespace and name. number, at: as for :func:`version`.

    Raises :class:`errors.BadEvent` for a value that no column can hold.
    """
    place = version(row, number=number, at=at)
    written = _written(row, limits)
    digest = zlib.crc32(written)
    order = b',"version_number":%d,"version_time":"%s","version_step":%d,"shape":%d,"digest":%d}' % (
        place.number,
        place.time.isoformat().encode() if place.time else b"-infinity",
        place.step,
        shape,
        digest,
    )
    return Change(
        row=row,
        key=(row.cluster, row.namespace, row.name, *key),
        version=place,
        rank=(-shape, row.time is None, row.time or _END, row.id, digest),
        payload=written[:-1] + order,
    )


Limits = Sequence[tuple[str, int]]
"""The numbers of a row, each with the greatest that its column holds."""


def _written(row: Row, limits: Limits) -> bytes:
    """Return a row as JSON; raise for a value that no column can hold."""
    _check_sizes(row, limits)
    try:
        written = _encode(row)
    except UnicodeEncodeError as exc:
        raise errors.BadEvent(f"the {_where(row, _SURROGATE)} holds half a character, a lone surrogate") from exc
    if len(written) > ROW_BYTES:
        raise errors.TooLarge(f"the row of the object has {len(written)} bytes, and the ledger takes {ROW_BYTES}")
    if b"\\u0000" in written and (column := _where(row, _NUL)):
        raise errors.BadEvent(f"the {column} holds a NUL character, which a database cannot keep")
    return written


def _check_sizes(row: Row, limits: Limits) -> None:
    """Raise for a number that its column cannot hold, or a key that its index cannot."""
    for name, most in limits:
        value = getattr(row, name)
        if value is not None and not 0 <= value <= most:
            amount = value if abs(value) < 10**30 else "of so many digits"
            raise errors.BadEvent(f"the {name} {amount} is past what the ledger can hold, 0 to {most}")
    for name in ("cluster", "namespace", "name"):
        if len(getattr(row, name).encode(errors="replace")) > KEY_BYTES:
            raise errors.BadEvent(f"the {name} is longer than {KEY_BYTES} bytes")


def _where(row: Row, wrong: re.Pattern[str]) -> str | None:
    """Return the name of the first column with a text in which ``wrong`` matches."""
    names = row.__struct_fields__
    return next((name for name in names if any(map(wrong.search, _texts(getattr(row, name))))), None)


def _texts(value: Any) -> Iterable[str]:
    """Yield each text inside a JSON value, keys too."""
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
