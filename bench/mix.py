"""The loads that a cluster really sends: late events, and a mix of everything.

A request says by its number alone what it is, so nothing is remembered and the servers' order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import instances, load, requests

LATE = 1_000_000_000
"""So many events earlier a late one happened, by its version and by its time: nearly three hours."""
TENTH = 10


def late(machines: int) -> load.Render:
    """Flat events of machines of which something later is known."""
    return requests.flat(machines, prefix="late", earlier=LATE)


def mixed(machines: int, prefix: str = "mix") -> load.Render:
    """Of ten requests: four about instances and four about VMs; one late or a double; one delete or re-creation."""
    running = instances.updates(machines, prefix=prefix)
    update = requests.objects(machines, prefix=prefix)
    old = requests.objects(machines, prefix=prefix, earlier=LATE)
    brief = _brief(machines)

    def render(number: int) -> bytes:
        which, place = number % TENTH, number // TENTH
        one = place * 4 + which % 4
        if which < 4:
            return running(number, one)
        if which < 8:
            return update(number, one + machines // 2)
        if which == 8:
            return old(number, place) if place % 2 else update(number - 1, place * 4 + 3 + machines // 2)
        return brief(number)

    return render


def leaves_a_row(number: int) -> bool:
    """Whether the n-th request of the mix is stored under its own id: all but the doubles."""
    return number % TENTH != 8 or number // TENTH % 2 == 1


def _brief(machines: int) -> Callable[[int], bytes]:
    """Machines that live from one of these requests to the next: made, deleted, and made again with another uid."""
    made = requests.objects(machines, prefix="brief", verb="add")
    gone = requests.objects(machines, prefix="brief", verb="delete")

    def render(number: int) -> bytes:
        life, is_end = divmod(number // TENTH, 2)
        uid = b"%08x-29fb-4e31-bbfe-e7f2642ea7fa" % life
        request = (gone if is_end else made)(number, life)
        return request.replace(requests.UID.encode(), uid)

    return render
