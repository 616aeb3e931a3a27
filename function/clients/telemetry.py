"""The door to a collector of traces: OpenTelemetry's SDK, which is imported only where traces are recorded.

The names of spans and attributes are those of OpenTelemetry's semantic conventions for messaging, CloudEvents, HTTP and
databases. A span holds no data of an event, no url of a webhook and no text of an error.

Spans are sent by a thread of the SDK's, which starts with this object: in a worker, after the fork. What a collector
that is away cannot take is dropped; nothing waits for it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.sdk import resources
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import export, sampling
from opentelemetry.trace.propagation import tracecontext

from function import errors, events, settings, tracing
from function.clients import span_exporter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PATHS = ("/", "/echo")
"""Where events are sent."""
MOST_TEXT = 1024
"""Characters of an attribute: an event's id may be as long as a header, and many spans wait to be sent."""
MOST_LINKS = 500
"""Links of a span: a group commit has no more requests. Of a batch, the first events are linked."""
CLOSE_SECONDS = 3.0
"""For what is still to be sent when the process ends: it has 20 seconds for everything."""
_PROCESS = {
    "messaging.system": "cloudevents",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "http.request.method": "POST",
}
_ATTRIBUTES = {
    "cloudevents.event_id": "id",
    "messaging.message.id": "id",
    "cloudevents.event_source": "source",
    "cloudevents.event_spec_version": "specversion",
    "cloudevents.event_type": "type",
    "cloudevents.event_subject": "subject",
}
_w3c = tracecontext.TraceContextTextMapPropagator()


class Telemetry:
    """Records spans, and sends them."""

    def __init__(self, part: settings.Tracing, *, version: str) -> None:
        self._provider = sdk.TracerProvider(
            sampler=_sampler(part),
            resource=_resource(part, version),
            shutdown_on_exit=False,  # close() does it, within a bound
            span_limits=_limits(),
        )
        processor = export.BatchSpanProcessor(
            span_exporter.Exporter(part.url),
            max_queue_size=part.queue,
            max_export_batch_size=part.batch,
            schedule_delay_millis=part.delay,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("vmledger", version)

    def application(self, inner: WSGIApplication) -> WSGIApplication:
        """Return an application that records a span for each request with events."""

        def traced(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            path = environ["PATH_INFO"] or "/"
            if environ["REQUEST_METHOD"] != "POST" or path not in PATHS:
                return inner(environ, start_response)
            with self._request(environ, path) as span:

                def started(status: str, headers: Any, exc_info: Any = None) -> Any:
                    _answer(span, int(status[:3]), least=400)
                    return start_response(status, headers, exc_info)

                return inner(environ, started)

        return traced

    def _request(self, environ: WSGIEnvironment, path: str) -> contextlib.AbstractContextManager[trace.Span]:
        """Begin the span of a request; its parent is what the sender's headers name."""
        span = self._tracer.start_span(
            f"process {path}",
            context=_context(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE")),
            kind=trace.SpanKind.CONSUMER,
            attributes={
                **_PROCESS,
                "messaging.destination.name": path,
                "http.route": path,
                "url.path": path,
                "url.scheme": environ["wsgi.url_scheme"],
            },
        )
        return trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)

    def events(self, batch: Sequence[events.Event]) -> None:
        """Note which events the current request has brought, and link the traces that they began in."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        if len(batch) == 1:
            given = batch[0].attributes
            span.set_attributes({key: _text(given[name]) for key, name in _ATTRIBUTES.items() if given.get(name)})
        else:
            span.set_attribute("messaging.batch.message_count", len(batch))
        for event in itertools.islice(batch, MOST_LINKS):
            origin = event.attributes.get("traceparent")
            if origin:
                span.add_link(_span_context(_context(origin, event.attributes.get("tracestate"))))

    def here(self) -> tracing.Place:
        """Return the current request's span; None where there is none that is recorded."""
        span = trace.get_current_span()
        return span if span.is_recording() else None

    @contextlib.contextmanager
    def write(
        self, places: Iterable[tracing.Place], tables: Callable[[], Sequence[str]], changes: int
    ) -> Iterator[None]:
        """Record the write of some changes; without a request that is recorded, it is not either.

        The span stands in the trace of the first request and links to all; the spans of the others link to it.
        """
        spans: list[trace.Span] = [place for place in places if place is not None]
        if not spans:
            yield
            return
        names = tables()
        written = self._tracer.start_span(
            f"store {' '.join(names)}",
            context=trace.set_span_in_context(spans[0], context.Context()),
            kind=trace.SpanKind.CLIENT,
            attributes={
                "db.system.name": "postgresql",
                "db.operation.name": "store",
                "db.operation.batch.size": changes,
                **({"db.collection.name": names[0]} if len(names) == 1 else {}),  # there is no name for several
            },
            links=[trace.Link(span.get_span_context()) for span in spans],
        )
        for span in spans[1:]:
            span.add_link(written.get_span_context())
        with _ending(written):
            yield

    @contextlib.contextmanager
    def call(self, webhook: str, attempt: int) -> Iterator[tracing.Call]:
        """Record a POST to a webhook; the url and the host are secrets, so the span names the Secret."""
        span = self._tracer.start_span(
            "POST",
            kind=trace.SpanKind.CLIENT,
            attributes={"http.request.method": "POST", "vmledger.webhook": webhook},
        )
        if attempt > 1:
            span.set_attribute("http.request.resend_count", attempt - 1)
        with _ending(span):
            yield _Call(span)

    def log_fields(self) -> Mapping[str, object]:
        """Return the ids of the current span, for a line of the log; nothing where there is none."""
        current = trace.get_current_span().get_span_context()
        if not current.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(current.trace_id), "span_id": trace.format_span_id(current.span_id)}

    def close(self) -> None:
        """Send what was recorded, within CLOSE_SECONDS; the rest is dropped."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class _Call:
    """The span of a request to a webhook."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.headers: dict[str, str] = {}
        _w3c.inject(self.headers, trace.set_span_in_context(span))

    def answered(self, status: int) -> None:
        _answer(self._span, status, least=300)

    def failed(self, why: str) -> None:
        _fail(self._span, why)


def _limits() -> sdk.SpanLimits:
    """Return what a span may hold; what is not ours to say, the SDK reads from its variables."""
    try:
        return sdk.SpanLimits(max_links=MOST_LINKS, max_attribute_length=MOST_TEXT, max_span_attribute_length=MOST_TEXT)
    except ValueError:
        raise errors.BadSetting("OTEL_*_LIMIT", "must be whole numbers: one of them is not") from None


def _sampler(part: settings.Tracing) -> sampling.Sampler:
    name = part.sampler.lower()
    root = {
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
        "traceidratio": sampling.TraceIdRatioBased(part.ratio),
    }[name.removeprefix(settings.PARENT)]
    return sampling.ParentBased(root) if name.startswith(settings.PARENT) else root


def _resource(part: settings.Tracing, version: str) -> resources.Resource:
    """Return what is said of this service; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins."""
    ours = {"service.name": part.service, "service.version": version, "faas.name": part.service}
    if part.revision:
        ours["faas.version"] = part.revision
    given = dict(pair.split("=", 1) for pair in (part.resource or "").split(",") if "=" in pair)
    theirs = {key.strip(): urllib.parse.unquote(value.strip()) for key, value in given.items()}
    name = {"service.name": part.name} if part.name else {}
    return resources.Resource.create({**ours, **theirs, **name})


def _context(traceparent: object, tracestate: object) -> context.Context:
    """Return the context that a trace's two headers name; an empty one where they are missing or broken."""
    carrier = {"traceparent": str(traceparent or ""), "tracestate": str(tracestate or "")}
    return _w3c.extract(carrier, context.Context())


def _span_context(where: context.Context) -> trace.SpanContext:
    return trace.get_current_span(where).get_span_context()


def _text(value: object) -> str:
    """Return an attribute of an event as text that has a UTF-8 form: one without would lose all spans beside it."""
    return str(value)[:MOST_TEXT].encode(errors="backslashreplace").decode()


@contextlib.contextmanager
def _ending(span: trace.Span) -> Iterator[None]:
    """End a span, and note by its class what was raised."""
    try:
        yield
    except BaseException as exc:
        _fail(span, type(exc).__name__)
        raise
    finally:
        span.end()


def _answer(span: trace.Span, status: int, *, least: int) -> None:
    """Note an answer; least: the least status that is a failure."""
    span.set_attribute("http.response.status_code", status)
    if status >= least:
        _fail(span, str(status))


def _fail(span: trace.Span, why: str) -> None:
    span.set_attribute("error.type", why)
    span.set_status(trace.StatusCode.ERROR)
