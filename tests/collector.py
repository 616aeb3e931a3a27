"""A collector of traces: a real HTTP server that takes OTLP, and what it has got."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import pytest_httpserver
import werkzeug
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from tests import cluster

SECONDS = 30
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENDER = "00f067aa0ba902b7"
"""The trace and the span that a sender's ``traceparent`` names."""


def traceparent(*, trace: str = TRACE, span: str = SENDER, sampled: bool = True) -> str:
    """Return a header of W3C's Trace Context."""
    return f"00-{trace}-{span}-{'01' if sampled else '00'}"


class Span(NamedTuple):
    """A span as it was received; ids in hexadecimal, links as (trace, span)."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: Mapping[str, Any]
    failed: bool
    resource: Mapping[str, Any]

    @property
    def place(self) -> tuple[str, str]:
        """What a link to this span names."""
        return self.trace, self.id


class Collector:
    """What was received at ``url``."""

    def __init__(self, server: pytest_httpserver.HTTPServer) -> None:
        self._server = server
        server.expect_request("/v1/traces", method="POST").respond_with_handler(self._take)
        self.url = server.url_for("").rstrip("/")
        self.requests: list[werkzeug.Request] = []
        self._spans: list[Span] = []

    def _take(self, request: werkzeug.Request) -> werkzeug.Response:
        self.requests.append(request)
        self._spans += _spans(request.get_data())
        return werkzeug.Response(b"", content_type="application/x-protobuf")

    def environ(self, **further: str) -> dict[str, str]:
        """Return the settings that send traces here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50", **further}

    def spans(self, name: str = "") -> list[Span]:
        """Return what has come, by default all of it."""
        return [span for span in self._spans if not name or span.name == name]

    def await_spans(self, enough: Callable[[Sequence[Span]], bool] | int, name: str = "") -> list[Span]:
        """Return the spans of that name once there are so many, or enough."""
        end = time.monotonic() + SECONDS
        while True:
            found = self.spans(name)
            if enough(found) if callable(enough) else len(found) >= enough:
                return found
            assert time.monotonic() < end, f"there are no such spans, only {self.spans()}"
            time.sleep(0.05)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes all it gets."""
    with cluster.server() as server:
        yield Collector(server)


def _spans(body: bytes) -> Iterator[Span]:
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, _attributes(resource.resource.attributes))


def _span(span: trace_pb2.Span, resource: Mapping[str, Any]) -> Span:
    return Span(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_attributes(span.attributes),
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        resource=resource,
    )


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}
