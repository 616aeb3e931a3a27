"""How far the changes were published, and which of them are next; pure.

Transactions are committed in another order than they begin, so a time or a number that only rises would leave out what
was committed late. A **snapshot** of Postgres does not: it says which transactions had ended when it was taken. Between
two snapshots, each version is new whose transaction had ended in the second and not in the first.
So a transaction that is held open elsewhere delays nothing but what it has written itself.

The ids of transactions count in one Postgres cluster. A database that was dumped and restored into another has rows
with ids of the first; there the time at which a version was recorded decides besides.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

SINCE_EVER = "-infinity"
FIRST = ("", "", "", SINCE_EVER)
"""Before any change: name, namespace, cluster and effective time, in the order of the histories' primary keys."""
CLOCKS = datetime.timedelta(minutes=5)
"""By how much the clocks of two database servers may differ; what is published twice because of it has equal ids."""
BEGUN = datetime.timedelta(minutes=1)
"""How long before a moment a transaction may have begun that writes its first row after it."""
NO_EDGE = 2**62
"""Above any id of a transaction."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A value of Postgres' type pg_snapshot, such as ``10:20:10,14``.

    edge: the first id that was not given yet. open: the ids below it whose transactions had not ended.
    """

    edge: int
    open: tuple[int, ...]

    @classmethod
    def read(cls, text: str) -> Snapshot:
        """Read Postgres' text."""
        _, edge, open_ids = text.split(":")
        return cls(int(edge), tuple(int(number) for number in open_ids.split(",") if number))


NOTHING = Snapshot(0, ())
EVERYTHING = Snapshot(NO_EDGE, ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """A snapshot as Postgres writes it, when it was taken, and the Postgres cluster that it counts in."""

    snapshot: str
    at: datetime.datetime
    system: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Where to begin: with what is committed from now on, or with the changes of the history since a time."""

    since: str | None = None
    """None for now; else a time as Postgres reads it, ``-infinity`` for the beginning."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """How far the changes were published: the row of ``publish_position``.

    told: the snapshot in which all that is visible was published; None where the history since ``since`` is still to
    be published. told_at: when it was taken.
    target, target_at: the snapshot that is being published in portions, and its time; after: the last change of it that
    was published.
    system: the Postgres cluster of the snapshots. cut_at: versions that were recorded before are of another one, or
    were published there.
    """

    told: str | None
    told_at: datetime.datetime
    since: str = SINCE_EVER
    target: str | None = None
    target_at: datetime.datetime | None = None
    after: Sequence[str] = FIRST
    system: str
    cut_at: str = SINCE_EVER


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """Which changes are next: those that had ended in ``target`` and not in ``told``, after ``after``.

    whole: they are found by reading all of the history since ``since``. then: the position once all are published.
    """

    told: Snapshot
    target: Snapshot
    cut_at: str
    since: str = SINCE_EVER
    after: Sequence[str] = FIRST
    whole: bool
    then: Position


def begin(moment: Moment, start: Start, *, foreign: bool) -> Position:
    """Return where to begin.

    foreign: whether the history has versions of another Postgres cluster's transactions.
    """
    cut_at = (moment.at - CLOCKS).isoformat() if foreign else SINCE_EVER
    told = moment.snapshot if start.since is None else None
    return Position(told=told, told_at=moment.at, since=start.since or SINCE_EVER, system=moment.system, cut_at=cut_at)


def is_moved(position: Position, moment: Moment) -> bool:
    """Return whether the database is in another Postgres cluster than when the position was written."""
    told = Snapshot.read(position.told) if position.told else NOTHING
    return position.system != moment.system or told.edge > Snapshot.read(moment.snapshot).edge


def window(position: Position, moment: Moment) -> Window | None:
    """Return which changes are next; None where no transaction has ended since.

    Where the database was moved, what had been published there is known by the old snapshot, and what was recorded
    since by its time.
    """
    if position.told is not None and is_moved(position, moment):
        cut_at = (position.told_at - CLOCKS).isoformat()
        then = Position(
            told=moment.snapshot,
            told_at=moment.at,
            system=moment.system,
            cut_at=(moment.at - BEGUN).isoformat(),  # what was recorded before is published by then
        )
        return Window(told=Snapshot.read(position.told), target=EVERYTHING, cut_at=cut_at, whole=True, then=then)
    target, at = position.target or moment.snapshot, position.target_at or moment.at
    if target == position.told:
        return None
    return Window(
        told=Snapshot.read(position.told) if position.told else NOTHING,
        target=Snapshot.read(target),
        cut_at=position.cut_at,
        since=position.since,
        after=position.after,
        whole=position.told is None,
        then=Position(told=target, told_at=at, system=moment.system, cut_at=position.cut_at),
    )


def midway(position: Position, now: Window, after: Sequence[str]) -> Position:
    """Return the position where the window is published up to and with the change ``after``.

    Where the database was moved, a window that broke off is published from its beginning again.
    """
    if now.target == EVERYTHING:
        return position
    return dataclasses.replace(position, target=now.then.told, target_at=now.then.told_at, after=tuple(after))


def after(now: Window, last: Sequence[str]) -> Window:
    """Return what is left of a window after a change."""
    return dataclasses.replace(now, after=tuple(last))
