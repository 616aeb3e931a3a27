"""The command render-webhook, and each preset rendered by it."""

from __future__ import annotations

import json
import pathlib
import socket
import subprocess
import sys
from typing import Any

import pytest
import yaml

from function import settings
from function.cli import main as command
from function.scaling import conventions, template
from tests import cluster

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PRESETS = ROOT / "k8s" / "examples" / "scaling" / "presets"
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData:
  url: https://user:hunter2@hooks.example.com:8443/hunter2?sig=hunter2
  headers: '{"Authorization": "Bearer hunter2", "X-Name": "_name_ hunter2"}'
  body: '{"routing_key": "hunter2", "nested": {"api_key": ["hunter2"], "dedup_key": "_hpa_uid_"}, "text": "_message_"}'
"""

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests, and no network: any use of one fails."""
    for variable in ("WEBHOOK_ALLOWED_HOSTS", "WEBHOOK_DENIED_HOSTS", "HPA_REASONS", "CLUSTER_NAME"):
        monkeypatch.delenv(variable, raising=False)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command over a Secret's text; return the exit code, what was printed, and what was said."""

    def run(secret: str, event: Any = None) -> tuple[int, str, str]:
        file = tmp_path / "secret.yaml"
        file.write_text(secret)
        arguments = ["render-webhook", str(file)]
        if event is not None:
            (tmp_path / "event.json").write_text(event if isinstance(event, str) else json.dumps(event))
            arguments.append(str(tmp_path / "event.json"))
        code = command.main(arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def body(printed: str) -> Any:
    """Return the JSON of the request that was printed."""
    return json.loads(printed.partition("\n\n")[2])


def test_the_request_is_printed_with_its_secrets_masked(run: Any) -> None:
    """The url's path, the headers' values and keys of the body; what an event brings is shown."""
    code, printed, said = run(SECRET)
    assert (code, said) == (0, "")
    lines = printed.splitlines()
    assert lines[0] == "POST https://hooks.example.com:8443/***"
    assert {"Authorization: ***", "X-Name: ***", "Content-Type: application/json"} < set(lines)
    assert body(printed) == {
        "routing_key": "***",
        "nested": {"api_key": ["***"], "dedup_key": "7f0b2c0e-9a41-4f0e-8d0a-2f5a0f4f6c11"},
        "text": "New size: 4; reason: cpu resource utilization (percentage of request) above target",
    }
    assert "hunter2" not in printed + said


def test_an_event_is_rendered(run: Any) -> None:
    """A CloudEvent in a file; a reason that does not notify by default is said."""
    code, printed, said = run(SECRET, cluster.sample("failed-quotes"))
    assert (code, body(printed)["text"]) == (0, 'deployments.apps "cart-v2" not found\n\\ it says "{"')
    assert "'FailedGetScale' notifies only if HPA_REASONS" in said


def test_an_unknown_placeholder_is_said(run: Any) -> None:
    """It is sent as it is, so it is no error."""
    code, printed, said = run(SECRET.replace("_message_", "_old_size_"))
    assert (code, body(printed)["text"]) == (0, "_old_size_")
    assert said == "note: _old_size_ is not a placeholder\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("https://user", "ftp://user", "Secret hook: the key url does not begin with http:// or https://"),
        ("url:", "uri:", "Secret hook: the key url is missing or empty"),
        ('"text": "_message_"}', "", "Secret hook: the key body is not JSON"),
        ('{"Authorization"', '["Authorization"', "Secret hook: the key headers is not JSON"),
        ("kind: Secret", "kind: ConfigMap", "holds no Secrets, and must hold one"),
        ("stringData:", "stringData:\n  success: '{hunter2'", "Secret hook: the key success is not JSON"),
        ("stringData:", "stringData: [hunter2", "is not YAML: the parser gave up at line"),
        ("hooks.example.com", "169.254.169.254", "the url leads to a link-local address"),
        ("hooks.example.com", "localhost", "the url leads to a loopback address"),
        ("hooks.example.com", "2130706433", "the url leads to a loopback address"),
        ("hooks.example.com", "kubernetes.default.svc", "the url leads to the Kubernetes API"),
    ],
)
def test_what_is_wrong_is_said_and_the_exit_code_is_1(old: str, new: str, words: str, run: Any) -> None:
    """Without a value of the Secret."""
    code, printed, said = run(SECRET.replace(old, new))
    assert (code, words in said, "hunter2" in printed + said) == (1, True, False), said


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("{", "the body is not JSON"),
        ({"kind": "Event"}, "not a CloudEvent"),
        (cluster.sample("pod"), "would notify nobody"),
        (cluster.sample("expired"), "would notify nobody"),
        (cluster.sample("reference"), "would notify nobody"),
    ],
)
def test_an_event_that_cannot_be_used_is_said(event: Any, words: str, run: Any) -> None:
    """And the exit code is 1."""
    code, printed, said = run(SECRET, event)
    assert (code, printed, words in said) == (1, "", True), said


def test_a_file_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, no traceback."""
    assert command.main(["render-webhook", "/nowhere/secret.yaml"]) == 1
    assert capsys.readouterr().err == "vmledger: /nowhere/secret.yaml cannot be read: No such file or directory\n"


def test_denied_and_allowed_hosts_count(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as a name tells."""
    monkeypatch.setenv("WEBHOOK_DENIED_HOSTS", "*.example.com")
    assert run(SECRET)[0] == 1
    monkeypatch.setenv("WEBHOOK_DENIED_HOSTS", "")
    monkeypatch.setenv("WEBHOOK_ALLOWED_HOSTS", "elsewhere.example")
    assert run(SECRET)[0] == 1
    monkeypatch.setenv("WEBHOOK_ALLOWED_HOSTS", "*.example.com")
    assert run(SECRET)[0] == 0


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["render-webhook", "--help"]])
def test_an_output_that_cannot_be_written_is_one_sentence(arguments: list[str]) -> None:
    """A full disk gives one sentence that says so and exit code 1."""
    with pathlib.Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "function", *arguments],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "vmledger: cannot write the output: No space left on device\n")


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """Every placeholder, and an example to paste."""
    assert command.main(["render-webhook", "--help"]) == 0
    printed = capsys.readouterr().out
    from function.scaling import placeholders

    assert not [name for name in placeholders.NAMES if f"_{name}_" not in printed]
    assert not [option for option in (":text_", ":or=", ":max=") if option not in printed]
    assert "kubectl create secret" in printed


MESSAGE = "New size: 4; reason: cpu resource utilization (percentage of request) above target"
AT = 1772615643
EXPECTED: dict[str, Any] = {
    "wavefront": {
        "name": "HPA Scaling",
        "annotations": {"severity": "info", "type": "scaling", "details": f"default/php-apache: {MESSAGE}"},
        "tags": ["Scale"],
        "startTime": AT * 1000,
        "endTime": AT * 1000 + 1,
    },
    "honeycomb": {"type": "scaling", "start_time": AT, "message": f"default/php-apache: {MESSAGE}"},
    "grafana": {
        "time": AT * 1000,
        "tags": ["hpa", "default/php-apache", "reason:SuccessfulRescale", "direction:up"],
        "text": f"default/php-apache: {MESSAGE}",
    },
    "slack": {"text": f":arrows_counterclockwise: *default/php-apache* {MESSAGE}"},
    "datadog": {
        "title": "HPA default/php-apache: SuccessfulRescale 4",
        "text": MESSAGE,
        "date_happened": AT,
        "alert_type": "info",
        "source_type_name": "kubernetes",
        "aggregation_key": "hpa:7f0b2c0e-9a41-4f0e-8d0a-2f5a0f4f6c11",
        "tags": [
            "kube_namespace:default",
            "kube_name:php-apache",
            "kube_kind:horizontalpodautoscaler",
            "kube_cluster_name:default",
        ],
    },
    "pagerduty": {
        "routing_key": "***",
        "payload": {
            "summary": f"HPA default/php-apache: {MESSAGE}",
            "source": "default/default/php-apache",
            "timestamp": "2026-03-04T09:14:03Z",
            "custom_details": {"reason": "SuccessfulRescale", "new_size": 4, "target": "Deployment/php-apache"},
        },
        "links": [],
    },
    "loki": {
        "streams": [
            {
                "stream": {"job": "hpa", "cluster": "default", "namespace": "default"},
                "values": [[f"{AT}000000000", f"default/php-apache: {MESSAGE}"]],
            }
        ]
    },
    "telegram": {"chat_id": "YOUR_CHAT_ID", "text": f"HPA default/php-apache: {MESSAGE}"},
    "dingtalk": {"msgtype": "text", "text": {"content": f"HPA default/php-apache: {MESSAGE}"}},
    "wecom": {"msgtype": "text", "text": {"content": f"HPA default/php-apache: {MESSAGE}"}},
    "feishu": {"msg_type": "text", "content": {"text": f"HPA default/php-apache: {MESSAGE}"}},
    "teams": {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        {"type": "TextBlock", "weight": "Bolder", "wrap": True, "text": "HPA default/php-apache"},
                        {"type": "TextBlock", "wrap": True, "text": MESSAGE},
                    ],
                },
            }
        ],
    },
}


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_each_preset_sends_what_its_receiver_wants(name: str, run: Any) -> None:
    """Times in its unit, numbers as numbers, no placeholder left."""
    code, printed, said = run((PRESETS / f"{name}.yaml").read_text())
    assert (code, said, body(printed)) == (0, "", EXPECTED[name])


ANSWERS: dict[str, tuple[list[str], list[str]]] = {
    "wavefront": (['{"status":{"result":"OK","message":"","code":200},"response":{"name":"HPA Scaling"}}'], []),
    "honeycomb": (['{"id":"x","type":"scaling","message":"error: x","start_time":1}'], ['{"error":"unknown API key"}']),
    "grafana": (['{"message":"Annotation added","id":1}'], []),
    "loki": ([""], []),
    "slack": (["ok"], ['{"ok":false,"error":"invalid_auth"}']),
    "datadog": (
        ['{"status":"ok","event":{"id":1,"title":"error"}}'],
        ['{"errors":["Forbidden"]}', '{"status":"error"}'],
    ),
    "pagerduty": (
        ['{"status":"success","message":"Change event processed"}'],
        ['{"status":"invalid event","errors":[]}'],
    ),
    "teams": (["", "1", '{"id":"1"}'], ["Webhook message delivery failed with error: HTTP error 400"]),
    "telegram": (['{"ok":true,"result":{"message_id":1}}'], ['{"ok":false,"error_code":403}', "<html></html>"]),
    "dingtalk": (['{"errcode":0,"errmsg":"ok"}'], ['{"errcode":310000,"errmsg":"keywords not in content"}', "", "{}"]),
    "wecom": (['{"errcode":0,"errmsg":"ok"}'], ['{"errcode":93000,"errmsg":"invalid webhook url"}', "ok"]),
    "feishu": (
        ['{"code":0,"msg":"success","data":{}}', '{"Extra":null,"StatusCode":0,"StatusMessage":"success"}'],
        ['{"code":19024,"msg":"Key Words Not Found","data":{}}'],
    ),
}
"""What each receiver answers with a 2xx: to a success, and to an error."""


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_preset_tells_its_receivers_errors_from_its_successes(name: str) -> None:
    """In the body of a 2xx, by the receiver's own convention."""
    secret = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    read = template.read(template.contents(secret, name), name)
    good, bad = ANSWERS[name]
    assert [conventions.refusal(body.encode(), read.success) for body in good] == [None] * len(good)
    assert all(conventions.refusal(body.encode(), read.success) for body in bad)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_preset_holds_no_token(name: str) -> None:
    """Whatever stands where a secret belongs says so, and all have the name that the sample HPA names."""
    secret = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    assert secret["metadata"] == {"name": "php-apache-webhook"}
    assert "YOUR_" in json.dumps(secret) or "/YOUR/" in secret["stringData"]["url"]


def documents(*folders: str) -> list[dict[str, Any]]:
    """Return every object of these folders' files."""
    files = [file for folder in folders for file in sorted((ROOT / "k8s" / folder).glob("*.yaml"))]
    return [each for file in files for each in yaml.safe_load_all(file.read_text()) if each]


def test_the_function_may_read_hpas_everywhere_and_secrets_nowhere() -> None:
    """The component gives no right on Secrets; the one that opts in gives get on one Secret of its namespace."""
    rules = [rule for each in documents("components/scaling") for rule in each.get("rules", [])]
    assert [(rule["resources"], rule["verbs"]) for rule in rules] == [
        (["horizontalpodautoscalers"], ["get"]),
        (["events"], ["get", "list", "watch"]),
    ]
    opted = [each for each in documents("examples/scaling") if each["kind"] == "Role"]
    assert [each["rules"] for each in opted] == [
        [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["php-apache-webhook"], "verbs": ["get"]}]
    ]
    assert not [each for each in documents("examples/scaling") if each["kind"].startswith("Cluster")]


def test_the_sample_hpa_names_the_sample_secret() -> None:
    """By the annotation's default name."""
    [hpa] = [each for each in documents("examples/scaling") if each["kind"] == "HorizontalPodAutoscaler"]
    assert hpa["metadata"]["annotations"] == {settings.Settings().scaling.annotation: "php-apache-webhook"}


def test_no_delete_is_delivered_and_every_trigger_has_a_dead_letter_sink() -> None:
    """An Event's expiry tells nothing."""
    triggers = [each["spec"] for each in documents("components/scaling") if each["kind"] == "Trigger"]
    assert [each["filter"]["attributes"] for each in triggers] == [
        {"type": f"dev.knative.apiserver.resource.{verb}", "kind": "Event"} for verb in ("add", "update")
    ]
    assert {each["delivery"]["deadLetterSink"]["ref"]["name"] for each in triggers} == {"vmledger-dead-letter"}
