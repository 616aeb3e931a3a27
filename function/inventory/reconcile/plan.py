"""What a reconcile writes, given a complete list and the ledger; pure.

In one timeline of the cluster a list says the truth about everything up to its version. Where the ledger claims
something else by a version up to that, the list's word is ordered by the list's version, and outranks it.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from function.inventory.mapping import versions

AnyRow = TypeVar("AnyRow", bound=versions.Row)

ADDED = "vmledger.reconcile.add"
UPDATED = "vmledger.reconcile.update"
DELETED = "vmledger.reconcile.delete"
CORRECTED = "vmledger.reconcile.correct"
"""What the list says of an object of which it has refuted a version."""
FEW = 10
"""Deletes that need no second thought, however small the fleet is."""


class Kind(Protocol):
    """What the plan needs of a kind of object.

    ordered: a row to a change, with the ``number`` and the time ``at`` of its version where they are not the row's.
    gone: what a row says of an object that is gone, beside when.
    """

    @property
    def ordered(self) -> Callable[..., versions.Change]: ...  # noqa: D102  # the class documents it

    @property
    def gone(self) -> Mapping[str, Any]: ...  # noqa: D102  # the class documents it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """The moment that a list shows; changes that are ordered by it belong to ``epoch`` and were seen at ``began``."""

    epoch: int
    version: int
    began: datetime.datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How the ledger stands to an object of the list from which it differs.

    recent: the ledger knows it by its time alone, and learned it when the list had begun. refuted: this run has refuted
    a version of it, so that the list's word is due though nothing else may differ.
    """

    lives: bool
    epoch: int
    version: versions.Version
    shape: int
    recent: bool
    resource_version: int | None
    refuted: bool = False


@dataclasses.dataclass(frozen=True)
class Lost(Generic[AnyRow]):
    """A live row of the ledger that the list does not hold, its version, and whether this run has refuted another.

    stored_at: when the row was stored last.
    """

    row: AnyRow
    epoch: int
    version: versions.Version
    refuted: bool = False
    stored_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Doubtful:
    """An object of which the state is a version that the list refutes: its place in the cluster, and the version."""

    place: tuple[str, ...]
    number: int


def too_many(deletes: int, live: int, percent: int) -> bool:
    """Return whether so many deletes ask for a second thought."""
    return deletes > FEW and deletes * 100 > live * percent


def in_flight(when: datetime.datetime | None, moment: Moment, seconds: float) -> bool:
    """Return whether the event of what the ledger lacks may still come: it happened, as far as is known, just now.

    when: the object's own time; of an object that is gone, when its row was stored last, because it lived then.
    seconds: how long before the list that is just now.
    """
    return when is not None and when > moment.began - datetime.timedelta(seconds=seconds)


def decide(kind: Kind, change: versions.Change, known: Standing | None, moment: Moment) -> versions.Change | None:
    """Return what to write so that the ledger has the object as the list does; None where it knows of a later change.

    known: how the ledger stands to it, given that it differs.
    """
    if known is None:
        return kind.ordered(msgspec.structs.replace(change.row, type=ADDED))
    if known.recent or (known.epoch, known.version.number) > (moment.epoch, moment.version):
        return None
    theirs = (known.epoch, *known.version.order)
    if known.refuted:
        return _outranking(kind, msgspec.structs.replace(change.row, type=CORRECTED), theirs, moment)
    row = msgspec.structs.replace(change.row, type=UPDATED if known.lives else ADDED)
    order = (moment.epoch, *versions.version(row).order)
    if order > theirs or (order == theirs and known.shape < versions.OBJECT):
        return kind.ordered(row)
    return _outranking(kind, row, theirs, moment)


def gone(kind: Kind, lost: Lost[Any], moment: Moment) -> versions.Change:
    """Return the delete of an object that a complete list lacks: what was last known, dated by the list."""
    step = CORRECTED if lost.refuted else DELETED
    said: dict[str, Any] = {"type": step, "id": event_id(moment), "time": moment.began, "deleted_at": moment.began}
    said |= dict.fromkeys(versions.NOTES)
    row = msgspec.structs.replace(lost.row, **said, **kind.gone, resource_version=moment.version)
    return _outranking(kind, row, (lost.epoch, *lost.version.order), moment)


def _outranking(kind: Kind, row: versions.Row, theirs: tuple[Any, ...], moment: Moment) -> versions.Change:
    """Order a row by the list's version, and where the ledger has that one already, by when the list began besides."""
    order = (moment.epoch, *versions.version(row, number=moment.version).order)
    return kind.ordered(row, number=moment.version, at=None if order > theirs else moment.began)


def event_id(moment: Moment) -> str:
    """Return the id under which the history has what a list said."""
    return f"reconcile-{moment.version}"
