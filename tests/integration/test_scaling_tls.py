"""Webhooks over TLS: verified for the name, by the authorities of WEBHOOK_CA_FILE, at the address that was judged."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_httpserver

from function import errors
from function.scaling import address_policy, sender, template
from tests import certificates, cluster

HOST = "hooks.example"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A certificate for hooks.example that vouches for itself; certificate and key are one file."""
    return certificates.made(tmp_path_factory.mktemp("tls"), f"DNS:{HOST}")


@pytest.fixture(scope="module")
def tls(certificate: pathlib.Path) -> Iterator[pytest_httpserver.HTTPServer]:
    """A receiver behind that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with cluster.server(ssl_context=context) as started:
        yield started


def send(url: str, ca_file: pathlib.Path | None, resolved: str = "127.0.0.1") -> None:
    """POST to ``url``, whose host resolves to 127.0.0.1."""
    policy = address_policy.Policy(address_policy.Rules.read(()), address_policy.Rules.read(("127.0.0.0/8",)))
    outbox = sender.Sender(
        policy,
        list,
        timeout=2,
        ca_file=str(ca_file) if ca_file else None,
        resolve=lambda host: [resolved],
    )
    request = template.Request(address_policy.parse(url), {"X": "y"}, b"{}")
    try:
        outbox.send(request, "Secret a/b", until=time.monotonic() + 20)
    finally:
        outbox.close()


def test_the_certificate_is_verified_for_the_name(tls: pytest_httpserver.HTTPServer, certificate: pathlib.Path) -> None:
    """The connection goes to an address, and the name is asked for and verified."""
    tls.clear()
    tls.expect_request("/hook").respond_with_data("ok")
    send(f"https://{HOST}:{tls.port}/hook", certificate)
    [(request, _)] = tls.log
    assert request.headers["Host"] == f"{HOST}:{tls.port}"


@pytest.mark.parametrize("case", ["another name", "no authority", "an address"])
def test_a_certificate_that_cannot_be_verified_is_unavailable(
    case: str, tls: pytest_httpserver.HTTPServer, certificate: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For another name, by certifi's authorities, and for a bare address: no request is sent."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    tls.clear()
    tls.expect_request("/hook").respond_with_data("ok")
    host = {"another name": "other.example", "an address": "127.0.0.1"}.get(case, HOST)
    with pytest.raises(errors.Unavailable, match="has a certificate that cannot be verified"):
        send(f"https://{host}:{tls.port}/hook", None if case == "no authority" else certificate)
    assert tls.log == []


GREENLET = """
from gevent import monkey
monkey.patch_all()
import sys, time
from function import errors
from function.scaling import address_policy, sender, template
sender.ATTEMPTS = 1
rules = address_policy.Rules.read
policy = address_policy.Policy(rules(()), rules(("127.0.0.0/8",)))
outbox = sender.Sender(policy, list, timeout=0.5, resolve=lambda host: ["127.0.0.1"])
started = time.monotonic()
try:
    outbox.send(template.Request(address_policy.parse(sys.argv[1]), {}, b"{}"), "Secret a/b", until=started + 45)
except errors.Unavailable as exc:
    print(exc)
print(time.monotonic() - started < 4)
"""


def test_a_handshake_that_drips_ends_in_time_under_gevent(certificate: pathlib.Path) -> None:
    """As gunicorn serves the function: there each byte begins a socket's timeout anew, also within one handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            came, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
            with connection, contextlib.suppress(OSError):
                came.write(connection.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    context.wrap_bio(came, answer, server_side=True).do_handshake()
                for byte in answer.read():
                    connection.sendall(bytes([byte]))
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        command = [sys.executable, "-c", GREENLET, f"https://{HOST}:{listening.getsockname()[1]}/"]
        root = pathlib.Path(sender.__file__).parent.parent.parent
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    sentence = "the webhook of Secret a/b cannot be connected to in time; it was asked once"
    assert done.stdout == f"{sentence}\nTrue\n", done.stderr


def test_an_address_that_refuses_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with two addresses of which one is away; one that is closed to webhooks is left out."""
    with cluster.server() as receiver:
        receiver.expect_request("/").respond_with_data("ok")
        policy = address_policy.Policy(
            address_policy.Rules.read(("127.0.0.9",)), address_policy.Rules.read(("127.0.0.0/8",))
        )
        outbox = sender.Sender(
            policy, list, timeout=2, resolve=lambda host: ["::1", "127.0.0.9", "127.0.0.3", "127.0.0.1"]
        )
        request = template.Request(address_policy.parse(f"http://many.example:{receiver.port}/"), {}, b"{}")
        outbox.send(request, "Secret a/b", until=time.monotonic() + 20)
        outbox.close()
        assert len(receiver.log) == 1


def test_a_resolver_that_hangs_is_unavailable_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver takes no timeout."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    answered = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        answered.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    policy = address_policy.Policy(address_policy.Rules.read(()), address_policy.Rules.read(()))
    outbox = sender.Sender(policy, list, timeout=0.2)
    started = time.monotonic()
    with pytest.raises(errors.Unavailable, match="cannot be resolved now"):
        outbox.send(template.Request(address_policy.parse("http://slow.example/"), {}, b""), "S", until=started + 20)
    assert time.monotonic() - started < 15
    answered.set()


def test_the_connection_is_kept() -> None:
    """Two notices to one receiver are one connection."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = address_policy.parse(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        taken: list[bytes] = []

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                for _ in range(2):
                    taken.append(connection.recv(65536))
                    connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        policy = address_policy.Policy(address_policy.Rules.read(()), address_policy.Rules.read(("127.0.0.1",)))
        outbox = sender.Sender(policy, list, timeout=2)
        for _ in range(2):
            outbox.send(template.Request(url, {}, b""), "Secret a/b", until=time.monotonic() + 20)
        server.join(5)
        outbox.close()
    assert len(taken) == 2


def test_nothing_is_sent_when_the_time_is_up() -> None:
    """Rather 503 than a POST whose answer nobody would wait for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        policy = address_policy.Policy(address_policy.Rules.read(()), address_policy.Rules.read(("127.0.0.1",)))
        outbox = sender.Sender(policy, list, timeout=2)
        request = template.Request(address_policy.parse(f"http://127.0.0.1:{listening.getsockname()[1]}/"), {}, b"{}")
        with pytest.raises(errors.Unavailable, match="was not asked in time"):
            outbox.send(request, "Secret a/b", until=time.monotonic())
        with pytest.raises(BlockingIOError):
            listening.accept()
        outbox.close()
