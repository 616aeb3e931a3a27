"""Real processes, a real Postgres, a Kubernetes API and a receiver: told once."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import pytest_httpserver
import werkzeug

from tests import cluster, conftest
from tests.acceptance import processes

kubernetes, receiver, servers = cluster.kubernetes, cluster.receiver, cluster.servers


@pytest.fixture
def environ(
    kubernetes: cluster.Cluster, receiver: pytest_httpserver.HTTPServer, tmp_path: pathlib.Path
) -> dict[str, str]:
    """An HPA that asks for notices, and a function that may send them to the receiver."""
    kubernetes.hpa(hpa__event="hook")
    kubernetes.secret(url=receiver.url_for("/hook"), body=cluster.BODY)
    return {"KUBECONFIG": kubernetes.kubeconfig(tmp_path), "WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8"}


@contextlib.contextmanager
def two(folder: pathlib.Path, environ: dict[str, str]) -> Iterator[list[processes.Service]]:
    """Run two pods of two workers each."""
    with processes.gunicorn(folder / "a", environ) as first, processes.gunicorn(folder / "b", environ) as second:
        yield [first, second]


def test_fifty_duplicates_at_once_over_two_processes_are_one_post(
    environ: dict[str, str], url: str, receiver: pytest_httpserver.HTTPServer, tmp_path: pathlib.Path
) -> None:
    """One is sent; the others are 503 while it is, and 204 when they come again; the table has one row."""

    def slow(_: werkzeug.Request) -> werkzeug.Response:
        time.sleep(0.3)
        return werkzeug.Response("ok")

    receiver.expect_request("/hook").respond_with_handler(slow)
    body = json.dumps(cluster.now("up"))

    def deliver(service: processes.Service) -> tuple[int, int]:
        """Deliver as Knative does: again, while the answer is 503. Return the last status and the number of tries."""
        for tries in range(1, 30):
            status = service.post(body, content_type=cluster.STRUCTURED)[0]
            if status != 503:
                return status, tries
            time.sleep(0.2)
        raise AssertionError("it stays 503")

    with two(tmp_path, {**environ, "DATABASE_URL": url}) as pods, concurrent.futures.ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(deliver, [pods[number % 2] for number in range(50)]))
        logs = "".join(pod.log() for pod in pods)
    assert ({status for status, _ in outcomes}, len(receiver.log)) == ({204}, 1)
    assert max(tries for _, tries in outcomes) > 1
    assert conftest.execute(url, "SELECT state FROM scaling_notices") == [("notified",)]
    assert "unexpected error" not in logs


def test_three_hundred_forged_events_over_two_processes_are_25_posts(
    environ: dict[str, str], url: str, receiver: pytest_httpserver.HTTPServer, tmp_path: pathlib.Path
) -> None:
    """In about a second, over two pods of two workers: each is 204, one of all warns, and the table has the count."""
    receiver.expect_request("/hook").respond_with_data("ok")
    forged = [
        json.dumps(cluster.now("up", number % 7, message=f"New size: {number}; reason: x")) for number in range(300)
    ]
    with two(tmp_path, {**environ, "DATABASE_URL": url}) as pods, concurrent.futures.ThreadPoolExecutor(20) as pool:

        def deliver(numbered: tuple[int, str]) -> int:
            status: int = pods[numbered[0] % 2].post(numbered[1], content_type=cluster.STRUCTURED)[0]
            return status

        assert collections.Counter(pool.map(deliver, enumerate(forged))) == {204: 300}
        logs = "".join(pod.log() for pod in pods)
    assert len(receiver.log) == 25
    assert conftest.execute(url, "SELECT occurrences FROM scaling_excess") == [(275,)]
    assert logs.count("than its controller can have sent") == 1


def test_what_a_killed_process_was_sending_is_sent_again_after_a_minute(
    environ: dict[str, str], url: str, receiver: pytest_httpserver.HTTPServer, tmp_path: pathlib.Path
) -> None:
    """Until then it is 503 and never 204: nobody knows whether it arrived."""
    stop, arrived = threading.Event(), list[str]()

    def hang_first(request: werkzeug.Request) -> werkzeug.Response:
        arrived.append(request.headers["Idempotency-Key"])
        if len(arrived) == 1:
            stop.wait(20)
        return werkzeug.Response("ok")

    receiver.expect_request("/hook").respond_with_handler(hang_first)
    body = json.dumps(cluster.now("up"))
    with two(tmp_path, {**environ, "DATABASE_URL": url}) as (first, second):
        victim = threading.Thread(target=lambda: suppressed(first, body))
        victim.start()
        while not arrived:
            time.sleep(0.05)
        for worker in first.workers():
            os.kill(worker, signal.SIGKILL)
        victim.join()
        stop.set()
        assert second.post(body, content_type=cluster.STRUCTURED)[0] == 503
        conftest.execute(url, "UPDATE scaling_notices SET claimed_at = claimed_at - interval '61 seconds'")
        assert [second.post(body, content_type=cluster.STRUCTURED)[0] for _ in range(2)] == [204, 204]
    assert (len(arrived), len(set(arrived))) == (2, 1), "once by each process, by the same idempotency key"


def suppressed(service: processes.Service, body: str) -> None:
    """Deliver to a process that does not live to answer."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        service.post(body, content_type=cluster.STRUCTURED)


@pytest.mark.parametrize("door", ["gunicorn", "func"])
def test_through_each_door_an_event_reaches_the_webhook(
    door: str, environ: dict[str, str], receiver: pytest_httpserver.HTTPServer, tmp_path: pathlib.Path
) -> None:
    """Without a database, many at once with nothing imported yet; under kn func these are threads."""
    receiver.expect_request("/hook").respond_with_data("ok")
    with getattr(processes, door)(tmp_path / "log", {**environ, "WEB_CONCURRENCY": "1"}) as service:

        def deliver(ago: int) -> int:
            status: int = service.post(json.dumps(cluster.now("up", ago)), content_type=cluster.STRUCTURED)[0]
            return status

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            assert set(pool.map(deliver, range(100, 140, 2))) == {204}, service.log()
        assert service.readiness() == {**service.readiness(), "kubernetes": "ok"}
    assert len({body["key"] for body in cluster.bodies(receiver)}) == len(receiver.log) == 20
