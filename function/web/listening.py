"""How a worker takes connections in: a new one goes to the worker that has the fewest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gevent
import gevent.server
import gevent.socket

REST_SECONDS = 0.001
"""How long a worker that has more connections than another leaves a new one to that."""
MOST_RESTS = 10
"""After so many it takes the connection itself: the other may be busy for longer than a sender should wait."""

Handle = Callable[[gevent.socket.socket, gevent.socket.socket, object], None]


class Server(gevent.server.StreamServer):  # type: ignore[misc]  # gevent is not typed
    """Takes connections, one for each time that there is something to take.

    handle: is given the listener, a connection and its address. has_more: whether another worker has fewer connections.
    """

    max_accept = 1

    def __init__(
        self, listener: gevent.socket.socket, *, spawn: Any, handle: Handle, has_more: Callable[[], bool], **_: object
    ) -> None:
        super().__init__(listener, handle=functools.partial(handle, listener), spawn=spawn)
        self._has_more = has_more
        self._rests = 0

    def do_read(self) -> Any:
        """Return a connection and its address; None where it is left to another worker. gevent calls this."""
        if self._rests < MOST_RESTS and self._has_more():
            self._rests += 1
            self.stop_accepting()
            gevent.spawn_later(REST_SECONDS, self._go_on)
            return None
        self._rests = 0
        return super().do_read()

    def _go_on(self) -> None:
        if self.started:
            self.start_accepting()
