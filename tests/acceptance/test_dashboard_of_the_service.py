"""Each query of the dashboard of the service gives data in a real Prometheus, over a receiver and a sink at work."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import pathlib
import threading
import time
from collections.abc import Iterator

import pytest_httpserver

from function.cli import main
from tests import cluster, dashboards, dead_letters, prometheus
from tests.acceptance import processes

kubernetes, receiver, servers = cluster.kubernetes, cluster.receiver, cluster.servers
STRUCTURED = {"Content-Type": cluster.STRUCTURED}
NOTICES = 20
"""An HPA's controller can have sent 25 at once."""
OF_PUBLISH = "vmledger_publish"


def queries() -> dict[str, str]:
    """Return each query of the dashboard by its panel's title and its legend."""
    return {
        f"{panel['title']}: {target['legendFormat']}": dashboards.promql(target["expr"], interval="20s")
        for panel in dashboards.panels("service.json")
        for target in panel["targets"]
        if OF_PUBLISH not in target["expr"] or "publish" in main.COMMANDS
    }


@contextlib.contextmanager
def at_work(service: processes.Service, sink: processes.Service) -> Iterator[None]:
    """Send events of each outcome, scaling events and dead letters, again and again, while the block runs."""
    stop = threading.Event()
    letter = dead_letters.request(
        dead_letters.sample("networks"), {**dead_letters.attributes(), **dead_letters.failure()}
    )

    def work() -> None:
        for number in itertools.count():
            service.send(name=f"vm-{number % 50}", id=f"{number}", time=f"2026-11-22T10:{number % 60:02}:00Z")
            service.send(name="vm-0", id="0")
            service.post(b"{", ce_specversion="1.0")
            if number < NOTICES:
                event = cluster.now("up", number, message=f"New size: {number}; reason: x")
                service.request("POST", "/", json.dumps(event), STRUCTURED)
            sink.request("POST", "/echo", *letter)
            if stop.wait(1):
                return

    working = threading.Thread(target=work)
    working.start()
    try:
        yield
    finally:
        stop.set()
        working.join()


@prometheus.needed
def test_every_panel_has_data(
    url: str, kubernetes: cluster.Cluster, receiver: pytest_httpserver.HTTPServer, tmp_path: pathlib.Path
) -> None:
    """A number for each line: of rates and quantiles too, once there are two scrapes."""
    receiver.expect_request("/hook").respond_with_data("ok")
    kubernetes.hpa(hpa__event="hook")
    kubernetes.secret(url=receiver.url_for("/hook"), body=cluster.BODY)
    ports = processes.free_port(), processes.free_port()
    environ = {"DATABASE_URL": url, "WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8"}
    first = {**environ, "METRICS_PORT": str(ports[0]), "KUBECONFIG": kubernetes.kubeconfig(tmp_path)}
    second = {**environ, "METRICS_PORT": str(ports[1]), "WEB_CONCURRENCY": "1"}
    left = queries()
    with (
        processes.gunicorn(tmp_path / "log", first) as service,
        processes.gunicorn(tmp_path / "sink", second) as sink,
        prometheus.running(tmp_path, ports) as scraping,
        at_work(service, sink),
    ):
        end = time.monotonic() + prometheus.SECONDS
        while left:
            assert time.monotonic() < end, f"without data: {left}"
            time.sleep(1)
            left = {
                name: query
                for name, query in left.items()
                if not any(math.isfinite(value) for value in scraping.values(query))
            }
