"""The servers that are measured, each in its own processes, on its own port, with its log in a file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import psutil

from bench import load
from dev import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKERS = 2
START_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Command:
    """How a server is started: its command line, where {port} is its port, and its variables."""

    words: Sequence[str]
    environ: Mapping[str, str]


def vmledger(url: str, **variables: str) -> Command:
    """vmledger, as the Procfile starts it."""
    return Command(run.procfile(), {"DATABASE_URL": url, **variables})


def bare() -> Command:
    """Flask that answers 204, under the same settings of gunicorn."""
    return Command([*run.procfile(), "bench.bare:app"], {})


def stock() -> Command:
    """The same under gunicorn's own settings, and its own worker for gevent."""
    return Command([*run.procfile(), "--config", "bench/stock.py", "--worker-class", "gevent", "bench.bare:app"], {})


def least(url: str) -> Command:
    """Flask that stores each event's id before it answers 204, under the same settings of gunicorn."""
    return Command([*run.procfile(), "bench.least:app"], {"DATABASE_URL": url})


def compiled(command: Command, folder: str) -> Command:
    """A server whose modules are compiled once, into a folder, as those of the image are."""
    variables = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
    return Command(command.words, {**command.environ, **variables})


def published(url: str) -> Command:
    """The published example's way, as it ships: on Flask's development server."""
    return Command([sys.executable, "-m", "bench.published", "{port}"], {"DATABASE_URL": url})


def migrate(url: str) -> None:
    """Bring a database up to date."""
    environ = {**os.environ, "DATABASE_URL": url}
    command = [sys.executable, "-m", "function", "migrate"]
    subprocess.run(command, env=environ, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    def children(self) -> list[int]:
        """Return the ids of its workers."""
        return [process.pid for process in psutil.Process(self.pid).children()]

    def memory(self) -> float:
        """Return the memory of its processes, shared pages counted once, in MiB."""
        processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        return float(sum(process.memory_full_info().pss for process in processes)) / 2**20


@contextlib.contextmanager
def served(command: Command, *, seconds: float = START_SECONDS) -> Iterator[Server]:
    """Run a server until the block ends; seconds: until it must answer."""
    with _started(command) as (server, log):
        _wait(server, log, seconds)
        yield server


def start_seconds(command: Command, request: bytes) -> float:
    """Start a server; return the seconds until it has answered a request with 2xx."""
    began = time.perf_counter()
    with _started(command) as (server, log):
        while time.perf_counter() < began + START_SECONDS:
            with contextlib.suppress(OSError):
                if 200 <= load.send(server.port, request) < 300:
                    return time.perf_counter() - began
            time.sleep(0.005)
        raise _failed(log)


@contextlib.contextmanager
def _started(command: Command) -> Iterator[tuple[Server, IO[bytes]]]:
    """Start a server, with its log."""
    port = _free_port()
    words = [word.format(port=port) for word in command.words]
    environ = {**os.environ, "PORT": str(port), "WEB_CONCURRENCY": str(WORKERS), **command.environ}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            yield Server(port, process.pid), log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_SECONDS)


def _wait(server: Server, log: IO[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health/liveness", timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers, even if without such a page
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise _failed(log)


def _failed(log: IO[bytes]) -> SystemExit:
    log.seek(0)
    return SystemExit(f"a server under test did not start; its log ends with\n{log.read()[-2000:].decode()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
