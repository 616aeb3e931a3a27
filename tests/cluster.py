"""What the tests of scaling share: a Kubernetes API over real HTTP, a receiver of webhooks, and events in time."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_httpserver
import werkzeug
import werkzeug.datastructures

SAMPLES = pathlib.Path(__file__).parent / "events" / "hpa"
STRUCTURED = "application/cloudevents+json"
TOKEN = "kube-token-of-the-test"
BODY = '{"text": "_namespace_/_name_: _message_", "at": "_time_ms_", "size": "_new_size_", "key": "_occurrence_"}'

HPA = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/{}"
SECRET = "/api/v1/namespaces/{}/secrets/{}"


class Cluster:
    """A Kubernetes API that holds HPAs and Secrets, and answers as the real one does."""

    def __init__(self, server: pytest_httpserver.HTTPServer) -> None:
        self.server = server
        self.objects: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, int] = {}
        self.tokens = {TOKEN}
        self.reads: list[str] = []
        server.expect_request(any_path()).respond_with_handler(self._answer)

    def hpa(self, namespace: str = "shop", name: str = "cart", **annotations: str) -> None:
        """Put an HPA; an annotation's key has __ for - and ___ for /."""
        found = {key.replace("___", "/").replace("__", "-"): value for key, value in annotations.items()}
        self.objects[HPA.format(namespace, name)] = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": namespace, "annotations": found},
            "spec": {
                "maxReplicas": 50,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            },
        }

    def secret(self, namespace: str = "shop", name: str = "hook", **keys: str) -> None:
        """Put a Secret with these keys."""
        self.objects[SECRET.format(namespace, name)] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()},
        }

    def kubeconfig(self, folder: pathlib.Path, token: str = TOKEN) -> str:
        """Write a KUBECONFIG file; return its path."""
        path = folder / "kubeconfig"
        path.write_text(json.dumps(kubeconfig(self.server.url_for(""), token)))
        return str(path)

    def _answer(self, request: werkzeug.Request) -> werkzeug.Response:
        self.reads.append(request.path)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _status(401)
        for part, status in self.failures.items():
            if part in request.path:
                return _status(status)
        found = self.objects.get(request.path)
        return _status(404) if found is None else werkzeug.Response(json.dumps(found), 200, mimetype="application/json")


def kubeconfig(url: str, token: str = TOKEN) -> dict[str, Any]:
    """Return what a KUBECONFIG file says of an API at that address."""
    return {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": token}}],
    }


def any_path() -> Any:
    """Every path."""
    return re.compile(".*")


def _status(code: int) -> werkzeug.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "as asked", "code": code}
    return werkzeug.Response(json.dumps(body), code, mimetype="application/json")


@contextlib.contextmanager
def server(**options: Any) -> Iterator[pytest_httpserver.HTTPServer]:
    """Run an HTTP server on 127.0.0.1."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # its access log drowns ours
    started = pytest_httpserver.HTTPServer(host="127.0.0.1", threaded=True, **options)
    started.start()
    yield started
    started.clear()
    started.stop()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[pytest_httpserver.HTTPServer, pytest_httpserver.HTTPServer]]:
    """Two servers for a module: to stop one takes half a second."""
    with server() as first, server() as second:
        yield first, second


@pytest.fixture
def kubernetes(servers: tuple[pytest_httpserver.HTTPServer, ...]) -> Cluster:
    """A Kubernetes API with nothing in it."""
    servers[0].clear()
    return Cluster(servers[0])


@pytest.fixture
def receiver(servers: tuple[pytest_httpserver.HTTPServer, ...]) -> pytest_httpserver.HTTPServer:
    """A receiver of webhooks that expects nothing yet."""
    servers[1].clear()
    return servers[1]


def sample(name: str) -> dict[str, Any]:
    """Return a sample as it is in its file."""
    found: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return found


def now(name: str, seconds: float = 0, **data: Any) -> dict[str, Any]:
    """Return a sample that happened just now, or ``seconds`` ago, with parts of its data replaced."""
    event = sample(name)
    at = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)).isoformat(timespec="seconds")
    for key in ("lastTimestamp", "deprecatedLastTimestamp"):
        if key in event["data"]:
            event["data"][key] = at.replace("+00:00", "Z")
    event["data"].update(data)
    return event


def bodies(receiver: pytest_httpserver.HTTPServer) -> list[Any]:
    """Return the JSON of each request that the receiver got."""
    return [json.loads(request.get_data()) for request, _ in receiver.log]


def headers(receiver: pytest_httpserver.HTTPServer) -> list[werkzeug.datastructures.Headers]:
    """Return the headers of each request that the receiver got."""
    return [request.headers for request, _ in receiver.log]
