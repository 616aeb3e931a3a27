"""The reconcile as the command that people and Jobs run."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from dev import embedded_postgres
from function import migrate, settings
from function.clients import kubernetes
from tests import api_server, machines
from tests.acceptance import processes

Query = Callable[..., list[tuple[Any, ...]]]
Environ = Mapping[str, str]


@pytest.fixture
def api() -> Iterator[api_server.ApiServer]:
    """A cluster of twelve machines."""
    with api_server.running() as server:
        server.seed(machines.vm(f"vm-{number:02}") for number in range(12))
        yield server


@pytest.fixture
def environ(api: api_server.ApiServer, url: str, tmp_path: pathlib.Path) -> Environ:
    """An empty ledger, and access to the cluster."""
    return {"DATABASE_URL": url, "KUBECONFIG": api.kubeconfig(tmp_path)}


def command(*options: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "function", "reconcile", *options]


def reconcile(environ: Environ, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, not in a terminal."""
    env = processes.clean(environ)
    return subprocess.run(
        command(*options), cwd=processes.ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@contextlib.contextmanager
def started(environ: Environ, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start it; end it at the end of the block if it still runs."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command(*options), cwd=processes.ROOT, env=processes.clean(environ), stdout=pipe, stderr=pipe, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def midway(api: api_server.ApiServer, process: subprocess.Popen[str]) -> None:
    """Wait until its list has begun."""
    while len(api.calls) < 3:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


def lines(text: str) -> list[dict[str, Any]]:
    """JSON, a line each."""
    return [json.loads(line) for line in text.splitlines()]


def test_the_exit_code_is_the_outcome(api: api_server.ApiServer, environ: Environ, query: Query) -> None:
    """3 repaired, 0 clean, 4 refused, 5 failed; a CronJob may have 0 for repaired."""
    assert reconcile(environ).returncode == 3
    assert reconcile(environ).returncode == 0
    api.create(machines.vm("web"))
    assert reconcile(environ, "--repaired-ok").returncode == 0
    assert query("SELECT outcome, missed_adds FROM reconcile_runs ORDER BY run") == [
        ("repaired", 12),
        ("clean", 0),
        ("repaired", 1),
    ]
    for number in range(12):
        api.delete(kubernetes.VMS, "shop", f"vm-{number:02}")
    assert reconcile(environ, "--repaired-ok").returncode == 4
    assert reconcile({**environ, "RECONCILE_MAX_DELETES": "100"}, "--repaired-ok").returncode == 0
    api.stop()
    assert reconcile(environ).returncode == 5


def test_a_program_reads_json(environ: Environ) -> None:
    """Lines of the log while it works, on standard error; the last, and the one on standard output, are the run's."""
    done = reconcile(environ, "--page-size", "5")
    logged = lines(done.stderr)
    assert [line["action"] for line in logged if line["action"].startswith("reconcile.")] == [
        *["reconcile.page"] * 4,
        "reconcile.done",
    ]
    assert [(line["read"], line["remaining"]) for line in logged if "read" in line] == [
        (5, 7),
        (10, 2),
        (12, 0),
        (0, 0),
    ]
    [said] = lines(done.stdout)
    assert (said["outcome"], said["seen"], said["missed_adds"]) == ("repaired", 12, 12)
    assert {key: logged[-1].get(key) for key in said} == said


def test_a_person_sees_a_bar_and_words(api: api_server.ApiServer, environ: Environ) -> None:
    """In a terminal; what went wrong is one line."""
    shown = in_terminal(environ, "--page-size", "5")
    assert re.search(r"virtual machines  \[#+-*\]\s+5/12", shown)
    assert re.search(r"virtual machines  \[#+\]\s+12/12", shown)
    assert "default: repaired; 12 virtual machines in the cluster, list version" in shown
    assert "      12 added\r\n" in shown
    assert "{" not in shown
    for number in range(12):
        api.delete(kubernetes.VMS, "shop", f"vm-{number:02}")
    shown = in_terminal(environ, "--dry-run")
    assert shown.count("VM delete") == 12
    assert "vmledger: 12 of 12 virtual machines in the ledger are not in the cluster" in shown


def in_terminal(environ: Environ, *options: str) -> str:
    """Run it in a terminal; return what is seen there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*options), cwd=processes.ROOT, env=processes.clean(environ), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says at the end that the other side is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    process.wait(60)
    os.close(ours)
    return shown.decode()


def test_a_dry_run_prints_a_table_to_any_reader(environ: Environ, query: Query) -> None:
    """Also into a pipe that is closed early."""
    done = reconcile(environ, "--dry-run")
    assert done.returncode == 3
    said = done.stdout.splitlines()
    assert len([line for line in said if line.startswith("VM add")]) == 12
    assert said[-1] == "      12 would be added"
    assert query("SELECT count(*) FROM vm_state") == [(0,)]
    with started(environ, "--dry-run") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 3
        assert process.stderr is not None
        assert "Error" not in process.stderr.read()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_stopped_says_so(
    how: signal.Signals, api: api_server.ApiServer, environ: Environ, query: Query
) -> None:
    """Exit code 5, a row and a sentence, no traceback; and the next run goes through."""
    api.on_page(lambda _: time.sleep(1))
    with started(environ, "--page-size", "2") as process:
        midway(api, process)
        process.send_signal(how)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 5
    assert "Traceback" not in said
    assert query("SELECT outcome, error FROM reconcile_runs") == [
        ("failed", f"it was stopped by {how.name} before it was done")
    ]
    api.calm()
    assert reconcile(environ).returncode == 3


def test_one_that_is_killed_does_not_stand_in_the_way(
    api: api_server.ApiServer, environ: Environ, query: Query
) -> None:
    """Its lock goes with its connection, and what it noted is forgotten."""
    api.on_page(lambda _: time.sleep(1))
    with started(environ, "--page-size", "2") as process:
        midway(api, process)
        process.kill()
        process.wait()
    api.calm()
    api.delete(kubernetes.VMS, "shop", "vm-00")
    assert reconcile(environ).returncode == 3
    assert query("SELECT count(*) FROM virtual_machines") == [(11,)]
    assert query("SELECT count(*) FROM reconcile_seen") == [(0,)]


def test_a_database_that_dies_midway_is_one_sentence(api: api_server.ApiServer, tmp_path: pathlib.Path) -> None:
    """Exit code 5, and no traceback."""
    server = embedded_postgres.Postgres(tmp_path / "own")
    server.start()
    environ = {"DATABASE_URL": server.url(), "KUBECONFIG": api.kubeconfig(tmp_path)}
    migrate.run(settings.Settings.from_env(environ))
    pages = iter([False, True])
    api.on_page(lambda _: server.kill() if next(pages, False) else None)
    done = reconcile(environ, "--page-size", "5")
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    last = lines(done.stderr)[-1]
    assert (last["level"], last["outcome"]) == ("ERROR", "failed")
    assert "the database cannot be used now" in last["error"]
    server.start()
    api.calm()
    assert reconcile(environ).returncode == 3
    server.stop()


def test_a_bad_setting_is_one_line(environ: Environ) -> None:
    """As for every command."""
    done = reconcile({**environ, "RECONCILE_MAX_DELETES": "lots"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "vmledger: RECONCILE_MAX_DELETES must be a whole number from 0 to 100\n"
