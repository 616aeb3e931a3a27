"""``make show`` as a process: how wide its table is, in a terminal and beside one."""

from __future__ import annotations

import fcntl
import os
import pathlib
import pty
import struct
import subprocess
import sys
import termios
from typing import IO

import pytest

from dev import embedded_postgres
from tests.acceptance import processes

COLUMNS = 100
NAME = "n" * 253
SHOW = """
import pathlib, sys
from dev import embedded_postgres
embedded_postgres.HOME = pathlib.Path(sys.argv[1])
sys.argv[1:] = ["--command", sys.argv[2]]
sys.exit(embedded_postgres.main())
"""


@pytest.fixture
def home(server: embedded_postgres.Postgres, tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of a `make run` over the tests' Postgres."""
    (tmp_path / "running").write_text(f"{server.binaries / 'psql'}\n{server.url()}\n")
    return tmp_path


def show(home: pathlib.Path, out: IO[bytes] | int) -> None:
    """Show a table with a name of the greatest length."""
    sql = f"SELECT 'shop' AS namespace, '{NAME}' AS name, 4 AS vcpus"
    subprocess.run([sys.executable, "-c", SHOW, str(home), sql], cwd=processes.ROOT, stdout=out, check=True)


def test_the_longest_name_stays_within_a_terminal(home: pathlib.Path) -> None:
    """It goes on in the next lines, and none of it is missing."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    show(home, theirs)
    shown = os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    assert max(len(line) for line in shown.splitlines()) <= COLUMNS
    assert shown.count("n") - "namespace name".count("n") == len(NAME)


def test_a_file_gets_whole_lines(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """So that a program can read them."""
    with (tmp_path / "shown").open("wb") as out:
        show(home, out)
    assert NAME in (tmp_path / "shown").read_text()
