"""Turns: long work lets others run.

The receiver serves many requests in one thread, and switches only where one of them waits. A request that takes long to
read would keep the others, and the liveness probe, waiting until all of it is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Place = Callable[[Callable[[], Any]], Any]
SECONDS = 0.01
FEW = 16
"""Items that take no such time."""
LONGEST_REST = 0.5


def shared(items: Sequence[Item]) -> Iterable[Item]:
    """Return the items, so that others run whenever going through them has taken some milliseconds."""
    return items if len(items) < FEW else _shared(items)


def _shared(items: Sequence[Item]) -> Iterator[Item]:
    end = time.monotonic() + SECONDS
    for item in items:
        yield item
        if time.monotonic() > end:
            time.sleep(0)
            end = time.monotonic() + SECONDS


class _Aside:
    place: Place | None = None


def aside(work: Callable[[], Result]) -> Result:
    """Return what pure work returns, done where others run meanwhile if the server has such a place."""
    result: Result = work() if _Aside.place is None else _Aside.place(work)
    return result


def use(place: Place) -> None:
    """Let long work be done in a place of the server's, such as a thread: it calls what it is given."""
    _Aside.place = place


class OneByOne:
    """Long work, of which only one piece is done at a time, and after each the others have as long as it took.

    So however many large requests there are, a small one waits for one or two of them.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._began = 0.0

    def __enter__(self) -> None:
        self._turn.acquire()
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        try:
            time.sleep(min(LONGEST_REST, time.monotonic() - self._began))
        finally:
            self._turn.release()
