"""What the page's indexes cost on the events' path: a load at one rate, with and without them, in turns."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping

import psutil
import psycopg2
import psycopg2.extensions

from bench import cost, load, servers

PAGES = ("vm_state_name", "vm_state_namespace", "vm_history_effective", "vm_runtime_history_effective")
"""The indexes that the page reads by, and that an event's statements do not."""
ROUNDS = 4
"""So many loads of each kind."""
Load = Callable[[], load.Result]


def measure(url: str, receiver: servers.Server, sent: Load) -> dict[str, float]:
    """Return Postgres' microseconds of an event with the indexes and without, and the ratio of the medians."""
    found: dict[bool, list[float]] = {True: [], False: []}
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        postgres = psutil.Process(connection.info.backend_pid).ppid()
        sent()  # fills caches, and meets what is prepared
        for number in range(2 * ROUNDS):
            there = number % 4 in (0, 3)  # each goes first as often as the other
            with contextlib.nullcontext() if there else _dropped(connection):
                before = cost.read(receiver.pid, postgres, url)
                events = len(sent().numbers)
                each = cost.read(receiver.pid, postgres, url).per_event(before, events)
            found[there].append(each.postgres * 1e6)
    medians: Mapping[bool, float] = {there: statistics.median(times) for there, times in found.items()}
    return {"with": medians[True], "without": medians[False], "ratio": medians[True] / medians[False]}


@contextlib.contextmanager
def _dropped(connection: psycopg2.extensions.connection) -> Iterator[None]:
    """Drop the indexes, and make them again."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = ANY(%s) ORDER BY 1", [list(PAGES)])
        definitions = [definition.replace(" ON ONLY ", " ON ") for (definition,) in cursor.fetchall()]
        cursor.execute("DROP INDEX " + ", ".join(PAGES))
        try:
            yield
        finally:
            for definition in definitions:
                cursor.execute(definition)
