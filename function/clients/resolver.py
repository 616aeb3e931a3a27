"""The addresses of a name, in time.

The system's resolver takes no timeout and may take half a minute to give up, so it is asked on a thread of its own,
which is left behind when the call is over.
"""

from __future__ import annotations

import ipaddress
import socket
import threading

from function.clients import deadline

LONGEST_SECONDS = 10.0
MOST = 32
"""Addresses of a name; whoever owns it may give it thousands, and each is judged before it is connected to."""


class Unresolved(OSError):
    """The name has no address, or the resolver did not answer in time."""


def addresses(host: str) -> list[str]:
    """Return the addresses of ``host``, 32 at most, each once, in the resolver's order; an address is its own.

    Waits as long as :mod:`deadline` leaves, 10 seconds at most. Raises :class:`Unresolved`.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    found: list[str] = []

    def ask() -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, ValueError):  # ValueError: no name can be that
            return
        found.extend(str(entry[4][0]) for entry in entries)

    asking = threading.Thread(target=ask, daemon=True, name="resolver")
    asking.start()
    asking.join(deadline.left(LONGEST_SECONDS))
    if not found:
        raise Unresolved
    return list(dict.fromkeys(found))[:MOST]
