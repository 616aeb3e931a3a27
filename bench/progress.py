"""One line in a terminal that says what is being measured; nothing elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Says on standard error what is done now, and for how long it has been going on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown = sys.stderr.isatty()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def say(self, text: str = "") -> None:
        """Replace the line."""
        if self._shown:
            line = f"[{self.seconds:4.0f} s] {text}" if text else ""
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
