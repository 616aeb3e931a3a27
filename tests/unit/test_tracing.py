"""Tracing is off unless a collector is named, and what cannot be done is refused."""

from __future__ import annotations

import subprocess
import sys

import certifi
import pytest

from function import errors, settings, wiring

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}
UNTRACED = """
import sys
from function import wiring
service = wiring.from_env({"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector/v1"})
attributes = '"specversion":"1.0","id":"1","source":"s","type":"t","traceparent":"00-%s-%s-01"' % ("a" * 32, "b" * 16)
service.handle(("{" + attributes + "}").encode())
assert service.app.test_client().post("/", json={}).status_code == 400
service.close()
print([name for name in sys.modules if name.startswith(("opentelemetry", "google"))])
"""


def test_without_a_collector_opentelemetry_is_not_imported() -> None:
    """The receiver handles events, and other variables of OpenTelemetry's change nothing."""
    ran = subprocess.run([sys.executable, "-c", UNTRACED], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, False),
        (ENDPOINT, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "False"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_SAMPLER": "mine"}, False),
    ],
)
def test_the_endpoint_alone_turns_tracing_on(environ: dict[str, str], *, is_on: bool) -> None:
    """And OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER turn it off."""
    assert settings.Settings.from_env(environ).tracing.on is is_on


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ],
)
def test_what_is_not_done_is_refused_by_its_name(variable: str, value: str) -> None:
    """OpenTelemetry would take its default instead, and its traces would go elsewhere or nowhere."""
    with pytest.raises(errors.BadSetting) as refusal:
        settings.Settings.from_env({**ENDPOINT, variable: value})
    assert refusal.value.variable == variable


@pytest.mark.parametrize("value", ["collector:4317", "grpc://collector:4317", "http://", "http://a b", "http://c:0"])
def test_the_endpoint_is_a_url(value: str) -> None:
    """A value without a scheme is what gRPC takes."""
    with pytest.raises(errors.BadSetting):
        settings.Settings.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": value})


def test_a_limit_that_is_no_number_stops_the_start_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads it, and would raise an error of its own."""
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "many")
    with pytest.raises(errors.BadSetting) as refusal:
        wiring.from_env(ENDPOINT)
    assert "many" not in str(refusal.value)


def test_a_file_of_certificates_that_is_not_there_is_said_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's own variable counts, whatever other clients are told to trust."""
    from function.clients import span_exporter

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    exporter = span_exporter.Exporter("https://127.0.0.1:1/v1/traces?key=hunter2")
    exporter.export([])
    exporter.export([])
    exporter.shutdown()
    lines = [line.getMessage() for line in caplog.records if line.name == span_exporter.__name__]
    [line] = lines
    assert line.startswith("traces cannot be sent: a file that OTEL_EXPORTER_OTLP_CERTIFICATE")


def test_traces_go_below_the_endpoint_unless_they_have_one_of_their_own() -> None:
    """As OpenTelemetry's specification has it."""
    assert settings.Settings.from_env(ENDPOINT).tracing.url == "http://collector:4318/v1/traces"
    own = {**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces/in"}
    assert settings.Settings.from_env(own).tracing.url == "http://traces/in"
