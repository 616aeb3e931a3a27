"""From an Event to a webhook, over real HTTP to a Kubernetes API and a receiver."""

from __future__ import annotations

import concurrent.futures
import datetime
import email.utils
import gzip
import json
import logging
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_httpserver
import werkzeug

from function import logs, settings, wiring
from function.clients import kubernetes as kube
from function.scaling import capability as scaling
from function.scaling import sender, subscriptions
from tests import cluster, conftest

kubernetes, receiver, servers = cluster.kubernetes, cluster.receiver, cluster.servers

Post = Callable[..., tuple[int, str]]
SECRET_PATH = "/services/path-that-is-secret"
SECRETS = ("path-that-is-secret", "header-that-is-secret", "body-that-is-secret", cluster.TOKEN)


@pytest.fixture
def environ(kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> dict[str, str]:
    """The environment of the function: no database; loopback is opened, because the receiver is there."""
    return {
        "KUBECONFIG": kubernetes.kubeconfig(tmp_path),
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8",
        "WEBHOOK_TIMEOUT": "2",
    }


@pytest.fixture
def subscribed(kubernetes: cluster.Cluster, receiver: pytest_httpserver.HTTPServer) -> cluster.Cluster:
    """An HPA that asks for notices at the receiver."""
    kubernetes.hpa(hpa__event="shop/hook")
    put(kubernetes, receiver.url_for(SECRET_PATH))
    return kubernetes


def put(kubernetes: cluster.Cluster, url: str, **keys: str) -> None:
    """Put the Secret."""
    headers = '{"X-Key": "header-that-is-secret"}'
    body = cluster.BODY.replace("{", '{"routing_key": "body-that-is-secret", ', 1)
    kubernetes.secret(**{"url": url, "headers": headers, "body": body, **keys})


@pytest.fixture
def post(environ: dict[str, str]) -> Iterator[Post]:
    """Send an event to the function; return the status, and the sentence where there is one."""
    built: list[wiring.Service] = []

    def send(document: Any, **more: str) -> tuple[int, str]:
        if not built or more:
            built.append(wiring.Service(settings.Settings.from_env({**environ, **more})))
        kind = "application/cloudevents-batch+json" if isinstance(document, list) else cluster.STRUCTURED
        response = built[-1].app.test_client().post("/", data=json.dumps(document), content_type=kind)
        return response.status_code, json.loads(response.data)["error"] if response.data else ""

    yield send
    for each in built:
        each.close()


def ok(receiver: pytest_httpserver.HTTPServer) -> None:
    """Let the receiver take everything."""
    receiver.expect_request(SECRET_PATH).respond_with_data("ok", 201)


def refuse_port() -> str:
    """Return a url that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


# --- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("up", 1),
        ("down-counted", 1),
        ("aggregated", 1),
        ("recreated", 1),
        ("events-v1", 1),
        ("failed-rescale", 1),
        ("failed-quotes", 0),
        ("expired", 0),
        ("reference", 0),
        ("pod", 0),
    ],
)
@pytest.mark.usefixtures("subscribed")
def test_each_sample_is_told_or_not(name: str, told: int, post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """And each is answered 204: none of them is anybody's mistake."""
    ok(receiver)
    assert (post(cluster.now(name)), len(receiver.log)) == ((204, ""), told)


@pytest.mark.usefixtures("subscribed")
def test_an_event_of_a_cluster_that_is_not_taken_here_notifies_nobody(
    post: Post, receiver: pytest_httpserver.HTTPServer
) -> None:
    """422 and the setting's name; one that CLUSTERS lists is told."""
    ok(receiver)
    status, sentence = post({**cluster.now("up"), "cluster": "west"})
    assert (status, "CLUSTERS" in sentence, len(receiver.log)) == (422, True, 0)
    assert post({**cluster.now("up"), "cluster": "west"}, CLUSTERS="west") == (204, "")
    assert len(receiver.log) == 1


@pytest.mark.usefixtures("subscribed")
def test_the_request_is_what_the_secret_says(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """Rendered, with its headers, at the occurrence's own time, size as a number."""
    ok(receiver)
    post(cluster.sample("aggregated"), HPA_MAX_AGE="0")
    [body] = cluster.bodies(receiver)
    assert (body["at"], body["size"]) == (1778482700000, 31)
    assert body["text"].startswith("shop/cart: New size: 31; reason: external metric kafka-lag(&LabelSelector{")
    [headers] = cluster.headers(receiver)
    assert (headers["X-Key"], headers["Content-Type"]) == ("header-that-is-secret", "application/json")
    assert headers["Idempotency-Key"] == body["key"]
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.usefixtures("subscribed")
def test_binary_and_batched_events_are_told_too(environ: dict[str, str], post: Post, receiver: Any) -> None:
    """Knative sends binary mode; both occurrences of a batch are told, and the one that is none is not."""
    ok(receiver)
    event = cluster.now("up")
    data = event.pop("data")
    headers = {f"ce-{name}": value for name, value in event.items() if name != "datacontenttype"}
    built = wiring.Service(settings.Settings.from_env(environ))
    sent = built.app.test_client().post(
        "/", data=json.dumps(data), headers={**headers, "Content-Type": "application/json"}
    )
    built.close()
    assert (sent.status_code, len(receiver.log)) == (204, 1)
    assert post([cluster.now("down-counted"), cluster.now("pod"), cluster.now("aggregated")]) == (204, "")
    assert len(receiver.log) == 3


@pytest.mark.usefixtures("subscribed")
def test_an_occurrence_is_told_once(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """Whatever the API group, the ce-id and what else changed in the Event; a later count is told again."""
    ok(receiver)
    event, other = cluster.now("up", 5), cluster.now("events-v1", 5)
    other["data"]["deprecatedLastTimestamp"] = event["data"]["lastTimestamp"]
    again = {**event, "id": "again", "type": "dev.knative.apiserver.resource.update"}
    assert [post(event), post(other), post(again), len(receiver.log)] == [(204, "")] * 3 + [1]
    assert (post(cluster.now("recreated", 1)), len(receiver.log)) == ((204, ""), 2)


@pytest.mark.usefixtures("subscribed")
def test_yesterday_wakes_nobody(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """What is older than HPA_MAX_AGE is dropped; a higher limit lets it through."""
    ok(receiver)
    assert (post(cluster.now("up", 3700)), len(receiver.log)) == ((204, ""), 0)
    assert (post(cluster.now("up", 3700), HPA_MAX_AGE="7200"), len(receiver.log)) == ((204, ""), 1)


def test_a_reference_is_warned_about(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    """The warning says what to change."""
    post(cluster.sample("reference"))
    assert "use mode: Resource" in caplog.text


# --- which reasons, how often ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "annotation", "told"),
    [
        ("", "", ["SuccessfulRescale", "FailedRescale"]),
        ("*", "", ["SuccessfulRescale", "FailedRescale", "FailedGetScale"]),
        ("FailedGetScale", "", ["FailedGetScale"]),
        ("", "*", ["SuccessfulRescale", "FailedRescale", "FailedGetScale"]),
        ("*", "FailedRescale, FailedGetScale", ["FailedRescale", "FailedGetScale"]),
    ],
)
def test_reasons_are_chosen_by_the_deployment_and_by_the_hpa(
    setting: str, annotation: str, told: list[str], post: Post, subscribed: cluster.Cluster, receiver: Any
) -> None:
    """HPA_REASONS, and the annotation hpa-event/reasons over it."""
    ok(receiver)
    put(subscribed, receiver.url_for(SECRET_PATH), body='"_reason_"')
    if annotation:
        subscribed.hpa(hpa__event="hook", hpa__event___reasons=annotation)
    for name in ("up", "failed-rescale", "failed-quotes"):
        assert post(cluster.now(name), **({"HPA_REASONS": setting} if name == "up" else {})) == (204, "")
    assert cluster.bodies(receiver) == told


@pytest.mark.parametrize(
    ("throttle", "name", "told"),
    [("", "up", 3), ("", "failed-rescale", 1), ("600", "up", 1), ("0", "failed-rescale", 3)],
)
@pytest.mark.usefixtures("subscribed")
def test_failures_are_throttled_and_rescales_are_not(
    throttle: str, name: str, told: int, post: Post, receiver: pytest_httpserver.HTTPServer
) -> None:
    """HPA_THROTTLE, once set, is for every reason."""
    ok(receiver)
    for ago in (30, 20, 10):
        more = {"HPA_THROTTLE": throttle} if ago == 30 else {}
        assert post(cluster.now(name, ago), **more) == (204, "")
    assert len(receiver.log) == told


@pytest.mark.usefixtures("subscribed")
def test_a_throttle_ends_and_is_for_one_hpa_and_reason(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """Other reasons are told meanwhile, and after its seconds the same one is."""
    ok(receiver)
    assert post(cluster.now("up", 30), HPA_THROTTLE="1") == (204, "")
    assert (post(cluster.now("failed-rescale")), len(receiver.log)) == ((204, ""), 2)
    throttled = cluster.now("up", 20)
    assert (post(throttled), len(receiver.log)) == ((204, ""), 2)
    time.sleep(1.1)
    assert (post(throttled), len(receiver.log)) == ((204, ""), 2), "a throttled one stays untold"
    assert (post(cluster.now("up", 10)), len(receiver.log)) == ((204, ""), 3)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.usefixtures("subscribed")
def test_three_hundred_forged_events_notify_25_times(
    batch: bool, post: Post, receiver: pytest_httpserver.HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One by one or in one request: 204 for each, one warning that counts them, and no more than Kubernetes sends."""
    ok(receiver)
    forged = [cluster.now("up", number % 60, message=f"New size: {number}; reason: x") for number in range(300)]
    caplog.set_level(logging.INFO)
    if batch:
        assert post(forged) == (204, "")
    else:
        assert {post(event) for event in forged} == {(204, "")}
    assert len(receiver.log) == 25
    [warning] = [record for record in caplog.records if getattr(record, "action", "") == "scaling.implausible"]
    assert warning.getMessage() == (
        "there are more Events about this HPA than its controller can have sent, 25 at once and then one in 300"
        " seconds: 1 so far notify nobody"
    )
    assert len([record for record in caplog.records if record.getMessage() == "implausible"]) == 275
    assert post(forged[0]) == (204, "")
    assert post(cluster.now("up", 1, message="New size: 1000; reason: x")) == (204, "")
    assert len(receiver.log) == 25


@pytest.mark.usefixtures("subscribed")
def test_a_retry_is_never_above_the_rate(
    post: Post, receiver: pytest_httpserver.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was let through and could not be sent keeps its place, and takes no other's."""
    monkeypatch.setattr(sender, "PAUSES", (0.0, 0.0))
    events = [cluster.now("up", number, message=f"New size: {number}; reason: x") for number in range(30)]
    for _ in range(25):
        answers(receiver, 400)
    assert [post(event)[0] for event in events] == [422] * 25 + [204] * 5
    receiver.clear()
    ok(receiver)
    assert [post(event)[0] for event in events] == [204] * 30
    assert len(receiver.log) == 25


# --- what the cluster says ------------------------------------------------------------------------------------------


def test_who_does_not_ask_is_not_told(post: Post, kubernetes: cluster.Cluster) -> None:
    """An HPA that is gone, or has no annotation, is 204."""
    assert post(cluster.now("up")) == (204, "")
    kubernetes.hpa()
    assert post(cluster.now("up")) == (204, "")


@pytest.mark.parametrize("annotation", ["hook", "shop/hook"])
def test_the_annotation_may_be_renamed(
    annotation: str, post: Post, subscribed: cluster.Cluster, receiver: pytest_httpserver.HTTPServer
) -> None:
    """By HPA_ANNOTATION; the annotation about reasons keeps its name."""
    ok(receiver)
    subscribed.hpa(acme__io___notify=annotation, hpa__event___reasons="SuccessfulRescale")
    subscribed.objects[cluster.HPA.format("shop", "cart")]["metadata"]["annotations"]["acme.io/notify"] = annotation
    assert (post(cluster.now("up"), HPA_ANNOTATION="acme.io/notify"), len(receiver.log)) == ((204, ""), 1)
    assert (post(cluster.now("failed-rescale")), len(receiver.log)) == ((204, ""), 1)


@pytest.mark.parametrize("annotation", ["", "/", "a/b/c", "shop/", "/hook", "Shop/hook", "../../x", "a b"])
def test_a_malformed_annotation_is_422(annotation: str, post: Post, subscribed: cluster.Cluster) -> None:
    """And says what it should be."""
    subscribed.hpa(hpa__event=annotation)
    status, sentence = post(cluster.now("up"))
    assert (status, "must be namespace/secret or secret" in sentence) == (422, True)
    assert len(subscribed.reads) == 1


def test_another_namespaces_secret_is_422_unless_allowed(
    post: Post, subscribed: cluster.Cluster, receiver: pytest_httpserver.HTTPServer
) -> None:
    """HPA_SECRET_NAMESPACES allows it; without that the Secret is not even read."""
    ok(receiver)
    subscribed.hpa(hpa__event="platform/hook")
    status, sentence = post(cluster.now("up"))
    assert (status, "HPA_SECRET_NAMESPACES" in sentence) == (422, True)
    assert not [path for path in subscribed.reads if "secrets" in path]
    subscribed.secret(namespace="platform", url=receiver.url_for(SECRET_PATH), body="{}")
    assert post(cluster.now("up"), HPA_SECRET_NAMESPACES="other,platform") == (204, "")
    assert len(receiver.log) == 1


def test_a_missing_secret_is_422_and_works_once_it_is_there(
    post: Post, kubernetes: cluster.Cluster, receiver: pytest_httpserver.HTTPServer
) -> None:
    """What is missing is not remembered as missing."""
    ok(receiver)
    kubernetes.hpa(hpa__event="hook")
    status, sentence = post(cluster.now("up", 1))
    assert (status, sentence) == (422, "Secret shop/hook does not exist, and the annotation of the HPA names it")
    put(kubernetes, receiver.url_for(SECRET_PATH))
    assert (post(cluster.now("up", 1)), len(receiver.log)) == ((204, ""), 1)


def test_a_malformed_secret_is_422_and_works_once_it_is_repaired(
    post: Post, subscribed: cluster.Cluster, receiver: pytest_httpserver.HTTPServer
) -> None:
    """The sentence names the key and not its value; the repair is seen at once."""
    ok(receiver)
    put(subscribed, receiver.url_for(SECRET_PATH), body='{"body-that-is-secret": _oops_}')
    status, sentence = post(cluster.now("up", 1))
    assert (status, sentence) == (
        422,
        "Secret shop/hook: the key body is not JSON: Expecting value at line 1 column 25",
    )
    put(subscribed, receiver.url_for(SECRET_PATH))
    assert (post(cluster.now("up", 1)), len(receiver.log)) == ((204, ""), 1)


def test_a_changed_secret_is_used_within_seconds(
    post: Post, subscribed: cluster.Cluster, receiver: pytest_httpserver.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is kept for a moment, so that a burst costs one reading, and read again after it."""
    monkeypatch.setattr(subscriptions, "KEPT_SECONDS", 0.5)
    ok(receiver)
    for ago in range(5, 20, 3):
        post(cluster.now("up", ago))
    assert len(subscribed.reads) == 2
    put(subscribed, receiver.url_for(SECRET_PATH), body='"changed"')
    time.sleep(0.6)
    post(cluster.now("up"))
    assert cluster.bodies(receiver)[-1] == "changed"
    assert subscriptions.KEPT_SECONDS < 10


@pytest.mark.parametrize(
    ("part", "failure", "status", "words"),
    [
        ("horizontal", 403, 422, "needs a Role or ClusterRole with the verb get on horizontalpodautoscalers"),
        ("secrets", 403, 422, "forbids this function to get secrets in namespace shop"),
        ("horizontal", 401, 503, "does not take this function's token (401)"),
        ("secrets", 500, 503, "answered 500 to the reading of secrets"),
        ("horizontal", 503, 503, "answered 503"),
        ("horizontal", 429, 503, "answered 429"),
    ],
)
def test_what_the_kubernetes_api_refuses_is_told_apart(
    part: str, failure: int, status: int, words: str, post: Post, subscribed: cluster.Cluster, receiver: Any
) -> None:
    """Forbidden can only be repaired; all else may pass, and once it has, the event is told."""
    ok(receiver)
    subscribed.failures[part] = failure
    found, sentence = post(cluster.now("up", 1))
    assert (found, words in sentence) == (status, True), sentence
    subscribed.failures.clear()
    assert (post(cluster.now("up", 1)), len(receiver.log)) == ((204, ""), 1)


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ("<html>", 200, 503),
        ("[1]", 200, 503),
        ("{", 500, 503),
        ("[]", 403, 422),
        ("<html>", 403, 422),
        ("not found", 404, 204),
        ("", 404, 204),
        ("", 302, 503),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_answers_that_are_no_kubernetes_apis_are_survived(
    kind: str, body: str, code: int, status: int, environ: dict[str, str], post: Post, kubernetes: cluster.Cluster
) -> None:
    """A proxy in between may say anything."""
    kubernetes.server.clear()
    kubernetes.server.expect_request(cluster.any_path()).respond_with_data(body, code, content_type=kind)
    assert post(cluster.now("up"))[0] == status


def test_an_api_that_is_away_is_503(post: Post, kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """Without the client's words."""
    file = pathlib.Path(kubernetes.kubeconfig(tmp_path))
    file.write_text(file.read_text().replace(kubernetes.server.url_for("").rstrip("/"), refuse_port().rstrip("/")))
    status, sentence = post(cluster.now("up"))
    assert (status, sentence) == (503, "the Kubernetes API gives no usable answer now: it cannot be connected to")


def test_without_a_kubernetes_api_what_would_notify_is_422(post: Post) -> None:
    """What would not is 204 as ever."""
    off = {"KUBECONFIG": ""}
    assert post(cluster.now("up"), **off) == (422, scaling.NO_API)
    assert [post(cluster.now(name)) for name in ("pod", "expired", "failed-quotes", "reference")] == [(204, "")] * 4
    assert post(cluster.now("up", 4000)) == (204, "")


def test_a_kubeconfig_that_cannot_be_used_is_503(post: Post, tmp_path: pathlib.Path) -> None:
    """With a sentence that says where to look, and nothing of the file."""
    for text in ("password: hunter2: x", "users: []", "", json.dumps({"current-context": "x", "contexts": []})):
        broken = tmp_path / "broken"
        broken.write_text(text)
        status, sentence = post(cluster.now("up"), KUBECONFIG=str(broken))
        assert (status, "KUBECONFIG" in sentence, "hunter2" in sentence) == (503, True, False)
    assert post(cluster.now("up"), KUBECONFIG=str(tmp_path / "missing"))[0] == 503


def test_a_rotated_token_is_used(kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """The ServiceAccount's file is read again when the API no longer takes what it held."""
    (tmp_path / "token").write_text("first")
    config_file = pathlib.Path(kubernetes.kubeconfig(tmp_path))
    document = json.loads(config_file.read_text())
    document["users"][0]["user"] = {"tokenFile": str(tmp_path / "token")}
    config_file.write_text(json.dumps(document))
    kubernetes.hpa()
    kubernetes.tokens = {"first"}
    api = kube.Kube(settings.Settings.from_env({"KUBECONFIG": str(config_file)}).kubernetes)
    assert api.get(kube.HPAS, namespace="shop", name="cart") is not None
    (tmp_path / "token").write_text("second\n")
    kubernetes.tokens = {"second"}
    assert api.get(kube.HPAS, namespace="shop", name="cart") is not None
    api.close()


# --- what the receiver says -----------------------------------------------------------------------------------------


def answers(receiver: pytest_httpserver.HTTPServer, *statuses: int, **headers: str) -> None:
    """Let the receiver answer these, one after the other."""
    for status in statuses:
        receiver.expect_ordered_request(SECRET_PATH).respond_with_data("no", status, headers)


@pytest.mark.usefixtures("subscribed")
def test_a_receiver_that_fails_twice_is_asked_a_third_time(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """500, 500, 200: told, by the same idempotency key."""
    answers(receiver, 500, 500, 200)
    assert post(cluster.now("up")) == (204, "")
    assert len({headers["Idempotency-Key"] for headers in cluster.headers(receiver)}) == 1
    assert len(receiver.log) == 3


@pytest.mark.parametrize("failing", [408, 429, 500, 502, 503, 504])
@pytest.mark.usefixtures("subscribed")
def test_a_receiver_that_keeps_failing_is_503_and_the_event_may_come_again(
    failing: int, post: Post, receiver: pytest_httpserver.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three POSTs, then Knative's turn; its retry is told at once, because nothing was."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    answers(receiver, failing, failing, failing, 200)
    status, sentence = post(cluster.now("up", 1))
    assert (status, sentence) == (503, f"the webhook of Secret shop/hook answered {failing}; it was asked 3 times")
    assert (post(cluster.now("up", 1)), len(receiver.log)) == ((204, ""), 4)


@pytest.mark.parametrize("refusing", [400, 401, 403, 404, 410, 413, 422])
@pytest.mark.usefixtures("subscribed")
def test_a_receiver_that_refuses_is_422(refusing: int, post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """Asked once; the status is in the sentence; a replay later is tried again."""
    answers(receiver, refusing, 200)
    assert post(cluster.now("up", 1)) == (422, f"the webhook of Secret shop/hook answered {refusing}")
    assert (post(cluster.now("up", 1)), len(receiver.log)) == ((204, ""), 2)


TEAMS = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 4{} with ContextId x"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"errcode":310000,"errmsg":"keywords not in content"}', "answered 200 with an error in its body, 310000"),
        ('{"ok":false,"error":"channel_not_found"}', "answered 200 with an error in its body, channel_not_found"),
        (TEAMS.format("00"), "answered 200 with an error in its body, 400"),
        ('{"code":19024,"msg":"Key Words Not Found"}', "answered 200 with an error in its body, 19024"),
        ('{"ok":false,"error":"invalid token xoxb-1"}', "answered 200 with an error in its body"),
    ],
)
@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.usefixtures("subscribed")
def test_an_error_in_the_body_of_a_2xx_is_422(
    answer: str, says: str, status: int, post: Post, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not told: asked once, said why, and a replay is tried again."""
    caplog.set_level(logging.INFO)
    receiver.expect_ordered_request(SECRET_PATH).respond_with_data(answer, status)
    answers(receiver, 200)
    sentence = f"the webhook of Secret shop/hook {says.replace('200', str(status), 1)}"
    assert post(cluster.now("up", 1)) == (422, sentence)
    assert sentence in caplog.text
    assert "notified" not in [record.getMessage() for record in caplog.records]
    assert (post(cluster.now("up", 1)), len(receiver.log)) == ((204, ""), 2)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('{"errcode":130101,"errmsg":"send too fast"}', ", 130101"),
        ('{"ok":false,"error":"ratelimited"}', ", ratelimited"),
        (TEAMS.format("29"), ", 429"),
        ("Webhook message delivery failed with error: Error contacting Microsoft Teams endpoint", ""),
    ],
)
@pytest.mark.usefixtures("subscribed")
def test_a_rate_limit_in_the_body_of_a_2xx_is_503(
    answer: str, code: str, post: Post, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again here, then left to Knative; what passes meanwhile is told."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    for _ in range(5):
        receiver.expect_ordered_request(SECRET_PATH).respond_with_data(answer, 200)
    answers(receiver, 200)
    says = f"answered 200 with an error in its body{code}; it was asked 3 times"
    assert post(cluster.now("up", 1)) == (503, f"the webhook of Secret shop/hook {says}")
    assert (post(cluster.now("up", 1)), len(receiver.log)) == ((204, ""), 6)


@pytest.mark.usefixtures("subscribed")
def test_a_long_wait_in_the_body_is_left_to_knative(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """As Telegram says it; the header Retry-After would win."""
    answer = '{"ok":false,"error_code":429,"parameters":{"retry_after":30}}'
    receiver.expect_request(SECRET_PATH).respond_with_data(answer, 200)
    status, sentence = post(cluster.now("up"))
    says = "answered 200 with an error in its body, 429; it was asked once"
    assert (status, sentence) == (503, f"the webhook of Secret shop/hook {says}")


@pytest.mark.parametrize(
    ("success", "answer", "status"),
    [
        ('{"errno": 0}', '{"errno":0}', 204),
        ('{"errno": 0}', '{"errno":4}', 422),
        ('{"errno": 0}', "", 422),
        ('"accepted"', "accepted\n", 204),
        ('"accepted"', "received", 422),
        ("status", '{"ok":false}', 204),
        ("", '{"ok":false}', 422),
    ],
)
def test_a_secret_says_what_a_success_is(
    success: str, answer: str, status: int, post: Post, subscribed: cluster.Cluster, receiver: Any
) -> None:
    """In its key success, for a receiver whose convention is not known here."""
    receiver.expect_request(SECRET_PATH).respond_with_data(answer, 200)
    put(subscribed, receiver.url_for(SECRET_PATH), success=success)
    assert post(cluster.now("up"))[0] == status


@pytest.mark.parametrize(("success", "status"), [("", 204), ('{"errno": 0}', 503)])
def test_an_answer_that_is_not_whole_is_judged_by_what_it_says(
    success: str, status: int, post: Post, subscribed: cluster.Cluster, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than 64 KiB: a success where nothing speaks against it, and not yet one where the Secret asks for more."""
    monkeypatch.setattr(sender, "PAUSES", (0.0, 0.0))
    receiver.expect_request(SECRET_PATH).respond_with_data('{"x":"' + "x" * 300_000 + '","errno":0}', 200)
    put(subscribed, receiver.url_for(SECRET_PATH), success=success)
    assert post(cluster.now("up"))[0] == status


@pytest.mark.parametrize("how", ["close", "chunked", "gzip", "http/1.0"])
def test_the_body_of_a_2xx_is_read_however_it_ends(how: str, post: Post, subscribed: cluster.Cluster) -> None:
    """By its length, by chunks or with its connection; packed too, though nobody asked for that."""
    body = b'{"errcode":7}'
    sent = {
        "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body,
        "http/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + body,
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n"
        + body[:6]
        + b"\r\n7\r\n"
        + body[6:]
        + b"\r\n0\r\n\r\n",
        "gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(body),
    }[how]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        put(subscribed, f"http://127.0.0.1:{listening.getsockname()[1]}/")
        expected = "the webhook of Secret shop/hook answered 200 with an error in its body, 7"
        assert post(cluster.now("up")) == (422, expected)
        server.join(5)


@pytest.mark.usefixtures("subscribed")
def test_a_code_that_repeats_what_was_sent_is_not_quoted(
    post: Post, subscribed: cluster.Cluster, receiver: Any
) -> None:
    """A receiver that answers with a part of the url, a header or the body must not bring it into a log."""
    words = ("topsecret_path", "topsecret_header", "topsecret_body")
    for word in words:
        receiver.expect_ordered_request("/topsecret_path").respond_with_data(f'{{"ok":false,"error":"{word.upper()}"}}')
    put(
        subscribed,
        receiver.url_for("/topsecret_path"),
        headers='{"X": "topsecret_header"}',
        body='{"x": "topsecret_body"}',
    )
    for ago in (1, 2, 3):
        assert post(cluster.now("up", ago)) == (
            422,
            "the webhook of Secret shop/hook answered 200 with an error in its body",
        )


@pytest.mark.parametrize("way", ["seconds", "fraction", "date"])
@pytest.mark.usefixtures("subscribed")
def test_a_short_retry_after_is_honoured(way: str, post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """As a number, as a fraction, which is rounded up, and as a date."""
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)
    said = {"seconds": "2", "fraction": "1.2", "date": email.utils.format_datetime(at, usegmt=True)}
    answers(receiver, 429, **{"Retry-After": said[way]})
    answers(receiver, 200)
    started = time.monotonic()
    assert post(cluster.now("up")) == (204, "")
    assert time.monotonic() - started > 1.8


@pytest.mark.parametrize("absurd", ["Mon, 01 Jan 2026 99999999999999999999:00:00 GMT", "-5", "soon", "1.5s", "1e9"])
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.usefixtures("subscribed")
def test_an_absurd_retry_after_is_none(absurd: str, status: int, post: Post, receiver: Any) -> None:
    """It neither fails a 2xx nor what comes after another answer."""
    answers(receiver, status, **{"Retry-After": absurd})
    answers(receiver, 200)
    assert (post(cluster.now("up")), len(receiver.log)) == ((204, ""), 1 if status == 200 else 2)


@pytest.mark.usefixtures("subscribed")
def test_a_long_retry_after_is_left_to_knative(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """Not waited for, and not ignored by asking sooner."""
    answers(receiver, 429, **{"Retry-After": "30"})
    status, sentence = post(cluster.now("up"))
    assert (status, sentence) == (503, "the webhook of Secret shop/hook answered 429; it was asked once")


@pytest.mark.usefixtures("subscribed")
def test_a_receiver_that_never_answers_is_503_in_time(environ: dict[str, str], post: Post, receiver: Any) -> None:
    """Three POSTs of WEBHOOK_TIMEOUT each."""
    stop = threading.Event()

    def hang(_: werkzeug.Request) -> werkzeug.Response:
        stop.wait(10)
        return werkzeug.Response("late")

    receiver.expect_request(SECRET_PATH).respond_with_handler(hang)
    started = time.monotonic()
    status, sentence = post(cluster.now("up"), WEBHOOK_TIMEOUT="0.3")
    assert (status, sentence) == (503, "the webhook of Secret shop/hook did not answer in time; it was asked 3 times")
    assert time.monotonic() - started < 5
    stop.set()


class Dripping(threading.Thread):
    """A receiver that sends its answer's head byte by byte, each in time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.connections: list[socket.socket] = []

    def run(self) -> None:
        """Drip into each connection in turn."""
        try:
            while True:
                connection, _ = self.socket.accept()
                self.connections.append(connection)
                connection.sendall(b"HTTP/1.1 ")
                for _ in range(200):
                    connection.sendall(b"2")
                    time.sleep(0.05)
        except OSError:
            return self.run() if self.socket.fileno() >= 0 else None

    def stop(self) -> None:
        """Close all."""
        for each in (self.socket, *self.connections):
            each.close()


def test_a_receiver_that_drips_is_503_in_time(post: Post, subscribed: cluster.Cluster) -> None:
    """A byte now and then is no answer."""
    dripping = Dripping()
    dripping.start()
    put(subscribed, f"http://127.0.0.1:{dripping.port}/")
    started = time.monotonic()
    assert post(cluster.now("up"), WEBHOOK_TIMEOUT="0.4")[0] == 503
    assert time.monotonic() - started < 5
    dripping.stop()


def test_an_answer_that_stops_in_its_midst_was_an_answer(post: Post, subscribed: cluster.Cluster) -> None:
    """The status is known; its rest is waited for a moment, however long WEBHOOK_TIMEOUT is."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def stall() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
            time.sleep(6)
            connection.close()

        server = threading.Thread(target=stall, daemon=True)
        server.start()
        put(subscribed, f"http://127.0.0.1:{listening.getsockname()[1]}/")
        started = time.monotonic()
        assert post(cluster.now("up"), WEBHOOK_TIMEOUT="10") == (204, "")
        assert time.monotonic() - started < 5.5
        server.join()


@pytest.mark.usefixtures("subscribed")
def test_a_long_answer_is_not_read_to_its_end(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """It was a 2xx; how much more it says is of no use."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65536
            yield b"x" * 65536

    receiver.expect_request(SECRET_PATH).respond_with_handler(lambda _: werkzeug.Response(endless(), 200))
    assert post(cluster.now("up")) == (204, "")
    assert sent < 50 * 2**20


def test_nobody_listening_is_503(post: Post, subscribed: cluster.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the operating system's or the client's words."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    put(subscribed, refuse_port())
    assert post(cluster.now("up")) == (
        503,
        "the webhook of Secret shop/hook cannot be connected to; it was asked 3 times",
    )


def test_a_name_that_does_not_resolve_is_503(
    post: Post, subscribed: cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a Service that is just being made."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    put(subscribed, "http://no-such-host.invalid/")
    status, sentence = post(cluster.now("up"), WEBHOOK_ALLOWED_HOSTS="")
    assert (status, "cannot be resolved now" in sentence) == (503, True)


@pytest.mark.usefixtures("subscribed")
def test_what_speaks_no_http_is_503(post: Post, subscribed: cluster.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor TLS: a plain server behind https."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    server = socket.create_server(("127.0.0.1", 0))

    def mumble() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(10)
                connection.sendall(b"220 smtp.example ESMTP\r\n")

    thread = threading.Thread(target=mumble, daemon=True)
    thread.start()
    for scheme in ("http", "https"):
        put(subscribed, f"{scheme}://127.0.0.1:{server.getsockname()[1]}/")
        assert post(cluster.now("up"))[0] == 503
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.mark.parametrize(("answered", "status"), [(200, 204), (404, 422)])
@pytest.mark.usefixtures("subscribed")
def test_a_database_that_goes_away_meanwhile_changes_no_answer(
    answered: int, status: int, url: str, post: Post, receiver: pytest_httpserver.HTTPServer, caplog: Any
) -> None:
    """What was sent is done, though it cannot be marked; what was refused is refused, though it stays claimed."""

    def gone(_: werkzeug.Request) -> werkzeug.Response:
        conftest.execute(url, "ALTER TABLE scaling_notices RENAME TO gone")
        return werkzeug.Response(status=answered)

    receiver.expect_request(SECRET_PATH).respond_with_handler(gone)
    assert post(cluster.now("up"), DATABASE_URL=url)[0] == status
    actions = {getattr(record, "action", "") for record in caplog.records}
    assert ("notice.unmarked" if status == 204 else "notice.unreleased") in actions


@pytest.mark.usefixtures("subscribed")
def test_a_database_that_is_away_sends_nothing(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """503: what cannot be claimed could be sent twice."""
    away = {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "DB_NAME": "x", "DB_TIMEOUT": "1"}
    assert (post(cluster.now("up"), **away)[0], receiver.log) == (503, [])


@pytest.mark.usefixtures("subscribed")
def test_a_batch_is_done_as_far_as_it_can_be(post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """What fails fails the request, and the rest was told all the same; a retry tells only what is left."""
    answers(receiver, 404, 200, 200)
    batch = [cluster.now("up", 9), cluster.now("failed-rescale", 6)]
    assert (post(batch)[0], len(receiver.log)) == (422, 2)
    assert (post(batch)[0], len(receiver.log)) == (204, 3)


# --- no weapon ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest/meta-data/", "/elsewhere"])
@pytest.mark.usefixtures("subscribed")
def test_a_redirect_is_not_followed(location: str, post: Post, receiver: pytest_httpserver.HTTPServer) -> None:
    """Wherever it leads: 422, with the status in the sentence."""
    answers(receiver, 307, Location=location)
    status, sentence = post(cluster.now("up"))
    expected = "the webhook of Secret shop/hook answered with a redirect, 307, and those are not followed"
    assert (status, sentence, len(receiver.log)) == (422, expected, 1)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{port}/", "a loopback address"),
        ("http://localhost:{port}/", "a loopback address"),
        ("http://2130706433:{port}/", "a loopback address"),
        ("http://0x7f.1:{port}/", "a loopback address"),
        ("http://[::ffff:127.0.0.1]:{port}/", "a loopback address"),
        ("http://0.0.0.0:{port}/", "an address that means this host"),
        ("http://169.254.169.254/latest/", "a link-local address"),
    ],
)
@pytest.mark.parametrize("allowed", ["", "localhost,*.*,*"])
def test_by_default_no_webhook_leads_to_this_host_or_to_metadata(
    url: str, why: str, allowed: str, post: Post, subscribed: cluster.Cluster, receiver: Any
) -> None:
    """However it is written, and whatever names are allowed; the url is not quoted."""
    put(subscribed, url.format(port=receiver.port))
    status, sentence = post(cluster.now("up"), WEBHOOK_ALLOWED_HOSTS=allowed)
    assert status == 422
    assert sentence == f"the url of Secret shop/hook leads to {why}, where no webhook may lead here"
    assert receiver.log == []


def test_the_kubernetes_api_is_closed_whatever_is_allowed(post: Post, subscribed: cluster.Cluster) -> None:
    """Its token is not sent there, but its network place would do."""
    reads = len(subscribed.reads)
    for host in ("127.0.0.1", "localhost"):
        put(subscribed, f"http://{host}:{subscribed.server.port}/api/v1/namespaces/shop/secrets")
        status, sentence = post(cluster.now("up"), WEBHOOK_ALLOWED_HOSTS="127.0.0.0/8,localhost,*")
        assert (status, "the Kubernetes API" in sentence) == (422, True)
    assert len(subscribed.reads) == reads + 4


def test_denied_hosts_win(post: Post, subscribed: cluster.Cluster, receiver: pytest_httpserver.HTTPServer) -> None:
    """Over a network that is allowed."""
    status, sentence = post(cluster.now("up"), WEBHOOK_DENIED_HOSTS="127.0.0.1")
    assert (status, "WEBHOOK_DENIED_HOSTS" in sentence, receiver.log) == (422, True, [])


def test_a_name_that_changes_its_mind_does_not_pass(
    subscribed: cluster.Cluster,
    environ: dict[str, str],
    receiver: pytest_httpserver.HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name is resolved once for each POST, and the address that was judged is the one connected to."""
    ok(receiver)
    resolved: list[str] = []
    real = socket.getaddrinfo

    def changing(host: str, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *rest, **more)
        resolved.append("127.0.0.1" if not resolved else "127.0.0.66")
        return real(resolved[-1], port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    put(subscribed, f"http://rebinding.example:{receiver.port}{SECRET_PATH}")
    built = wiring.Service(settings.Settings.from_env({**environ, "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"}))
    client = built.app.test_client()
    statuses = [
        client.post("/", data=json.dumps(cluster.now("up", ago)), content_type=cluster.STRUCTURED).status_code
        for ago in (1, 4)
    ]
    built.close()
    assert (statuses, resolved, len(receiver.log)) == ([204, 422], ["127.0.0.1", "127.0.0.66"], 1)
    assert receiver.log[0][0].headers["Host"] == f"rebinding.example:{receiver.port}"


def test_proxies_netrc_and_cookies_have_no_part_in_it(
    post: Post, subscribed: cluster.Cluster, receiver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """The environment could lead elsewhere or lend credentials, and a receiver could mark the next tenant's request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", f"127.0.0.1:{subscribed.server.port}")
    receiver.expect_request(SECRET_PATH).respond_with_data("ok", headers={"Set-Cookie": "a=b"})
    assert [post(cluster.now("up", ago)) for ago in (1, 4)] == [(204, "")] * 2
    assert not [1 for headers in cluster.headers(receiver) if "Authorization" in headers or "Cookie" in headers]


@pytest.mark.parametrize("failing", [None, 500, 404, "away", "redirect", "malformed"])
def test_no_secret_reaches_a_log_or_an_answer(
    failing: Any,
    post: Post,
    subscribed: cluster.Cluster,
    receiver: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At any level of logging, whatever goes wrong."""
    monkeypatch.setattr(sender, "PAUSES", (0.01, 0.01))
    logging.config.dictConfig({**logs.configuration("DEBUG"), "handlers": {}, "root": {"level": "DEBUG"}})
    logging.getLogger().addHandler(caplog.handler)
    caplog.handler.setLevel(logging.DEBUG)
    match failing:
        case "away":
            put(subscribed, refuse_port() + SECRET_PATH)
        case "redirect":
            answers(receiver, 302, Location=SECRET_PATH)
        case "malformed":
            put(subscribed, f"ftp:/{SECRET_PATH}")
        case _:
            receiver.expect_request(SECRET_PATH).respond_with_data("path-that-is-secret", failing or 200)
    _, sentence = post(cluster.now("up"))
    told = sentence + "\n".join(
        f"{record.getMessage()} {record.exc_text} {record.__dict__}"
        for record in caplog.records
        if record.name != "werkzeug"  # the test's own servers
    )
    assert not [secret for secret in SECRETS if secret in told]
    logging.config.dictConfig(logs.configuration("INFO"))


@pytest.mark.usefixtures("subscribed")
def test_an_unknown_placeholder_is_warned_about_once(
    post: Post, subscribed: cluster.Cluster, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """And is sent as it is."""
    ok(receiver)
    put(subscribed, receiver.url_for(SECRET_PATH), body='"_old_size_"')
    for ago in (1, 4, 7):
        post(cluster.now("up", ago))
    assert cluster.bodies(receiver) == ["_old_size_"] * 3
    assert len([record for record in caplog.records if "_old_size_" in record.getMessage()]) == 1


# --- at once --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("subscribed")
def test_duplicates_at_once_give_one_post_without_a_database(
    environ: dict[str, str], subscribed: cluster.Cluster, receiver: pytest_httpserver.HTTPServer
) -> None:
    """In one process: one is sent, and the others are answered 503 while it is, 204 after; none is 204 before."""
    release = threading.Event()

    def slow(_: werkzeug.Request) -> werkzeug.Response:
        release.wait(5)
        return werkzeug.Response("ok")

    receiver.expect_request(SECRET_PATH).respond_with_handler(slow)
    built = wiring.Service(settings.Settings.from_env(environ))
    body = json.dumps(cluster.now("up"))

    def send() -> int:
        return built.app.test_client().post("/", data=body, content_type=cluster.STRUCTURED).status_code

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(send) for _ in range(20)]
        time.sleep(0.5)
        early = [future.result() for future in futures if future.done()]
        release.set()
        statuses = [future.result(5) for future in futures]
    assert (set(early), sorted(statuses)) == ({503}, [204] + [503] * 19)
    assert (send(), len(receiver.log)) == (204, 1)
    assert len(subscribed.reads) == 2, "requests at the same time share a reading"
    built.close()
