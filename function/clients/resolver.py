"""Looks up the addresses of a name within the call's deadline.

The system's resolver takes no timeout and may take half a minute to fail. So it runs in a thread of its own, which is
left behind when the time is over.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable

from function.clients import deadline

LONGEST_SECONDS = 10.0
MOST = 32
"""Addresses of a name; whoever owns it may give it thousands, and each is judged before it is connected to."""


class Unresolved(OSError):
    """The name has no address, or the resolver did not answer in time."""


def addresses(host: str) -> list[str]:
    """Return the addresses of ``host``, 32 at most, each once, in the resolver's order; an address stays as it is.

    Waits as long as :mod:`deadline` leaves, 10 seconds at most. Raises :class:`Unresolved`.
    """
    return _itself(host) or _looked_up(host, done=lambda: None)


class Few:
    """Looks up names that other people chose, such as a webhook's, a few at a time.

    gevent looks names up on ten native threads in all. Names whose servers never answer would take all ten for as long
    as the system's resolver waits, and the database could not be found meanwhile.
    """

    def __init__(self, at_once: int = 6) -> None:
        self._free = threading.BoundedSemaphore(at_once)

    def addresses(self, host: str) -> list[str]:
        """Return what :func:`addresses` does, once a look-up may begin; one left behind counts until it ends."""
        if itself := _itself(host):
            return itself
        if not self._free.acquire(timeout=deadline.left(LONGEST_SECONDS)):
            raise Unresolved
        return _looked_up(host, done=self._free.release)


def _itself(host: str) -> list[str]:
    """Return an address as the only one; nothing for a name."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return []


def _looked_up(host: str, *, done: Callable[[], object]) -> list[str]:
    """Return the addresses of a name; ``done`` is called once the system's resolver has answered, however late."""
    found: list[str] = []

    def ask() -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.extend(str(entry[4][0]) for entry in entries)
        except (OSError, ValueError):  # ValueError: not a possible name
            pass
        finally:
            done()

    asking = threading.Thread(target=ask, daemon=True, name="resolver")
    asking.start()
    asking.join(deadline.left(LONGEST_SECONDS))
    if not found:
        raise Unresolved
    return list(dict.fromkeys(found))[:MOST]
