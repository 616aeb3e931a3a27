"""The way to the Kubernetes API over real sockets: files, proxies and plugins of a KUBECONFIG."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from function import errors, settings
from function.clients import kubernetes
from tests import certificates, cluster

PLUGIN = "client.authentication.k8s.io/v1beta1"


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that leads all to one port; ``heads`` is what it was asked."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port
        self.heads: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Proxy)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(65536)
        self.server.heads.append(head.decode())
        with socket.create_connection(("127.0.0.1", self.server.port)) as target:
            if head.startswith(b"CONNECT "):
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                target.sendall(head)
            back = threading.Thread(target=_relay, args=[target, self.request])
            back.start()
            _relay(self.request, target)
            back.join()


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy that leads to a port."""
    with Proxy(port) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def api() -> Iterator[cluster.Cluster]:
    """A Kubernetes API with an HPA."""
    with cluster.server() as server:
        found = cluster.Cluster(server)
        found.hpa()
        yield found


def write(folder: pathlib.Path, url: str, user: dict[str, Any] | None = None, /, **more: Any) -> str:
    """Write a KUBECONFIG file; return its path."""
    document = cluster.kubeconfig(url)
    document["clusters"][0]["cluster"] |= more
    if user is not None:
        document["users"][0]["user"] = user
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return str(path)


def read(kubeconfig: str) -> bool:
    """Return whether the HPA is there."""
    with contextlib.closing(kubernetes.Kube(settings.Kubernetes(kubeconfig=kubeconfig))) as door:
        return door.get(kubernetes.HPAS, namespace="shop", name="cart") is not None


def test_several_files_are_one_access(api: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """As kubectl reads them."""
    whole = cluster.kubeconfig(api.server.url_for(""))
    parts = [{"current-context": whole.pop("current-context"), "users": whole.pop("users")}, whole]
    paths = []
    for number, part in enumerate(parts):
        path = tmp_path / str(number)
        path.write_text(json.dumps(part))
        paths.append(str(path))
    assert read(os.pathsep.join([*paths, str(tmp_path / "missing")]))


def test_a_token_file_is_beside_the_file_that_names_it(api: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """Not in the folder that the function runs in."""
    (tmp_path / "token").write_text(cluster.TOKEN)
    assert read(write(tmp_path, api.server.url_for(""), {"tokenFile": "token"}))


@pytest.mark.parametrize("login", ["", "me:s%40crt@"])
def test_the_proxy_of_the_file_is_used(login: str, api: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """The API is asked for by its own name; the proxy gets its login and does not pass it on."""
    with proxy(api.server.port) as between:
        url = between.url.replace("//", f"//{login}")
        assert read(write(tmp_path, "http://kubernetes.example:8080", **{"proxy-url": url}))
        [head] = between.heads
    assert head.startswith("GET http://kubernetes.example:8080/apis/autoscaling/v2/")
    said = base64.b64encode(b"me:s@crt").decode()
    assert (f"proxy-authorization: basic {said}".lower() in head.lower()) == bool(login)


def test_an_api_over_tls_is_reached_through_the_proxy(tmp_path: pathlib.Path) -> None:
    """By CONNECT; the certificate is verified for the API's name."""
    certificate = certificates.made(tmp_path, "DNS:kubernetes.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    authority = {"certificate-authority": certificate.name}
    with cluster.server(ssl_context=context) as server, proxy(server.port) as between:
        cluster.Cluster(server).hpa()
        through = {**authority, "proxy-url": between.url}
        assert read(write(tmp_path, "https://kubernetes.example:6443", **through))
        assert between.heads[0].startswith("CONNECT kubernetes.example:6443 HTTP/1.1\r\n")
        with pytest.raises(errors.Unavailable, match="it has a certificate that cannot be verified"):
            read(write(tmp_path, "https://other.example:6443", **through))


def test_the_proxy_of_the_environment_is_used_for_a_file(
    api: cluster.Cluster, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless no_proxy names the API, or the file has a proxy of its own."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = api.server.url_for("")
    with proxy(api.server.port) as between:
        monkeypatch.setenv("http_proxy", between.url)
        assert read(write(tmp_path, url))
        assert len(between.heads) == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert read(write(tmp_path, url))
        assert len(between.heads) == 1
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert read(write(tmp_path, url, **{"proxy-url": between.url}))
        assert len(between.heads) == 2


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"220 smtp\r\n", b""])
def test_a_proxy_that_does_not_let_us_through_is_unavailable(answer: bytes, tmp_path: pathlib.Path) -> None:
    """In a sentence of ours."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        threading.Thread(target=refuse, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match="the Kubernetes API gives no usable answer now"):
            read(write(tmp_path, "https://kubernetes.example:6443", **{"proxy-url": url}))


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "ftp"])
def test_a_proxy_that_is_not_honoured_is_refused_by_its_name(scheme: str, tmp_path: pathlib.Path) -> None:
    """Going past it in silence could lead to another cluster."""
    with pytest.raises(errors.Refused, match=f"proxy of the Kubernetes API begins with '{scheme}'"):
        read(
            write(tmp_path, "https://kubernetes.example:6443", **{"proxy-url": f"{scheme}://me:hunter2@127.0.0.1:1080"})
        )


def test_a_server_that_is_no_url_is_unavailable(tmp_path: pathlib.Path) -> None:
    """With the place to look at."""
    for server in ("kubernetes.example", "https://", "https://x:y", "ftp://x", "https://x:99999"):
        with pytest.raises(errors.Unavailable, match="Kubernetes API in the KUBECONFIG file is not a URL"):
            read(write(tmp_path, server))


def plugin(code: str, **more: Any) -> dict[str, Any]:
    """Return a user with a plugin that runs Python code."""
    return {"exec": {"apiVersion": PLUGIN, "command": sys.executable, "args": ["-c", code], **more}}


def test_a_plugin_gives_the_token_and_is_asked_again_for_another(api: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """Where the API no longer takes the first; between the two it is kept."""
    code = f"""
import json, os, pathlib
asked = pathlib.Path({str(tmp_path / "asked")!r})
asked.write_text((asked.read_text() if asked.exists() else "") + os.environ["MARK"])
print(json.dumps({{"status": {{"token": "token-" + asked.read_text()}}}}))
"""
    user = plugin(code, env=[{"name": "MARK", "value": "x"}])
    api.tokens = {"token-x"}
    door = kubernetes.Kube(settings.Kubernetes(kubeconfig=write(tmp_path, api.server.url_for(""), user)))
    with contextlib.closing(door):
        for _ in range(2):
            assert door.get(kubernetes.HPAS, namespace="shop", name="cart") is not None
        assert (tmp_path / "asked").read_text() == "x"
        api.tokens = {"token-xx"}
        assert door.get(kubernetes.HPAS, namespace="shop", name="cart") is not None
        api.tokens = {"nobody's"}
        with pytest.raises(errors.Unavailable, match="does not take this function's token"):
            door.get(kubernetes.HPAS, namespace="shop", name="cart")
    assert (tmp_path / "asked").read_text() == "xxx"


@pytest.mark.parametrize(
    "code", ["import time; time.sleep(60)", "input()", "raise SystemExit('hunter2')", "print('{}')"]
)
def test_a_plugin_without_a_token_is_unavailable_in_time(
    code: str, api: cluster.Cluster, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits, for a person or for ever, ends with the call."""
    monkeypatch.setattr(kubernetes, "ANSWER_SECONDS", 2.0)
    began = time.monotonic()
    with pytest.raises(errors.Unavailable, match="exec plugin of the KUBECONFIG file gives no token") as caught:
        read(write(tmp_path, api.server.url_for(""), plugin(code)))
    assert time.monotonic() - began < 30
    assert "hunter2" not in str(caught.value)


def test_a_plugin_of_another_version_is_refused_with_a_sentence(api: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """Not as a file that cannot be used."""
    user = plugin("print()", apiVersion="client.authentication.k8s.io/v1")
    with pytest.raises(errors.Refused, match=r"an exec plugin of 'client.authentication.k8s.io/v1', and only those of"):
        read(write(tmp_path, api.server.url_for(""), user))
