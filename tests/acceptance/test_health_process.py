"""``python -m function health`` as a process, and the count of dead letters over the life of a receiver."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance import processes

Query = Callable[..., list[tuple[Any, ...]]]
AWAY = "postgresql://u:hunter2@127.0.0.1:1/x"


def health(environ: dict[str, str], *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "function", "health", *arguments]
    known = {"capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run(command, check=False, cwd=processes.ROOT, env=processes.clean(environ), **known)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "no database is configured: set DB_HOST or DATABASE_URL"),
        ({"DATABASE_URL": AWAY, "DB_TIMEOUT": "1"}, "the database cannot be used now"),
        ({"DATABASE_URL": AWAY, "HEALTH_MAX_SILENCE": "soon"}, "HEALTH_MAX_SILENCE must be"),
    ],
)
def test_what_cannot_be_known_exits_with_2(environ: dict[str, str], sentence: str) -> None:
    """One line on standard error, and nothing where a program would read the verdict."""
    done = health(environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert sentence in done.stderr
    assert "hunter2" not in done.stderr


def test_a_reader_that_goes_away_ends_it(url: str, query: Query) -> None:
    """As of any program in a pipe: its exit code, and no traceback."""
    query(
        "INSERT INTO ledger_heard (writer, cluster, kind, last_event_at)"
        " SELECT 'w', 'c' || n, 'VirtualMachine', now() FROM generate_series(1, 2000) AS n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    gone = health({"DATABASE_URL": url}, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (gone.returncode, gone.stderr) == (128 + signal.SIGPIPE, "")


def test_the_life_of_a_ledger(url: str, query: Query) -> None:
    """Empty, heard, reconciled, silent: each with its exit code, and the sentence that says why."""
    environ = {"DATABASE_URL": url}

    def said(*arguments: str, **more: str) -> tuple[int, list[dict[str, Any]], list[str]]:
        done = health({**environ, **more}, *arguments)
        *rows, verdict = map(json.loads, done.stdout.splitlines())
        assert done.stderr == ""
        assert verdict["verdict"] == ("healthy" if done.returncode == 0 else "unhealthy")
        return done.returncode, rows, verdict["problems"]

    code, rows, [problem] = said()
    assert (code, rows) == (1, [])
    assert problem.startswith("nothing was ever stored")
    query(
        "INSERT INTO ledger_heard (writer, cluster, kind, last_event_at) VALUES ('w', 'east', 'VirtualMachine', now())"
    )
    code, rows, [problem] = said()
    assert (code, [row["kind"] for row in rows]) == (1, ["VirtualMachine", "VirtualMachineInstance"])
    assert "was never reconciled" in problem
    query("INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome) VALUES ('east', now(), 1, 'repaired')")
    assert said()[::2] == (0, [])
    query("UPDATE ledger_heard SET last_event_at = now() - interval '2 hours'")
    code, _, [problem] = said()
    assert code == 1
    assert "has come for 2h" in problem
    assert said(HEALTH_MAX_SILENCE="3h")[0] == 0
    assert said("--cluster", "east")[0] == 1
    code, rows, [problem] = said("--cluster", "west")
    assert (code, rows) == (1, [])
    assert "about cluster 'west'" in problem


def test_a_person_gets_a_table(url: str, query: Query) -> None:
    """Because standard output is a terminal."""
    query(
        "INSERT INTO ledger_heard (writer, cluster, kind, last_event_at) VALUES ('w', 'east', 'VirtualMachine', now())"
    )
    reader, writer = pty.openpty()
    done = health({"DATABASE_URL": url}, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    lines = os.read(reader, 65536).decode().splitlines()
    os.close(reader)
    assert done.returncode == 1
    assert lines[0].startswith("CLUSTER  KIND")
    assert lines[1].startswith("east     VirtualMachine          0s ago")
    assert lines[-1].startswith("unhealthy: cluster 'east' was never reconciled")


def test_a_terminal_that_cannot_show_a_name_shows_it_escaped(url: str, query: Query) -> None:
    """And the verdict is the same."""
    query("INSERT INTO ledger_heard (writer, cluster, kind, last_event_at) VALUES ('w', 'Ä', 'VirtualMachine', now())")
    reader, writer = pty.openpty()
    environ = {"DATABASE_URL": url, "PYTHONIOENCODING": "ascii"}
    done = health(environ, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    lines = os.read(reader, 65536).decode("ascii").splitlines()
    os.close(reader)
    assert (done.returncode, done.stderr) == (1, "")
    assert lines[1].startswith(r"\xc4")


@pytest.mark.parametrize("start", [processes.gunicorn, processes.func], ids=["gunicorn", "func"])
def test_what_was_refused_is_counted_before_the_process_ends(
    url: str, tmp_path: pathlib.Path, query: Query, start: Callable[..., Any]
) -> None:
    """A stop right after them loses none; each door and each worker counts its own."""
    with start(tmp_path / "log", {"DATABASE_URL": url, "CLUSTER_NAME": "east"}) as service:
        assert service.readiness()["ledger"].startswith("nothing was ever stored")
        assert [service.post(b"nonsense")[0] for _ in range(20)] == [400] * 20
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0, service.log()
    assert query("SELECT cluster, dead_letters FROM ledger_health") == [("east", 20)]
    assert "Traceback" not in service.log()
