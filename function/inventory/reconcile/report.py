"""What a run shows on its way: a bar in a terminal, and what a dry run found as a table."""

from __future__ import annotations

import contextlib
from typing import Any, TextIO

from function.inventory.mapping import versions

CLEAR = "\r\x1b[K"
"""What empties the line that the cursor is in."""
_WIDE = 16
_HEAD = f"{'what':<10} {'in the ledger':>{_WIDE}} {'in the cluster':>{_WIDE}}  namespace/name\n"


class Report:
    """What is said while a run goes on; nothing where there is nobody to say it to."""

    def __init__(self, out: TextIO | None = None, terminal: TextIO | None = None) -> None:
        self._out = out
        self._terminal = terminal
        self._bars = contextlib.ExitStack()
        self._bar: Any = None
        self._head = _HEAD

    def progress(self, what: str, count: int, most: int) -> None:
        """Say how far it is with something."""
        if self._terminal is None:
            return
        import click

        if self._bar is None or self._bar.label != what:
            self.close()
            bar = click.progressbar(length=most, label=what, file=self._terminal, show_pos=True)
            self._bar = self._bars.enter_context(bar)
        self._bar.length = most
        self._bar.update(count - self._bar.pos)

    def difference(self, what: str, row: versions.Row, *, was: int | None, now: int | None) -> None:
        """Show what a dry run found: the resource versions on both sides."""
        if self._out is None:
            return
        if self._terminal is not None and self._bar is not None:
            self._terminal.write(CLEAR)
            self._terminal.flush()
        sides = " ".join(f"{'-' if side is None else side:>{_WIDE}}" for side in (was, now))
        try:
            self._out.write(f"{self._head}{what:<10} {sides}  {row.namespace}/{row.name}\n")
            self._out.flush()
        except BrokenPipeError:  # whoever read it has seen enough
            self._out = None
        self._head = ""

    def close(self) -> None:
        """Leave the bar as it is, and go to a new line."""
        self._bars.close()
        self._bar = None
