"""``python -m bench.edge``: who waits while one connection does its worst, for a minute each.

One worker over a Postgres of its own. For each sender of :mod:`dev.attacks`: the longest and the median wait of an
event and of the liveness probe, each on a connection of its own. The bar is a second.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from bench import servers
from dev import attacks, embedded_postgres
from tests.acceptance import processes

BAR_SECONDS = 1.0
PAUSE_SECONDS = 0.02


def main() -> int:
    """Attack, measure and print; return 1 where somebody waited for longer than the bar."""
    arguments = _parser().parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="vmledger-edge-") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        postgres = embedded_postgres.Postgres(folder / "postgres")
        postgres.start()
        stack.callback(postgres.stop)
        environ = {"DATABASE_URL": postgres.url(), "WEB_CONCURRENCY": "1"}
        command = [sys.executable, "-m", "function", "migrate"]
        subprocess.run(command, env=processes.clean(environ), check=True, stdout=subprocess.DEVNULL)
        service = stack.enter_context(processes.gunicorn(folder / "log", environ))
        print(f"{'a connection that sends':34}{'an event waits, ms':>24}{'the probe waits, ms':>24}")
        for attack in arguments.attack or attacks.ATTACKS:
            waits = _waits(service, attack, arguments.seconds)
            worst = max(worst, *(wait for kind in waits for wait in kind))
            print(f"{attack:34}" + "".join(f"{_shown(kind):>24}" for kind in waits), flush=True)
    print(f"the longest wait: {worst:.2f} s; the bar: {BAR_SECONDS:g} s")
    return int(worst > BAR_SECONDS)


def _waits(service: processes.Service, attack: str, seconds: float) -> list[list[float]]:
    """Return the waits of events, and of probes, while an attack goes on."""
    command = [sys.executable, "-m", "dev.attacks", attack, str(service.port), str(seconds)]
    with subprocess.Popen(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        kinds: list[tuple[int, Callable[[], int]]] = [
            (204, lambda: service.send(name="meanwhile", namespace="edge", resourceversion=str(time.time_ns()))),
            (200, lambda: service.request("GET", "/health/liveness")[0]),
        ]
        waits: list[list[float]] = [[] for _ in kinds]

        def measure(found: list[float], expected: int, ask: Callable[[], int]) -> None:
            while process.poll() is None:
                began = time.perf_counter()
                status = ask()
                found.append(time.perf_counter() - began)
                if status != expected:
                    raise SystemExit(f"{attack}: {status} instead of {expected}")
                time.sleep(PAUSE_SECONDS)

        threads = [
            threading.Thread(target=measure, args=(found, *kind)) for found, kind in zip(waits, kinds, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return waits


def _shown(waits: list[float]) -> str:
    return f"{max(waits) * 1000:.0f} (median {statistics.median(waits) * 1000:.0f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.edge", description="See who waits during each attack.")
    parser.add_argument("--seconds", type=float, default=60, help="how long each attack takes (default: 60)")
    parser.add_argument("attack", nargs="*", choices=[[], *attacks.ATTACKS], help="which attacks (default: all)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
