"""The echo and the mirror as real processes: what is on standard output, and what is left behind at the end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from dev import run
from tests import suite_api, vsphere
from tests.acceptance import processes

ROOT = processes.ROOT
DOORS = {
    "gunicorn": lambda port: (run.procfile(), {"PORT": str(port)}),
    "func": lambda port: ([sys.executable, "-c", processes.FUNC], {"LISTEN_ADDRESS": f"127.0.0.1:{port}"}),
}


class Receiver:
    """A running receiver with its standard output in a file of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: pathlib.Path) -> None:
        self.process = process
        self._port = port
        self._folder = folder

    def post(self, request: vsphere.Request, path: str = "/echo") -> int:
        """Send a request; return the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        with contextlib.closing(connection):
            connection.request("POST", path, request[1], request[0])
            return connection.getresponse().status

    def printed(self) -> list[dict[str, Any]]:
        """Return the lines of standard output."""
        return [json.loads(line) for line in (self._folder / "stdout").read_text().splitlines()]

    def logged(self) -> str:
        """Return standard error."""
        return (self._folder / "stderr").read_text()

    def stop(self) -> int:
        """End it as Kubernetes does; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


Start = Callable[..., Receiver]


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Start]:
    """Start receivers, and end them."""
    started: list[subprocess.Popen[bytes]] = []

    def start(environ: Mapping[str, str], door: str = "gunicorn") -> Receiver:
        port = processes.free_port()
        command, listen = DOORS[door](port)
        with (tmp_path / "stdout").open("wb") as stdout, (tmp_path / "stderr").open("wb") as stderr:
            clean = processes.clean({**listen, **environ})
            process = subprocess.Popen(command, cwd=ROOT, env=clean, stdout=stdout, stderr=stderr)
        started.append(process)
        _wait(port)
        return Receiver(process, port, tmp_path)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def _wait(port: int) -> None:
    end = time.monotonic() + processes.START_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health/liveness")
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise AssertionError("the receiver does not answer")


@pytest.mark.parametrize("door", DOORS)
def test_the_echo_prints_each_event_on_one_whole_line(start: Start, door: str) -> None:
    """Large events by many senders at once, over two processes: no line is mixed with another."""
    receiver = start({"WEB_CONCURRENCY": "2"}, door)
    data = {"text": "ü" * 30_000, "password": "S3CRET"}

    def send(number: int) -> int:
        return receiver.post(vsphere.source("AlarmEvent", json.dumps({**data, "number": number}), id=str(number)))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(200))) == {204}
    lines = receiver.printed()
    assert sorted(line["data"]["number"] for line in lines) == list(range(200))
    assert {(line["data"]["text"], line["data"]["password"]) for line in lines} == {(data["text"], "***")}
    assert (receiver.stop(), "S3CRET" in receiver.logged()) == (0, False)


def test_lines_stay_whole_in_a_pipe_too(start: Start, tmp_path: pathlib.Path) -> None:
    """As containers have it: a pipe keeps only small writes together, so the processes take turns."""
    port = processes.free_port()
    environ = processes.clean({"PORT": str(port), "WEB_CONCURRENCY": "2"})
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(run.procfile(), cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=stderr)
    receiver = Receiver(process, port, tmp_path)
    try:
        _wait(port)
        with concurrent.futures.ThreadPoolExecutor(17) as pool:
            output = pool.submit(process.communicate)
            text = json.dumps("y" * 60_000)
            sent = [pool.submit(receiver.post, vsphere.source("AlarmEvent", text, id=str(n))) for n in range(200)]
            assert {one.result() for one in sent} == {204}
            process.send_signal(signal.SIGTERM)
            lines = [json.loads(line) for line in output.result(20)[0].decode().splitlines()]
    finally:
        process.kill()
        process.wait()
    assert sorted(int(line["id"]) for line in lines) == list(range(200))


@pytest.mark.parametrize("name", sorted(path.stem for path in vsphere.SAMPLES.glob("*.json"))[:1])
def test_a_body_that_is_no_event_is_on_standard_output_as_well(start: Start, name: str) -> None:
    """400, and the line says so; a sample beside it is 204."""
    receiver = start({"FUNCTION_DEBUG": "true"})
    assert receiver.post(({"Content-Type": "text/plain"}, b"hello")) == 400
    assert receiver.post(vsphere.sample(name)) == 204
    assert receiver.post(vsphere.sample(name), path="/") == 204
    first, *others = receiver.printed()
    assert (first["body"], "not_a_cloudevent" in first) == ("hello", True)
    assert len(others) == 2
    assert others[0] == others[1]


@pytest.mark.parametrize("door", DOORS)
def test_tokens_are_released_at_the_end(start: Start, door: str, url: str) -> None:
    """Of every worker, at SIGTERM; no password and no token is in the log."""
    with suite_api.running() as api:
        api.host(vsphere.HOST, vsphere.MOREF, api.vcenter(vsphere.VCENTER, "uuid-1"))
        access = {"vropsFqdn": api.url, "vropsUser": api.user, "vropsPassword": api.password}
        receiver = start({"VROPS_SECRET": json.dumps(access), "DATABASE_URL": url, "LOG_LEVEL": "DEBUG"}, door)
        requests = [
            vsphere.source(
                [vsphere.ENTER, vsphere.EXIT][number % 2],
                vsphere.data(key=number, created=f"2026-03-01T08:00:{number:02}Z"),
            )
            for number in range(12)
        ]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            assert set(pool.map(lambda request: receiver.post(request, "/"), requests)) <= {204, 503}
        assert receiver.post(requests[-1], "/") == 204
        assert (api.resources[0].state, len(api.tokens) >= 1) == ("STARTED", True)
        tokens = list(api.tokens)
        assert receiver.stop() == 0
        assert api.tokens == {}
    assert not [token for token in [*tokens, suite_api.PASSWORD] if token in receiver.logged()]


def test_without_a_database_one_process_remembers(start: Start) -> None:
    """As it is started by default: older events and duplicates change nothing; a wrong password is retried once."""
    with suite_api.running() as api:
        host = api.host(vsphere.HOST, vsphere.MOREF, api.vcenter(vsphere.VCENTER, "uuid-1"))
        receiver = start({"VROPS_URL": api.url, "VROPS_USER": api.user, "VROPS_PASSWORD": api.password})
        exits = vsphere.source(vsphere.EXIT, vsphere.data(vsphere.EXIT, key=600, created="2026-03-01T09:00:00Z"))
        assert receiver.post(exits, "/") == 204
        enter = vsphere.source(vsphere.ENTER, vsphere.data())
        assert {receiver.post(enter, "/") for _ in range(12)} == {204}
        assert (host.state, api.logins()) == ("STARTED", 1)
        api.tokens.clear()
        api.password = "changed"
        assert [receiver.post(enter, "/") for _ in range(6)] == [503, *[422] * 5]


def test_a_start_needs_no_http_client() -> None:
    """The first mark imports it: a function that scales from zero for another event does not wait for that."""
    code = "import sys, function; function.create_app(); sys.exit('httpcore2' in sys.modules)"
    environ = processes.clean({"VROPS_URL": "ops.example", "VROPS_USER": "u", "VROPS_PASSWORD": "p"})
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, check=False).returncode == 0


def test_a_bad_secret_stops_the_start_with_one_line() -> None:
    """Exit code 1, the variable's name, and nothing of its value."""
    environ = processes.clean({"VROPS_SECRET": '{"vropsPassword": "hunter2"', "PORT": str(processes.free_port())})
    done = subprocess.run(
        run.procfile(), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(r"vmledger: VROPS_SECRET .+\n", done.stdout + done.stderr)
    assert "hunter2" not in done.stderr


def test_an_unverified_certificate_is_said_in_the_log(start: Start) -> None:
    """VROPS_INSECURE=true, at each start."""
    access = {"VROPS_URL": "ops.example", "VROPS_USER": "u", "VROPS_PASSWORD": "p"}
    receiver = start({**access, "VROPS_INSECURE": "true", "WEB_CONCURRENCY": "1"})
    assert "VROPS_INSECURE is true" in receiver.logged()
