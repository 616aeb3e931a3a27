"""``make run`` as a process: what it prints works, a database that dies comes back, and nothing stays behind."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import psutil

from tests.acceptance import processes

SECONDS = 120
RUN = """
import pathlib, sys
from dev import embedded_postgres, run
embedded_postgres.HOME = pathlib.Path(sys.argv[1])
sys.exit(run.main())
"""
"""``make run`` with its data in another folder than the repository's, where one may be running."""


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_database_that_is_killed_is_started_again(tmp_path: pathlib.Path) -> None:
    """In one sentence; until then events are 503, and what was stored is there afterwards."""
    home, log = tmp_path / "home", tmp_path / "log"
    port, page = processes.free_port(), processes.free_port()
    environ = {**os.environ, "PORT": str(port), "PAGE_PORT": str(page)}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(home)], cwd=processes.ROOT, env=environ, stdout=output, stderr=output
        ) as process,
    ):
        receiver = processes.Service(process, port, log)
        try:
            eventually(lambda: process.poll() is not None or "make show" in log.read_text())
            assert receiver.send(name="vm") == 204
            postmaster = psutil.Process(int((home / "data" / "postmaster.pid").read_text().split()[0]))
            postmaster.kill()
            eventually(lambda: "the embedded Postgres has ended: starting it again\n" in log.read_text())
            eventually(lambda: receiver.send(name="vm") == 204)
            with urllib.request.urlopen(f"http://127.0.0.1:{page}/fleet.csv", timeout=SECONDS) as answer:
                assert re.search(rb"^default,team,vm,", answer.read(), re.MULTILINE)
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
    assert log.read_text().endswith("stopped; the data stays in .vmledger until `make clean`\n")
    assert not psutil.pid_exists(postmaster.pid)
