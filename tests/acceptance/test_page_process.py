"""The page as a process of its own: what it says when it cannot start, and what it takes of Postgres."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import socket
import subprocess
import sys

import pytest

from dev import run
from tests import conftest
from tests.acceptance import processes

START = [sys.executable, "-m", "function", "page"]


def failed(**environ: str) -> str:
    """Run the command, which must end with 1; return what it said."""
    done = subprocess.run(
        START, env=processes.clean(environ), cwd=processes.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_worker_takes_one_connection_however_many_ask(url: str, tmp_path: pathlib.Path) -> None:
    """Forty questions at once, two workers: two connections at most, and each question has its page."""
    with processes.page(tmp_path / "log", {"DATABASE_URL": url, "PAGE_WORKERS": "2"}) as page:
        with concurrent.futures.ThreadPoolExecutor(20) as people:
            answers = list(people.map(lambda _: page.request("GET", "/")[0], range(40)))
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'vmledger'"
        )
        [(connections,)] = conftest.execute(url, count)
    assert set(answers) == {200}
    assert 1 <= connections <= 2


def test_it_listens_on_the_loopback_and_ends_at_once(url: str, tmp_path: pathlib.Path) -> None:
    """By default nobody but this machine reaches it, and SIGTERM ends it cleanly."""
    with processes.page(tmp_path / "log", {"DATABASE_URL": url}) as page:
        assert page.request("HEAD", "/")[0] == 200
        assert f"http://127.0.0.1:{page.port}" in page.log()
    assert page.process.returncode == 0
    lines = [json.loads(line) for line in page.log().splitlines()]
    assert not [line for line in lines if line["level"] in ("ERROR", "CRITICAL")]


def test_a_port_in_use_is_a_sentence() -> None:
    """Not seconds of attempts and a traceback."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = failed(DATABASE_URL="postgresql://nowhere/x", PAGE_PORT=str(port))
    assert said.startswith(f"vmledger: cannot listen on 127.0.0.1:{port}: something else listens there")
    assert said.count("\n") == 1


def test_no_database_is_a_sentence() -> None:
    """And which settings name one."""
    assert failed() == "vmledger: no database is configured: set DB_HOST or DATABASE_URL\n"


@pytest.mark.parametrize(
    ("variable", "value"), [("PAGE_HOSTS", "https://x/"), ("PAGE_PORT", "0"), ("PAGE_WORKERS", "99")]
)
def test_a_bad_setting_is_a_sentence_that_names_it(variable: str, value: str) -> None:
    """And never its value."""
    said = failed(DATABASE_URL="postgresql://nowhere/x", **{variable: value})
    assert said.startswith(f"vmledger: {variable} must be")
    assert value not in said.removeprefix(f"vmledger: {variable} must be a whole number from 1 to 65535")


def test_make_run_says_that_the_page_s_port_is_in_use() -> None:
    """Before anything is started."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        taken = other.getsockname()[1]
        environ = processes.clean({"PORT": str(processes.free_port()), "PAGE_PORT": str(taken)})
        command = [sys.executable, "-m", run.__name__]
        done = subprocess.run(
            command, env=environ, cwd=processes.ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"port {taken} is in use: stop what uses it, or choose another with PAGE_PORT=")


def test_the_receiver_loads_nothing_of_the_page(url: str) -> None:
    """Its start and its memory are as without it."""
    program = "import sys, function; function.create_app(); print([name for name in sys.modules if '.page' in name])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=processes.clean({"DATABASE_URL": url}),
        cwd=processes.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "['function.settings.page']\n"
