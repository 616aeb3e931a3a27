"""How a worker takes connections in: a new one goes to a worker that has few."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gevent
import gevent.server
import gevent.socket

SLACK = 3
"""So many connections more than another a worker may have: many that come at once are taken some at a time."""
REST_SECONDS = 0.001
"""How long a worker that has more than these leaves a new one to the other."""
MOST_RESTS = 10
"""After so many it takes the connection itself: the other may be busy for longer than a sender should wait."""

Handle = Callable[[gevent.socket.socket, gevent.socket.socket, object], None]


class Server(gevent.server.StreamServer):  # type: ignore[misc]  # gevent is not typed
    """Takes connections, as many as there are, unless another worker should have them.

    handle: is given the listener, a connection and its address. took: is called for each connection that is taken.
    ahead: returns how many connections this worker has more than the one that has the fewest.
    """

    def __init__(
        self,
        listener: gevent.socket.socket,
        *,
        spawn: Any,
        handle: Handle,
        took: Callable[[], None],
        ahead: Callable[[], float],
        **_: object,
    ) -> None:
        super().__init__(listener, handle=functools.partial(handle, listener), spawn=spawn)
        self._took = took
        self._ahead = ahead
        self._rests = 0

    def do_read(self) -> Any:
        """Return a connection and its address; None where it is left to another worker. gevent calls this."""
        if self._rests < MOST_RESTS and self._ahead() > SLACK:
            self._rests += 1
            self.stop_accepting()
            gevent.spawn_later(REST_SECONDS, self._go_on)
            return None
        self._rests = 0
        found = super().do_read()
        if found:
            self._took()
        return found

    def _go_on(self) -> None:
        if self.started:
            self.start_accepting()
