"""The echo prints every event whole, one line each, without its secrets."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import pathlib
from typing import Any

import hypothesis
import pytest
from flask import testing
from hypothesis import strategies

from function import settings, wiring
from tests import vsphere

SECRETS_PATH = "/apis/v1/namespaces/lab/secrets/db"
STRUCTURED = "application/cloudevents+json"
EVENT = {"specversion": "1.0", "id": "1", "source": "here", "type": "a.test"}
CE = {f"ce-{name}": value for name, value in EVENT.items()}


def client(**environ: str) -> testing.FlaskClient:
    """The function with these settings."""
    return wiring.Service(settings.Settings.from_env(environ)).app.test_client()


def echo(
    body: Any, headers: dict[str, str], *, path: str = "/echo", **environ: str
) -> tuple[int, list[dict[str, Any]]]:
    """Send a request; return the status and the lines that were printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        answer = client(**environ).post(path, data=body, headers=headers)
    assert answer.status_code != 204 or answer.get_data() == b""
    return answer.status_code, [json.loads(line) for line in out.getvalue().splitlines()]


def structured(**more: Any) -> tuple[str, dict[str, str]]:
    """A structured event."""
    return json.dumps({**EVENT, **more}), {"Content-Type": STRUCTURED}


@pytest.mark.parametrize("name", sorted(path.stem for path in vsphere.SAMPLES.glob("*.json")))
def test_every_sample_is_printed_whole(name: str) -> None:
    """Attributes, extensions and data, to the last level, in binary and in structured mode."""
    headers, body = vsphere.sample(name)
    status, [line] = echo(body, headers, ECHO_SECRETS="show")
    if headers["Content-Type"] == STRUCTURED:
        expected = json.loads(body)
    else:
        expected = {key.removeprefix("ce-"): value for key, value in headers.items() if key.startswith("ce-")}
        expected["datacontenttype"] = headers["Content-Type"]
        is_json = headers["Content-Type"] == "application/json"
        expected["data"] = json.loads(body) if is_json else body.decode()
    assert (status, line) == (204, expected)


@pytest.mark.parametrize("name", ["encrypted-vm", "logged-out"])
def test_the_secrets_of_vsphere_are_masked(name: str) -> None:
    """Keys of an encrypted VM, cloud-init data and session ids are in events that people echo."""
    headers, body = vsphere.sample(name)
    assert b"EXAMPLE-KEY" in body
    _, [line] = echo(body, headers)
    printed = json.dumps(line)
    assert "EXAMPLE-KEY" not in printed
    assert base64.b64encode(b"EXAMPLE-KEY").decode()[:10] not in printed
    if name == "encrypted-vm":
        assert line["data"]["ConfigSpec"]["ExtraConfig"][1] == {"Key": "svga.present", "Value": "TRUE"}
        assert "numCPU: 2 -> 4" in line["data"]["ConfigChanges"]["Modified"]


def test_each_event_of_a_batch_is_printed() -> None:
    """Batched mode: a line each."""
    batch = json.dumps([{**EVENT, "id": str(number), "data": [number]} for number in range(3)])
    status, lines = echo(batch, {"Content-Type": "application/cloudevents-batch+json"})
    assert (status, [(line["id"], line["data"]) for line in lines]) == (204, [("0", [0]), ("1", [1]), ("2", [2])])


def test_attributes_are_printed_as_they_came() -> None:
    """Nanoseconds and zones of a time, numbers and booleans, unknown extensions, beyond ASCII."""
    given = {**EVENT, "time": "2026-03-01T08:00:00.123456789+01:00", "count": 7, "last": True, "place": "Köln \u2028"}
    status, [line] = echo(*structured(**given))
    assert (status, line) == (204, given)


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", b'{"a": [1.5, null, {"b": true}]}', {"data": {"a": [1.5, None, {"b": True}]}}),
        ("application/vnd.x+json; charset=utf-8", b'"text"', {"data": "text"}),
        ("application/xml", "<a>ü</a>".encode(), {"data": "<a>ü</a>"}),
        ("text/xml; charset=iso-8859-1", "<a>ü</a>".encode("latin-1"), {"data": "<a>ü</a>"}),
        ("application/xml", '<?xml version="1.0" encoding="utf-16"?><a>ü</a>'.encode("utf-16"), None),
        ("text/plain", b"a\nb", {"data": "a\nb"}),
        ("application/octet-stream", b"\x00\xff", {"data_base64": "AP8="}),
        ("image/png", b"text", {"data_base64": "dGV4dA=="}),
        ("", b'{"a": 1}', {"data": {"a": 1}}),
    ],
)
def test_data_is_printed_by_its_content_type(content_type: str, body: bytes, expected: dict[str, Any] | None) -> None:
    """JSON as JSON, XML and text as text, other bytes as base64."""
    headers = {**CE, "Content-Type": content_type} if content_type else CE
    status, [line] = echo(body, headers)
    assert status == 204
    found = {key: value for key, value in line.items() if key.startswith("data") and key != "datacontenttype"}
    if expected is None:
        assert found["data"].endswith("<a>ü</a>")
    else:
        assert found == expected


def test_xml_is_not_expanded() -> None:
    """A billion laughs are printed as the few letters that they are."""
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(10))
    body = f"<!DOCTYPE a [{lol}]><a>&l9;</a>"
    status, [line] = echo(body, {**CE, "Content-Type": "application/xml"})
    assert (status, line["data"]) == (204, body)


def test_json_is_printed_as_deep_as_it_can_be_read() -> None:
    """Nothing is cut to type names."""
    body = '{"a":' * 400 + "1" + "}" * 400
    _, [line] = echo(body, {**CE, "Content-Type": "application/json"})
    assert json.dumps(line["data"], separators=(",", ":")) == body


def test_dead_letter_extensions_are_decoded_beside_the_raw_ones() -> None:
    """The failing answer's status, its address and its body."""
    answer = base64.b64encode(b'{"error": "no such host"}').decode()
    raw = {"knativeerrorcode": "422", "knativeerrordest": "http://vmledger.svc", "knativeerrordata": answer}
    _, [line] = echo(b"", {**CE, **{f"ce-{name}": value for name, value in raw.items()}})
    assert raw.items() <= line.items()
    assert line["dead_letter"] == {
        "code": 422,
        "destination": "http://vmledger.svc",
        "answer": {"error": "no such host"},
    }


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (base64.b64encode(b"<h1>plain</h1>").decode(), "<h1>plain</h1>"),
        (base64.b64encode(b"cut off in the middle").decode()[:-5], "cut off in the"),
        (base64.b64encode("cut off within the last character, ü".encode()[:-1]).decode(), "cut off within the last"),
        ("no base64 at all", "no base64 at all"),
        ("Unauthorized", "Unauthorized"),
    ],
)
def test_an_answer_that_is_text_is_decoded_too(raw: str, answer: str) -> None:
    """Knative cuts the base64 at 1024 characters, and other brokers send none."""
    _, [line] = echo(*structured(knativeerrordata=raw))
    assert line["dead_letter"]["answer"].startswith(answer)


def test_a_secret_in_a_dead_letters_answer_is_masked_in_both() -> None:
    """The raw extension would hold it otherwise, only in base64."""
    raw = base64.b64encode(b'{"password": "S3CRET"}').decode()
    _, [line] = echo(*structured(knativeerrordata=raw))
    assert line["dead_letter"]["answer"] == {"password": "***"}
    assert line["knativeerrordata"] == "***"


FILTER = (
    "http://broker-filter.knative-eventing.svc.cluster.local/triggers/vmledger/vmledger-add/1c8e2f0a-7d7b-4d0c-9d7e"
)
SUBSCRIBER = "http://vmledger.vmledger.svc.cluster.local"


def wrapped(body: bytes, destination: object = SUBSCRIBER) -> str:
    """What the default Broker's filter makes of an answer, as Go's encoding/json and the channel send it on."""
    answer = {"errdestination": destination, "errresponsebody": base64.b64encode(body).decode()}
    return base64.b64encode(json.dumps(answer, separators=(",", ":")).encode()).decode()[:1024]


def failed(data: str) -> dict[str, Any]:
    """The line of an event that the default Broker gave up on."""
    headers = {"ce-knativeerrordest": FILTER, "ce-knativeerrorcode": "503", "ce-knativeerrordata": data}
    _, [line] = echo(b"", {**CE, **headers})
    assert line["knativeerrordest"] == FILTER
    return line


def test_the_default_brokers_dead_letter_is_unwrapped() -> None:
    """Its filter wraps the answer once more; who gave the answer is the subscriber, not the filter."""
    line = failed(wrapped(b'{"error": "the database cannot be used now"}'))
    assert line["dead_letter"] == {
        "code": 503,
        "destination": SUBSCRIBER,
        "answer": {"error": "the database cannot be used now"},
    }


def test_a_wrapped_dead_letter_that_is_cut_is_read_to_where_it_goes() -> None:
    """Knative cuts the extension after 1024 characters, wherever that is."""
    whole = wrapped(b"the beginning of a long answer" + b" and so on" * 200)
    assert len(whole) == 1024
    for end in range(160, 1025):
        meaning = failed(whole[:end])["dead_letter"]
        assert meaning["destination"] == SUBSCRIBER
        assert "the beginning of a long answer and so on".startswith(meaning.get("answer", "")[:40])
    assert failed(whole)["dead_letter"]["answer"].startswith("the beginning of a long answer and so on and so on")


@pytest.mark.parametrize(
    ("data", "destination", "answer"),
    [
        (wrapped(b""), SUBSCRIBER, None),
        (wrapped(b"upstream connect error"), SUBSCRIBER, "upstream connect error"),
        (base64.b64encode(b'{"errdestination":null,"errresponsebody":null}').decode(), FILTER, None),
        (
            wrapped(b"no", {"Scheme": "http", "Host": "vmledger.vmledger.svc", "Path": "/", "User": None}),
            "http://vmledger.vmledger.svc/",
            "no",
        ),
        (wrapped(base64.b64decode(wrapped(b"no", "http://inner")), "http://outer"), "http://inner", "no"),
        ("", FILTER, None),
    ],
)
def test_every_form_of_a_wrapped_answer_is_read(data: str, destination: str, answer: str | None) -> None:
    """Without a body, without an answer at all, as Knative before 1.9 wrote URLs, and through two Brokers."""
    meaning = failed(data)["dead_letter"]
    assert (meaning["destination"], meaning.get("answer")) == (destination, answer)


def test_a_secret_in_a_wrapped_answer_is_masked_in_both() -> None:
    """Two layers of base64 hide nothing from whoever reads the log."""
    line = failed(wrapped(b'{"password": "S3CRET"}', "http://lab:S3CRET@vmledger"))
    assert line["dead_letter"]["answer"] == {"password": "***"}
    assert line["dead_letter"]["destination"] == "http://***@vmledger"
    assert line["knativeerrordata"] == "***"


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/gzip", "application/json", ""])
def test_bytes_that_hide_a_secret_are_shown_by_length_and_hash(content_type: str) -> None:
    """What is packed is not packed again: nothing of it is printed, and it can be told from others."""
    body = gzip.compress(b"password=S3CRET", mtime=0)
    headers = {**CE, **({"Content-Type": content_type} if content_type else {})}
    _, [line] = echo(body, headers)
    [hidden] = [value for name, value in line.items() if name.endswith("_hidden")]
    assert hidden == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert "data_base64" not in line
    _, [shown] = echo(gzip.compress(b"about nothing", mtime=0), {**CE, "Content-Type": "application/octet-stream"})
    assert base64.b64decode(shown["data_base64"])[:2] == b"\x1f\x8b"


def test_what_is_not_utf_8_is_decoded_with_replacement_and_masked() -> None:
    """One odd byte used to make bytes of it, which were printed as base64."""
    body = b'{"password": "S3CRET", "a": "\xff"}'
    status, [line] = echo(body, {**CE, "Content-Type": "application/json"})
    assert (status, json.loads(line["body"])) == (400, {"password": "***", "a": "\ufffd"})
    _, [line] = echo(b'{"a": "\xff"}', {**CE, "Content-Type": "application/json"})
    assert base64.b64decode(line["body_base64"]) == b'{"a": "\xff"}'


def test_a_charset_that_is_not_true_hides_nothing() -> None:
    """Read as it says, the text is other letters, which anybody can turn back."""
    _, [line] = echo(b"password=S3CRET", {**CE, "Content-Type": "text/plain; charset=cp037"})
    assert line["data"] == "password=***"


def test_secrets_in_attributes_and_bytes_are_masked() -> None:
    """An extension by its name, a text by what it says, bytes that are text."""
    _, [line] = echo(*structured(mytoken="S3CRET", subject="x?password=S3CRET"))
    assert (line["mytoken"], line["subject"]) == ("***", "x?password=***")
    _, [line] = echo(b"password=S3CRET", {**CE, "Content-Type": "application/x-www-form-urlencoded"})
    assert base64.b64decode(line["data_base64"]) == b"password=***"


@pytest.mark.parametrize("attributes", [{"kind": "Secret"}, {"kind": "secret"}, {"subject": SECRETS_PATH}])
def test_a_secret_of_kubernetes_is_masked_by_the_events_attributes_too(attributes: dict[str, str]) -> None:
    """A trimmed object does not say its kind; as text, nothing of it can be told apart."""
    _, [line] = echo(*structured(**attributes, data={"data": {"user": "S3CRET"}, "type": "Opaque"}))
    assert line["data"] == {"data": {"user": "***"}, "type": "Opaque"}
    _, [line] = echo(*structured(**attributes, data="user: S3CRET"))
    assert line["data"] == "***"


@pytest.mark.parametrize("name", ["clientsecret", "apikey", "mytoken", "pwd", "authorization", "connectionstring"])
def test_an_attribute_with_a_secrets_name_is_masked(name: str) -> None:
    """Attributes have names of small letters and digits."""
    _, [line] = echo(*structured(**{name: "S3CRET"}))
    assert line[name] == "***"


def test_secrets_are_shown_on_request() -> None:
    """ECHO_SECRETS=show."""
    _, [line] = echo(*structured(mytoken="S3CRET", data={"password": "S3CRET"}), ECHO_SECRETS="show")
    assert (line["mytoken"], line["data"]) == ("S3CRET", {"password": "S3CRET"})


@pytest.mark.parametrize("size", [64 * 1024 - 2, 64 * 1024 - 1])
def test_data_is_whole_up_to_64_kib(size: int) -> None:
    """The default of ECHO_MAX_BYTES; one byte more is cut, and the line says so."""
    _, [line] = echo(*structured(data="x" * (size + 2)))
    assert line["data"] == "x" * min(size + 2, 65536)
    expected = {"bytes": 65537, "printed": 65536}
    assert line.get("data_truncated") == (expected if size + 2 > 65536 else None)


@pytest.mark.parametrize("data", ["ü" * 100, ["x" * 100], {"password": "S3CRET" * 30, "a": "b" * 100}])
def test_what_is_longer_is_cut_after_masking(data: Any) -> None:
    """As text, at a whole character; no half of a secret is left."""
    _, [line] = echo(*structured(data=data), ECHO_MAX_BYTES="33")
    assert isinstance(line["data"], str)
    assert len(line["data"].encode()) in (32, 33)
    assert line["data_truncated"]["printed"] == 33
    assert "S3C" not in line["data"]


def test_bytes_are_cut_too() -> None:
    """Before they become base64."""
    _, [line] = echo(b"\xff" * 10, {**CE, "Content-Type": "image/png"}, ECHO_MAX_BYTES="4")
    assert base64.b64decode(line["data_base64"]) == b"\xff" * 4
    assert line["data_truncated"] == {"bytes": 10, "printed": 4}


@pytest.mark.parametrize(
    ("body", "headers", "printed"),
    [
        ('{"password": "S3CRET", "a": 1}', {}, {"body": {"password": "***", "a": 1}}),
        ("hello", {"Content-Type": "text/plain"}, {"body": "hello", "content_type": "text/plain"}),
        (b"\xff", {"Content-Type": "image/png"}, {"body_base64": "/w==", "content_type": "image/png"}),
        (
            "{broken",
            {**CE, "Content-Type": "application/json"},
            {"body": "{broken", "content_type": "application/json"},
        ),
        ("", {}, {"body": ""}),
    ],
)
def test_a_body_that_is_no_event_is_printed_as_such(
    body: str | bytes, headers: dict[str, str], printed: dict[str, Any]
) -> None:
    """With the reason, and answered 400."""
    status, [line] = echo(body, headers)
    assert (status, "not_a_cloudevent" in line) == (400, True)
    assert printed.items() <= line.items()


def test_an_event_whose_data_is_broken_is_known_by_its_attributes() -> None:
    """It is a dead letter that somebody has to find; its secrets are masked as those of any other."""
    answer = base64.b64encode(b'{"error": "the data is not JSON"}').decode()
    headers = {"ce-id": "broken-7", "ce-mytoken": "S3CRET", "ce-knativeerrordata": answer, "ce-place": "K%C3%B6ln"}
    status, [line] = echo("{oops", {**CE, **headers, "Content-Type": "application/json"})
    assert (status, line["body"]) == (400, "{oops")
    assert (line["id"], line["type"], line["mytoken"], line["place"]) == ("broken-7", "a.test", "***", "Köln")
    assert line["dead_letter"]["answer"] == {"error": "the data is not JSON"}


@pytest.mark.parametrize(("status", "body"), [(204, structured()), (400, ("{}", {"Content-Type": STRUCTURED}))])
def test_debugging_prints_what_arrives_beside_handling_it(status: int, body: tuple[str, dict[str, str]]) -> None:
    """FUNCTION_DEBUG=true: the same line for each event on `/`."""
    assert echo(*body, path="/", FUNCTION_DEBUG="true") == (status, echo(*body)[1])
    assert echo(*body, path="/") == (status, [])


def test_the_echo_can_be_closed() -> None:
    """ECHO=off: 404, and nothing is printed."""
    assert echo(*structured(), ECHO="off") == (404, [])


def test_the_echo_takes_posts_only() -> None:
    """405, with what is allowed."""
    answer = client().get("/echo")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_a_standard_output_that_is_closed_does_not_fail_the_event() -> None:
    """204 always for a CloudEvent."""
    closed = io.StringIO()
    closed.close()
    with contextlib.redirect_stdout(closed):
        assert client().post("/echo", data=structured()[0], headers=structured()[1]).status_code == 204


def test_a_standard_output_of_another_encoding_gets_escapes(tmp_path: pathlib.Path) -> None:
    """The line is the same JSON."""
    with (tmp_path / "out").open("w", encoding="ascii") as out, contextlib.redirect_stdout(out):
        client().post("/echo", data=structured(data="ü 😀")[0], headers=structured()[1])
    assert json.loads((tmp_path / "out").read_text())["data"] == "ü 😀"


@hypothesis.given(strategies.binary(), strategies.sampled_from([STRUCTURED, "application/xml", "text/plain", ""]))
def test_any_body_is_one_line(body: bytes, content_type: str) -> None:
    """Whatever bytes arrive, as an event's data or as no event."""
    for headers in ({}, CE):
        status, lines = echo(body, {**headers, **({"Content-Type": content_type} if content_type else {})})
        assert (status in (204, 400), len(lines)) == (True, 1)
