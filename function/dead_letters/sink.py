"""What the dead letter sink does besides printing: it keeps each dead letter in the database."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from function import errors, events, turns
from function.dead_letters import keeper, letter

if TYPE_CHECKING:
    from function.echo import rendering

log = logging.getLogger(__name__)


class Sink:
    """Takes what the echo printed, and keeps the dead letters among it. It raises nothing: the line is printed.

    trim: what is kept of an event that the inventory reads. most: bytes of data that a letter may have.
    """

    def __init__(self, kept_by: keeper.Keeper, trim: letter.Trim, *, most: int) -> None:
        self._keeper = kept_by
        self._trim = trim
        self._most = most

    def events(self, printed: list[tuple[events.Event, rendering.Line]]) -> None:
        """Keep the events of one request."""
        try:
            letters = turns.aside(
                lambda: [letter.of_event(event, line, self._trim, self._most) for event, line in printed]
            )
            self._keep([each for each in letters if each is not None])
        except Exception as exc:
            _log(exc)

    def body(self, attributes: Mapping[str, object], line: rendering.Line) -> None:
        """Keep a body that is not a CloudEvent, and whose headers have these attributes."""
        try:
            broken = letter.of_body(attributes, line)
            self._keep([broken] if broken else [])
        except Exception as exc:
            _log(exc)

    def close(self) -> None:
        """Write what waits."""
        self._keeper.close()

    def _keep(self, letters: list[letter.Letter]) -> None:
        if letters:
            self._keeper.keep(letters)


def _log(exc: Exception) -> None:
    """Say that a letter is only in the log: an error of ours must not make Knative send it again and again."""
    log.error(errors.UNEXPECTED, extra={"action": "dead_letter.failed"}, exc_info=exc)
