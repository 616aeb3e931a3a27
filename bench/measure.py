"""The measurements: all servers are up at once, over one Postgres, and are loaded in turns.

So a slow moment of the machine meets all alike, and a ratio is of two loads that followed each other.
Every acknowledged event is looked for in the database afterwards: acknowledgements of nothing are worthless.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench import contest, cost, fleet, load, requests, servers
from bench.progress import Progress

CONNECTIONS = 64
EVENTS_APART = 100_000
"""From the first event of a load to that of the next: no two loads send the same."""
WARM_SECONDS = 0.4
CURVES = {
    "flat": (1, 4, 16, 64, 128, 256),
    "bare": (1, 4, 16, 64, 128, 256),
    "published": (1, 4, 16, 64),
}
"""Requests at once. The published way opens a connection to Postgres for each, and Postgres takes 100."""
STEADY = ("flat", "bare", "least")
"""What is loaded at half of the highest load."""
STARTS_FOR_ONE = 3
"""So many for each round: a start is short, and differs more than a load."""
HOUR_OF_EVENTS = 100_000 * 20 // 24
"""A VM's whole life is about 20 events: this is an hour of 100,000 VMs that live a day each."""

Rounds = Mapping[str, Sequence[load.Result]]


@dataclasses.dataclass(frozen=True)
class Point:
    """A load at so many requests at once: events a second, and latencies in seconds."""

    connections: int
    rate: float
    p50: float
    p99: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that a run of the benchmark found.

    starts: seconds to the first answer. rate: half of the highest load, at which ``steady`` was measured.
    memory: of our pod in MiB, after ``memory_events``. history_bytes: on disk, of a row of the large ledger's history.
    """

    starts: Mapping[str, Sequence[float]]
    rounds: Rounds
    costs: Mapping[str, Sequence[cost.Cost]]
    curves: Mapping[str, Sequence[Point]]
    rate: float
    steady: Rounds
    connections: float
    memory: float
    memory_events: int
    verified: int
    history_bytes: float | None


def take(database: contest.Postgres, *, rounds: int, seconds: float, progress: Progress) -> Measured:
    """Measure everything, each for some seconds in some rounds."""
    started = _starts(database.url, rounds, progress)
    with contextlib.ExitStack() as stack:
        bench = _Bench(contest.enter(stack, database), database, progress)
        found = bench.rounds(rounds, seconds)
        curves = {name: bench.curve(name, seconds / 2) for name in CURVES}
        rate = max(point.rate for point in curves["flat"]) / 2
        steady = bench.steady(rate, rounds, seconds)
        connections = bench.connections()
        memory, events = bench.memory()
        return Measured(
            starts=started,
            rounds=found,
            costs=bench.costs,
            curves=curves,
            rate=rate,
            steady=steady,
            connections=connections,
            memory=memory,
            memory_events=events,
            verified=bench.verify(),
            history_bytes=None if database.large is None else fleet.history_bytes(database.large),
        )


def ratio(rounds: Rounds, one: str, other: str) -> float:
    """Return the median, over the rounds, of one's events a second by another's."""
    return statistics.median(a.rate / b.rate for a, b in zip(rounds[one], rounds[other], strict=True))


def ratio_of_postgres(costs: Mapping[str, Sequence[cost.Cost]], one: str, other: str) -> float:
    """Return the median, over the rounds, of what one's events take of Postgres by what another's take."""
    return statistics.median(a.postgres / b.postgres for a, b in zip(costs[one], costs[other], strict=True))


def ratio_of_p99(rounds: Rounds, one: str, other: str) -> float:
    """Return the median, over the rounds, of one's 99th percentile by another's."""
    pairs = zip(rounds[one], rounds[other], strict=True)
    return statistics.median(a.percentile(99) / b.percentile(99) for a, b in pairs)


def _starts(url: str, count: int, progress: Progress) -> dict[str, list[float]]:
    """Return the seconds from the start of a process to its first answer, ours and bare Flask's, in turns.

    Both are compiled, as in the image: the first start of each, which compiles it, does not count.
    """
    commands = {"flat": servers.vmledger(url), "bare": servers.bare()}
    found: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder:
        for number in range(STARTS_FOR_ONE * count + 1):
            for name, command in commands.items():
                progress.say(f"start {number} of {STARTS_FOR_ONE * count}: {name}")
                compiled = servers.compiled(command, folder)
                seconds = servers.start_seconds(compiled, requests.flat(contest.MACHINES)(number))
                found[name] += [seconds] if number else []
    return found


class _Bench:
    """Loads one set of servers; ``costs`` is what an event cost in each round."""

    def __init__(
        self, contestants: Mapping[str, contest.Contestant], database: contest.Postgres, progress: Progress
    ) -> None:
        self.costs: dict[str, list[cost.Cost]] = {name: [] for name in contestants}
        self._contestants = contestants
        self._database = database
        self._progress = progress
        self._starts = itertools.count(EVENTS_APART, EVENTS_APART)

    def rounds(self, count: int, seconds: float) -> Rounds:
        """Load each as fast as it answers."""
        return self._turns(count, self._contestants, lambda name: self._metered(name, seconds))

    def steady(self, rate: float, count: int, seconds: float) -> Rounds:
        """Load ours, bare Flask and Flask that stores an id at a steady rate of requests a second."""
        return self._turns(count, STEADY, lambda name: self._load(name, seconds=seconds, rate=rate))

    def _turns(self, count: int, names: Iterable[str], take: Callable[[str], load.Result]) -> Rounds:
        """Take turns, in every second round in the opposite order."""
        found: dict[str, list[load.Result]] = {name: [] for name in names}
        for number in range(count):
            for name in list(found)[:: -1 if number % 2 else 1]:
                self._progress.say(f"round {number + 1} of {count}: {name}")
                found[name].append(take(name))
        return found

    def _metered(self, name: str, seconds: float) -> load.Result:
        self._load(name, seconds=WARM_SECONDS)
        pod, database = self._contestants[name].server.pid, self._database
        before = cost.read(pod, database.pid, database.url)
        result = self._load(name, seconds=seconds)
        after = cost.read(pod, database.pid, database.url)
        self.costs[name].append(after.per_event(before, len(result.numbers)))
        return result

    def curve(self, name: str, seconds: float) -> list[Point]:
        """Load one with more and more requests at once."""
        points = []
        for connections in CURVES[name]:
            self._progress.say(f"{name}, {connections} requests at once")
            self._load(name, seconds=WARM_SECONDS / 2, connections=connections)
            result = self._load(name, seconds=seconds, connections=connections)
            points.append(Point(connections, result.rate, result.percentile(50), result.percentile(99)))
        return points

    def connections(self) -> float:
        """Return the most connections to its database that each worker of our pod has while it is loaded."""
        counts = []
        time.sleep(1)  # so that none counts which another contestant has used
        self._load("flat", seconds=1, meanwhile=lambda: counts.append(_connections(self._database.url)))
        return max(counts) / servers.WORKERS

    def memory(self) -> tuple[float, int]:
        """Return the memory of our pod, in MiB, once it has had an hour's worth of events; and how many it had."""
        pod = self._contestants["flat"].server
        mine = [each for each in self._contestants.values() if each.server == pod and each.stored]
        while (had := sum(each.events for each in mine)) < HOUR_OF_EVENTS:
            self._progress.say(f"an hour's worth of events: {had:,} of {HOUR_OF_EVENTS:,}")
            self._load("flat", seconds=2)
        return pod.memory(), had

    def verify(self) -> int:
        """Look for each acknowledged event in its table; return how many there were."""
        stored = {name: each for name, each in self._contestants.items() if each.stored}
        for name, each in stored.items():
            self._progress.say(f"looking for every event: {name}")
            found = each.found()
            if found != each.events:
                raise SystemExit(f"{name}: {each.events} events were acknowledged, {found} of them are stored")
        return sum(each.events for each in stored.values())

    def _load(self, name: str, *, connections: int = CONNECTIONS, **how: Any) -> load.Result:
        """Load one; every answer must be 2xx."""
        contestant = self._contestants[name]
        start = next(self._starts)
        result = load.run(contestant.server.port, contestant.render, connections=connections, start=start, **how)
        if not result.is_good or len(result.numbers) > EVENTS_APART:
            raise SystemExit(f"{name}: not every event was acknowledged: {result.statuses}")
        contestant.sent.append(result.numbers)
        return result


def _connections(url: str) -> int:
    """Count the connections that were used in the last second: the pods that are not loaded now keep theirs too."""
    with contest.query(url) as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND state_change > clock_timestamp() - interval '1 second'"
        )
        [count] = cursor.fetchone() or [0]
    return int(count)
