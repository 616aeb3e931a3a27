"""The echo: one JSON line on standard output for each event, whole, with secrets masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from function import events, settings
from function.echo import printer, rendering


class Echo:
    """Prints events; several threads and several processes may print to the same standard output.

    Each method returns what it printed, with secrets masked whatever ECHO_SECRETS says, for whoever keeps it.
    """

    def __init__(self, part: settings.Echo) -> None:
        self._masked = rendering.Renderer(most=part.max_bytes, show=False)
        self._printed = self._masked if part.masks else rendering.Renderer(most=part.max_bytes, show=True)
        self._printer = printer.Printer()

    def event(self, event: events.Event) -> rendering.Line:
        """Print a CloudEvent."""
        line = self._printed.event(event)
        self._printer.line(line.text)
        return line if self._printed is self._masked else self._masked.event(event)

    def other(self, body: bytes, given: Mapping[str, Any], content_type: str, reason: str) -> rendering.Line:
        """Print a request's body that is not a CloudEvent, the reason, and the attributes that its headers give."""
        line = self._printed.other(body, given, content_type, reason)
        self._printer.line(line.text)
        return line if self._printed is self._masked else self._masked.other(body, given, content_type, reason)
