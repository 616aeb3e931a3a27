"""``/metrics`` of a running receiver: what is counted, who serves it, and what nobody can do to it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests import token_issuer
from tests.acceptance import processes

served, site = token_issuer.served_for_module, token_issuer.site

SECONDS = 30.0
AWAY = "postgresql://u:hunter2@127.0.0.1:1/x"
ADD = "dev.knative.apiserver.resource.add"


def eventually(holds: Callable[[], bool], sentence: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, sentence
        time.sleep(0.1)


@contextlib.contextmanager
def measured(
    tmp_path: pathlib.Path, environ: Mapping[str, str], *, workers: int = 2
) -> Iterator[tuple[processes.Service, int]]:
    """A receiver that serves metrics, and their port."""
    port = processes.free_port()
    given = {"METRICS_PORT": str(port), "WEB_CONCURRENCY": str(workers), "DB_TIMEOUT": "6", **environ}
    with processes.gunicorn(tmp_path / "log", given) as service:
        yield service, port


def total(values: Mapping[str, float], name: str, *labels: str) -> float:
    """The sum of a metric's series that have these labels, written as ``label="value"``."""
    return sum(
        value
        for series, value in values.items()
        if series.partition("{")[0] == name and all(label in series for label in labels)
    )


def test_events_are_counted_by_type_and_outcome_by_all_workers(tmp_path: pathlib.Path, url: str) -> None:
    """Each answer is in the counts as soon as it is given, whichever worker gave it."""
    with measured(tmp_path, {"DATABASE_URL": url}) as (service, port):
        for number in range(40):
            assert service.send(name=f"vm-{number}", id=str(number)) == 204
        assert service.send(name="vm-1", id="1") == 204
        assert service.post(b"{", ce_specversion="1.0")[0] == 400
        values = service.metrics(port)
        assert values[f'vmledger_events_total{{outcome="stored",type="{ADD}"}}'] == 40
        assert values[f'vmledger_events_total{{outcome="duplicate",type="{ADD}"}}'] == 1
        assert values['vmledger_events_total{outcome="refused",type="other"}'] == 1
        assert values[f'vmledger_event_duration_seconds_count{{type="{ADD}"}}'] == 41
        assert values['vmledger_request_errors_total{status="400"}'] == 1
        assert values['vmledger_request_errors_total{status="503"}'] == 0
        assert values["vmledger_group_commit_size_sum"] == 41
        assert values["vmledger_group_commit_postgres_seconds_count"] > 0
        assert values["vmledger_database_up"] == 1
        assert values['vmledger_live_vms{cluster="default"}'] == 40
        assert values['vmledger_silence_seconds{cluster="default",kind="VirtualMachine"}'] >= 0


def died(service: processes.Service, worker: int) -> None:
    """Wait until a worker that was killed is gone."""
    eventually(lambda: worker not in service.workers(), "the worker does not die")


def test_a_killed_worker_loses_no_count(tmp_path: pathlib.Path, url: str) -> None:
    """Each request that was answered is counted, however often a worker was killed meanwhile.

    A request that got no answer may be counted: a worker counts before it answers.
    """
    answered: list[int] = []
    unanswered: list[int] = []

    def send(number: int) -> None:
        try:
            answered.append(service.send(name=f"vm-{number}", id=str(number)))
        except (OSError, http.client.HTTPException):
            unanswered.append(number)

    with measured(tmp_path, {"DATABASE_URL": url}) as (service, port):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(send, number) for number in range(600)]
            for _ in range(3):
                time.sleep(0.2)
                victim = service.workers()[0]
                os.kill(victim, signal.SIGKILL)
                died(service, victim)
            concurrent.futures.wait(sent)
        eventually(lambda: len(service.workers()) == 2, "the workers do not come back")
        values = service.metrics(port)
        counted = total(values, "vmledger_events_total")
        assert len(answered) <= counted <= len(answered) + len(unanswered)
        assert answered
        assert service.send(name="after", id="after") == 204
        assert total(service.metrics(port), "vmledger_events_total") == counted + 1


def test_the_dead_take_no_room(tmp_path: pathlib.Path, url: str) -> None:
    """However many workers have died, their counts are in one file of each kind."""
    folder = tmp_path / "counts"
    environ = {"DATABASE_URL": url, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    with measured(tmp_path, environ, workers=1) as (service, port):
        for number in range(3):
            assert service.send(name="vm", id=str(number)) == 204
            [victim] = service.workers()
            os.kill(victim, signal.SIGKILL)
            died(service, victim)
            eventually(lambda: len(service.workers()) == 1, "the worker does not come back")
        assert service.send(name="vm", id="last") == 204
        assert total(service.metrics(port), "vmledger_events_total") == 4
        [alive] = service.workers()
        kinds = ("counter", "histogram", "gauge_livesum")
        expected = {f"{kind}_{pid}.db" for kind in kinds for pid in (0, alive)} - {"gauge_livesum_0.db"}
        eventually(lambda: {path.name for path in folder.iterdir()} == expected, "files of the dead are left")
    assert not folder.exists()


def listeners(port: int) -> set[int]:
    """The processes that hold the socket which listens on a port."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    inodes = {f"socket:[{each[9]}]" for each in fields if each[3] == "0A" and each[1].endswith(f":{port:04X}")}
    holders = set()
    for link in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()) in inodes:
                holders.add(int(link.parts[2]))
    return holders


def test_only_the_master_holds_the_port(tmp_path: pathlib.Path, url: str) -> None:
    """Not the workers that it began with, nor those that came after a death or a reload."""
    with measured(tmp_path, {"DATABASE_URL": url}) as (service, port):
        assert listeners(port) == {service.process.pid}
        before = service.workers()
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(set(service.workers()) - set(before)) == 1, "no worker comes after the killed one")
        assert service.send(name="a", id="a") == 204
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: not set(service.workers()) & set(before), "the workers are not replaced")
        eventually(lambda: len(service.workers()) == 2, "there are too many workers")
        assert service.send(name="b", id="b") == 204
        assert listeners(port) == {service.process.pid}
        assert total(service.metrics(port), "vmledger_events_total") == 2


def test_a_port_that_is_taken_stops_the_start(tmp_path: pathlib.Path) -> None:
    """One line names the variable."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        environ = {"METRICS_PORT": str(taken.getsockname()[1])}
        sentence = "vmledger: METRICS_PORT cannot be listened on"
        with pytest.raises(AssertionError, match=sentence), processes.gunicorn(tmp_path / "log", environ):
            pass
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: pathlib.Path) -> None:
    """One line names the variable."""
    (tmp_path / "file").touch()
    environ = {"METRICS_PORT": str(processes.free_port()), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")}
    sentence = "vmledger: PROMETHEUS_MULTIPROC_DIR cannot be used"
    with pytest.raises(AssertionError, match=sentence), processes.gunicorn(tmp_path / "log", environ):
        pass


def test_only_counts_are_removed_from_a_folder_that_is_named(tmp_path: pathlib.Path) -> None:
    """What else is in it stays, and so does the folder."""
    folder = tmp_path / "counts"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    (folder / "counter_77.db").write_bytes(b"old")
    with measured(tmp_path, {"PROMETHEUS_MULTIPROC_DIR": str(folder)}) as (service, port):
        assert total(service.metrics(port), "vmledger_events_total") == 0
        assert not (folder / "counter_77.db").exists()
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@contextlib.contextmanager
def mute() -> Iterator[int]:
    """A server that takes connections and never answers; yields its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


def test_a_scrape_ends_while_the_database_is_away(tmp_path: pathlib.Path) -> None:
    """Refused, or mute: the counts are shown, the ledger's values are not, and vmledger_database_up is 0."""
    with measured(tmp_path, {"DATABASE_URL": AWAY}) as (service, port):
        assert service.send(name="a", id="a") == 503
        values = service.metrics(port)
        assert values["vmledger_database_up"] == 0
        assert values['vmledger_request_errors_total{status="503"}'] == 1
        assert values[f'vmledger_events_total{{outcome="deferred",type="{ADD}"}}'] == 1
        assert not [series for series in values if series.startswith("vmledger_live_vms")]
    with mute() as silent:
        environ = {"DATABASE_URL": f"postgresql://u:hunter2@127.0.0.1:{silent}/x"}
        with measured(tmp_path, environ) as (service, port):
            assert [service.metrics(port)["vmledger_database_up"] for _ in range(3)] == [0, 0, 0]
    assert "hunter2" not in (tmp_path / "log").read_text()


def test_without_a_database_nothing_is_said_of_it(tmp_path: pathlib.Path) -> None:
    """A receiver that only forwards has no ledger."""
    with measured(tmp_path, {}) as (service, port):
        values = service.metrics(port)
        assert "vmledger_database_up" not in values
        assert any(series.startswith("vmledger_build_info{version=") for series in values)


def test_a_sender_cannot_make_a_series(tmp_path: pathlib.Path, url: str) -> None:
    """Types, kinds, clusters, paths and methods that a stranger invents are counted under names of ours."""
    with measured(tmp_path, {"DATABASE_URL": url}) as (service, port):
        service.send(name="a", id="a")
        service.post(b"{")
        service.request("GET", "/nowhere")
        service.request("POST", "/nowhere")
        before = service.metrics(port)
        for number in range(20):
            assert service.send(type=f"evil.{number}", id=f"{number}") == 204
            assert service.send(type=f"com.vmware.vsphere.Evil{number}.v0", id=f"v{number}") in (204, 422)
            assert service.send(name=f"n{number}", cluster=f"c{number}", id=f"c{number}") == 422
            assert service.send(type="dev.knative.apiserver.resource.add", kind=f"K{number}", id=f"k{number}") == 204
            service.request(f"M{number}", f"/{number}")
            service.request("POST", f"/{number}")
        after = service.metrics(port)
        new = {series for series in after if series not in before and "_bucket" not in series}
        types = {series.split('type="')[1].split('"')[0] for series in new if 'type="' in series}
        assert types <= {ADD, "other", "com.vmware.vsphere.*"}
        assert not [series for series in after if "evil" in series.lower() or "c1" in series]


def test_off_means_that_nothing_is_imported(tmp_path: pathlib.Path, url: str) -> None:
    """Without METRICS_PORT a start, and an event, load neither Prometheus' client nor the room of the metrics."""
    code = """
import runpy, sys
runpy.run_path("gunicorn.conf.py")
import function
app = function.create_app()
event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "dev.knative.apiserver.resource.add",
         "ce-kind": "VirtualMachine", "ce-namespace": "a", "ce-name": "b"}
print(app.test_client().post("/", headers=event).status_code)
print([name for name in sys.modules if name.startswith(("prometheus_client", "function.metrics"))])
"""
    environ = processes.clean({"DATABASE_URL": url})
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, cwd=processes.ROOT, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["204", "[]"]
    assert "function.web.app" in done.stderr
    assert "prometheus_client" not in done.stderr


def test_nobody_keeps_the_page_from_others(tmp_path: pathlib.Path) -> None:
    """Connections that send nothing, or a byte now and then, end; a scrape comes through after a while."""
    with measured(tmp_path, {}) as (service, port):
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.5):
                for each in held:
                    with contextlib.suppress(OSError):
                        each.send(b"G")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:

            def scraped() -> bool:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    return bool(service.metrics(port))
                return False

            eventually(scraped, "the page is held by others")
        finally:
            stop.set()
            dripping.join()
            for each in held:
                each.close()


def test_what_is_in_flight_is_shown(tmp_path: pathlib.Path) -> None:
    """Requests whose bodies are awaited, until their senders go."""
    head = f"POST / HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\nce-type: {ADD}\r\n"
    with measured(tmp_path, {}, workers=1) as (service, port), contextlib.ExitStack() as stack:
        for _ in range(3):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            sender.sendall(f"{head}Content-Length: 10\r\n\r\n".encode())
        eventually(lambda: service.metrics(port)["vmledger_bodies_in_flight"] == 3, "nothing is in flight")
        stack.close()
        eventually(lambda: service.metrics(port)["vmledger_bodies_in_flight"] == 0, "something is still in flight")


def test_a_worker_that_counts_reaches_its_neighbours_by_tls(
    site: token_issuer.Web, tmp_path: pathlib.Path, url: str
) -> None:
    """What the master has loaded for the page was loaded before gevent's sockets: a worker must not care."""
    environ = {"KUBECONFIG": site.kubeconfig(tmp_path), "OIDC_AUDIENCE": "vmledger", "DATABASE_URL": url}
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": ADD, "ce-kind": "VirtualMachine"}
    event |= {"ce-namespace": "a", "ce-name": "b"}
    with measured(tmp_path, environ) as (service, port):
        shown = {**event, **token_issuer.bearer(site.signer.token())}
        assert service.request("POST", "/", headers=shown)[0] == 204
        assert service.request("POST", "/", headers=event)[0] == 401
        values = service.metrics(port)
        assert total(values, "vmledger_kubernetes_calls_total", 'verb="get"', 'outcome="ok"') > 0
        assert values['vmledger_callers_refused_total{reason="unauthenticated"}'] == 1
        assert "Warning" not in service.log()
