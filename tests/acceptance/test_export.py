"""``python -m function export`` as a process: where its bytes go, and what it leaves when it fails."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time
from typing import Any

import psycopg2
import pytest

from tests import fleet
from tests.acceptance import processes

SECONDS = 120
MOST_MEMORY = 60_000_000


def command(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "function", "export", *arguments]


def environ(url: str) -> dict[str, str]:
    """The environment of a process with that database."""
    return {**os.environ, "DATABASE_URL": url}


def run(url: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": SECONDS, **options}
    return subprocess.run(command(*arguments), check=False, cwd=processes.ROOT, env=environ(url), **given)


@pytest.fixture
def small(url: str) -> str:
    """A ledger of two machines."""
    fleet.store(url, {"name": "a"}, {"name": "b", "labels": {"app": "web"}})
    return url


def test_a_pipe_gets_the_list_and_nothing_else(small: str) -> None:
    """No bar, no note; with - or without -o."""
    done = run(small, "-o", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["name"] for row in csv.DictReader(done.stdout.splitlines())] == ["a", "b"]
    assert run(small).stdout == done.stdout
    assert [row["name"] for row in json.loads(run(small, "--format", "json", "--label", "app=web").stdout)] == ["b"]


def test_a_file_says_its_format_and_is_replaced_whole(small: str, tmp_path: pathlib.Path) -> None:
    """With the mode of the file that it replaces, or that of a new one; a link stays a link."""
    file, link = tmp_path / "fleet.json", tmp_path / "link.json"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    assert run(small, "-o", str(link)).returncode == 0
    assert len(json.loads(file.read_text())) == 2
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert run(small, "-o", str(tmp_path / "new.csv"), umask=0o027).returncode == 0
    assert (tmp_path / "new.csv").stat().st_mode & 0o777 == 0o640
    assert run(small, "--layout", "rvtools", "-o", str(tmp_path / "fleet.xlsx")).returncode == 0
    assert (tmp_path / "fleet.xlsx").read_bytes()[:2] == b"PK"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fleet.json", "fleet.xlsx", "link.json", "new.csv"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--layout", "ansible", "--format", "csv"], "an inventory for Ansible is JSON: it cannot be written as csv"),
        (["--list"], "--list and --host are for --layout ansible"),
        (["--at", "2999-01-01"], "that moment is still to come"),
        (["--at", "2026-11-01", "--deleted"], "give one of them"),
        (["--label", "a=1", "--label", "a=2"], "no machine has two values of the label 'a'"),
        (["-o", "/nowhere/fleet.csv"], "/nowhere/fleet.csv cannot be written: No such file or directory"),
        (["-o", "/"], "/ cannot be written: Is a directory"),
        (["-o", "/dev/full"], "/dev/full cannot be written: No space left on device"),
        (["-o", "/dev/full", "--format", "xlsx"], "/dev/full cannot be written: No space left on device"),
    ],
)
def test_a_list_that_cannot_be_is_one_sentence(small: str, arguments: list[str], sentence: str) -> None:
    """With exit code 1."""
    done = run(small, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert sentence in done.stderr


@pytest.mark.parametrize("arguments", [["--at", "yesterday"], ["--label", "app"], ["--format", "pdf"], ["--at", "9d9"]])
def test_an_argument_that_is_wrong_is_named(arguments: list[str]) -> None:
    """With exit code 2, before a database is asked."""
    done = run("postgresql:///x?host=/nowhere", *arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_a_failure_leaves_the_old_file(tmp_path: pathlib.Path) -> None:
    """And nothing beside it."""
    file = tmp_path / "fleet.csv"
    file.write_text("old")
    done = run("postgresql:///x?host=/nowhere", "-o", str(file))
    assert done.returncode == 1
    assert "no server can be reached" in done.stderr
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_one_sentence(small: str) -> None:
    """For each format, and without a traceback of Python's own last flush."""
    for file_format in ("csv", "json", "xlsx"):
        with pathlib.Path("/dev/full").open("wb") as full:
            done = run(small, "--format", file_format, stdout=full)
        assert (done.returncode, done.stderr) == (1, "vmledger: cannot write the output: No space left on device\n")


def test_a_reader_that_goes_away_ends_it_quietly(url: str) -> None:
    """As after ``| head``."""
    fleet.fill(url, 20_000)
    for arguments in ([], ["--format", "json"], ["--layout", "ansible"]):
        with subprocess.Popen(
            command(*arguments), cwd=processes.ROOT, env=environ(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(100)
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(SECONDS) == 141


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_list_that_is_stopped_leaves_no_half_file(small: str, tmp_path: pathlib.Path, number: int) -> None:
    """The old file is there, and no other; also while the database keeps it waiting."""
    file = tmp_path / "fleet.csv"
    file.write_text("old")
    with contextlib.closing(psycopg2.connect(small)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE vm_state")  # until the connection is closed, so it cannot end before the signal
        with subprocess.Popen(
            command("-o", str(file)), cwd=processes.ROOT, env=environ(small), stderr=subprocess.DEVNULL
        ) as process:
            end = time.monotonic() + SECONDS
            while len(list(tmp_path.iterdir())) == 1 and time.monotonic() < end:
                time.sleep(0.01)
            process.send_signal(number)
            assert process.wait(SECONDS) != 0
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def in_a_terminal(url: str, *arguments: str, with_stdout: bool = False) -> tuple[int, str]:
    """Run it with standard error, and maybe output, in a terminal; return its exit code and what was shown."""
    ours, theirs = pty.openpty()
    out = theirs if with_stdout else subprocess.DEVNULL
    process = subprocess.Popen(command(*arguments), cwd=processes.ROOT, env=environ(url), stdout=out, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # the terminal is closed once nobody has it open
        pass
    finally:
        os.close(ours)
    return process.wait(SECONDS), shown.decode()


def test_a_terminal_shows_a_bar_beside_a_file_and_none_in_a_list(small: str, tmp_path: pathlib.Path) -> None:
    """A list in a terminal is not interrupted; a workbook is refused there."""
    code, shown = in_a_terminal(small, "-o", str(tmp_path / "fleet.csv"))
    assert code == 0
    assert "virtual machines" in shown
    assert "2/2" in shown
    code, shown = in_a_terminal(small, with_stdout=True)
    assert code == 0
    assert "virtual machines" not in shown
    assert shown.count("\n") == 3
    code, shown = in_a_terminal(small, "--format", "xlsx", with_stdout=True)
    assert code == 1
    assert "a workbook is not for a terminal" in shown


def test_100_000_machines_need_the_memory_of_a_few(url: str) -> None:
    """Below 60 MB, for an inventory with a group of its own for each machine too; bench.lists measures a workbook."""
    fleet.fill(url, 100_000)
    for arguments in ([], ["--layout", "rvtools", "--format", "json"], ["--layout", "ansible"]):
        done = subprocess.run(
            [sys.executable, "-c", fleet.MEASURED, "export", *arguments],
            cwd=processes.ROOT,
            env=environ(url),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
        assert int(done.stderr) < MOST_MEMORY, arguments
