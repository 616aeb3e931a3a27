"""A real Prometheus with the rules of k8s/components/metrics raises each alert over a vmledger in trouble."""

from __future__ import annotations

import contextlib
import json
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import pytest_httpserver
import yaml

import dev.alerts
from dev import embedded_postgres
from function import measures, migrate, settings
from function.metrics import command
from tests import cluster, conftest, prometheus
from tests.acceptance import processes

kubernetes, receiver, servers = cluster.kubernetes, cluster.receiver, cluster.servers
STRUCTURED = {"Content-Type": cluster.STRUCTURED}
SECONDS = 120.0
JOBS = "kube_"
"""What the metrics of kube-state-metrics begin with, which is not here: promtool tries the alerts about Jobs."""
OLD = """
INSERT INTO ledger_heard (writer, cluster, kind, last_event_at, first_at)
VALUES ('w', 'east', 'VirtualMachine', now() - interval '2 hours', now() - interval '1 day');
INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome, missed_adds)
VALUES ('east', now() - interval '2 hours', 1, 'repaired', 3);
"""
"""A cluster that fell silent two hours ago, when the last reconcile found something."""


@pytest.fixture
def own(tmp_path: pathlib.Path) -> Iterator[embedded_postgres.Postgres]:
    """A server of this test's own, to be stopped."""
    server = embedded_postgres.Postgres(tmp_path / "postgres", port=processes.free_port())
    server.start()
    migrate.run(settings.Settings.from_env({"DATABASE_URL": server.url(tcp=True)}))
    yield server
    server.stop()


def alerts() -> set[str]:
    """Return the names of those that vmledger's own metrics raise."""
    groups = yaml.safe_load(dev.alerts.PLAIN.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if JOBS not in rule["expr"]}


def eventually(holds: Callable[[], bool], sentence: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, sentence
        time.sleep(0.5)


@contextlib.contextmanager
def repeated(*work: Callable[[], object]) -> Iterator[None]:
    """Do some work again and again while the block runs."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.2):
            for each in work:
                each()

    working = threading.Thread(target=go_on)
    working.start()
    try:
        yield
    finally:
        stop.set()
        working.join()


@prometheus.needed
def test_each_alert_is_raised_over_a_vmledger_in_trouble(
    own: embedded_postgres.Postgres,
    kubernetes: cluster.Cluster,
    receiver: pytest_httpserver.HTTPServer,
    tmp_path: pathlib.Path,
) -> None:
    """Silent, behind, refusing, refused, without its database, and not there at all; and what is over is not raised."""
    receiver.expect_request("/hook").respond_with_data("no", 400)
    kubernetes.hpa(hpa__event="hook")
    kubernetes.secret(url=receiver.url_for("/hook"), body=cluster.BODY)
    conftest.execute(own.url(tcp=True), OLD)
    ports = [processes.free_port() for _ in range(3)]
    url = own.url(tcp=True)
    first = {"DATABASE_URL": url, "METRICS_PORT": str(ports[0]), "DB_TIMEOUT": "2", "CLUSTERS": "east"}
    first |= {"WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8", "KUBECONFIG": kubernetes.kubeconfig(tmp_path)}
    callers = {"OIDC_AUDIENCE": "x", "OIDC_ISSUER": "https://127.0.0.1:1", "OIDC_SUBJECTS": "*"}
    second = {"METRICS_PORT": str(ports[1]), **callers}
    raised: set[str] = set()

    def all_raised(*expected: str) -> bool:
        raised.update(scraping.alerts())
        return set(expected) <= raised

    def notify() -> None:
        notices[0] += 1
        event = cluster.now("up", notices[0], message=f"New size: {notices[0]}; reason: x")
        service.request("POST", "/", json.dumps(event), STRUCTURED)

    notices = [0]
    with prometheus.running(tmp_path, ports, dev.alerts.PLAIN) as scraping:
        eventually(lambda: all_raised("VmledgerNotScraped"), "what is not there is not missed")
        with (
            processes.gunicorn(tmp_path / "log", first) as service,
            processes.gunicorn(tmp_path / "guarded", second) as guarded,
            command.served(settings.Metrics(port=ports[2]), measures.Source.PUBLISH),
        ):
            assert measures.recorder is not None
            measures.recorder.set(measures.PUBLISH_LAG, 600)
            assert service.send(name="a", id="a") == 204
            eventually(lambda: scraping.values('vmledger_refusals_total{cluster="default"}') == [0], "nothing is read")
            with repeated(lambda: service.post(b"{"), lambda: guarded.send(name="a"), notify):
                found = ("NotReconciled", "Silent", "Drift", "DeadLetters", "CallersRefused", "WebhookFailing")
                eventually(
                    lambda: all_raised("VmledgerPublishBehind", *(f"Vmledger{name}" for name in found)),
                    "not all were raised",
                )
            assert not scraping.alerts() & {"VmledgerDatabaseDown", "VmledgerNotScraped", "Vmledger503"}
            own.stop()
            with repeated(lambda: service.send(name="b", id="b")):
                eventually(lambda: all_raised("VmledgerDatabaseDown", "Vmledger503"), "not all were raised")
            own.start()
            eventually(lambda: "VmledgerDatabaseDown" not in scraping.alerts(), "the database does not come back")
    assert raised >= alerts()
