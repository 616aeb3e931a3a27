"""Each query of a dashboard and of an alert gives data in a real Prometheus, over vmledger at work and in trouble."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping

import pytest_httpserver
import yaml

import dev.alerts
from function import settings
from function.inventory.reconcile import run as reconciliation
from tests import api_server, cluster, dashboards, dead_letters, machines, prometheus
from tests.acceptance import processes

kubernetes, receiver, servers = cluster.kubernetes, cluster.receiver, cluster.servers
STRUCTURED = {"Content-Type": cluster.STRUCTURED}
NOTICES = 20
"""An HPA's controller can have sent 25 at once."""
JOBS = "kube_"
"""What the metrics of kube-state-metrics begin with, which is not here: promtool tries the alerts about Jobs."""


def panels() -> dict[str, str]:
    """Return each query of the dashboard of the service by its panel's title and its legend."""
    return {
        f"{panel['title']}: {target['legendFormat']}": dashboards.promql(target["expr"], interval="20s")
        for panel in dashboards.panels("service.json")
        for target in panel["targets"]
    }


def alerts() -> dict[str, str]:
    """Return what each alert of vmledger's own metrics compares with its limit, by its name.

    With bool, a comparison has a value for each series, whether it holds or not. What is to be absent is asked itself.
    """
    groups = yaml.safe_load(dev.alerts.PLAIN.read_text())["groups"]
    found = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"] if JOBS not in rule["expr"]}
    found = {name: re.sub(r"(>|==) (?=\d)", r"\1 bool ", expression) for name, expression in found.items()}
    return {name: re.sub(r"\babsent\((.*)\)", r"\1", expression) for name, expression in found.items()}


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


@contextlib.contextmanager
def publishing(folder: pathlib.Path, environ: Mapping[str, str]) -> Iterator[None]:
    """Run the command publish."""
    command = [sys.executable, "-m", "function", "publish"]
    with (folder / "publish").open("wb") as log:
        process = subprocess.Popen(command, cwd=processes.ROOT, env=processes.clean(environ), stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (folder / "publish").read_text()
    finally:
        process.terminate()
        process.wait()


def reconcile(url: str, folder: pathlib.Path) -> None:
    """Compare the ledger with a cluster that has a machine which no event has brought."""
    with api_server.running() as api:
        api.seed([machines.vm("unheard", uid="u-unheard")])
        environ = {"DATABASE_URL": url, "KUBECONFIG": api.kubeconfig(folder)}
        assert reconciliation.run(settings.Settings.from_env(environ)).missed_adds == 1


@prometheus.needed
def test_every_panel_and_every_alert_has_data(
    url: str, kubernetes: cluster.Cluster, receiver: pytest_httpserver.HTTPServer, tmp_path: pathlib.Path
) -> None:
    """A number for each line: of rates and quantiles too, once there are two scrapes."""
    receiver.expect_request("/hook").respond_with_data("ok")
    receiver.expect_request("/sink").respond_with_data("", 204)
    kubernetes.hpa(hpa__event="hook")
    kubernetes.secret(url=receiver.url_for("/hook"), body=cluster.BODY)
    reconcile(url, tmp_path)
    ports = [processes.free_port() for _ in range(3)]
    first, second, third = ({"DATABASE_URL": url, "METRICS_PORT": str(port)} for port in ports)
    first |= {"WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8", "KUBECONFIG": kubernetes.kubeconfig(tmp_path)}
    third |= {"K_SINK": receiver.url_for("/sink")}
    left = panels() | alerts()
    with (
        processes.gunicorn(tmp_path / "log", first) as service,
        processes.gunicorn(tmp_path / "sink", second) as sink,
        publishing(tmp_path, third),
        prometheus.running(tmp_path, ports) as scraping,
        at_work(service, sink),
    ):
        end = time.monotonic() + prometheus.SECONDS
        while left:
            assert time.monotonic() < end, f"without data: {left}"
            time.sleep(1)
            left = {name: query for name, query in left.items() if not any(map(math.isfinite, scraping.values(query)))}
