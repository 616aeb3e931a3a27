"""How much of a long work fits in one transaction: other writers of the same rows wait for its end."""

from __future__ import annotations

import dataclasses
import time

FEWEST, MOST = 20, 500
"""Objects in a transaction: the first has so few, and none has more."""
SECONDS = 0.2
"""How long a transaction should take."""


@dataclasses.dataclass
class Portion:
    """The number of objects that the next transaction takes; it follows how long those before took."""

    size: int = FEWEST
    _began: float = 0.0

    def begin(self) -> int:
        """Return how many objects to take now."""
        self._began = time.monotonic()
        return self.size

    def end(self) -> None:
        """Choose the size of the next portion; call it after the commit."""
        spent = time.monotonic() - self._began
        if spent < SECONDS / 2:
            self.size = min(self.size * 2, MOST)
        elif spent > SECONDS:
            self.size = max(self.size // 2, 1)
