"""Requests that nobody sends on purpose: headers that are there twice, addresses in full, and what a fuzzer finds."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from dev import embedded_postgres
from tests import conftest
from tests.acceptance import processes

ADD = "dev.knative.apiserver.resource.add"
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "s",
    "type": ADD,
    "kind": "VirtualMachine",
    "time": "2026-01-01T00:00:00Z",
}
MACHINE = {"metadata": {"name": "machine", "namespace": "team", "resourceVersion": "1"}, "spec": {}}
LIMIT = 10_000


@pytest.fixture(scope="module")
def url(server: embedded_postgres.Postgres, template: str) -> Iterator[str]:
    """One database for the module."""
    conftest.execute(server.url(), f"CREATE DATABASE odd TEMPLATE {template}")
    yield server.url(database="odd")
    conftest.execute(server.url(), "DROP DATABASE odd WITH (FORCE)")


@pytest.fixture(scope="module", params=["gunicorn", "func"])
def service(
    request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[processes.Service]:
    """The receiver through each of its doors."""
    log = tmp_path_factory.mktemp("log") / "log"
    start: Callable[..., Any] = getattr(processes, request.param)
    with start(log, {"DATABASE_URL": url, "MAX_EVENT_BYTES": str(LIMIT)}) as started:
        yield started


@pytest.fixture(scope="module")
def door(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Service]:
    """The receiver through the door that is all ours."""
    log = tmp_path_factory.mktemp("log") / "log"
    with processes.gunicorn(log, {"DATABASE_URL": url, "MAX_EVENT_BYTES": str(LIMIT)}) as started:
        yield started


def event(name: str) -> str:
    """The headers of a flat event about a VM."""
    return "".join(f"ce-{key}: {value}\n" for key, value in {**EVENT, "namespace": "team", "name": name}.items())


def head(target: str = "/", *, method: str = "POST", **more: str) -> str:
    """A request's head, which asks for the end of the connection."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in more.items())
    return f"{method} {target} HTTP/1.1\nHost: x\nConnection: close\n{lines}"


def refusal(answer: bytes) -> tuple[int, str]:
    """Return the status and the sentence of a raw answer."""
    lines, _, body = answer.partition(b"\r\n\r\n")
    return int(lines.split(b" ")[1]), json.loads(body)["error"]


@pytest.mark.parametrize("name", ["ce-name", "Ce-Id", "ce-custom"])
def test_an_attribute_that_is_there_twice_is_400(service: processes.Service, url: str, name: str) -> None:
    """WSGI would join the two names to one that no VM has."""
    status, sentence = refusal(service.raw(head() + event("odd") + f"{name}: twice\n{name.upper()}: again\n\n"))
    assert (status, sentence) == (400, f"the header {name.lower()} is there more than once")
    assert conftest.execute(url, "SELECT * FROM vm_history WHERE name LIKE '%again%' OR name = 'odd'") == []


def test_in_structured_mode_ce_headers_are_not_looked_at(service: processes.Service) -> None:
    """The body says all (HTTP binding, section 3.2.3)."""
    body = json.dumps({**EVENT, "namespace": "team", "name": f"structured-{service.port}"}).encode()
    more = head(Content_Type="application/cloudevents+json", Content_Length=str(len(body)))
    assert service.raw(more + "ce-id: a\nce-id: b\n\n", body).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    "types",
    [
        "Content-Type: application/json\nContent-Type: application/json\n",
        "Content-Type: application/json,application/json\n",
        "Content-Type: application/cloudevents+json, application/json\n",
    ],
    ids=["twice", "joined", "joined in structured mode"],
)
def test_a_content_type_that_is_there_twice_is_400_and_named(service: processes.Service, url: str, types: str) -> None:
    """Also where a proxy has joined the two."""
    body = json.dumps(MACHINE).encode()
    request = head(Content_Length=str(len(body))) + event("type-twice") + types + "\n"
    status, sentence = refusal(service.raw(request, body))
    assert status == 400
    assert "the header Content-Type " in sentence
    assert conftest.execute(url, "SELECT * FROM vm_history WHERE name = 'type-twice'") == []


def test_a_comma_in_a_content_type_s_parameter_is_one_type(service: processes.Service) -> None:
    """It is quoted."""
    body = json.dumps(MACHINE).encode()
    more = head(Content_Type='application/json; note="a, b"', Content_Length=str(len(body)))
    assert service.raw(more + event("comma") + "\n", body).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    "target", ["http://sink.example.com", "http://sink.example.com/", "/?from=broker", "HTTP://x:1?a"]
)
def test_an_absolute_address_is_as_good_as_its_path(service: processes.Service, target: str) -> None:
    """RFC 9112, section 3.2.2: a server accepts it."""
    attributes = event(f"absolute-{service.port}")
    assert service.raw(head(target) + attributes + "\n").startswith(b"HTTP/1.1 204 ")


STATUSES = {
    int(status)
    for line in (processes.ROOT / "docs" / "http.md").read_text().splitlines()
    if line.count("|") == 4
    for status in re.findall(r"\d{3}", line.split("|")[2])
}
"""Every status that the table in docs/http.md has."""
PATHS = st.sampled_from(
    ["", "/", "//", "/echo", "/echo/", "/health/liveness", "/health//readiness", "/nowhere", "*", "/%00"]
)
TARGETS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "http://sink.example.com", "http://[", "HTTP://x:99999", "x:1"]),
    PATHS,
    st.sampled_from(["", "?a=b", "#c", "?" + "x" * 5000, ";d"]),
)
VALUES = st.sampled_from(
    (
        *("0", "5", "-1", "many", "9" * 30, "chunked", "gzip, chunked", "close", "keep-alive", "100-continue", "h2c"),
        *("websocket", "Upgrade", "application/json", "application/cloudevents+json", "a/b, c/d", "1.0", ADD),
        *("application/cloudevents-batch+json", "VirtualMachine", "", "x\ty", "\xff", "%FF", "\x01", "x" * 66_000),
    )
)
NAMES = st.sampled_from(
    (
        *("Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "Content-Type", "TE"),
        *("ce-id", "ce-specversion", "ce-type", "ce-source", "ce-kind", "ce-time", "CE_ID", "SCRIPT_NAME", "Trailer"),
        *("X-Forwarded-Proto", "X-Forwarded-Ssl", "Content-Encoding", "Range", "If-Match", "Authorization", "Cookie"),
        *("HTTP2-Settings", "Sec-WebSocket-Version", "bad name", "Vmledger-Repeated"),
    )
)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "BREW", "get", "PRI", "")


@pytest.mark.parametrize("end", ["HTTP/1.0\r\n", "HTTP/1.1\r\nConnection: close\r\n"])
def test_bytes_after_the_last_request_do_not_take_its_answer_away(door: processes.Service, end: str) -> None:
    """The connection ends with the answer; what nobody asked for is read for a moment, so that no reset follows it."""
    request = f"GET /health/liveness {end}Host: x\r\n\r\n".encode() + b"x" * 2_000_000
    with socket.create_connection(("127.0.0.1", door.port), timeout=120) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.match(rb"HTTP/1\.[01] 200 ", answer)
    assert answer.endswith(b"\r\n\r\nOK")


@hypothesis.given(
    method=st.sampled_from(METHODS),
    target=TARGETS,
    version=st.sampled_from(["HTTP/1.1"] * 5 + ["HTTP/1.0", "HTTP/2.0", "HTTP/3", "x", ""]),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    body=st.sampled_from([b"", b"{}", b"[]", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"x" * 2 * LIMIT]),
)
def test_every_status_that_can_occur_is_in_the_table(
    door: processes.Service, method: str, target: str, version: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    """Whatever is sent: one of the table's, in JSON where it is an error of ours, and never a redirect or HTML."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    request = f"{method} {target} {version}\r\n{lines}\r\n".encode("latin-1") + body
    answer = door.raw("", request)
    while answer.startswith(b"HTTP/1.1 100 "):
        answer = answer.partition(b"\r\n\r\n")[2]
    if not answer:
        return  # closed: the request broke off
    assert re.match(rb"HTTP/1\.[01] \d{3} ", answer), answer
    status = int(answer.split(b" ")[1])
    assert status in STATUSES
    if status >= 400 and method != "HEAD":
        assert json.loads(answer.partition(b"\r\n\r\n")[2].partition(b"}")[0] + b"}").keys() == {"error"}
