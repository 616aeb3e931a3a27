"""Memory has an end: the peak of all processes of a pod, by their own count, with bodies of any shape at once."""

from __future__ import annotations

import collections
import concurrent.futures
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from dev import attacks, embedded_postgres
from tests import conftest
from tests.acceptance import processes

ADD = "dev.knative.apiserver.resource.add"
EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": ADD, "kind": "VirtualMachine", "namespace": "large"}
BINARY = {**{f"ce-{name}": value for name, value in EVENT.items()}, "Content-Type": "application/json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
MANIFESTS = processes.ROOT / "k8s" / "base"
AT_ONCE = 64
"""The Service's containerConcurrency."""


def container(manifest: str) -> dict[str, Any]:
    """The container of a manifest's Knative Service."""
    [found] = [
        document["spec"]["template"]["spec"]["containers"][0]
        for document in yaml.safe_load_all((MANIFESTS / manifest).read_text())
        if document["kind"] == "Service"
    ]
    return dict(found)


def limit(manifest: str) -> int:
    """Its memory limit, in bytes."""
    return int(container(manifest)["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20


def peak(service: processes.Service) -> int:
    """The most memory that its processes ever had, in bytes; what they share counts for each of them."""
    statuses = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in (service.process.pid, *service.workers())]
    return sum(int(size) * 1024 for status in statuses for size in re.findall(r"VmHWM:\s+(\d+) kB", status))


def settings(manifest: str) -> dict[str, str]:
    """Its own settings, without those of its Secrets."""
    return {each["name"]: each["value"] for each in container(manifest)["env"] if "value" in each}


def batch(count: int, **attributes: str) -> bytes:
    """Many small events."""
    each = json.dumps({**EVENT, **attributes, "id": "@", "name": "v@", "resourceversion": "1@"}, separators=(",", ":"))
    return ("[" + ",".join([each.replace("@", str(number)) for number in range(count)]) + "]").encode()


def machine(content: bytes) -> bytes:
    """A VirtualMachine with something in it."""
    return b'{"metadata":{"name":"m","namespace":"large","resourceVersion":"1"},"spec":{"x":' + content + b"}}"


SIZE = 1_800_000
DOCUMENT = json.dumps(EVENT).encode()[:-1]
SHAPES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty objects": (attacks.dense(b"{}"), BINARY),
    "a machine of empty objects": (machine(attacks.dense(b"{}", before=b"[", after=b"]")), BINARY),
    "a machine that is just small enough": (
        machine(attacks.dense(b'{"":0}', size=910_000, before=b"[", after=b"]")),
        BINARY,
    ),
    "a machine of texts": (machine(attacks.dense(b'"abcdef"', before=b"[", after=b"]")), BINARY),
    "a machine of one text": (machine(json.dumps("x" * SIZE).encode()), BINARY),
    "a machine with a large label": (
        b'{"metadata":{"name":"m","namespace":"n","labels":{"a":"' + b"x" * SIZE + b'"}}}',
        BINARY,
    ),
    "a structured event": (attacks.dense(b"{}", before=DOCUMENT + b',"data":[', after=b"]}"), STRUCTURED),
    "a structured event that is just small enough": (
        attacks.dense(b'{"":0}', size=910_000, before=DOCUMENT + b',"name":"m","data":{"spec":{"x":[', after=b"]}}}"),
        STRUCTURED,
    ),
    "a batch of machines": (batch(10_000), BATCH),
    "a batch of other events": (batch(10_000, kind="Pod"), BATCH),
    "a batch of empty objects": (attacks.dense(b"{}", before=b"[", after=b"]"), BATCH),
}


@pytest.fixture(scope="module")
def url(server: embedded_postgres.Postgres, template: str) -> Iterator[str]:
    """One database for the module."""
    conftest.execute(server.url(), f"CREATE DATABASE memory TEMPLATE {template}")
    yield server.url(database="memory")
    conftest.execute(server.url(), "DROP DATABASE memory WITH (FORCE)")


@pytest.fixture(scope="module", params=["gunicorn", "func"])
def receiver(
    request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[processes.Service]:
    """The receiver through each of its doors; its peak is that of all shapes together."""
    start: Callable[..., Any] = getattr(processes, request.param)
    with start(tmp_path_factory.mktemp("log") / "log", {"DATABASE_URL": url}) as started:
        yield started
        assert "unexpected error" not in started.log()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_receiver_stays_below_its_limit_and_loses_nothing(
    receiver: processes.Service, url: str, shape: str
) -> None:
    """With as many large bodies at once as the Service lets through, and ordinary events between them."""
    body, headers = SHAPES[shape]
    names = [f"{shape}-{receiver.port}-{number}".replace(" ", "-") for number in range(20)]
    with concurrent.futures.ThreadPoolExecutor(2 * AT_ONCE) as pool:
        large = [pool.submit(receiver.request, "POST", "/", body, headers) for _ in range(AT_ONCE)]
        ordinary = [pool.submit(receiver.send, name=name) for name in names]
        assert collections.Counter(each.result() for each in ordinary) == {204: len(names)}
        assert {each.result()[0] for each in large} <= {204, 400, 413, 503}
    stored = {name for (name,) in conftest.execute(url, "SELECT name FROM virtual_machines WHERE namespace = 'team'")}
    assert stored >= {*names}
    assert peak(receiver) < limit("service.yaml")


LARGE = 15_000_000
LETTER = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-knativeerrorcode": "400"}
LETTERS: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty objects": (attacks.dense(b"{}", size=LARGE, before=b"[", after=b"]"), {"Content-Type": "application/json"}),
    "empty objects without a type": (attacks.dense(b"{}", size=LARGE, before=b"[", after=b"]"), {}),
    "a structured event": (attacks.dense(b"{}", size=LARGE, before=DOCUMENT + b',"data":[', after=b"]}"), STRUCTURED),
    "empty objects in a text": (
        json.dumps("[" + "{}," * (LARGE // 3) + "0]").encode(),
        {"Content-Type": "application/json"},
    ),
    "one text of wide characters": ("\U0001f600x".encode() * (LARGE // 5), {"Content-Type": "text/plain"}),
}


@pytest.fixture(scope="module")
def sink(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Service]:
    """The dead letter sink, with its own settings."""
    log = tmp_path_factory.mktemp("log") / "log"
    with processes.gunicorn(log, {**settings("dead-letter.yaml"), "DATABASE_URL": url}) as started:
        yield started
        assert "unexpected error" not in started.log()


@pytest.mark.parametrize("shape", LETTERS)
def test_the_dead_letter_sink_stays_below_its_limit(sink: processes.Service, shape: str) -> None:
    """With three bodies of 15 MB at once; the probe and an ordinary letter are answered meanwhile."""
    body, headers = LETTERS[shape]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        large = [pool.submit(sink.request, "POST", "/echo", body, {**LETTER, **headers}) for _ in range(3)]
        assert sink.request("GET", "/health/liveness")[0] == 200
        assert sink.request("POST", "/echo", b"{}", {**LETTER, "Content-Type": "application/json"})[0] == 204
        assert {each.result()[0] for each in large} <= {204, 413, 503}
    assert peak(sink) < limit("dead-letter.yaml")
