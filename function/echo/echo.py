"""The echo: one JSON line on standard output for each event, whole, with secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from function import events, settings, turns
from function.echo import printer, rendering


class Echo:
    """Prints events; several threads and several processes may print to the same standard output.

    Each method returns what it printed, with secrets masked whatever ECHO_SECRETS says, for whoever keeps it.
    """

    def __init__(self, part: settings.Echo) -> None:
        self._masked = rendering.Renderer(most=part.max_bytes, show=False)
        self._printed = self._masked if part.masks else rendering.Renderer(most=part.max_bytes, show=True)
        self._printer = printer.Printer()

    def event(self, event: events.Event, *, is_large: bool = False) -> rendering.Line:
        """Print a CloudEvent; is_large: others are to run while it is masked."""
        return self._print(lambda renderer: renderer.event(event), is_large=is_large)

    def other(
        self, body: bytes, given: Mapping[str, Any], content_type: str, reason: str, *, is_large: bool = False
    ) -> rendering.Line:
        """Print a request's body that is not a CloudEvent, the reason, and the attributes that its headers give."""
        return self._print(lambda renderer: renderer.other(body, given, content_type, reason), is_large=is_large)

    def _print(self, render: Callable[[rendering.Renderer], rendering.Line], *, is_large: bool) -> rendering.Line:
        def lines() -> tuple[str, rendering.Line]:
            line = render(self._printed)
            return line.text, line if self._printed is self._masked else render(self._masked)

        text, masked = turns.aside(lines) if is_large else lines()
        self._printer.line(text)
        return masked
