"""A real gunicorn with one gevent worker whose neighbours are all hostile at once: it serves others meanwhile."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests import cluster, hostile, vsphere
from tests.acceptance import processes

kubernetes, servers = cluster.kubernetes, cluster.servers

COUNT = len(hostile.BEHAVIOURS)


@pytest.fixture
def attacker() -> Iterator[hostile.Server]:
    """A server that is hostile in another way to each connection."""
    with hostile.running(*hostile.BEHAVIOURS) as server:
        yield server


def scaled(name: str) -> str:
    """Return an event that the HPA of that name has scaled."""
    event = cluster.now("up")
    event["data"]["involvedObject"] |= {"name": name, "uid": name}
    return json.dumps(event)


def met(service: processes.Service, requests: list[tuple[Any, dict[str, str]]]) -> list[int]:
    """Send these events at once, and others until they are answered; return the statuses of these.

    The others are the liveness probe, and an event that concerns nobody: each must be answered, by the same worker.
    """
    workers = service.workers()
    others = 0
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        sent = [pool.submit(service.request, "POST", "/", body, headers) for body, headers in requests]
        while not all(each.done() for each in sent):
            assert service.request("GET", "/health/liveness")[0] == 200
            assert service.post(json.dumps(cluster.now("pod")), content_type=cluster.STRUCTURED)[0] == 204
            others += 1
        statuses = [each.result()[0] for each in sent]
    assert others
    assert service.workers() == workers, service.log()
    return statuses


def test_webhooks(kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """One of each kind at a time: 204 where the head was whole, 422 for a redirect, 503 for all else."""
    names = [f"app-{number}" for number in range(COUNT)]
    environ = {
        "KUBECONFIG": kubernetes.kubeconfig(tmp_path),
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8",
        "WEBHOOK_TIMEOUT": "2",
        "WEB_CONCURRENCY": "1",
    }
    with contextlib.ExitStack() as receivers:
        for name, behaviour in zip(names, hostile.BEHAVIOURS, strict=True):
            kubernetes.hpa(name=name, hpa__event=name)
            server = receivers.enter_context(hostile.running(behaviour))
            kubernetes.secret(name=name, url=server.url, body=cluster.BODY)
        with processes.gunicorn(tmp_path / "log", environ) as service:
            structured = {"Content-Type": cluster.STRUCTURED}
            statuses = met(service, [(scaled(name), structured) for name in names])
    assert (statuses.count(204), statuses.count(422), statuses.count(503)) == (10, 1, COUNT - 11)


def test_the_kubernetes_api(attacker: hostile.Server, tmp_path: pathlib.Path) -> None:
    """503 for each event that needs it."""
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(cluster.kubeconfig(attacker.url)))
    with processes.gunicorn(tmp_path / "log", {"KUBECONFIG": str(file), "WEB_CONCURRENCY": "1"}) as service:
        structured = {"Content-Type": cluster.STRUCTURED}
        statuses = met(service, [(scaled(f"app-{number}"), structured) for number in range(COUNT)])
    assert set(statuses) == {503}


def test_operations(attacker: hostile.Server, tmp_path: pathlib.Path) -> None:
    """503 for each event, or 422 where it redirects."""
    access = {"VROPS_URL": attacker.url, "VROPS_USER": "u", "VROPS_PASSWORD": "p", "VROPS_TIMEOUT": "1"}
    hosts = [vsphere.named(f"host-{number}.example", f"host-{number}") for number in range(COUNT)]
    requests = [vsphere.source(vsphere.ENTER, vsphere.data(host=host), id=str(host)) for host in hosts]
    with processes.gunicorn(tmp_path / "log", {**access, "WEB_CONCURRENCY": "1"}) as service:
        statuses = met(service, [(body, headers) for headers, body in requests])
    assert set(statuses) <= {422, 503}
