"""``make bench``: a table of ratios, from one run on one machine and one Postgres."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import psutil
import psycopg2

from bench import load, published, requests
from dev import postgres, run

ROOT = pathlib.Path(__file__).resolve().parent.parent
MACHINES = 1000
CONNECTIONS = 64
WORKERS = 2
CURVE = (1, 8, 32, 64, 100, 256)


@contextlib.contextmanager
def served(command: list[str], port: int, environ: dict[str, str]) -> Iterator[int]:
    """Run a server, whose process id is yielded; its log goes to a file, as a container's does."""
    environ = {**os.environ, "PORT": str(port), "WEB_CONCURRENCY": str(WORKERS), **environ}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            _wait(port)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _wait(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveness", timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("a server under test did not start")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory(pid: int) -> float:
    """Return the memory of a process and its children, shared pages counted once, in MiB."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in processes)) / 2**20


def query(url: str, sql: str) -> int:
    """Run SQL that gives one number, or none."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone() if cursor.description else None
    connection.close()
    return int(row[0]) if row else 0


class Bench:
    """The measurements; each loads a server for some seconds and checks what it stored."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.seconds = seconds
        self._sent = 0

    def ours(self, render: load.Render) -> load.Result:
        """vmledger, as the Procfile starts it."""
        port = free_port()
        with served(run.procfile(), port, {"DATABASE_URL": self.url}):
            before = query(self.url, "SELECT count(*) FROM vm_history")
            result = self._load(port, render)
            stored = query(self.url, "SELECT count(*) FROM vm_history") - before
        self._verify(result, stored)
        return result

    def ignored(self, render: load.Render) -> load.Result:
        """vmledger, with events that are not for it."""
        port = free_port()
        with served(run.procfile(), port, {"DATABASE_URL": self.url}):
            return self._load(port, render)

    def bare(self, render: load.Render) -> load.Result:
        """Flask that answers 204, under the same settings of gunicorn."""
        port = free_port()
        with served([*run.procfile(), "bench.bare:app"], port, {"LOG_LEVEL": "ERROR"}):
            return self._load(port, render)

    def published(self, render: load.Render) -> load.Result:
        """One connection and one INSERT for each event, on Flask's development server."""
        port = free_port()
        query(self.url, published.TABLE)
        before = query(self.url, "SELECT count(*) FROM published")
        with served([sys.executable, "-m", "bench.published", str(port)], port, {"DATABASE_URL": self.url}):
            result = self._load(port, render)
        self._verify(result, query(self.url, "SELECT count(*) FROM published") - before)
        return result

    def curve(self, render: load.Render) -> list[tuple[int, load.Result, float]]:
        """Vmledger at more and more requests at once, and the memory of its processes then, in MiB."""
        port = free_port()
        points = []
        with served(run.procfile(), port, {"DATABASE_URL": self.url}) as server:
            for connections in CURVE:
                load.run(port, render, connections=connections, seconds=0.7, start=self._next())
                result = load.run(port, render, connections=connections, seconds=self.seconds, start=self._next())
                points.append((connections, result, memory(server)))
        return points

    def _load(self, port: int, render: load.Render) -> load.Result:
        load.run(port, render, connections=CONNECTIONS, seconds=0.7, start=self._next())  # warms up
        return load.run(port, render, connections=CONNECTIONS, seconds=self.seconds, start=self._next())

    def _next(self) -> int:
        """No two loads send the same event."""
        self._sent += 200_000
        return self._sent

    @staticmethod
    def _verify(result: load.Result, stored: int) -> None:
        """A benchmark that counts acknowledgements of nothing is worthless."""
        acknowledged = sum(count for status, count in result.statuses.items() if status < 300)
        if stored < acknowledged or set(result.statuses) - {200, 204}:
            raise SystemExit(f"{acknowledged} events were acknowledged, {stored} are stored: {result.statuses}")


def measure(bench: Bench, rounds: int) -> dict[str, list[load.Result]]:
    """Take turns, so that a slow moment of the machine meets all alike."""
    flat, objects, others = requests.flat(MACHINES), requests.objects(MACHINES), requests.others()
    measurements: dict[str, Callable[[], load.Result]] = {
        "bare Flask": lambda: bench.bare(flat),
        "vmledger, flat events": lambda: bench.ours(flat),
        "vmledger, whole objects": lambda: bench.ours(objects),
        "published way, flat events": lambda: bench.published(flat),
        "published way, whole objects": lambda: bench.published(objects),
        "bare Flask, other Events": lambda: bench.bare(others),
        "vmledger, other Events": lambda: bench.ignored(others),
    }
    results: dict[str, list[load.Result]] = {name: [] for name in measurements}
    for number in range(rounds):
        for name, take in measurements.items():
            print(f"\rround {number + 1} of {rounds}: {name:<40}", end="", file=sys.stderr, flush=True)
            results[name].append(take())
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return results


def report(results: dict[str, list[load.Result]]) -> dict[str, object]:
    """Print the table; return what it says."""
    rates = {name: sorted(result.rate for result in found)[len(found) // 2] for name, found in results.items()}
    slow = {name: found[len(found) // 2].percentile(99) * 1000 for name, found in results.items()}
    print(f"\n{'':32}{'events/s':>10}{'p99 ms':>9}{'/ published':>13}{'/ bare':>8}")
    for name, rate in rates.items():
        way = "published way, whole objects" if "objects" in name else "published way, flat events"
        bare = "bare Flask, other Events" if "other" in name else "bare Flask"
        times = f"{rate / rates[way]:13.1f}" if "other" not in name else f"{'':13}"
        print(f"{name:32}{rate:10.0f}{slow[name]:9.1f}{times}{rate / rates[bare]:8.2f}")
    return {"events_per_second": rates, "p99_ms": slow}


def report_curve(points: list[tuple[int, load.Result, float]]) -> list[dict[str, float]]:
    """Print how throughput, latency and memory grow with the requests at once; return it."""
    print(f"\n{'flat events, requests at once':>32}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'MiB':>8}")
    rows = []
    for connections, result, used in points:
        p50, p99 = result.percentile(50) * 1000, result.percentile(99) * 1000
        print(f"{connections:32}{result.rate:10.0f}{p50:9.1f}{p99:9.1f}{used:8.0f}")
        rows.append({"connections": connections, "rate": result.rate, "p50_ms": p50, "p99_ms": p99, "mib": used})
    return rows


def machine() -> str:
    """Say what it was measured on."""
    text = f"{os.cpu_count()} cores, Python {platform.python_version()}, {CONNECTIONS} connections, {WORKERS} workers"
    return f"{text}, {MACHINES} VMs; load generator and Postgres (fsync and synchronous_commit on) on the same machine"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="how long each load takes (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is taken; the median counts (default: 3)")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = postgres.Postgres(pathlib.Path(folder))
        server.start()
        try:
            environ = {**os.environ, "DATABASE_URL": server.url()}
            subprocess.run([sys.executable, "-m", "function", "migrate"], env=environ, cwd=ROOT, check=True)
            bench = Bench(server.url(), arguments.seconds)
            figures = report(measure(bench, arguments.rounds))
            figures["curve"] = report_curve(bench.curve(requests.flat(MACHINES)))
            figures["machine"] = machine()
            print(f"\n{figures['machine']}")
        finally:
            server.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
