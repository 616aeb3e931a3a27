"""What an event costs: CPU of the pod and of Postgres, and bytes of Postgres' log."""

from __future__ import annotations

import contextlib
import dataclasses

import psutil
import psycopg2


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of CPU, and bytes of write-ahead log."""

    pod: float
    postgres: float
    wal: float

    def per_event(self, since: Cost, events: int) -> Cost:
        """Return the cost of each of ``events`` events since then."""
        pod, postgres, wal = self.pod - since.pod, self.postgres - since.postgres, self.wal - since.wal
        return Cost(pod / events, postgres / events, wal / events)


def read(pod: int, postgres: int, url: str) -> Cost:
    """Return what the processes of a pod and of Postgres, by their parents, have used so far."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
        [written] = cursor.fetchone() or [0]
    return Cost(_cpu(pod), _cpu(postgres), float(written))


def _cpu(parent: int) -> float:
    """Return the CPU seconds of a process, of its children, and of those of them that have ended."""
    seconds = 0.0
    for process in [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
