"""The deadline of a call.

A socket's own timeout begins anew with each byte, so a server that sends a byte now and then would hold its caller for
ever. Here a call has one deadline, and each wait inside the call gets the time that is left.

The end belongs to the thread that makes the call, under gevent to its greenlet, because libpq and the HTTP
client wait inside code that passes no argument on.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator


class _Call(threading.local):
    """The deadline of this thread's call, on the monotonic clock."""

    end: float = math.inf


_call = _Call()


@contextlib.contextmanager
def until(end: float) -> Iterator[None]:
    """End each wait of the block at ``end``, on the monotonic clock, or where a block around it ends sooner."""
    outer = _call.end
    _call.end = min(outer, end)
    try:
        yield
    finally:
        _call.end = outer


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """End each wait of the block in so many seconds, or where a block around it ends sooner."""
    with until(time.monotonic() + seconds):
        yield


def left(most: float = math.inf) -> float:
    """Return how many seconds the call of this thread has left, ``most`` at most; 0 where it is over."""
    return max(0.0, min(most, _call.end - time.monotonic()))
