"""What the requests in flight of a process may hold of its memory together, and take of its time.

A process that is killed for its memory loses nothing that was acknowledged, but everybody waits for the next one; a
request that is told 503 comes again when there is room.
"""

from __future__ import annotations

import contextlib
import threading

from function import errors, turns

FREE_BYTES = 64 * 1024
"""What each request may hold without asking, so that large requests never keep ordinary ones out."""


class Budget:
    """Bytes that requests share, also those of several threads.

    large: the turns of the large ones.
    """

    def __init__(self, size: int) -> None:
        self.large = turns.OneByOne()
        self._size = self._left = size
        self._lock = threading.Lock()

    @property
    def drawn(self) -> int:
        """How many bytes are taken."""
        return self._size - self._left

    def share(self) -> Share:
        """Return the share of a request, to be held in a ``with`` statement for as long as it is in flight."""
        return Share(self)

    def draw(self, size: int) -> None:
        """Take bytes; raise :class:`errors.Unavailable` where there are not so many left."""
        with self._lock:
            if size > self._left:
                raise errors.Unavailable("too many large requests are in flight here: send it again")
            self._left -= size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._left += size


class Share:
    """What one request holds."""

    __slots__ = ("_budget", "_drawn", "_held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0
        self._drawn = 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._budget.give_back(self._drawn)

    def hold(self, size: int) -> None:
        """Hold ``size`` bytes more; raise :class:`errors.Unavailable` where the budget does not have them."""
        self._held += size
        more = self._held - FREE_BYTES - self._drawn
        if more > 0:
            self._budget.draw(more)
            self._drawn += more

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Return what a request holds while what it sent is read: its turn, if it is a large one."""
        return self._budget.large if self._held > FREE_BYTES else _AT_ONCE


_AT_ONCE = contextlib.nullcontext()
