"""What a request has to pass before it is read: who may send it, how large it may be, and whether there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from function import settings
from function.web import bodies, budget

if TYPE_CHECKING:
    from function.web import callers


class Intake:
    """Takes requests in; memory: what those in flight share. guard: knows who may send; None lets everybody."""

    def __init__(self, part: settings.Receiver, guard: callers.Callers | None = None) -> None:
        self.memory = budget.Budget(max(part.max_event_bytes, part.max_inflight_bytes))
        self.guard = guard
        self._most = part.max_event_bytes

    def body(self, environ: Mapping[str, Any], share: budget.Share) -> bytes:
        """Return the body of a request whose sender may send.

        Raises what :meth:`callers.Callers.check` and :func:`bodies.read` raise.
        """
        if self.guard is not None:
            self.guard.check(environ.get("HTTP_AUTHORIZATION", ""))
        return bodies.read(environ, share, most=self._most)
