"""How a Secret becomes a request."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function import errors
from function.scaling import conventions, placeholders, template
from tests import hpa

OCCURRENCE = hpa.OCCURRENCE
VALUES = placeholders.values_of(OCCURRENCE, target="Deployment/cart")
URL = "https://example.com/hook?token=s3cr3t"
PUBLISHED_WAVEFRONT = """\
{
  "name": "HPA Scaling",
  "annotations": {
    "severity": "info",
    "type": "scaling",
    "details": "_message_"
  },
  "tags" : [
    "Scale"
  ],
  "startTime": %s,
  "endTime": %s
}
"""


def render(body: str, values: dict[str, placeholders.Value] = VALUES, headers: str = "", url: str = URL) -> Any:
    """Return the body that a Secret with this body sends."""
    return json.loads(request(body, values, headers, url).body)


def request(
    body: str = "{}", values: dict[str, placeholders.Value] = VALUES, headers: str = "", url: str = URL
) -> template.Request:
    """Return the request that a Secret sends."""
    return template.read({"url": url, "body": body, "headers": headers}, "Secret a/b").render(values)


def refusal(**keys: str) -> str:
    """Return the sentence that refuses a Secret."""
    with pytest.raises(errors.Refused) as caught:
        template.read({"url": URL, "body": "{}", **keys}, "Secret a/b")
    return str(caught.value)


@pytest.mark.parametrize(
    ("time", "expected"),
    [("0", (0, 0)), ("_time_", (1778481012000,) * 2), ('"_time_ms_"', (1778481012000,) * 2)],
)
def test_the_published_wavefront_secret_works(time: str, expected: tuple[int, int]) -> None:
    """In both its published forms: with 0, and with a placeholder outside of any string."""
    sent = render(PUBLISHED_WAVEFRONT % (time, time))
    assert (sent["startTime"], sent["endTime"]) == expected
    assert sent["annotations"]["details"] == OCCURRENCE.message


def test_the_published_honeycomb_secret_works() -> None:
    """Its time is text, as it always was."""
    body = '{\n  "type": "scaling",\n  "start_time": "_time_",\n  "message": "_message_"\n}\n'
    sent = request(body, headers='{\n  "X-Honeycomb-Team": "YOUR_API_KEY"\n}\n')
    assert json.loads(sent.body) == {
        "type": "scaling",
        "start_time": "2026-05-11T06:30:12Z",
        "message": OCCURRENCE.message,
    }
    assert sent.headers["X-Honeycomb-Team"] == "YOUR_API_KEY"


def test_headers_have_placeholders_too() -> None:
    """And ours: the content's type, and the occurrence as idempotency key, which a Secret cannot change."""
    sent = request(headers='{"X-What": "_namespace_/_name_ _new_size_ _old_", "idempotency-key": "x", "N": 5}')
    assert sent.headers["X-What"] == "shop/cart 6 _old_"
    assert (sent.headers["Content-Type"], sent.headers["N"]) == ("application/json", "5")
    assert [value for name, value in sent.headers.items() if name.lower() == "idempotency-key"] == [OCCURRENCE.key]


def test_the_content_type_is_the_secrets_where_it_says_one() -> None:
    """Whatever its letters' case."""
    sent = request(headers='{"content-type": "application/vnd.x+json"}')
    assert [value for name, value in sent.headers.items() if name.lower() == "content-type"] == [
        "application/vnd.x+json"
    ]


def test_what_is_sent_is_known_by_its_words() -> None:
    """So that an answer that repeats a part of it is not quoted."""
    sent = request('{"key": "k_secret"}', headers='{"X": "h_secret"}', url="https://me:u_secret@example.com/p_secret")
    assert [sent.holds(word) for word in ("k_secret", "H_SECRET", "p_secret", "u_secret", "channel_not_found")] == [
        *[True] * 4,
        False,
    ]


def test_a_secret_says_what_a_success_looks_like() -> None:
    """By JSON that the answer holds, or by the word status; a Secret without the key says nothing."""
    read = [template.read({"url": URL, "body": "{}", "success": text}, "x").success for text in (" ", "status", "[1]")]
    assert read == [None, conventions.Success(None), conventions.Success([1])]


@given(st.text())
def test_control_characters_never_reach_a_header(message: str) -> None:
    """Neither from a message nor from the Secret itself."""
    values = placeholders.values_of(dataclasses.replace(OCCURRENCE, message=message), target=None)
    headers = json.dumps({"X-A": "a\r\nInjected: _message_", "X-B": "token\n"})
    sent = request(values=values, headers=headers)
    assert not [
        value for value in sent.headers.values() if any(ord(one) < 32 or 127 <= ord(one) < 160 for one in value)
    ]
    assert sent.headers["X-B"] == "token"


def test_slack_gets_its_markup_escaped() -> None:
    """A message can neither break the text nor call a channel; other receivers get it as it is."""
    values = placeholders.values_of(dataclasses.replace(OCCURRENCE, message="&LabelSelector{<!channel>}"), target=None)
    body = '{"text": "*x* _message_", "whole": "_message_"}'
    escaped = "&amp;LabelSelector{&lt;!channel&gt;}"
    for slack in ("https://hooks.slack.com/services/T/B/X", "https://slack.com/api/chat.postMessage"):
        assert render(body, values, url=slack) == {"text": f"*x* {escaped}", "whole": escaped}
    assert render(body, values)["whole"] == "&LabelSelector{<!channel>}"


def test_a_user_in_the_url_is_basic_authorization() -> None:
    """Unless a header says otherwise."""
    basic = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert request(url="https://me:p%40ss@example.com/").headers["Authorization"] == basic
    given = request(url="https://me:x@example.com/", headers='{"authorization": "mine"}').headers
    assert (given["authorization"], "Authorization" in given) == ("mine", False)


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"url": ""}, "the key url is missing or empty"),
        ({"body": "  "}, "the key body is missing or empty"),
        ({"url": f"ftp://{SECRET}/"}, "the key url does not begin with http:// or https://"),
        ({"url": f"https://{SECRET} .example/"}, "the key url is empty, or has characters that a url cannot have"),
        ({"url": f"https://{SECRET}:99999/"}, "the key url is not a url"),
        ({"url": "https:///x"}, "the key url has no host and port that can be connected to"),
        ({"body": f'{{"{SECRET}": }}'}, "the key body is not JSON: Expecting value at line 1 column 13"),
        ({"body": "[" * 100000}, "the key body is not JSON that can be read: a number too long, or nesting too deep"),
        ({"body": f'["{SECRET}", NaN]'}, "the key body is not JSON: NaN is not a JSON value at line 1 column 1"),
        ({"body": f'["{SECRET}", 1e999]'}, "the key body has a number that JSON cannot carry"),
        ({"headers": f'["{SECRET}"]'}, "the key headers is JSON, but not an object"),
        ({"headers": SECRET}, "the key headers is not JSON: Expecting value at line 1 column 1"),
        ({"headers": f'{{"X": ["{SECRET}"]}}'}, "the key headers has a value, of number 1, that is not text"),
        (
            {"headers": f'{{"A": "b", "{SECRET} x": ""}}'},
            "the key headers has a name, number 2, that no header can have",
        ),
        ({"headers": '{"Host": "x"}'}, "the key headers may not set Host"),
        ({"success": f'{{"{SECRET}"'}, "the key success is not JSON: Expecting ':' delimiter at line 1 column 11"),
        ({"success": "null"}, "the key success is null: it must be JSON that the answer holds, or the word status"),
        ({"success": "[" * 11 + "]" * 11}, "the key success is nested too deep"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_its_value(keys: dict[str, str], expected: str) -> None:
    """The sentence names the Secret and the key."""
    assert refusal(**keys) == f"Secret a/b: {expected}"


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ({"data": {"url": "%%%"}}, "Secret a/b: the key url is not text in base64"),
        ({"data": {"body": base64.b64encode(b"\xff").decode()}}, "Secret a/b: the key body is not text in base64"),
        ({"data": {"body": 7}}, "Secret a/b: the key body is not text in base64"),
        ({"stringData": {"url": 7}}, "Secret a/b: the key url is not text"),
        ({"data": []}, None),
        ({"data": ["x"]}, "Secret a/b is not a Secret: its data is not an object"),
    ],
)
def test_a_secret_object_is_read_with_care(secret: dict[str, Any], expected: str | None) -> None:
    """Base64 of text, or refused."""
    if expected is None:
        assert template.contents(secret, "Secret a/b") == {}
        return
    with pytest.raises(errors.Refused) as caught:
        template.contents(secret, "Secret a/b")
    assert str(caught.value) == expected


def test_no_repr_shows_a_secret() -> None:
    """What is written into a traceback or a log by mistake holds nothing."""
    headers, body = f'{{"X": "{SECRET}"}}', f'["{SECRET}"]'
    read = template.read({"url": f"https://u:{SECRET}@h/{SECRET}", "headers": headers, "body": body}, "x")
    assert SECRET not in repr(read) + repr(read.render(VALUES))


@given(st.text(), st.text(), st.text(), st.text())
def test_any_secret_gives_a_request_or_a_refusal(url: str, headers: str, body: str, success: str) -> None:
    """And nothing else."""
    try:
        read = template.read({"url": url, "headers": headers, "body": body, "success": success}, "x")
    except errors.Refused:
        return
    json.loads(read.render(VALUES).body)
