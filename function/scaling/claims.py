"""Which occurrences were told: claim, send, mark.

An occurrence is claimed before it is sent and marked after a 2xx, so that what dies in between is sent again and what
was sent is not. A claim that died is free again after :data:`LEASE_SECONDS`; nobody sends for as long as that.
With a database the claims of all processes meet in one table; without one, each process knows only its own.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import threading
import time
import uuid
from typing import Protocol

import psycopg2.extensions

from function.clients import postgres
from function.scaling import occurrences

LEASE_SECONDS = 60.0
MARGIN_SECONDS = 3600.0
"""How much longer than HPA_MAX_AGE a notice is remembered: clocks differ."""
NO_LIMIT_SECONDS = 30 * 24 * 3600.0
"""How long a notice is remembered where HPA_MAX_AGE sets no limit."""
MOST_REMOVED = 50
MOST_REMEMBERED = 10_000


class Answer(enum.Enum):
    """What became of a claim."""

    CLAIMED = "claimed"
    """Send it, then mark or release it."""
    DUPLICATE = "duplicate"
    """It was told already."""
    THROTTLED = "throttled"
    """Another occurrence of its topic was told too short a time ago; this one never will be."""
    IN_FLIGHT = "in flight"
    """It, or where a throttle applies another of its topic, is being sent right now."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """The answer, and the number that owns the claim."""

    occurrence: occurrences.Occurrence
    answer: Answer
    number: str


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
    return max_age + MARGIN_SECONDS if max_age else NO_LIMIT_SECONDS


_CLAIM = """
SELECT pg_advisory_xact_lock(hashtextextended(%(topic)s, 0));
DELETE FROM scaling_notices WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM scaling_notices WHERE expires_at < clock_timestamp()
    ORDER BY expires_at LIMIT %(most_removed)s FOR UPDATE SKIP LOCKED
));
WITH rivals AS (
    SELECT coalesce(bool_or(state = 'notified' AND sent_at > clock_timestamp() - %(throttle)s * interval '1 second'),
                    false) AS told,
           coalesce(bool_or(state = 'claimed' AND claimed_at > clock_timestamp() - %(lease)s * interval '1 second'),
                    false) AS sending
    FROM scaling_notices
    WHERE %(throttle)s > 0 AND topic = %(topic)s AND occurrence <> %(occurrence)s
)
INSERT INTO scaling_notices AS known (occurrence, topic, state, claim, claimed_at, expires_at)
SELECT %(occurrence)s, %(topic)s, CASE WHEN told THEN 'throttled' ELSE 'claimed' END, %(claim)s, clock_timestamp(),
       clock_timestamp() + (%(kept)s + %(throttle)s) * interval '1 second'
FROM rivals
WHERE told OR NOT sending
ON CONFLICT (occurrence) DO UPDATE
SET state = excluded.state, claim = excluded.claim, claimed_at = excluded.claimed_at, expires_at = excluded.expires_at
WHERE known.state = 'claimed'
  AND (known.claim = excluded.claim OR known.claimed_at < clock_timestamp() - %(lease)s * interval '1 second');
SELECT state, claim = %(claim)s FROM scaling_notices WHERE occurrence = %(occurrence)s
"""
"""One transaction. The lock lets claims of one topic take turns; each statement sees what the turn before committed."""


class Table:
    """The notices of all processes, in Postgres."""

    def __init__(self, db: postgres.Database, *, kept: float, lease: float = LEASE_SECONDS) -> None:
        self._database = db
        self._kept = kept
        self._lease = lease

    def claim(self, occurrence: occurrences.Occurrence, *, throttle: int) -> Claim:
        """Claim the occurrence; raise what :meth:`database.Database.run` raises."""
        number = uuid.uuid4().hex
        parameters = {
            "occurrence": occurrence.key,
            "topic": occurrence.topic,
            "claim": number,
            "throttle": throttle,
            "lease": self._lease,
            "kept": self._kept,
            "most_removed": MOST_REMOVED,
        }

        def work(cursor: psycopg2.extensions.cursor) -> tuple[str, bool] | None:
            cursor.execute(_CLAIM, parameters)
            row: tuple[str, bool] | None = cursor.fetchone()
            return row

        return Claim(occurrence, _answer(self._database.run(work)), number)

    def mark(self, claim: Claim) -> None:
        """Remember that it was sent, whoever owns the claim by now."""
        sql = "UPDATE scaling_notices SET state = 'notified', sent_at = clock_timestamp() WHERE occurrence = %s"
        self._database.run(lambda cursor: cursor.execute(sql, [claim.occurrence.key]))

    def release(self, claim: Claim) -> None:
        """Give the claim back, if it is still ours."""
        sql = "DELETE FROM scaling_notices WHERE occurrence = %s AND claim = %s AND state = 'claimed'"
        self._database.run(lambda cursor: cursor.execute(sql, [claim.occurrence.key, claim.number]))


def _answer(row: tuple[str, bool] | None) -> Answer:
    match row:
        case ("notified", _):
            return Answer.DUPLICATE
        case ("throttled", mine):
            return Answer.THROTTLED if mine else Answer.DUPLICATE
        case ("claimed", True):
            return Answer.CLAIMED
        case _:
            return Answer.IN_FLIGHT


@dataclasses.dataclass(slots=True)
class _Known:
    """What the memory holds of one occurrence; ``at`` is when it was claimed or sent, on the monotonic clock."""

    topic: str
    answer: Answer
    claim: str
    at: float


class Memory:
    """The notices of this process alone: bounded, and gone with it."""

    def __init__(self, *, kept: float, lease: float = LEASE_SECONDS, most: int = MOST_REMEMBERED) -> None:
        self._kept = kept
        self._lease = lease
        self._most = most
        self._lock = threading.Lock()
        self._known: collections.OrderedDict[str, _Known] = collections.OrderedDict()
        self._told: collections.OrderedDict[str, float] = collections.OrderedDict()
        self._sending: dict[str, tuple[str, float]] = {}

    def claim(self, occurrence: occurrences.Occurrence, *, throttle: int) -> Claim:
        """Claim the occurrence."""
        number, now = uuid.uuid4().hex, time.monotonic()
        with self._lock:
            self._forget(now)
            answer = self._judge(occurrence, now, throttle)
            if answer in (Answer.CLAIMED, Answer.THROTTLED):
                self._known[occurrence.key] = _Known(occurrence.topic, answer, number, now)
                self._known.move_to_end(occurrence.key)
            if answer is Answer.CLAIMED:
                self._sending[occurrence.topic] = (number, now)
        return Claim(occurrence, answer, number)

    def mark(self, claim: Claim) -> None:
        """Remember that it was sent."""
        key, topic, now = claim.occurrence.key, claim.occurrence.topic, time.monotonic()
        with self._lock:
            self._known[key] = _Known(topic, Answer.DUPLICATE, claim.number, now)
            self._known.move_to_end(key)
            self._told[topic] = now
            self._told.move_to_end(topic)
            self._sent(claim)

    def release(self, claim: Claim) -> None:
        """Give the claim back, if it is still ours."""
        with self._lock:
            known = self._known.get(claim.occurrence.key)
            if known is not None and known.claim == claim.number and known.answer is Answer.CLAIMED:
                del self._known[claim.occurrence.key]
            self._sent(claim)

    def _judge(self, occurrence: occurrences.Occurrence, now: float, throttle: int) -> Answer:
        known = self._known.get(occurrence.key)
        if known is not None and known.answer is not Answer.CLAIMED:
            return Answer.DUPLICATE
        if known is not None and now - known.at < self._lease:
            return Answer.IN_FLIGHT
        if throttle and now - self._told.get(occurrence.topic, float("-inf")) < throttle:
            return Answer.THROTTLED
        _, began = self._sending.get(occurrence.topic, ("", float("-inf")))
        if throttle and now - began < self._lease:
            return Answer.IN_FLIGHT
        return Answer.CLAIMED

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
        while len(self._told) > self._most:
            self._told.popitem(last=False)
        if len(self._sending) > self._most:
            self._sending = {
                topic: (claim, at) for topic, (claim, at) in self._sending.items() if now - at < self._lease
            }
