"""Callers are verified in the running receiver, through both of its doors, by a real issuer's keys."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import werkzeug

from dev import run
from tests import token_issuer
from tests.acceptance import processes

EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "com.example.other"}
HEADERS = {f"ce-{name}": value for name, value in EVENT.items()}
KEYS = "/openid/v1/jwks"
PASSWORD = "hunter2"
Door = Callable[..., Any]
"""Starts a receiver with variables of its own."""

served, site = token_issuer.served_for_module, token_issuer.site


@pytest.fixture(params=["gunicorn", "func"])
def door(request: pytest.FixtureRequest) -> Door:
    """Each of the doors."""
    found: Door = getattr(processes, request.param)
    return found


@pytest.fixture
def service(door: Door, site: token_issuer.Web, tmp_path: pathlib.Path) -> Iterator[processes.Service]:
    """A receiver in a cluster whose API is the issuer; it prints each event."""
    variables = {"KUBECONFIG": site.kubeconfig(tmp_path), "OIDC_AUDIENCE": "vmledger", "FUNCTION_DEBUG": "true"}
    with door(tmp_path / "log", variables) as started:
        yield started


def post(service: processes.Service, token: str | None, path: str = "/", **more: Any) -> tuple[int, str]:
    """Send an event; return the status and the sentence."""
    shown = {} if token is None else token_issuer.bearer(token)
    headers: Mapping[str, str] = {**HEADERS, **shown, **more.pop("headers", {})}
    status, _, body = service.request("POST", path, headers=headers, **more)
    return status, json.loads(body)["error"] if body else ""


def test_callers_are_let_in_by_their_token(service: processes.Service, site: token_issuer.Web) -> None:
    """At both paths: 401 without a good token, 403 for another subject, 204 for a Trigger; health asks for none."""
    signer = site.signer
    stranger = "system:serviceaccount:other:default"
    for path in ("/", "/echo"):
        assert post(service, None, path) == (401, "the request has no header Authorization with a token of the caller")
        assert post(service, signer.token(aud="other"), path)[0] == 401
        assert post(service, token_issuer.unsigned(signer.claims(), alg="none"), path)[0] == 401
        assert post(service, token_issuer.by_hmac(signer.claims(), signer.keys[0].pem, kid=signer.keys[0].id))[0] == 401
        assert post(service, signer.token(sub=stranger), path) == (
            403,
            f"the caller '{stranger}' may not send here: OIDC_SUBJECTS",
        )
        assert post(service, signer.token(), path) == (204, "")
    assert service.request("POST", "/", headers=HEADERS)[1]["www-authenticate"] == "Bearer"
    assert service.request("GET", "/health/liveness")[0] == 200
    assert service.readiness()["callers"] == "ok; refused so far: 9 without a good token, 2 of another subject"


def test_nothing_of_a_token_is_printed(service: processes.Service, site: token_issuer.Web) -> None:
    """Neither by the log nor by the echo, whether it was good or not; the event itself is printed."""
    good, bad = site.signer.token(), site.signer.token(exp=1)
    for token, status in ((good, 204), (bad, 401)):
        for path in ("/", "/echo"):
            assert post(service, token, path)[0] == status
    assert '"type":"com.example.other"' in service.log()
    assert not [part for part in (*good.split("."), *bad.split(".")) if part in service.log()]


def raw(service: processes.Service, request: str) -> int:
    """Send bytes; return the status of the answer."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as line:
        line.sendall(request.encode())
        answer = b""
        while b"\r\n" not in answer:
            answer += line.recv(1000)
    return int(answer.split()[1])


def head(path: str, *more: str) -> str:
    """The head of a request with an event that ends where its body begins."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in HEADERS.items()), *more]
    return "".join(f"{line}\r\n" for line in lines) + "\r\n"


def test_a_caller_is_refused_before_its_body_is_read(service: processes.Service) -> None:
    """The answer comes though nothing of the body does."""
    assert raw(service, head("/", "Content-Length: 1000000")) == 401
    assert raw(service, head("/echo", "Transfer-Encoding: chunked")) == 401


def test_no_other_way_to_write_a_path_gets_by(site: token_issuer.Web, tmp_path: pathlib.Path) -> None:
    """Whatever leads to a view of events is checked there; Flask takes several spellings for one path."""
    variables = {"KUBECONFIG": site.kubeconfig(tmp_path), "OIDC_AUDIENCE": "vmledger"}
    paths = ("/", "//", "///", "/?", "/?x=/echo", "?", "http://x", "http://x/", "//echo", "/%65cho", "/echo?x", "*")
    with processes.gunicorn(tmp_path / "log", variables) as gunicorn:
        statuses = {path: raw(gunicorn, head(path, "Content-Length: 0")) for path in paths}
    assert {path: status for path, status in statuses.items() if status < 300} == {}


def test_two_headers_hold_no_token(service: processes.Service, site: token_issuer.Web) -> None:
    """Also where one of them, or each, is good."""
    good = f"Authorization: Bearer {site.signer.token()}"
    for other in (good, "Authorization: Bearer x.y.z", "Authorization: ", "authorization: Basic eA=="):
        assert raw(service, head("/", good, other, "Content-Length: 0")) == 401
        assert raw(service, head("/", other, good, "Content-Length: 0")) == 401
    assert raw(service, head("/", good, "Content-Length: 0")) == 204


def test_a_token_of_20_kilobytes_is_refused(service: processes.Service, site: token_issuer.Web) -> None:
    """By us, or by a server that takes no such header; the receiver goes on."""
    status = post(service, site.signer.token(more="x" * 15_000))[0]
    assert status in (400, 401, 431)
    assert post(service, site.signer.token())[0] == 204


def test_a_batch_shows_one_token(service: processes.Service, site: token_issuer.Web) -> None:
    """For all of its events."""
    body = json.dumps([EVENT, {**EVENT, "id": "2"}])
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    status, _, _ = service.request("POST", "/", body, {**batch, **token_issuer.bearer(site.signer.token())})
    assert status == 204
    assert service.request("POST", "/", body, batch)[0] == 401


def test_fifty_threads_at_once_during_a_rotation(service: processes.Service, site: token_issuer.Web) -> None:
    """All get in, with the old key and with the new one, and the issuer is asked once for each key."""
    signer = site.signer
    old = signer.keys[0]
    assert post(service, signer.token())[0] == 204
    signer.rotate(token_issuer.rsa_key())
    tokens = [signer.token(old if number % 2 else None, jti=str(number)) for number in range(100)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        statuses = set(pool.map(lambda token: post(service, token)[0], tokens))
    assert statuses == {204}
    assert site.times(KEYS) == 2


def until(service: processes.Service, token: str, status: int) -> None:
    """Send an event until it is answered with a status."""
    end = time.monotonic() + 30
    while (found := post(service, token)[0]) != status:
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_without_keys_events_wait(service: processes.Service, site: token_issuer.Web) -> None:
    """503 as long as the issuer is away, 204 once it is back; then it may go again."""
    site.answers[token_issuer.DISCOVERY] = lambda: werkzeug.Response("{}", 500)
    status, sentence = post(service, site.signer.token())
    assert status == 503
    assert sentence.startswith("the keys of the callers' issuer cannot be read: the Kubernetes API answered 500")
    assert service.readiness()["callers"] == sentence
    del site.answers[token_issuer.DISCOVERY]
    until(service, site.signer.token(), 204)
    site.answers[KEYS] = lambda: werkzeug.Response("", 500)
    assert post(service, site.signer.token(jti="another"))[0] == 204


def test_an_issuer_that_hangs_stops_nobody_else(service: processes.Service, site: token_issuer.Web) -> None:
    """While 20 callers wait for a key, health is answered, and so is who is known."""
    signer = site.signer
    known = signer.token()
    assert post(service, known)[0] == 204
    over = threading.Event()

    def hang() -> werkzeug.Response:
        over.wait(30)
        return werkzeug.Response("{}", 500)

    site.answers[KEYS] = hang
    signer.rotate()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(post, service, signer.token(jti=str(number))) for number in range(20)]
        while site.times(KEYS) < 2:
            time.sleep(0.01)
        assert service.request("GET", "/health/liveness")[0] == 200
        assert [post(service, known)[0] for _ in range(20)] == [204] * 20
        assert not any(each.done() for each in waiting)
        assert {each.result(30)[0] for each in waiting} == {503}
        over.set()
    assert site.times(KEYS) == 2


def test_another_issuer_is_believed_where_it_is_named(
    door: Door, site: token_issuer.Web, tmp_path: pathlib.Path
) -> None:
    """OIDC_ISSUER with its authorities and subjects of one's own, in no cluster."""
    variables = {
        "OIDC_AUDIENCE": "vmledger",
        "OIDC_ISSUER": site.url,
        "OIDC_CA_FILE": site.ca_file,
        "OIDC_SUBJECTS": "robot:*, somebody",
    }
    with door(tmp_path / "log", variables) as service:
        assert post(service, site.signer.token(sub="robot:1"))[0] == 204
        assert post(service, site.signer.token(sub="somebody"))[0] == 204
        assert post(service, site.signer.token())[0] == 403
        assert post(service, token_issuer.Signer(site.url).token(sub="somebody"))[0] == 401
    assert site.shown == [None] * len(site.shown)


REFUSED = [
    ({"OIDC_AUDIENCE": "vmledger"}, "OIDC_ISSUER is missing"),
    ({"OIDC_AUDIENCE": "vmledger", "OIDC_ISSUER": "https://127.0.0.1:1"}, "OIDC_SUBJECTS is missing"),
    ({"OIDC_SUBJECTS": "*"}, "OIDC_AUDIENCE is missing"),
]


@pytest.mark.parametrize("command", [run.procfile(), [sys.executable, "-c", processes.FUNC]], ids=["gunicorn", "func"])
@pytest.mark.parametrize(("variables", "sentence"), REFUSED)
def test_a_check_that_cannot_be_made_stops_the_start(
    command: list[str], variables: dict[str, str], sentence: str
) -> None:
    """One line names the variable; the receiver never serves unchecked."""
    done = subprocess.run(
        command,
        cwd=processes.ROOT,
        env=processes.clean({**variables, "PORT": str(processes.free_port()), "LISTEN_ADDRESS": "127.0.0.1:0"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert len(re.findall(sentence, done.stderr)) == 1
    assert "Traceback" not in done.stderr
