"""vSphere as a capability: events about maintenance mode mark and unmark hosts in Operations.

Here an event's outcome is decided and nothing else: how an event is read is in ``maintenance``, what is sent to
Operations in ``session``. The outcome is recorded only after Operations has answered, so an event that fails is sent
again and acts again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from function import errors, events, settings
from function.clients import postgres
from function.vsphere import applied, maintenance

if TYPE_CHECKING:
    from function.vsphere import operations

log = logging.getLogger(__name__)

NOT_CONFIGURED = "Operations is not configured here: set VROPS_URL, VROPS_USER and VROPS_PASSWORD"
CALLS = 4
LONGEST_SECONDS = 45.0
"""The longest that one event may take: CALLS slow calls, and less than a Trigger waits for a delivery (120 s)."""
SPARE_SECONDS = 10.0
"""A turn is held so much longer than an event may take, for a call that is still under way when it gives up."""


class Mirror:
    """Turns events into intents (:meth:`prepare`, pure) and acts on them (:meth:`perform`)."""

    def __init__(self, part: settings.Operations, db: postgres.Database | None) -> None:
        self._settings = part
        self._access = part.access()
        self._operations: operations.Operations | None = None
        self._lock = threading.Lock()
        self._memory: applied.Memory = applied.InDatabase(db) if db else applied.InProcess()
        self._policy = maintenance.Policy(minutes=part.maintenance_minutes, unmark_any=part.unmark == "ANY")
        if self._access is not None and part.insecure:
            log.warning(
                "VROPS_INSECURE is true: the certificate of Operations is not verified",
                extra={"action": "operations.insecure"},
            )
        self._patience = part.timeout
        self._longest = max(self._patience, min(CALLS * self._patience, LONGEST_SECONDS))

    def prepare(self, event: events.Event) -> maintenance.Intent | None:
        """Return what ``event`` asks for; None for every event that is not about maintenance mode.

        Raises :class:`errors.BadEvent` where it names no host, :class:`errors.Refused` without Operations.
        """
        wanted = maintenance.intent(event)
        if wanted is not None and self._access is None:
            raise errors.Refused(NOT_CONFIGURED)
        return wanted

    def perform(self, intents: Sequence[maintenance.Intent]) -> list[str]:
        """Act on each in its order; return the outcome of each, in a word."""
        return [self._mirror(wanted) for wanted in intents]

    def state(self) -> str:
        """Return how the last call to Operations went: "ok", or a sentence."""
        if self._access is None:
            return "not configured"
        return self._operations.state if self._operations else "not used yet"

    def close(self) -> None:
        """Close the session with Operations, if there is one."""
        if self._operations:
            self._operations.close()

    def _door(self) -> operations.Operations:
        with self._lock:
            if self._operations is None:
                from function.vsphere import operations  # 70 ms that a start without a mark saves

                if self._access is None:
                    raise errors.Refused(NOT_CONFIGURED)
                self._operations = operations.Operations(self._access, self._settings)
            return self._operations

    def _mirror(self, wanted: maintenance.Intent) -> str:
        door = self._door()
        # The turn is by the host's name: its resource in Operations is found only by a call, inside the turn.
        turn_seconds = self._longest + SPARE_SECONDS
        with self._memory.turn(wanted.host.casefold(), patience=self._patience, longest=turn_seconds):
            end = time.monotonic() + self._longest
            host = door.find(wanted, end)
            outcome = maintenance.is_old(wanted, self._memory.newest(host.identifier))
            if outcome is None:
                outcome = self._act(door, wanted, host, end)
                self._memory.record(host.identifier, wanted)
        log.info(
            "%s: %s",
            wanted.action.value,
            outcome,
            extra={"action": "host.mirrored", "host": wanted.host, "resource": host.identifier, "key": wanted.key},
        )
        return outcome

    def _act(self, door: operations.Operations, wanted: maintenance.Intent, host: maintenance.Host, end: float) -> str:
        """Call Operations where its state differs from what the event asks for; return what was done."""
        if not maintenance.step(wanted.action, host.states, self._policy):
            return "unchanged"
        match wanted.action:
            case maintenance.Action.ENTER:
                door.mark(host, self._policy.minutes, end)
                return "marked"
            case maintenance.Action.EXIT:
                door.unmark(host, end)
                return "unmarked"
