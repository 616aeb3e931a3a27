"""`python -m function publish` as a process: killed under load it misses nothing, and told to stop it ends well."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import json
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

from function.clients import postgres
from function.inventory.storage import store
from tests import conftest, machines, publishing
from tests.acceptance import processes
from tests.integration import test_past


@contextlib.contextmanager
def publish(log: pathlib.Path, url: str, to: str, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command; it is killed at the end if it has not ended."""
    given = {"DATABASE_URL": url, "K_SINK": to, **environ}
    with log.open("ab") as output:
        command = [sys.executable, "-m", "function", "publish", *arguments]
        process = subprocess.Popen(
            command, cwd=processes.ROOT, env=processes.clean(given), stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def started(log: pathlib.Path, url: str, to: str, **environ: str) -> contextlib.ExitStack:
    """Return a running command that begins with what is committed from now on."""
    stack = contextlib.ExitStack()
    before = datetime.datetime.now(datetime.UTC)
    process = stack.enter_context(publish(log, url, to, "--from", "now", **environ))
    stack.callback(process.poll)
    publishing.wait_for_start(url, before)
    return stack


def test_killed_under_load_it_misses_nothing_and_keeps_the_order(url: str, tmp_path: pathlib.Path) -> None:
    """At random moments, by SIGKILL: every change in the history is received, those of a VM in their order."""
    stop = threading.Event()
    chance = random.Random(7)
    statuses: set[int] = set()

    def load(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            machine = machines.vm(f"vm-{thread}", cores=number, uid=f"uid-{thread}")
            machine["metadata"]["resourceVersion"] = str(number)
            moment = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=number)
            event = {
                "specversion": "1.0",
                "id": f"{thread}-{number}",
                "source": "test",
                "kind": "VirtualMachine",
                "type": "dev.knative.apiserver.resource.update",
                "time": moment.isoformat(),
                "data": machine,
            }
            statuses.add(service.post(json.dumps(event), Content_Type="application/cloudevents+json")[0])
            time.sleep(0.01)

    with (
        publishing.sinking() as sink,
        processes.gunicorn(tmp_path / "receiver", {"DATABASE_URL": url}) as service,
        concurrent.futures.ThreadPoolExecutor(6) as pool,
    ):
        started(tmp_path / "log", url, sink.url).close()
        loads = [pool.submit(load, thread) for thread in range(6)]
        try:
            for _ in range(6):
                with publish(tmp_path / "log", url, sink.url):
                    count = len(sink.received)
                    end = time.monotonic() + publishing.SECONDS
                    while len(sink.received) == count:  # it has begun to send
                        assert time.monotonic() < end
                        time.sleep(0.01)
                    time.sleep(chance.uniform(0, 0.7))
        finally:
            stop.set()
        for each in loads:
            each.result(30)
        stored = {row[0] for row in conftest.execute(url, "SELECT name || ' ' || cpucores FROM vm_history")}
        with publish(tmp_path / "log", url, sink.url):
            end = time.monotonic() + publishing.SECONDS
            while (missed := stored - {_said(event) for event in sink.received}) and time.monotonic() < end:
                time.sleep(0.05)
    assert statuses == {204}
    assert len(stored) > 100
    assert missed == set()
    for thread in range(6):
        first = {event.id: _said(event) for event in sink.received if event.data["name"] == f"vm-{thread}"}
        numbers = [int(said.split()[1]) for said in first.values()]
        assert numbers == sorted(numbers)
        assert len(set(first.values())) == len(first), "a change has one id"
    assert {event.what for event in sink.received} == {"appeared", "changed"}


def _said(event: publishing.Received) -> str:
    return f"{event.data['name']} {event.data['changes']['cpucores']['new']}"


def test_told_to_stop_it_finishes_what_is_in_flight_and_ends_with_0(url: str, tmp_path: pathlib.Path) -> None:
    """What the sink took then is not sent again."""
    with publishing.sinking() as sink, processes.gunicorn(tmp_path / "receiver", {"DATABASE_URL": url}) as service:
        arrived = threading.Event()

        def slow(_event: publishing.Json, _times: int) -> publishing.Answer:
            arrived.set()
            time.sleep(0.5)
            return publishing.TAKEN

        sink.answer = slow
        before = datetime.datetime.now(datetime.UTC)
        with publish(tmp_path / "log", url, sink.url, "--from", "now") as process:
            publishing.wait_for_start(url, before)
            assert service.send(name="a") == 204
            assert arrived.wait(publishing.SECONDS)
            process.send_signal(signal.SIGTERM)
            assert process.wait(publishing.SECONDS) == 0
        with publish(tmp_path / "log", url, sink.url):
            assert service.send(name="b") == 204
            sink.wait(2)
    assert [event.data["name"] for event in sink.received] == ["a", "b"]


def test_one_that_was_frozen_while_another_took_over_sends_nothing_out_of_order(
    url: str, tmp_path: pathlib.Path
) -> None:
    """Its session has ended meanwhile: when it goes on, it repeats at most what the other one sent."""
    database = postgres.Database({"dsn": url}, timeout=10)
    tables = store.Store(database)
    test_past.write(tables, *(test_past.machine(test_past.UPDATE, n, n / 10, cores=n) for n in range(10, 50, 2)))

    def slow(_event: publishing.Json, _times: int) -> publishing.Answer:
        time.sleep(0.05)
        return publishing.TAKEN

    with (
        contextlib.closing(database),
        publishing.sinking(slow) as sink,
        publish(tmp_path / "a", url, sink.url, "--from", "beginning") as first,
    ):
        sink.wait(5)
        first.send_signal(signal.SIGSTOP)
        conftest.execute(
            url,
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND d.datname = current_database()",
        )
        test_past.write(tables, test_past.machine(test_past.UPDATE, 11, 1.1, cores=11))
        with publish(tmp_path / "b", url, sink.url):
            _until(lambda: {_version(event) for event in sink.received} == {*range(10, 50, 2), 11})
            test_past.write(tables, test_past.machine(test_past.UPDATE, 50, 5, cores=50))
            _until(lambda: _version(sink.received[-1]) == 50)
            first.send_signal(signal.SIGCONT)
            _until(lambda: "publish.waiting" in (tmp_path / "a").read_text().replace("waiting_for_database", ""))
    once = {event.id: (_version(event), event.what == "corrected") for event in sink.received}
    assert list(once.values()) == [*((n, False) for n in range(10, 50, 2)), (11, True), (50, False)]


def _version(event: publishing.Received) -> int:
    return int(event.data["resource_version"])


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + publishing.SECONDS
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_shows_its_metrics(url: str, tmp_path: pathlib.Path) -> None:
    """On a port of its own: the lag grows while the sink does not take what there is."""
    port = str(processes.free_port())

    def metric(name: str) -> float:
        with contextlib.suppress(OSError):
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name + " ")]
            return float(found[0]) if found else -1.0
        return -1.0

    def until(name: str, least: float) -> None:
        end = time.monotonic() + publishing.SECONDS
        while metric(name) < least:
            assert time.monotonic() < end
            time.sleep(0.1)

    with (
        publishing.sinking(lambda _event, _times: (503, {})) as sink,
        processes.gunicorn(tmp_path / "receiver", {"DATABASE_URL": url}) as service,
        started(tmp_path / "log", url, sink.url, METRICS_PORT=port),
    ):
        until('vmledger_published_events_total{outcome="delivered"}', 0)
        assert service.send(name="a") == 204
        until("vmledger_publish_lag_seconds", 1)
        until('vmledger_published_events_total{outcome="failed"}', 2)
        sink.answer = lambda _event, _times: publishing.TAKEN
        until('vmledger_published_events_total{outcome="delivered"}', 1)
        end = time.monotonic() + publishing.SECONDS
        while metric("vmledger_publish_lag_seconds") != 0:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_without_a_sink_it_ends_with_a_sentence(url: str) -> None:
    """And exit code 1."""
    done = subprocess.run(
        [sys.executable, "-m", "function", "publish"],
        cwd=processes.ROOT,
        env=processes.clean({"DATABASE_URL": url}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "vmledger: K_SINK is not set: it is the URL that the changes are sent to, and a SinkBinding sets it\n"
    )
