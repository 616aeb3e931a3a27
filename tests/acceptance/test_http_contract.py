"""Each row of the status table, over real HTTP, against the Procfile's own command."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dev import embedded_postgres
from tests import conftest
from tests.acceptance import processes

ADD = "dev.knative.apiserver.resource.add"
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "s",
    "type": ADD,
    "kind": "VirtualMachine",
    "time": "2026-01-01T00:00:00Z",
}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
LIMIT = 100_000
SECRET = "hunter2-in-user-data"


@pytest.fixture(scope="module")
def url(server: embedded_postgres.Postgres, template: str) -> Iterator[str]:
    """One database for the module."""
    conftest.execute(server.url(), f"CREATE DATABASE contract TEMPLATE {template}")
    yield server.url(database="contract")
    conftest.execute(server.url(), "DROP DATABASE contract WITH (FORCE)")


@pytest.fixture(scope="module", params=["gunicorn", "func"])
def service(
    request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[processes.Service]:
    """The receiver through each of its doors."""
    log = tmp_path_factory.mktemp("log") / "log"
    start: Callable[..., Any] = getattr(processes, request.param)
    with start(log, {"DATABASE_URL": url, "MAX_EVENT_BYTES": str(LIMIT)}) as started:
        yield started


def flat(**attributes: str) -> dict[str, str]:
    """The headers of a flat event."""
    known = {**EVENT, "namespace": "team", "name": "a", **attributes}
    return {f"ce-{name}": value for name, value in known.items()}


def machine(name: str, version: int = 1, **rest: Any) -> dict[str, Any]:
    """A VirtualMachine object."""
    seed = {"cloudInitNoCloud": {"userData": f"password: {SECRET}"}, "name": "seed"}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "team", "resourceVersion": str(version), "uid": f"uid-{name}"},
        "spec": {"template": {"spec": {"domain": {}, "volumes": [seed]}}},
        **rest,
    }


def structured(name: str, **rest: Any) -> dict[str, Any]:
    """A structured event with an object."""
    return {**EVENT, "id": f"id-{name}", "data": machine(name), **rest}


def names(url: str) -> set[str]:
    """The live VMs."""
    return {name for (name,) in conftest.execute(url, "SELECT name FROM virtual_machines")}


def assert_empty(reply: processes.Reply, status: int = 204) -> None:
    """An answer that Knative takes for done: no body, nothing that looks like a CloudEvent."""
    assert (reply[0], reply[2]) == (status, b"")
    assert not [name for name in reply[1] if name.startswith("ce-") or name == "content-type"]


def assert_refused(reply: processes.Reply, status: int, sentence: str) -> None:
    """An error: one sentence in JSON."""
    assert reply[0] == status, reply
    body = json.loads(reply[2])
    assert list(body) == ["error"]
    assert sentence in body["error"]
    assert "\n" not in body["error"]
    assert SECRET not in body["error"]
    assert not [name for name in reply[1] if name.startswith("ce-")]


def test_a_flat_event_is_stored(service: processes.Service, url: str) -> None:
    """204, and the row is there."""
    assert_empty(service.request("POST", "/", headers=flat(name="flat-1", id="f1")))
    assert "flat-1" in names(url)


def test_a_whole_object_is_stored_in_every_mode(service: processes.Service, url: str) -> None:
    """Binary, structured, batched."""
    headers = {**flat(), "Content-Type": "application/json"}
    assert_empty(service.request("POST", "/", json.dumps(machine("binary")), headers))
    assert_empty(service.request("POST", "/", json.dumps(structured("structured")), STRUCTURED))
    batch = [structured("batched-1"), structured("batched-2"), {**EVENT, "type": "other"}]
    assert_empty(service.request("POST", "/", json.dumps(batch), BATCH))
    assert {"binary", "structured", "batched-1", "batched-2"} <= names(url)


def test_an_event_inside_an_event_is_stored(service: processes.Service, url: str) -> None:
    """An EventTransform that keeps the whole event in data gives the row of that event."""
    inner = structured("wrapped", id="wrapped-inner")
    transformed = {"specversion": "1.0", "id": "wrapped-outer", "source": "t", "type": "user.extracted", "data": inner}
    assert_empty(service.request("POST", "/", json.dumps(transformed), STRUCTURED))
    headers = {**flat(id="outer"), "Content-Type": "application/json"}
    assert_empty(service.request("POST", "/", json.dumps(structured("wrapped-binary")), headers))
    query = "SELECT id, uid, vcpus FROM virtual_machines WHERE name LIKE 'wrapped%' ORDER BY name"
    rows = [("wrapped-inner", "uid-wrapped", 1), ("id-wrapped-binary", "uid-wrapped-binary", 1)]
    assert conftest.execute(url, query) == rows


def test_duplicates_and_late_events_are_done(service: processes.Service) -> None:
    """204 for what is known already, and for what is older."""
    for _ in range(3):
        assert_empty(service.request("POST", "/", headers=flat(name="again")))
    assert_empty(service.request("POST", "/", headers=flat(name="again", time="2020-01-01T00:00:00Z")))


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": "com.example.other"},
        {"kind": "Pod"},
        {"kind": "VirtualMachineInstanceMigration"},
        {"apiversion": "vmoperator.vmware.com/v1alpha1"},
    ],
)
def test_what_is_not_for_us_is_done(service: processes.Service, attributes: dict[str, str]) -> None:
    """204 at once."""
    assert_empty(service.request("POST", "/", headers=flat(**attributes)))


def test_an_empty_batch_is_done(service: processes.Service) -> None:
    """It is legal."""
    assert_empty(service.request("POST", "/", "[]", BATCH))


@pytest.mark.parametrize(
    ("sentence", "body", "headers"),
    [
        ("no ce- headers", "", {}),
        ("is not JSON", "{oops", STRUCTURED),
        ("is not JSON", "{oops", {**flat(), "Content-Type": "application/json"}),
        ("the attribute id is missing", json.dumps({"specversion": "1.0", "type": "t", "source": "s"}), STRUCTURED),
        ("no name", json.dumps({**EVENT, "data": {"metadata": {"namespace": "x"}}}), STRUCTURED),
        ("the data is not a VirtualMachine", json.dumps({**EVENT, "name": "a", "data": {"name": "a"}}), STRUCTURED),
        ("the data is a CloudEvent itself", json.dumps({**EVENT, "data": {**EVENT, "time": "noon"}}), STRUCTURED),
        ("NUL", json.dumps({**EVENT, "data": machine("nul\0")}), STRUCTURED),
        ("is not a whole number", "", flat(cpucores="many")),
        ("is not an RFC 3339 time", "", flat(time="noon")),
        ("is past what the ledger can hold", "", flat(resourceversion=str(2**63))),
    ],
)
def test_what_can_never_be_stored_is_400(service: processes.Service, sentence: str, body: str, headers: Any) -> None:
    """With a sentence; Knative sends it to the dead letter sink."""
    assert_refused(service.request("POST", "/", body, headers), 400, sentence)


@pytest.mark.parametrize("kind", [ADD, "dev.knative.apiserver.ref.add"])
def test_a_cluster_that_is_not_taken_here_is_422(service: processes.Service, url: str, kind: str) -> None:
    """In every mode, of a VM and of an instance; the sentence names the setting."""
    foreign = {**structured("foreign"), "type": kind, "cluster": "elsewhere"}
    owner = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "name": "foreign",
        "uid": "u",
        "controller": True,
    }
    instance = {**machine("foreign"), "kind": "VirtualMachineInstance"}
    instance["metadata"]["ownerReferences"] = [owner]
    running = {**foreign, "kind": "VirtualMachineInstance", "data": instance}
    for event in (foreign, running):
        assert_refused(service.request("POST", "/", json.dumps(event), STRUCTURED), 422, "CLUSTERS")
        batch = json.dumps([structured("ours-beside"), event])
        assert_refused(service.request("POST", "/", batch, BATCH), 422, "names the cluster 'elsewhere'")
        headers = {**flat(type=kind, kind=event["kind"], cluster="elsewhere"), "Content-Type": "application/json"}
        assert_refused(service.request("POST", "/", json.dumps(event["data"]), headers), 422, "CLUSTERS")
    assert names(url).isdisjoint({"foreign", "ours-beside"})
    assert_empty(service.request("POST", "/", headers=flat(name="ours", cluster="default")))


@pytest.mark.parametrize(("listed", "other"), [("east, west", 422), ("*", 204)])
def test_a_hub_takes_the_clusters_that_it_lists(url: str, tmp_path: pathlib.Path, listed: str, other: int) -> None:
    """Or any."""
    with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url, "CLUSTERS": listed}) as hub:
        for cluster, status in {"west": 204, "default": 204, "north": other}.items():
            assert hub.request("POST", "/", headers=flat(name=f"hub-{other}", cluster=cluster))[0] == status
    stored = conftest.execute(url, "SELECT cluster FROM vm_state WHERE name = %s ORDER BY 1", [f"hub-{other}"])
    assert [cluster for (cluster,) in stored] == ["default", "north", "west"][:: 2 if other == 422 else 1]


def test_nothing_of_a_batch_is_stored_unless_all_is(service: processes.Service, url: str) -> None:
    """The answer says which event was wrong."""
    batch = [structured("whole-1"), structured("whole-2"), {**structured("x"), "data": {"metadata": {"name": "x"}}}]
    reply = service.request("POST", "/", json.dumps(batch), BATCH)
    assert_refused(reply, 400, "event 2 of the batch (id 'id-x'): the VirtualMachine has no namespace")
    assert names(url).isdisjoint({"whole-1", "whole-2"})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_a_wrong_method_is_405(service: processes.Service, method: str) -> None:
    """And says what is right."""
    status, headers, body = service.request(method, "/", headers=flat())
    assert (status, headers["allow"]) == (405, "POST")
    assert method == "HEAD" or "POST /" in json.loads(body)["error"]


def test_a_wrong_path_is_never_404_for_an_event(service: processes.Service) -> None:
    """Knative would retry that."""
    assert_refused(service.request("POST", "/nowhere", headers=flat()), 422, "there is no '/nowhere' here")
    assert service.request("GET", "/nowhere")[0] == 404


def test_the_limit_is_a_limit(service: processes.Service) -> None:
    """A body of just MAX_EVENT_BYTES is read, one byte more is 413, and so is an endless one."""
    event = json.dumps(structured("large", pad="")).replace('"pad": ""', f'"pad": "{"x" * LIMIT}"')
    event = event.replace("x" * LIMIT, "x" * (LIMIT - (len(event) - LIMIT)))
    assert len(event) == LIMIT
    assert_empty(service.request("POST", "/", event, STRUCTURED))
    sentence = f"larger than MAX_EVENT_BYTES, {LIMIT} bytes"
    assert_refused(service.request("POST", "/", event + " ", STRUCTURED), 413, sentence)
    chunked = [event.encode()[start : start + 999] for start in range(0, LIMIT, 999)]
    assert_empty(_chunked(service, iter(chunked)))
    chunks = (b"x" * 1000 for _ in range(3000))
    assert_refused(_chunked(service, chunks), 413, sentence)


def _chunked(service: processes.Service, chunks: Iterator[bytes]) -> processes.Reply:
    """Send a body without saying its length; the server may answer before it has all of it."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)) as connection:
        connection.putrequest("POST", "/")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.putheader("Content-Type", STRUCTURED["Content-Type"])
        connection.endheaders()
        with contextlib.suppress(OSError):  # the server may have said all that it wants to
            for chunk in chunks:
                connection.send(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            connection.send(b"0\r\n\r\n")
        with contextlib.closing(connection.getresponse()) as answer:
            return answer.status, dict(answer.getheaders()), answer.read()


def test_health_answers_through_both_doors_alike(service: processes.Service) -> None:
    """Liveness is OK; readiness names each dependency's state."""
    status, headers, body = service.request("GET", "/health/liveness")
    assert (status, headers["content-type"], body) == (200, "text/plain", b"OK")
    status, headers, body = service.request("GET", "/health/readiness")
    assert (status, headers["content-type"]) == (200, "text/plain")
    assert json.loads(body)["database"] == "ok"


def test_header_text_is_utf8_raw_or_encoded(service: processes.Service, url: str) -> None:
    """As Knative sends it, and as the binding asks."""
    raw = "büro netz %41".encode().decode("latin-1")
    assert_empty(service.request("POST", "/", headers=flat(name="raw", network=raw)))
    assert_empty(service.request("POST", "/", headers=flat(name="encoded", network="b%C3%BCro%20netz%20%2541")))
    rows = conftest.execute(url, "SELECT network FROM virtual_machines WHERE name IN ('raw', 'encoded')")
    assert rows == [("büro netz %41",)] * 2


def test_a_log_line_tells_each_event_and_holds_no_payload(service: processes.Service) -> None:
    """JSON, with a stable action; a raw VM holds cloud-init passwords."""
    name = f"logged-{service.port}"
    service.request("POST", "/", json.dumps(structured(name)), STRUCTURED)
    lines = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("id") == f"id-{name}"]
    assert (line["action"], line["message"], line["status"]) == ("event.handled", "stored", 204)
    assert SECRET not in service.log()


OBJECT = "".join(f"ce-{name}: {value}\n" for name, value in {**EVENT, "namespace": "team", "name": "cut"}.items())


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 5000", b""),
        ("Content-Length: 5000", b'{"metadata": {'),
        ("Transfer-Encoding: chunked", b"zz\r\nnonsense"),
        ("Transfer-Encoding: chunked", b"5\r\nabcde\r\nzz\r\n"),
        ("Transfer-Encoding: chunked", b"5\r\nab"),
    ],
)
def test_a_request_that_breaks_off_is_not_taken_for_a_flat_event(
    service: processes.Service, url: str, framing: str, body: bytes
) -> None:
    """The headers of a whole object look like one; nothing is stored, and no answer says that it was."""
    answer = service.raw(f"POST / HTTP/1.1\nHost: x\n{framing}\nContent-Type: application/json\n{OBJECT}\n", body)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert b"unexpected" not in answer
    assert conftest.execute(url, "SELECT * FROM vm_history WHERE name = 'cut'") == []


def test_a_large_batch_is_stored_in_time(url: str, tmp_path: pathlib.Path) -> None:
    """As many small events as fit the default limit; the time that a batch takes grows with it, not with its square."""
    few = {"specversion": "1.0", "source": "s", "type": ADD, "kind": "VirtualMachine", "namespace": "large"}
    batch = [{**few, "id": str(number), "name": f"v{number}", "resourceversion": "1"} for number in range(12_000)]
    body = json.dumps(batch, separators=(",", ":"))
    assert 1_800_000 < len(body) < 2 * 2**20
    with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url}) as service:
        assert_empty(service.request("POST", "/", body, BATCH))
    assert conftest.execute(url, "SELECT count(*) FROM vm_history WHERE namespace = 'large'") == [(12_000,)]


def test_an_event_that_cannot_count_is_done_and_the_log_says_why(service: processes.Service, url: str) -> None:
    """No resourceVersion though the VM is tracked by it; neither that nor a time."""
    tracked = f"tracked-{service.port}"
    assert_empty(service.request("POST", "/", headers=flat(name=tracked, resourceversion="5")))
    assert_empty(service.request("POST", "/", headers=flat(name=tracked, cpucores="7")))
    timeless = flat(name=f"timeless-{service.port}")
    del timeless["ce-time"]
    assert_empty(service.request("POST", "/", headers=timeless))
    lines = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
    actions = {(line["action"], line["object"]) for line in lines if line["level"] == "WARNING" and "object" in line}
    assert {("vm.outranked", f"team/{tracked}"), ("vm.unordered", f"team/timeless-{service.port}")} <= actions
    assert conftest.execute(url, f"SELECT cpucores FROM virtual_machines WHERE name = '{tracked}'") == [(None,)]


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (431, f"POST / HTTP/1.1\nHost: x\nce-id: {'x' * 70_000}\n\n"),
        (414, f"POST /{'x' * 10_000} HTTP/1.1\nHost: x\n\n"),
        (400, "POST / HTTP/1.1\nHost: x\nContent-Length: many\n\n"),
        (400, "nonsense\n\n"),
    ],
)
def test_what_is_no_http_is_refused_with_a_sentence(url: str, tmp_path: pathlib.Path, status: int, head: str) -> None:
    """By gunicorn's parser, but in our words."""
    with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url}) as service:
        lines, _, body = service.raw(head).partition(b"\r\n\r\n")
    assert lines.startswith(f"HTTP/1.1 {status} ".encode())
    assert list(json.loads(body)) == ["error"]


def test_a_sender_that_still_sends_when_it_is_refused_gets_the_sentence(url: str, tmp_path: pathlib.Path) -> None:
    """The server reads on for a moment before it closes; a close under arriving bytes would be a reset."""
    with (
        processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url}) as service,
        socket.create_connection(("127.0.0.1", service.port), timeout=120) as connection,
    ):
        connection.sendall(f"POST /{'x' * 10_000}".encode())
        select.select([connection], [], [], 30)  # it is refused by now
        connection.sendall(b"x" * 200_000)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 414 ")
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]


def test_without_a_database_a_vm_s_event_is_422(tmp_path: pathlib.Path) -> None:
    """It can never be handled here; what is not for us is still done."""
    with processes.gunicorn(tmp_path / "log", {}) as service:
        assert_refused(service.request("POST", "/", headers=flat()), 422, "set DB_HOST or DATABASE_URL")
        assert_empty(service.request("POST", "/", headers=flat(kind="Pod")))
        assert service.readiness()["database"] == "not configured"


@pytest.mark.parametrize("start", [processes.gunicorn, processes.func], ids=["gunicorn", "func"])
def test_a_bad_setting_stops_the_start_with_one_line(tmp_path: pathlib.Path, start: Callable[..., Any]) -> None:
    """It names the variable, not the value."""
    environ = {"DATABASE_URL": "mysql://user:hunter2@host/x"}
    with pytest.raises(AssertionError, match="the process ended with 1"), start(tmp_path / "log", environ):
        pass
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("vmledger: DATABASE_URL ")
    assert "hunter2" not in lines[0]
