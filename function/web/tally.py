"""How many connections each worker of a pod has, in memory that they share.

The workers listen on one socket, and whoever wakes first takes what has come: without this, one of two may get all
connections of a Broker, and the other has nothing to do.
"""

from __future__ import annotations

import math
import mmap

PLACES = 64
"""Workers that can be told apart; of more, some share a place, and are only less evenly served."""
FRESH_SECONDS = 3.0
"""How long what a worker said counts: it says it every second, unless it has ended or does not get to it."""
_SIZE = 8


class Tally:
    """The numbers of all workers; made before they are forked."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 2 * PLACES * _SIZE)).cast("d")
        """For each place the connections, and until when they count."""

    def say(self, place: int, connections: int, now: float) -> None:
        """Note how many connections a worker has; now: on the monotonic clock, which all processes share."""
        first = 2 * (place % PLACES)
        self._numbers[first] = connections
        self._numbers[first + 1] = now + FRESH_SECONDS

    def forget(self, place: int) -> None:
        """Count a worker no more: it takes no connections."""
        self._numbers[2 * (place % PLACES) + 1] = 0.0

    def fewest(self, now: float) -> float:
        """Return the least number of connections that a worker has; infinity where none said so lately."""
        said = self._numbers.tolist()
        counts = [count for count, until in zip(said[::2], said[1::2], strict=True) if until > now]
        return min(counts, default=math.inf)
