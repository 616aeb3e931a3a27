"""Which occurrences were sent: claim, send, mark.

An occurrence is claimed before it is sent, and marked once it was delivered. If the process dies in between, the claim
is free again after :data:`LEASE_SECONDS`, which is longer than any sending takes, and the occurrence is sent then.
With a database, the claims of all processes stand in one table; without one, each process has only its own.

Each occurrence that is claimed counts for the rate of its HPA (:mod:`function.scaling.rate`), whether it is delivered,
fails or is throttled. One above the rate is counted, and nothing of it is kept.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import pathlib
import threading
import time
import uuid
from typing import Protocol

from function.clients import postgres, statements
from function.scaling import occurrences, rate

LEASE_SECONDS = 60.0
MARGIN_SECONDS = 3600.0
"""How much longer than HPA_MAX_AGE a notice is remembered: clocks differ."""
NO_LIMIT_SECONDS = 30 * 24 * 3600.0
"""How long a notice is remembered where HPA_MAX_AGE sets no limit."""
RATE_SECONDS = 24 * 3600.0
"""How long a notice is remembered at least: the rate is that of the last day."""
QUIET_SECONDS = 3600.0
"""The least time between two warnings about an HPA that has more occurrences than can be true."""
MOST_REMOVED = 50
MOST_REMEMBERED = 10_000


class Answer(enum.Enum):
    """What became of a claim."""

    CLAIMED = "claimed"
    """Send it, then mark or release it."""
    DUPLICATE = "duplicate"
    """It was delivered already."""
    THROTTLED = "throttled"
    """Another occurrence of its topic was delivered too short a time ago; this one never will be."""
    IN_FLIGHT = "in flight"
    """It, or where a throttle applies another of its topic, is being sent right now."""
    IMPLAUSIBLE = "implausible"
    """There are more occurrences of its HPA than the controller can have sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """The answer, and the number that owns the claim.

    excess: how many occurrences of the HPA were implausible so far, where this one is. warn: whether to warn of them.
    """

    occurrence: occurrences.Occurrence
    answer: Answer
    number: str
    excess: int = 0
    warn: bool = False


class Notices(Protocol):
    """What both memories offer."""

    def claim(self, occurrence: occurrences.Occurrence, *, throttle: int) -> Claim:
        """Claim the occurrence for sending. throttle: least seconds between two notices of its topic."""

    def mark(self, claim: Claim) -> None:
        """Remember that it was sent."""

    def release(self, claim: Claim) -> None:
        """Give the claim back: it was not sent."""


def kept_seconds(max_age: int) -> float:
    """Return how long a notice is remembered, besides its throttle."""
    return max(max_age + MARGIN_SECONDS, RATE_SECONDS) if max_age else NO_LIMIT_SECONDS


SQL = statements.load(pathlib.Path(__file__).parent / "sql")
_CLAIM = ("lock_notices", "forget_notices", "claim_notice")


class Table:
    """The notices of all processes, in Postgres."""

    def __init__(self, db: postgres.Database, *, kept: float, lease: float = LEASE_SECONDS) -> None:
        self._database = db
        self._kept = kept
        self._lease = lease
        db.probe(lambda cursor: SQL.run(cursor, "mark_notice", {"occurrence": ""}))

    def claim(self, occurrence: occurrences.Occurrence, *, throttle: int) -> Claim:
        """Claim the occurrence; raise what :meth:`postgres.Database.run` raises."""
        number = uuid.uuid4().hex
        parameters = {
            "occurrence": occurrence.key,
            "topic": occurrence.topic,
            "hpa": occurrence.hpa,
            "namespace": occurrence.namespace,
            "name": occurrence.name,
            "occurred_at": occurrence.occurred_at,
            "claim": number,
            "throttle": throttle,
            "lease": self._lease,
            "kept": self._kept,
            "burst": rate.BURST,
            "refill": int(rate.REFILL.total_seconds()),
            "latest": rate.LATEST.total_seconds(),
            "quiet": QUIET_SECONDS,
            "most": MOST_REMOVED,
        }

        def work(cursor: postgres.Cursor) -> tuple[str, int, bool]:
            cursor.execute(SQL.ready(cursor, *_CLAIM), parameters)
            [row] = cursor.fetchall()
            return row

        answer, excess, warn = self._database.run(work)
        return Claim(occurrence, Answer(answer), number, excess, warn)

    def mark(self, claim: Claim) -> None:
        """Remember that it was sent, whoever owns the claim by now."""
        parameters = {"occurrence": claim.occurrence.key}
        self._database.run(lambda cursor: SQL.run(cursor, "mark_notice", parameters))

    def release(self, claim: Claim) -> None:
        """Give the claim back, if it is still ours."""
        parameters = {"occurrence": claim.occurrence.key, "claim": claim.number}
        self._database.run(lambda cursor: SQL.run(cursor, "release_notice", parameters))


@dataclasses.dataclass(slots=True)
class _Known:
    """What the memory holds of one occurrence.

    answer: to one that comes again; None where it may be claimed again. at: when it was claimed or sent, on the
    monotonic clock.
    """

    hpa: str
    answer: Answer | None
    claim: str
    at: float


@dataclasses.dataclass(slots=True)
class _Excess:
    """How many occurrences of an HPA were implausible, and when that was warned of, on the monotonic clock."""

    count: int = 0
    warned_at: float = float("-inf")


class Memory:
    """The notices of this process alone: bounded, and gone with it."""

    def __init__(self, *, kept: float, lease: float = LEASE_SECONDS, most: int = MOST_REMEMBERED) -> None:
        self._kept = kept
        self._lease = lease
        self._most = most
        self._lock = threading.Lock()
        self._known: collections.OrderedDict[str, _Known] = collections.OrderedDict()
        self._counted: dict[str, dict[str, datetime.datetime]] = {}
        self._excess: dict[str, _Excess] = {}
        self._delivered: collections.OrderedDict[str, float] = collections.OrderedDict()
        self._sending: dict[str, tuple[str, float]] = {}

    def claim(self, occurrence: occurrences.Occurrence, *, throttle: int) -> Claim:
        """Claim the occurrence."""
        number, now = uuid.uuid4().hex, time.monotonic()
        with self._lock:
            self._forget(now)
            answer = self._judge(occurrence, now, throttle)
            if answer is Answer.IMPLAUSIBLE:
                return self._above(occurrence, number, now)
            if answer in (Answer.CLAIMED, Answer.THROTTLED):
                self._keep(occurrence, Answer.IN_FLIGHT if answer is Answer.CLAIMED else Answer.DUPLICATE, number, now)
            if answer is Answer.CLAIMED:
                self._sending[occurrence.topic] = (number, now)
        return Claim(occurrence, answer, number)

    def mark(self, claim: Claim) -> None:
        """Remember that it was sent."""
        topic, now = claim.occurrence.topic, time.monotonic()
        with self._lock:
            self._keep(claim.occurrence, Answer.DUPLICATE, claim.number, now)
            self._delivered[topic] = now
            self._delivered.move_to_end(topic)
            self._sent(claim)

    def release(self, claim: Claim) -> None:
        """Give the claim back, if it is still ours."""
        with self._lock:
            known = self._known.get(claim.occurrence.key)
            if known is not None and known.claim == claim.number and known.answer is Answer.IN_FLIGHT:
                known.answer = None
            self._sent(claim)

    def _judge(self, occurrence: occurrences.Occurrence, now: float, throttle: int) -> Answer:
        known = self._known.get(occurrence.key)
        if known is not None and known.answer is Answer.DUPLICATE:
            return Answer.DUPLICATE
        if known is not None and known.answer is Answer.IN_FLIGHT and now - known.at < self._lease:
            return Answer.IN_FLIGHT
        if known is None and not rate.fits(self._counted.get(occurrence.hpa, {}).values(), _counted_at(occurrence)):
            return Answer.IMPLAUSIBLE
        if throttle and now - self._delivered.get(occurrence.topic, float("-inf")) < throttle:
            return Answer.THROTTLED
        _, began = self._sending.get(occurrence.topic, ("", float("-inf")))
        if throttle and now - began < self._lease:
            return Answer.IN_FLIGHT
        return Answer.CLAIMED

    def _above(self, occurrence: occurrences.Occurrence, number: str, now: float) -> Claim:
        if len(self._excess) >= self._most:
            self._excess.clear()
        excess = self._excess.setdefault(occurrence.hpa, _Excess())
        excess.count += 1
        warn = now - excess.warned_at > QUIET_SECONDS
        if warn:
            excess.warned_at = now
        return Claim(occurrence, Answer.IMPLAUSIBLE, number, excess.count, warn)

    def _keep(self, occurrence: occurrences.Occurrence, answer: Answer, number: str, now: float) -> None:
        """Remember an occurrence; it counts by the time at which it was claimed first."""
        self._known[occurrence.key] = _Known(occurrence.hpa, answer, number, now)
        self._known.move_to_end(occurrence.key)
        self._counted.setdefault(occurrence.hpa, {}).setdefault(occurrence.key, _counted_at(occurrence))

    def _sent(self, claim: Claim) -> None:
        if self._sending.get(claim.occurrence.topic, ("", 0.0))[0] == claim.number:
            del self._sending[claim.occurrence.topic]

    def _forget(self, now: float) -> None:
        """Remove what is too old, and the oldest where there is too much."""
        while self._known:
            key, oldest = next(iter(self._known.items()))
            if len(self._known) < self._most and now - oldest.at < self._kept:
                break
            del self._known[key]
            del self._counted[oldest.hpa][key]
            if not self._counted[oldest.hpa]:
                del self._counted[oldest.hpa]
        while len(self._delivered) > self._most:
            self._delivered.popitem(last=False)
        if len(self._sending) > self._most:
            self._sending = {
                topic: (claim, at) for topic, (claim, at) in self._sending.items() if now - at < self._lease
            }


def _counted_at(occurrence: occurrences.Occurrence) -> datetime.datetime:
    return rate.counted_at(occurrence.occurred_at, datetime.datetime.now(datetime.UTC))
