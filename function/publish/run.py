"""The work of ``publish``: it waits for its turn, follows the ledger, and keeps how far it is.

The database is asked every half second. NOTIFY would say at once that something was committed; but the commits of all
transactions that notify take one lock of Postgres in turn, so it would cost the events' path.
The session that writes the position holds an advisory lock, so of several processes one works, and one whose session
has ended cannot write any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg2.errors

from function import errors, measures
from function.clients import postgres_errors, postgres_session
from function.publish import changes, courier, position, sink

POLL_SECONDS = 0.5
LOCK_NAME = "vmledger.publish"
TURN_SECONDS = 1.0
"""For how long one call waits for the lock; then it is seen whether to stop."""
KEPT_SECONDS = 10.0
"""How often the position is written where nothing was published, so that its age shows that `publish` works."""
GRACE_SECONDS = 10.0
"""How long a stop waits for requests in flight."""
PAUSES = (0.5, 1, 2, 5)
"""Seconds before the database is tried again; the last one from then on."""

log = logging.getLogger(__name__)


class Publisher:
    """Follows the ledger of a database until ``stop`` is set.

    start: where to begin; None to go on, or with now where nothing was ever published. batch: versions in a portion.
    """

    def __init__(
        self,
        database: Mapping[str, Any],
        target: sink.Sink,
        *,
        threads: int,
        stop: threading.Event,
        start: position.Start | None,
        batch: int = changes.BATCH,
    ) -> None:
        self._database = database
        self._sink = target
        self._stop = stop
        self._start = start
        self._batch = batch
        self._courier = courier.Courier(target.send, threads)
        self._behind_since: datetime.datetime | None = None

    def run(self) -> None:
        """Follow until the stop; what the database lacks for a while is waited for.

        Raises :class:`errors.Refused` where the role may not do this.
        """
        attempt = 0
        with contextlib.closing(self._courier), contextlib.closing(self._sink):
            while not self._stop.is_set():
                try:
                    self._session()
                    attempt = 0
                except (errors.Unavailable, postgres_errors.Conflict) as exc:
                    if isinstance(exc.__cause__, psycopg2.errors.InsufficientPrivilege):
                        raise errors.Refused(str(exc)) from exc
                    log.warning("%s", exc, extra={"action": "publish.waiting_for_database"})
                    self._stop.wait(PAUSES[min(attempt, len(PAUSES) - 1)])
                    attempt += 1

    def _session(self) -> None:
        """Follow over one session, until it breaks or the stop."""
        seconds = postgres_session.COMMAND_CONNECT_SECONDS
        session = postgres_session.Session(self._database, changes.NEEDS, seconds=seconds)
        with contextlib.closing(session):
            waiting = False
            while not session.alone(LOCK_NAME, seconds=TURN_SECONDS):
                if self._stop.is_set():
                    return
                if not waiting:
                    log.info("another publish is at work: waiting for its end", extra={"action": "publish.waiting"})
                    waiting = True
            self._follow(changes.Ledger(session, self._batch))

    def _follow(self, ledger: changes.Ledger) -> None:
        at = self._begin(ledger)
        written = time.monotonic()
        while not self._stop.is_set():
            began = time.monotonic()
            at = self._publish(ledger, at)
            self._behind_since = None
            self._measure()
            if began - written > KEPT_SECONDS:
                ledger.write(at)
                written = began
            self._stop.wait(max(0.0, POLL_SECONDS - (time.monotonic() - began)))

    def _begin(self, ledger: changes.Ledger) -> position.Position:
        """Return the position that is kept, or the one to start at."""
        kept = ledger.kept()
        start, self._start = self._start, None  # a new session goes on
        if kept is not None and start is None:
            log.info("going on", extra={"action": "publish.resumed", "told_at": kept.told_at.isoformat()})
            return kept
        if kept is not None:
            log.warning(
                "--from was given: the position that was kept is left, and changes may be sent again or passed over",
                extra={"action": "publish.reset", "told_at": kept.told_at.isoformat()},
            )
        at = _started(ledger, start or position.Start())
        log.info("beginning", extra={"action": "publish.began", "since": at.since if at.told is None else "now"})
        return at

    def _publish(self, ledger: changes.Ledger, at: position.Position) -> position.Position:
        """Publish what was committed since a position; return the new one, which is kept if anything was sent."""
        moment = ledger.look()
        if position.is_moved(at, moment):
            log.warning("the database was moved to another Postgres cluster", extra={"action": "publish.moved"})
            if at.told is None:
                at = _started(ledger, position.Start(since=at.since))
        window = position.window(at, moment)
        if window is None:
            return dataclasses.replace(at, told_at=moment.at)
        kept = at
        while not self._stop.is_set():
            portion = ledger.read(window)
            if (portion.messages or not portion.complete) and kept is at:
                # What is sent again after a kill is this window, so what was committed since is late, not news.
                kept = position.midway(at, window, window.after)
                ledger.write(kept)
            if portion.messages:
                self._behind_since = at.told_at
            done = self._courier.deliver(portion.messages, self._stop, grace=GRACE_SECONDS, tick=self._measure)
            place = portion.last if all(done) else courier.reached(portion.messages, done)
            if all(done) and portion.complete:
                if portion.messages or kept is not at:
                    ledger.write(window.then)
                return window.then
            if place is not None:
                kept = position.midway(kept, window, place)
                ledger.write(kept)
                window = position.after(window, place)
        return kept

    def _measure(self) -> None:
        """Show the age of the moment up to which all changes were sent, by this process's clock."""
        if measures.recorder is not None:
            since = self._behind_since
            lag = 0.0 if since is None else (datetime.datetime.now(datetime.UTC) - since).total_seconds()
            measures.recorder.set(measures.PUBLISH_LAG, max(0.0, lag))


def _started(ledger: changes.Ledger, start: position.Start) -> position.Position:
    """Write the position of a start, and return it."""
    moment = ledger.look()
    at = position.begin(moment, start, foreign=ledger.has_foreign(moment))
    ledger.write(at)
    return at
