"""The issuer's documents over real TLS: the Kubernetes API's own, another issuer's, and answers that are traps."""

from __future__ import annotations

import gzip
import json
import pathlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import werkzeug

from function import errors, settings
from function.clients import issuer, kubernetes
from tests import token_issuer

KEYS = "/openid/v1/jwks"

served, site = token_issuer.served_for_module, token_issuer.site


@pytest.fixture
def web(site: token_issuer.Web) -> Iterator[issuer.Web]:
    """The client that trusts it."""
    opened = issuer.Web(site.ca_file)
    yield opened
    opened.close()


@pytest.fixture
def api(site: token_issuer.Web, tmp_path: pathlib.Path) -> Iterator[kubernetes.Kube]:
    """The door to a Kubernetes API that is this issuer."""
    part = settings.Settings.from_env({"KUBECONFIG": site.kubeconfig(tmp_path)}).kubernetes
    opened = kubernetes.Kube(part)
    yield opened
    opened.close()


def test_the_cluster_is_asked_with_the_functions_own_token(
    site: token_issuer.Web, api: kubernetes.Kube, web: issuer.Web
) -> None:
    """Both documents; the issuer's name need not be the API's address."""
    site.signer.name = "https://kubernetes.default.svc.cluster.local"
    site.signer.rotate(token_issuer.rsa_key())
    found = issuer.of_cluster(api, web.document)
    assert found.issuer == "https://kubernetes.default.svc.cluster.local"
    assert set(found.by_id) == {key.id for key in site.signer.keys}
    assert site.asked == [token_issuer.DISCOVERY, KEYS]
    assert site.shown == [f"Bearer {site.token}"] * 2


@pytest.mark.parametrize(
    "announced",
    ["https://172.18.0.2:6443/openid/v1/jwks", "https://keys.example/x", "https://[::1]:1/", "nonsense", "//"],
)
def test_the_clusters_keys_are_read_where_the_api_serves_them(
    announced: str, site: token_issuer.Web, api: kubernetes.Kube, web: issuer.Web
) -> None:
    """The address that an API server announces is often one that a pod cannot reach, or does not trust."""
    site.keys_at = announced
    assert set(issuer.of_cluster(api, web.document).by_id) == {key.id for key in site.signer.keys}
    assert site.asked == [token_issuer.DISCOVERY, KEYS]


def test_another_path_of_the_api_is_followed(site: token_issuer.Web, api: kubernetes.Kube, web: issuer.Web) -> None:
    """Where the announced address is the API's own."""
    site.keys_at = f"{site.url}/elsewhere"
    keys = json.dumps(site.signer.jwks())
    site.answers["/elsewhere"] = lambda: werkzeug.Response(keys, content_type="application/jwk-set+json")
    assert issuer.of_cluster(api, web.document).by_id
    assert site.asked == [token_issuer.DISCOVERY, "/elsewhere"]


def test_the_functions_token_goes_to_no_other_host(
    site: token_issuer.Web, api: kubernetes.Kube, web: issuer.Web, tmp_path: pathlib.Path
) -> None:
    """An API that serves no keys itself is believed where they are, and they are read without the token."""
    site.answers[KEYS] = lambda: werkzeug.Response("{}", 404)
    with token_issuer.served(tmp_path / "other") as other:
        site.keys_at = other.keys_at
        trusting = issuer.Web(other.ca_file)
        found = issuer.of_cluster(api, trusting.document)
        trusting.close()
        assert set(found.by_id) == {key.id for key in other.signer.keys}
        assert (other.asked, other.shown) == ([KEYS], [None])


def test_a_missing_right_is_our_trouble(site: token_issuer.Web, api: kubernetes.Kube, web: issuer.Web) -> None:
    """503 and a sentence that names the right: an event that waits is not lost."""
    site.answers[token_issuer.DISCOVERY] = lambda: werkzeug.Response("{}", 403)
    with pytest.raises(errors.Unavailable, match=r"forbids this function to get /.well-known/openid-configuration"):
        issuer.of_cluster(api, web.document)
    site.answers[token_issuer.DISCOVERY] = lambda: werkzeug.Response("{}", 404)
    with pytest.raises(errors.Unavailable, match=r"serves no /.well-known/openid-configuration"):
        issuer.of_cluster(api, web.document)


def test_another_issuer_is_read_over_https_without_a_token(site: token_issuer.Web, web: issuer.Web) -> None:
    """OIDC_ISSUER, with a slash at its end or without."""
    for url in (site.url, f"{site.url}/"):
        found = issuer.of_url(url, web.document)
        assert (found.issuer, set(found.by_id)) == (site.url, {key.id for key in site.signer.keys})
    assert site.shown == [None] * 4


def test_an_issuer_must_call_itself_by_its_url(site: token_issuer.Web, web: issuer.Web) -> None:
    """OpenID Connect Discovery, section 4.3."""
    site.signer.name = "https://other.example"
    with pytest.raises(errors.Unavailable, match="calls itself something else"):
        issuer.of_url(site.url, web.document)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/keys", "file:///etc/passwd", "https://user@127.0.0.1/", "https://x:y"]
)
def test_keys_are_read_over_https_alone(url: str, site: token_issuer.Web, web: issuer.Web) -> None:
    """Whatever the issuer's document says."""
    site.keys_at = url
    with pytest.raises(errors.Unavailable, match="not an https URL"):
        issuer.of_url(site.url, web.document)


def test_an_issuer_is_verified_by_its_certificate(site: token_issuer.Web, tmp_path: pathlib.Path) -> None:
    """By the system's authorities where none are given, and for its name."""
    for url, ca_file in ((site.url, None), (site.url.replace("127.0.0.1", "localhost"), site.ca_file)):
        web = issuer.Web(ca_file)
        with pytest.raises(errors.Unavailable, match="certificate"):
            web.document(url)
        web.close()


def _redirect() -> werkzeug.Response:
    return werkzeug.Response("", 302, {"Location": token_issuer.DISCOVERY})


BAD: dict[str, Callable[[], werkzeug.Response]] = {
    "nothing": lambda: werkzeug.Response(""),
    "no JSON": lambda: werkzeug.Response("<html>"),
    "a list": lambda: werkzeug.Response("[]"),
    "an error": lambda: werkzeug.Response("{}", 500),
    "a redirect": _redirect,
    "no keys": lambda: werkzeug.Response('{"keys": []}'),
    "other keys": lambda: werkzeug.Response('{"keys": [{"kty": "oct", "kid": "a", "k": "AAAA"}]}'),
    "nesting": lambda: werkzeug.Response("[" * 100_000),
    "a long answer": lambda: werkzeug.Response(b'{"keys": "' + b"x" * 5_000_000 + b'"}'),
    "a bomb": lambda: werkzeug.Response(gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"}),
    "an endless answer": lambda: werkzeug.Response((b" " * 65536 for _ in iter(int, 1)), direct_passthrough=True),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_an_answer_that_is_a_trap_is_503(
    answer: Callable[[], werkzeug.Response], site: token_issuer.Web, web: issuer.Web
) -> None:
    """It ends, and the keys that are known stay."""
    keys = issuer.Issuer(lambda: issuer.of_url(site.url, web.document))
    [key] = site.signer.keys
    assert keys.find(key.id)
    site.answers[KEYS] = answer
    with pytest.raises(errors.Unavailable, match="the keys of the callers' issuer cannot be read"):
        keys.find("another")
    assert keys.find(key.id)
    assert keys.state() == "ok"


def _hangs(_: ssl.SSLSocket) -> None:
    """Say nothing."""


def _drips(line: ssl.SSLSocket) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    while not OVER.wait(0.2):
        line.sendall(b" ")


def _continues(line: ssl.SSLSocket) -> None:
    while not OVER.is_set():
        line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


OVER = threading.Event()


@pytest.mark.parametrize("talk", [_hangs, _drips, _continues])
def test_an_issuer_that_does_not_end_its_answer_is_503(
    talk: Callable[[ssl.SSLSocket], None], site: token_issuer.Web, web: issuer.Web
) -> None:
    """However it goes on: in the end the wait is over."""
    OVER.clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pathlib.Path(site.ca_file).with_name("both.pem"))
    lines = []

    def serve(listening: socket.socket) -> None:
        line = context.wrap_socket(listening.accept()[0], server_side=True)
        lines.append(line)
        try:
            talk(line)
        except OSError:
            return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        with pytest.raises(
            errors.Unavailable, match=r"127\.0\.0\.1 (did not answer in time|gave an answer that is too long)"
        ):
            web.document(f"https://127.0.0.1:{listening.getsockname()[1]}/keys")
        OVER.set()
        thread.join(20)
    for line in lines:
        line.close()


def test_the_functions_own_namespace_is_that_of_its_files(api: kubernetes.Kube, tmp_path: pathlib.Path) -> None:
    """The ServiceAccount's, or the KUBECONFIG's context's; where no file says it, the sentence says so."""
    assert api.namespace() == "vmledger"
    part = settings.Settings.from_env({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}).kubernetes
    inside = kubernetes.Kube(part, service_account=str(tmp_path))
    with pytest.raises(errors.Unavailable):
        inside.namespace()
    (tmp_path / "namespace").write_text("shop")
    assert inside.namespace() == "shop"
