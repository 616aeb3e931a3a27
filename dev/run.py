"""``make run``: the receiver, as the Procfile starts it, and the page beside it, over an embedded Postgres."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import psycopg2

from dev import embedded_postgres

ROLE = "vmledger"
READ_ROLE = "vmledger_page"
ROOT = pathlib.Path(__file__).resolve().parent.parent
AFTERMATH_SECONDS = 1
"""How long a server's backends may take to see that it has ended; until then no other one starts."""


def main() -> int:
    """Set up, run until Ctrl-C, stop."""
    port = _port("PORT", 8080)
    page_port = _port("PAGE_PORT", 8082 if port == 8081 else 8081)
    if port == page_port:
        raise SystemExit("PORT and PAGE_PORT are the same: the receiver and the page each need one")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # as Ctrl-C: nothing may stay behind
    with _alone():
        server = embedded_postgres.Postgres(embedded_postgres.HOME)
        print("starting the embedded Postgres", flush=True)
        server.start()
        try:
            _migrate(server)
            return _serve(server, port, page_port)
        except KeyboardInterrupt:
            return 0
        finally:
            (embedded_postgres.HOME / "running").unlink(missing_ok=True)
            server.stop()
            print("stopped; the data stays in .vmledger until `make clean`")


def procfile() -> list[str]:
    """Return the command that the Procfile gives for ``web``."""
    [line] = [line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("web:")]
    program, *rest = shlex.split(line.removeprefix("web:"))
    return [str(pathlib.Path(sys.executable).parent / program), *rest]


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise SystemExit(f"{variable} must be a whole number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", int(text)))
        except OSError:
            raise SystemExit(
                f"port {text} is in use: stop what uses it, or choose another with {variable}={int(text) % 65535 + 10}"
            ) from None
    return int(text)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the folder's lock: one Postgres at a time on the same data."""
    embedded_postgres.HOME.mkdir(exist_ok=True)
    with (embedded_postgres.HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("`make run` is running in this folder already: stop it first") from None
        yield


def _migrate(server: embedded_postgres.Postgres) -> None:
    """Make the roles of the function and of the page where they are missing, and bring the schema up to date."""
    connection = psycopg2.connect(server.url())
    connection.autocommit = True
    with connection.cursor() as cursor:
        for role in (ROLE, READ_ROLE):
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE ROLE {role} LOGIN")
    connection.close()
    environ = {**os.environ, "DATABASE_URL": server.url(), "DB_APP_ROLE": ROLE, "DB_READ_ROLE": READ_ROLE}
    if subprocess.run([sys.executable, "-m", "function", "migrate"], env=environ, cwd=ROOT, check=False).returncode:
        raise SystemExit("the schema could not be brought up to date: the line above says why")


def _serve(server: embedded_postgres.Postgres, port: int, page_port: int) -> int:
    receiver_environ = {**os.environ, "DATABASE_URL": server.url(user=ROLE), "PORT": str(port)}
    page_environ = {**os.environ, "DATABASE_URL": server.url(user=READ_ROLE), "PAGE_PORT": str(page_port)}
    with (
        _running(procfile(), receiver_environ) as receiver,
        _running([sys.executable, "-m", "function", "page"], page_environ) as page,
    ):
        _wait(receiver, f"http://127.0.0.1:{port}/health/readiness", "the receiver")
        _wait(page, f"http://127.0.0.1:{page_port}/health/liveness", "the page")
        (embedded_postgres.HOME / "running").write_text(f"{server.binaries / 'psql'}\n{server.url()}\n")
        print(_welcome(port, page_port), flush=True)
        while True:
            for process in (receiver, page):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(0.5)
            if server.ended:
                print("the embedded Postgres has ended: starting it again", flush=True)
                time.sleep(AFTERMATH_SECONDS)
                server.start()


@contextlib.contextmanager
def _running(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server of ours, and end it with the block."""
    # Ctrl-C is for us alone: gunicorn's workers would each be interrupted at whatever they do.
    process = subprocess.Popen(command, env=environ, cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, what: str) -> None:
    """Wait until a server answers."""
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise SystemExit(f"{what} did not start: the lines above say why")


def _welcome(port: int, page_port: int) -> str:
    here = "" if port == 8080 else f"PORT={port} "
    return f"""
The receiver  http://localhost:{port}/
The page      http://localhost:{page_port}/

vmledger listens on port {port}. In another terminal, put a VM in the ledger, and look at it:

  curl -i http://localhost:{port}/ \\
    -H 'ce-specversion: 1.0' -H 'ce-type: dev.knative.apiserver.resource.add' -H 'ce-source: my-laptop' \\
    -H "ce-id: $(date +%s%N)" -H "ce-time: $(date -u +%Y-%m-%dT%H:%M:%SZ)" \\
    -H 'ce-kind: VirtualMachine' -H 'ce-namespace: default' -H 'ce-name: my-first-vm' \\
    -H 'ce-cpucores: 2' -H 'ce-cpusockets: 1' -H 'ce-memory: 4Gi' -H 'ce-network: default' -X POST

  make show

A whole life of a VM, replayed: {here}make demo     psql: make psql     Stop: Ctrl-C
"""


if __name__ == "__main__":
    sys.exit(main())
