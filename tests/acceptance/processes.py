"""The function as real processes: behind gunicorn as the Procfile says, and behind kn func's middleware."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dev import run

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30
FUNC = "import func_python.http, function; func_python.http.serve(function.new)"

Headers = dict[str, str]
Reply = tuple[int, Headers, bytes]


class Service:
    """A running receiver."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: pathlib.Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Reply:
        """Send one request on a connection of its own; return the whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, dict(headers or {}), **options)
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, head: str, body: bytes = b"") -> bytes:
        """Send bytes as they are, say that there are no more, and read what comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + body)
            answer = b""
            # A server that has seen enough may close at once; what it answered before is there to be read.
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError as exc:
                if exc.errno not in (errno.ENOTCONN, errno.ECONNRESET):
                    raise
            with contextlib.suppress(ConnectionResetError):
                while data := connection.recv(65536):
                    answer += data
            return answer

    def post(self, body: Any = None, **headers: str) -> Reply:
        """Send an event."""
        return self.request("POST", "/", body, {name.replace("_", "-"): value for name, value in headers.items()})

    def send(self, **attributes: str) -> int:
        """Send a flat event about a VM; return the status."""
        known = {
            "specversion": "1.0",
            "id": "1",
            "source": "test",
            "type": "dev.knative.apiserver.resource.add",
            "kind": "VirtualMachine",
            "namespace": "team",
            "time": "2026-11-22T10:00:00Z",
            **attributes,
        }
        return self.request("POST", "/", headers={f"ce-{name}": value for name, value in known.items()})[0]

    def readiness(self) -> dict[str, str]:
        """Return the state of each dependency."""
        states: dict[str, str] = json.loads(self.request("GET", "/health/readiness")[2])
        return states

    def log(self) -> str:
        """Return what the process wrote."""
        return self._log.read_text()

    def metrics(self, port: int) -> dict[str, float]:
        """Return the values of ``/metrics`` by name and labels, as the page writes them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as answer:
            lines = answer.read().decode().splitlines()
        values = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {series: float(value) for series, _, value in values}

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's workers."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def gunicorn(log: pathlib.Path, environ: Mapping[str, str]) -> Iterator[Service]:
    """Run the Procfile's own command."""
    port = free_port()
    with _running(run.procfile(), log, {**environ, "PORT": str(port)}, port) as service:
        yield service


@contextlib.contextmanager
def func(
    log: pathlib.Path,
    environ: Mapping[str, str],
    *,
    command: Sequence[str] = (sys.executable, "-c", FUNC),
    folder: pathlib.Path = ROOT,
) -> Iterator[Service]:
    """Run the function as kn func's scaffolding does: its middleware, on hypercorn."""
    port = free_port()
    listen = {**environ, "LISTEN_ADDRESS": f"127.0.0.1:{port}"}
    with _running([*command], log, listen, port, folder=folder) as service:
        yield service


@contextlib.contextmanager
def page(log: pathlib.Path, environ: Mapping[str, str]) -> Iterator[Service]:
    """Run the page."""
    port = free_port()
    with _running(
        [sys.executable, "-m", "function", "page"], log, {**environ, "PAGE_PORT": str(port)}, port
    ) as service:
        yield service


@contextlib.contextmanager
def _running(
    command: list[str], log: pathlib.Path, environ: Mapping[str, str], port: int, *, folder: pathlib.Path = ROOT
) -> Iterator[Service]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=clean(environ), stdout=output, stderr=output)
    service = Service(process, port, log)
    try:
        _wait(service)
        yield service
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without any setting of ours, and with the given ones."""
    ours = (
        "DB_",
        "DATABASE_",
        "PG",
        "VROPS_",
        "HPA_",
        "WEBHOOK_",
        "CLUSTER_",
        "LOG_",
        "KUBE",
        "ECHO",
        "MAX_",
        "HEALTH_",
        "RECONCILE_",
        "OIDC_",
        "PAGE_",
        "METRICS_",
        "PROMETHEUS_",
        "OTEL_",
        "K_",
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith((*ours, "vrops", "FUNCTION_"))}
    return {**kept, **environ}


def _wait(service: Service) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if service.process.poll() is not None:
            raise AssertionError(f"the process ended with {service.process.returncode}:\n{service.log()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if service.request("GET", "/health/liveness")[0] == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the process does not answer:\n{service.log()}")
