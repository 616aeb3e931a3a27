"""Neighbours that mean harm, over real sockets: each call ends by itself, with a sentence of ours and little memory."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
import tracemalloc

import pytest

from function import errors, settings, wiring
from function.clients import http, kubernetes
from function.scaling import sender
from tests import certificates, cluster, hostile, vsphere

kubernetes_api, servers = cluster.kubernetes, cluster.servers

GENEROUS = 60.0
"""A call that has no end would take longer."""
BODIES = frozenset(
    (
        "an endless body",
        "an endless body without a length",
        "a body that drips",
        "a body that stalls",
        "endless chunks",
        "endless tiny chunks",
        "an endless chunk size",
        "an endless chunk extension",
        "endless trailers",
        "a gzip bomb",
    )
)
"""Answers that say 200, and of which only the body has no end."""
REDIRECT = "endless redirects"


def patience(behaviour: str) -> float:
    """Return how many seconds a call may take: where there is an answer, it must have come in time."""
    return 3.0 if behaviour in BODIES or behaviour == REDIRECT else 0.3


behaviours = pytest.mark.parametrize("behaviour", hostile.BEHAVIOURS)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A certificate that nobody vouches for."""
    return certificates.made(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


def ask(server: hostile.Server, seconds: float) -> http.Answer:
    """Ask the server as a client that trusts anybody."""
    client = http.Client(http.trusting_anybody())
    scheme = server.url.partition(":")[0]
    request = http.Request(
        method="POST", scheme=scheme, host="127.0.0.1", port=server.port, target="/", headers={"Host": "x"}, body=b"{}"
    )
    try:
        return client.ask(request, http.Limits(connect=seconds, seconds=seconds, body_bytes=2**20))
    finally:
        client.close()


@pytest.mark.parametrize("tls", [False, True])
@behaviours
def test_a_call_ends_in_time_and_in_bytes(behaviour: str, tls: bool, certificate: pathlib.Path) -> None:
    """Whatever is answered: with no answer, with one that says that its body is not whole, or with a redirect."""
    with hostile.running(behaviour, certificate=certificate if tls else None) as server:
        began = time.monotonic()
        tracemalloc.start()
        try:
            answer: http.Answer | None = ask(server, patience(behaviour))
        except http.NoAnswer:
            answer = None
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.monotonic() - began < GENEROUS
    assert peak < 2**23
    if behaviour == REDIRECT:
        assert (answer.status if answer else None, server.asked) == (307, 1)
    elif behaviour in BODIES:
        assert answer is not None
        assert (answer.status, answer.missing is not None, len(answer.body) < 2**21) == (200, True, True)
    else:
        assert answer is None


@behaviours
def test_a_hostile_webhook_is_done_with(
    behaviour: str, kubernetes_api: cluster.Cluster, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 2xx counts, however its body goes on; a redirect is refused; all else is asked three times, then 503."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    environ = {"KUBECONFIG": kubernetes_api.kubeconfig(tmp_path), "WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8"}
    kubernetes_api.hpa(hpa__event="hook")
    with hostile.running(behaviour) as server:
        kubernetes_api.secret(url=server.url, body=cluster.BODY)
        event = json.dumps(cluster.now("up")).encode()
        status, sentence = handled(
            {**environ, "WEBHOOK_TIMEOUT": str(patience(behaviour))}, {"Content-Type": cluster.STRUCTURED}, event
        )
    if behaviour in BODIES:
        assert (status, sentence, server.asked) == (204, "", 1)
    elif behaviour == REDIRECT:
        assert (status, server.asked) == (422, 1)
    else:
        assert (status, server.asked) == (503, 3)
        assert sentence.startswith("the webhook of Secret shop/hook ")
        assert sentence.endswith("; it was asked 3 times")


def handled(environ: dict[str, str], headers: dict[str, str], body: bytes) -> tuple[int, str]:
    """Send an event to a function; return the status and the sentence once it has answered, in time."""
    built = wiring.Service(settings.Settings.from_env(environ))
    began = time.monotonic()
    answer = built.app.test_client().post("/", data=body, headers=headers)
    assert time.monotonic() - began < GENEROUS
    built.close()
    return answer.status_code, json.loads(answer.data)["error"] if answer.data else ""


def door(server: hostile.Server, folder: pathlib.Path) -> kubernetes.Kube:
    """Return the door to a Kubernetes API that is a hostile server."""
    file = folder / "kubeconfig"
    file.write_text(json.dumps(cluster.kubeconfig(server.url)))
    return kubernetes.Kube(settings.Kubernetes(kubeconfig=str(file)), pause=0)


@behaviours
def test_a_hostile_kubernetes_api_is_unavailable(
    behaviour: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object, and a list, of which no page is yielded."""
    monkeypatch.setattr(kubernetes, "PAGE_SECONDS", 0.3)
    monkeypatch.setattr(kubernetes, "ANSWER_SECONDS", 0.3)
    with hostile.running(behaviour) as server, contextlib.closing(door(server, tmp_path)) as api:
        began = time.monotonic()
        with pytest.raises(errors.Unavailable, match="the Kubernetes API"):
            api.get(kubernetes.SECRETS, namespace="shop", name="hook")
        with pytest.raises(errors.Unavailable, match="the Kubernetes API"):
            next(api.pages(kubernetes.VMS))
        assert time.monotonic() - began < GENEROUS


@behaviours
def test_a_404_that_never_ends_does_not_say_that_an_object_is_gone(
    behaviour: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delete would follow from it."""
    monkeypatch.setattr(hostile, "STATUS", "404 Not Found")
    monkeypatch.setattr(kubernetes, "ANSWER_SECONDS", patience(behaviour))
    with (
        hostile.running(behaviour) as server,
        contextlib.closing(door(server, tmp_path)) as api,
        pytest.raises(errors.Unavailable) as caught,
    ):
        api.get(kubernetes.VMS, namespace="shop", name="web", surely=True)
    assert ("404" in str(caught.value)) == (behaviour in BODIES)


@behaviours
def test_a_hostile_operations_keeps_the_event(behaviour: str) -> None:
    """503; a redirect is refused, because VROPS_URL is not its own address."""
    headers, body = vsphere.source(vsphere.ENTER, vsphere.data())
    with hostile.running(behaviour) as server:
        access = {"VROPS_URL": server.url, "VROPS_USER": "u", "VROPS_PASSWORD": "p"}
        status, sentence = handled({**access, "VROPS_TIMEOUT": str(patience(behaviour))}, headers, body)
    assert (status, "Operations" in sentence) == (422 if behaviour == REDIRECT else 503, True)
