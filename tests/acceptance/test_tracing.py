"""Real processes send real spans to a collector that decodes OTLP: what these say, and what happens without it."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg2
import pytest_httpserver

import function
from tests import cluster, collector, conftest
from tests.acceptance import processes

Query = Callable[..., list[tuple[Any, ...]]]
collected, servers = collector.collector, cluster.servers
kubernetes, receiver = cluster.kubernetes, cluster.receiver
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
ORIGIN = "a" * 32, "b" * 16
"""The trace and the span that an event began in."""


def flat(name: str, **further: str) -> dict[str, str]:
    """Return the attributes of a flat event about a VM."""
    return {
        "specversion": "1.0",
        "id": f"id-of-{name}",
        "source": "test",
        "type": "dev.knative.apiserver.resource.add",
        "kind": "VirtualMachine",
        "namespace": "team",
        "name": name,
        "time": "2026-11-22T10:00:00Z",
        **further,
    }


def send(service: processes.Service, name: str, *, path: str = "/", parent: str = "", **further: str) -> int:
    """Send a flat event in binary mode; return the status."""
    headers = {f"ce-{key}": value for key, value in flat(name, **further).items()}
    return service.request("POST", path, headers={**headers, **({"traceparent": parent} if parent else {})})[0]


def handled(service: processes.Service, action: str = "event.handled") -> Iterator[dict[str, Any]]:
    """Yield the log's lines about events."""
    for line in service.log().splitlines():
        found: dict[str, Any] = json.loads(line)
        if found.get("action") == action:
            yield found


def test_a_requests_span_continues_the_senders_trace_and_names_the_event(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """Its parent is the header traceparent; its attributes are those of the semantic conventions; and who sent it."""
    environ = collected.environ(
        DATABASE_URL=url,
        K_SERVICE="ledger",
        K_REVISION="ledger-00007",
        OTEL_RESOURCE_ATTRIBUTES="team=vm%20crew,deployment.environment.name=test",
    )
    with processes.gunicorn(tmp_path / "log", environ) as service:
        status = send(service, "db-1", parent=collector.traceparent(), subject="/apis/x", secretword="hunter2")
        (span,) = collected.await_spans(1, "process /")
        (written,) = collected.await_spans(1, "store vm_state")
        (line,) = handled(service)
    assert status == 204
    assert (span.trace, span.parent, span.kind, span.failed) == (collector.TRACE, collector.SENDER, "CONSUMER", False)
    assert span.links == ()
    assert span.attributes == {
        "messaging.system": "cloudevents",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "/",
        "messaging.message.id": "id-of-db-1",
        "cloudevents.event_id": "id-of-db-1",
        "cloudevents.event_source": "test",
        "cloudevents.event_spec_version": "1.0",
        "cloudevents.event_type": "dev.knative.apiserver.resource.add",
        "cloudevents.event_subject": "/apis/x",
        "http.request.method": "POST",
        "http.route": "/",
        "http.response.status_code": 204,
        "url.path": "/",
        "url.scheme": "http",
    }
    assert (written.trace, written.parent, written.kind, written.links) == (
        collector.TRACE,
        span.id,
        "CLIENT",
        (span.place,),
    )
    assert (line["trace_id"], line["span_id"]) == span.place
    assert {key: span.resource.get(key) for key in ("service.name", "service.version", "faas.version", "team")} == {
        "service.name": "ledger",
        "service.version": function.__version__,
        "faas.version": "ledger-00007",
        "team": "vm crew",
    }


def test_the_trace_that_an_event_began_in_is_a_link_in_each_mode(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """CloudEvents' extension traceparent: a header in binary mode, a member of the body in the others."""
    origin = collector.traceparent(trace=ORIGIN[0], span=ORIGIN[1])
    other = collector.traceparent(trace="c" * 32, span="d" * 16)
    one = json.dumps({**flat("b", traceparent=origin, kind="Pod"), "id": "half \ud800 a character"})
    two = json.dumps([flat("c", traceparent=origin), flat("d"), flat("e", traceparent=other)])
    with processes.gunicorn(tmp_path / "log", collected.environ(DATABASE_URL=url)) as service:
        assert send(service, "a", traceparent=origin) == 204
        assert service.request("POST", "/", one, STRUCTURED)[0] == 204
        assert service.request("POST", "/", two, {"Content-Type": "application/cloudevents-batch+json"})[0] == 204
        assert send(service, "f", traceparent="nonsense") == 204
        spans = collected.await_spans(4, "process /")
    links = {span.attributes.get("messaging.message.id", "batch"): span.links for span in spans}
    assert links == {
        "id-of-a": (ORIGIN,),
        "half \\ud800 a character": (ORIGIN,),
        "batch": (ORIGIN, ("c" * 32, "d" * 16)),
        "id-of-f": (),
    }
    assert [span.attributes.get("messaging.batch.message_count") for span in spans if span.links[1:]] == [3]
    assert {span.parent for span in spans} == {""}


def test_events_that_share_a_transaction_are_linked_from_its_span(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path, query: Query
) -> None:
    """While the table is locked, requests gather in one group; its one span links to the spans of all of them."""
    blocker = psycopg2.connect(url)
    environ = collected.environ(DATABASE_URL=url, WEB_CONCURRENCY="1")
    with processes.gunicorn(tmp_path / "log", environ) as service, concurrent.futures.ThreadPoolExecutor(20) as pool:
        blocker.cursor().execute("LOCK TABLE vm_state IN ACCESS EXCLUSIVE MODE")
        sent = [pool.submit(send, service, f"vm-{number}") for number in range(20)]
        end = time.monotonic() + 20
        while not query("SELECT 1 FROM pg_locks WHERE NOT granted") and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)  # the others gather
        blocker.close()
        assert {each.result() for each in sent} == {204}
        events = {span.place for span in collected.await_spans(20, "process /")}
        written = [span for span in collected.await_spans(2, "store vm_state") if not span.failed]
    assert sorted(link for span in written for link in span.links) == sorted(events)
    shared = max(written, key=lambda span: len(span.links))
    assert len(shared.links) > 1
    assert shared.attributes["db.operation.batch.size"] == len(shared.links)
    led = [span for span in collected.spans("process /") if shared.place in span.links]
    assert len(led) == len(shared.links) - 1  # the first one is its parent
    assert (shared.trace, shared.parent) == shared.links[0]


def test_a_webhooks_request_carries_the_trace_on(
    collected: collector.Collector,
    kubernetes: cluster.Cluster,
    receiver: pytest_httpserver.HTTPServer,
    tmp_path: pathlib.Path,
) -> None:
    """Each POST is a span below the event's, and its traceparent names that span; the Secret's words are in none."""
    receiver.expect_ordered_request("/hook/hunter2").respond_with_data("later", 503, {"Retry-After": "0"})
    receiver.expect_ordered_request("/hook/hunter2").respond_with_data("ok")
    kubernetes.hpa(hpa__event="hook")
    headers = '{"Authorization": "Bearer hunter2", "Traceparent": "mine"}'
    kubernetes.secret(url=receiver.url_for("/hook/hunter2"), headers=headers, body=cluster.BODY)
    environ = collected.environ(KUBECONFIG=kubernetes.kubeconfig(tmp_path), WEBHOOK_ALLOWED_HOSTS="127.0.0.0/8")
    with processes.gunicorn(tmp_path / "log", environ) as service:
        body, parent = json.dumps(cluster.now("up")), collector.traceparent()
        assert service.request("POST", "/", body, {**STRUCTURED, "traceparent": parent})[0] == 204
        (event,) = collected.await_spans(1, "process /")
        calls = collected.await_spans(2, "POST")
    assert [request.headers.getlist("traceparent") for request, _ in receiver.log] == [
        [collector.traceparent(span=call.id)] for call in calls
    ]
    assert {(call.trace, call.parent, call.kind) for call in calls} == {(collector.TRACE, event.id, "CLIENT")}
    assert [(call.attributes["http.response.status_code"], call.failed) for call in calls] == [
        (503, True),
        (200, False),
    ]
    assert [call.attributes.get("http.request.resend_count") for call in calls] == [None, 1]
    assert {call.attributes["vmledger.webhook"] for call in calls} == {"Secret shop/hook"}
    assert "hunter2" not in str(collected.spans())


def test_what_the_sender_does_not_record_is_not_recorded_here(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """The flag of traceparent decides: no span of the request or of its transaction; its log line has the trace."""
    with processes.gunicorn(tmp_path / "log", collected.environ(DATABASE_URL=url)) as service:
        assert send(service, "unseen", parent=collector.traceparent(sampled=False)) == 204
        assert send(service, "seen", parent=collector.traceparent(trace="e" * 32)) == 204
        collected.await_spans(1, "process /")
        lines = list(handled(service))
    assert {span.trace for span in collected.spans()} == {"e" * 32}
    assert [line["trace_id"] for line in lines] == [collector.TRACE, "e" * 32]


def test_a_sampler_decides_where_the_sender_does_not(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """OTEL_TRACES_SAMPLER, as OpenTelemetry has it."""
    environ = collected.environ(DATABASE_URL=url, OTEL_TRACES_SAMPLER="parentbased_always_off")
    with processes.gunicorn(tmp_path / "log", environ) as service:
        assert send(service, "undecided") == 204
        assert send(service, "wanted", parent=collector.traceparent()) == 204
        spans = collected.await_spans(2)
    assert {span.trace for span in spans} == {collector.TRACE}


def test_an_event_that_is_refused_is_a_span_that_failed(collected: collector.Collector, tmp_path: pathlib.Path) -> None:
    """With the status as its error.type, and the log line of the refusal in its trace; the echo has a span too."""
    with processes.gunicorn(tmp_path / "log", collected.environ()) as service:
        assert service.request("POST", "/", "no event", {"traceparent": collector.traceparent()})[0] == 400
        assert send(service, "there-is-no-database", parent=collector.traceparent()) == 422
        assert send(service, "printed", path="/echo", parent=collector.traceparent()) == 204
        refused = collected.await_spans(2, "process /")
        (echoed,) = collected.await_spans(1, "process /echo")
        lines = list(handled(service, "event.refused"))
    assert [(span.failed, span.attributes["error.type"]) for span in refused] == [(True, "400"), (True, "422")]
    assert [(line["trace_id"], line["span_id"]) for line in lines] == [span.place for span in refused]
    assert (echoed.failed, echoed.parent, echoed.attributes["cloudevents.event_id"]) == (
        False,
        collector.SENDER,
        "id-of-printed",
    )


def test_an_event_that_is_put_off_is_a_span_that_failed(collected: collector.Collector, tmp_path: pathlib.Path) -> None:
    """With 503 as its error.type, while the database is away; the log's line is in its trace."""
    nowhere = f"postgresql://nobody@127.0.0.1:{processes.free_port()}/none"
    with processes.gunicorn(tmp_path / "log", collected.environ(DATABASE_URL=nowhere)) as service:
        assert send(service, "later", parent=collector.traceparent()) == 503
        (span,) = collected.await_spans(1, "process /")
        (line,) = handled(service, "event.deferred")
    assert (span.failed, span.attributes["error.type"], span.parent) == (True, "503", collector.SENDER)
    assert (line["trace_id"], line["span_id"]) == span.place


def away(url: str, port: int) -> dict[str, str]:
    """Return the settings that send traces to a port where no collector is, a few at a time and few kept."""
    return {
        "DATABASE_URL": url,
        "WEB_CONCURRENCY": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:hunter2@127.0.0.1:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
    }


def send_many(service: processes.Service) -> None:
    """Send 200 events, eight at a time; all are stored."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda number: send(service, f"vm-{number}"), range(200))) == {204}


def test_a_collector_that_is_away_costs_no_event(url: str, tmp_path: pathlib.Path, query: Query) -> None:
    """Nobody listens: each event is stored, and one line warns, without the collector's url."""
    environ = {**away(url, processes.free_port()), "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with processes.gunicorn(tmp_path / "log", environ) as service:
        send_many(service)
        end = time.monotonic() + collector.SECONDS
        while not list(handled(service, "traces.lost")):
            assert time.monotonic() < end, "nothing warns"
            time.sleep(0.05)
        send_many(service)
    (line,) = handled(service, "traces.lost")
    assert query("SELECT count(*) FROM vm_state") == [(200,)]
    assert (line["level"], line["message"]) == ("WARNING", "traces cannot be sent: the collector cannot be reached")
    assert "hunter2" not in service.log()


def test_a_collector_that_never_answers_holds_nobody(url: str, tmp_path: pathlib.Path, query: Query) -> None:
    """It would be waited for ten minutes. Events are answered meanwhile, and the process ends when it is asked to."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {**away(url, silent.getsockname()[1]), "OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
        with processes.gunicorn(tmp_path / "log", environ) as service:
            assert send(service, "vm-0") == 204
            silent.settimeout(collector.SECONDS)
            held, _ = silent.accept()  # from here on the sender of traces waits
            with held:
                send_many(service)
                service.process.send_signal(signal.SIGTERM)
                assert service.process.wait(processes.START_SECONDS) == 0
    assert query("SELECT count(*) FROM vm_state") == [(200,)]


def test_what_waits_to_be_sent_is_sent_before_the_process_ends(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """At SIGTERM, long before the next batch is due, each worker sends what it has."""
    environ = collected.environ(DATABASE_URL=url, OTEL_BSP_SCHEDULE_DELAY="600000")
    with processes.gunicorn(tmp_path / "log", environ) as service:
        assert [send(service, f"vm-{number}") for number in range(6)] == [204] * 6
        assert collected.spans() == []
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(processes.START_SECONDS) == 0
    assert len(collected.spans("process /")) == 6


def test_the_function_behind_kn_func_is_traced_alike(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """There, requests are handled on threads."""
    with processes.func(tmp_path / "log", collected.environ(DATABASE_URL=url)) as service:
        statuses = set[int]()
        threads = [
            threading.Thread(target=lambda: statuses.add(send(service, "db-1", parent=collector.traceparent())))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spans = collected.await_spans(4, "process /")
        written = collected.await_spans(1, "store vm_state")
    assert statuses == {204}
    assert {(span.trace, span.parent) for span in spans} == {(collector.TRACE, collector.SENDER)}
    assert {link for span in written for link in span.links} <= {span.place for span in spans}


def _headers(request: Any) -> Mapping[str, str]:
    return {key.lower(): value for key, value in request.headers.items()}


def test_the_exporters_own_variables_are_honoured(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """Headers, which hold a collector's key, and compression."""
    environ = collected.environ(
        DATABASE_URL=url, OTEL_EXPORTER_OTLP_HEADERS="x-key=abc", OTEL_EXPORTER_OTLP_COMPRESSION="none"
    )
    with processes.gunicorn(tmp_path / "log", environ) as service:
        assert send(service, "db-1") == 204
        collected.await_spans(1)
    assert {_headers(request).get("x-key") for request in collected.requests} == {"abc"}


def test_without_the_variable_nothing_is_loaded_and_no_line_has_a_trace(
    url: str, receiver: pytest_httpserver.HTTPServer, kubernetes: cluster.Cluster, tmp_path: pathlib.Path
) -> None:
    """A worker that has stored an event and called a webhook maps no library of OpenTelemetry's."""
    receiver.expect_request("/hook").respond_with_data("ok")
    kubernetes.hpa(hpa__event="hook")
    kubernetes.secret(url=receiver.url_for("/hook"), body=cluster.BODY)
    environ = {
        "DATABASE_URL": url,
        "KUBECONFIG": kubernetes.kubeconfig(tmp_path),
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.0/8",
        "WEB_CONCURRENCY": "1",
        "OTEL_SERVICE_NAME": "alone",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    with processes.gunicorn(tmp_path / "log", environ) as service:
        assert send(service, "db-1", parent=collector.traceparent()) == 204
        sent = service.request("POST", "/", json.dumps(cluster.now("up")), STRUCTURED)
        maps = [pathlib.Path(f"/proc/{worker}/maps").read_text() for worker in service.workers()]
        lines = list(handled(service))
    assert sent[0] == 204
    assert [request.headers.get("traceparent") for request, _ in receiver.log] == [None]
    assert maps
    assert all("google/_upb" not in each for each in maps)
    assert len(lines) == 2
    assert all("trace_id" not in line for line in lines)


def test_the_google_library_is_what_a_traced_worker_maps(
    collected: collector.Collector, url: str, tmp_path: pathlib.Path
) -> None:
    """So the claim above can fail."""
    environ = collected.environ(DATABASE_URL=url, WEB_CONCURRENCY="1")
    with processes.gunicorn(tmp_path / "log", environ) as service:
        maps = [pathlib.Path(f"/proc/{worker}/maps").read_text() for worker in service.workers()]
    assert maps
    assert all("google/_upb" in each for each in maps)
    assert conftest.execute(url, "SELECT count(*) FROM vm_state") == [(0,)]
