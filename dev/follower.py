"""Somebody who follows the ledger, for `make demo`: a sink on a free port, and `python -m function publish` to it."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Protocol

import psycopg2

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 15


class Received(Protocol):
    """Returns a line for each change that was received, once so many VMs have ended, or after some seconds."""

    def __call__(self, *, ends: int) -> list[str]:
        """Wait, and return the lines."""


class _Sink(http.server.BaseHTTPRequestHandler):
    lines: list[str]

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        changed = (data["changes"] or {}) if data["what"] == "changed" else {}
        facts = (f"{name} {_shown(each['old'])} > {_shown(each['new'])}" for name, each in sorted(changed.items()))
        line = f"{self.headers['ce-type']:30}{self.headers['ce-subject']:14}{', '.join(facts)}"
        self.lines.append(line.rstrip())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write no line for each request."""


def _shown(value: object) -> object:
    """Return a value as the tables of the demo show it."""
    return "∅" if value is None else value


@contextlib.contextmanager
def following(url: str) -> Iterator[Received]:
    """Follow a database from now on; the block is given what returns the lines."""
    lines: list[str] = []
    handler = type("Sink", (_Sink,), {"lines": lines})
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    environ = {**os.environ, "DATABASE_URL": url, "K_SINK": f"http://127.0.0.1:{sink.server_port}/"}
    command = [sys.executable, "-m", "function", "publish", "--from", "now"]

    def received(*, ends: int) -> list[str]:
        until = time.monotonic() + SECONDS
        while sum(".deleted" in line for line in lines) < ends and time.monotonic() < until:
            time.sleep(0.1)
        return lines

    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    try:
        _wait_for_start(url, process)
        yield received
    finally:
        process.terminate()
        process.wait()
        sink.shutdown()


def _wait_for_start(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the position is set anew: what is committed from then on is sent."""
    begun = "SELECT count(*) FROM publish_position WHERE updated_at > now() - interval '1 second' * %s"
    start = time.monotonic()
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while process.poll() is None and time.monotonic() < start + SECONDS:
            cursor.execute(begun, [time.monotonic() - start])
            if cursor.fetchone() != (0,):
                return
            time.sleep(0.05)
