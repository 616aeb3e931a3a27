"""``python -m bench.metrics``: what metrics cost: throughput and CPU of a pod with and without METRICS_PORT, in turns.

Two pods over one Postgres, each with two workers, get flat events, the cheapest kind that is stored, so that the share
of the metrics is the largest. The one that measures is scraped as often as a Prometheus would.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time
import timeit
import urllib.request
from collections.abc import Sequence

from bench import bars, cost, database, load, machine, report, requests, servers
from bench.progress import Progress
from function import measures
from function.metrics import recorder
from function.web import event_log, event_measures
from tests.acceptance import processes

JSON = pathlib.Path(__file__).parent / "results" / "metrics.json"
CONNECTIONS = 64
MACHINES = 1000
SCRAPE_SECONDS = 15.0
BARS = (
    bars.Bar("rate", "flat events a second, with metrics / without", 0.98, is_least=True),
    bars.Bar("cpu", "CPU of a pod for an event, with metrics / without", 1.02),
    bars.Bar("memory", "memory that metrics add to a pod", 15, unit=" MiB"),
)


@dataclasses.dataclass
class Pod:
    """A pod, and what each round of it gave: events a second, and seconds of CPU for an event."""

    server: servers.Server
    scrape: str | None = None
    scraped: float = 0.0
    rates: list[float] = dataclasses.field(default_factory=list)
    costs: list[float] = dataclasses.field(default_factory=list)

    def meanwhile(self) -> None:
        """Scrape, if it is time."""
        if self.scrape is not None and time.monotonic() - self.scraped > SCRAPE_SECONDS:
            self.scraped = time.monotonic()
            with urllib.request.urlopen(self.scrape, timeout=10) as answer:
                answer.read()


def main() -> int:
    """Measure, print, save."""
    arguments = _parser().parse_args()
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(database.running(pathlib.Path(name), progress))
        url = server.url()
        about = machine.describe(url)
        port = processes.free_port()
        pods = {
            "off": Pod(stack.enter_context(servers.served(servers.vmledger(url)))),
            "on": Pod(
                stack.enter_context(servers.served(servers.vmledger(url, METRICS_PORT=str(port)))),
                scrape=f"http://127.0.0.1:{port}/metrics",
            ),
        }
        _load(pods, arguments.rounds, arguments.seconds, url, progress)
        memory = {name: pod.server.memory() for name, pod in pods.items()}
    progress.say()
    figures = {
        "rate": _ratio(pods["on"].rates, pods["off"].rates),
        "cpu": _ratio(pods["on"].costs, pods["off"].costs),
        "memory": memory["on"] - memory["off"],
    }
    recorded = f"to record one event takes {_recorded():.1f} µs of these"
    text = [*bars.table(figures, BARS), "", *_lines(pods, memory), recorded, *_words(about, arguments)]
    print("\n".join(text))
    report.save({"text": text, "figures": figures, "machine": about}, arguments.json, BARS)
    return 0


def _load(pods: dict[str, Pod], rounds: int, seconds: float, url: str, progress: Progress) -> None:
    """Load the pods in turns; each begins every other round."""
    start = 0
    for number in range(rounds + 1):
        progress.say(f"round {number} of {rounds}")
        order = list(pods.values())
        for pod in order if number % 2 else reversed(order):
            before = cost.read(pod.server.pid, pod.server.pid, url)
            found = load.run(
                pod.server.port,
                requests.flat(MACHINES),
                connections=CONNECTIONS,
                seconds=seconds,
                start=start,
                meanwhile=pod.meanwhile,
            )
            if not found.is_good:
                raise SystemExit(f"not every event was stored: {found.statuses}")
            start = found.numbers.stop
            if number:  # the first round warms up
                after = cost.read(pod.server.pid, pod.server.pid, url)
                pod.rates.append(found.rate)
                pod.costs.append(after.per_event(before, len(found.numbers)).pod)


def _recorded() -> float:
    """Return the microseconds that the recording of one event takes, by itself."""
    subjects = [event_log.Subject(requests.UPDATE, "1", "bench/vm")]
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder:
        to = recorder.Recorder(pathlib.Path(folder), 1, measures.Source.RECEIVER)
        began = time.perf_counter()
        timed = timeit.repeat(lambda: event_measures.handled(to, subjects, ["stored"], began), number=20_000, repeat=7)
    return min(timed) / 20_000 * 1e6


def _ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: two that follow each other had the same machine."""
    return statistics.median(mine / theirs for mine, theirs in zip(one, other, strict=True))


def _lines(pods: dict[str, Pod], memory: dict[str, float]) -> list[str]:
    lines = [f"{'METRICS_PORT':20}{'events a second':>18}{'µs of CPU an event':>22}{'MiB of the pod':>18}"]
    for name, pod in pods.items():
        rate, spent = statistics.median(pod.rates), statistics.median(pod.costs) * 1e6
        lines.append(f"{name:20}{rate:18.0f}{spent:22.1f}{memory[name]:18.1f}")
    return lines


def _words(about: dict[str, object], arguments: argparse.Namespace) -> list[str]:
    words = (
        f"{arguments.rounds} rounds of {arguments.seconds:g} s in turns, {CONNECTIONS} connections, 2 workers;"
        f" {about['cores']} cores ({about['processor']}), load {about['load_before']:.1f} before"
    )
    return [words]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.metrics", description="Measure what metrics cost.")
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    parser.add_argument("--rounds", type=int, default=10, help="how often each pod is loaded")
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long each time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
