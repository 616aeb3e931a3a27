"""How a Secret becomes a request."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function import errors
from function.scaling import occurrences, template

OCCURRENCE = occurrences.Occurrence(
    cluster="west",
    namespace="shop",
    name="cart",
    uid="0d4f7a52",
    reason="SuccessfulRescale",
    event_type="Normal",
    message="New size: 6; reason: memory resource above target",
    occurred_at=datetime.datetime(2026, 5, 11, 6, 30, 12, tzinfo=datetime.UTC),
    count=3,
    new_size=6,
    direction="up",
)
VALUES = template.values_of(OCCURRENCE, target="Deployment/cart")
NOTHING = template.values_of(
    dataclasses.replace(OCCURRENCE, new_size=None, direction=None, count=None, uid="", reason="", event_type=""),
    target=None,
)
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


def render(body: str, values: dict[str, template.Value] = VALUES, headers: str = "", url: str = URL) -> Any:
    """Return the body that a Secret with this body sends."""
    return json.loads(request(body, values, headers, url).body)


def request(
    body: str = "{}", values: dict[str, template.Value] = VALUES, headers: str = "", url: str = URL
) -> template.Request:
    """Return the request that a Secret sends."""
    return template.read({"url": url, "body": body, "headers": headers}, "Secret a/b").render(values)


def refusal(**keys: str) -> str:
    """Return the sentence that refuses a Secret."""
    with pytest.raises(errors.Refused) as caught:
        template.read({"url": URL, "body": "{}", **keys}, "Secret a/b")
    return str(caught.value)


@pytest.mark.parametrize(
    ("placeholder", "expected"),
    [
        ("message", OCCURRENCE.message),
        ("time", "2026-05-11T06:30:12Z"),
        ("time_s", 1778481012),
        ("time_ms", 1778481012000),
        ("time_ms_plus_1", 1778481012001),
        ("namespace", "shop"),
        ("name", "cart"),
        ("cluster", "west"),
        ("reason", "SuccessfulRescale"),
        ("type", "Normal"),
        ("new_size", 6),
        ("direction", "up"),
        ("target", "Deployment/cart"),
        ("count", 3),
        ("hpa_uid", "0d4f7a52"),
        ("occurrence", OCCURRENCE.key),
    ],
)
def test_each_placeholder_has_its_value(placeholder: str, expected: template.Value) -> None:
    """Alone it is the value, a number where it is one; inside a text it is text."""
    assert render(json.dumps([f"_{placeholder}_", f"<_{placeholder}_>"])) == [expected, f"<{expected}>"]


def test_every_placeholder_is_tested() -> None:
    """The table above knows all of them."""
    assert set(VALUES) == template.NAMES


@pytest.mark.parametrize("name", ["new_size", "direction", "count", "hpa_uid", "reason", "type", "target"])
def test_a_placeholder_without_a_value_is_null_or_nothing(name: str) -> None:
    """Null where it stands alone, nothing inside a text."""
    assert render(json.dumps({"a": f"_{name}_", "b": f"({name}: _{name}_)"}), NOTHING) == {
        "a": None,
        "b": f"({name}: )",
    }


@given(st.text())
def test_any_message_leaves_the_body_json(message: str) -> None:
    """The message arrives as it was said, whatever it holds, and nothing around it changes."""
    values = template.values_of(dataclasses.replace(OCCURRENCE, message=message), target=None)
    assert render('{"a": "_message_", "b": [1, "x _message_ y", null]}', values) == {
        "a": message,
        "b": [1, f"x {message} y", None],
    }


@given(st.text(alphabet=st.characters(exclude_characters="_")), st.text(alphabet=st.characters(exclude_characters="_")))
def test_the_published_placeholders_are_replaced_wherever_they_stand(before: str, after: str) -> None:
    """As hpa-sender does it: inside words too."""
    assert render(json.dumps([f"{before}_time_{after}"])) == [f"{before}2026-05-11T06:30:12Z{after}"]


def test_a_placeholder_in_a_message_is_left_alone() -> None:
    """What the controller says is no template."""
    values = template.values_of(dataclasses.replace(OCCURRENCE, message="_name_ _time_"), target=None)
    assert render('["_message_"]', values) == ["_name_ _time_"]


def test_words_of_a_receiver_that_hold_a_placeholder_are_left_alone() -> None:
    """source_type_name is a key of Datadog's, kube_cluster_name a tag."""
    body = {"source_type_name": "kubernetes", "tags": ["kube_cluster_name:_cluster_", "_namespace__name_", "a_name_b"]}
    assert render(json.dumps(body)) == {
        "source_type_name": "kubernetes",
        "tags": ["kube_cluster_name:west", "shopcart", "a_name_b"],
    }


def test_an_unknown_placeholder_is_left_as_it_is_and_known() -> None:
    """Also one that begins like a known one."""
    body = '{"a": "_old_size_ and _time_ms_plus_2_", "b": {"c": ["_time_zone_"]}}'
    assert render(body) == json.loads(body)
    read = template.read({"url": URL, "body": body, "headers": '{"X": "a _b_"}'}, "Secret a/b")
    assert read.unknown == {"_old_size_", "_time_ms_plus_2_", "_time_zone_", "_b_"}


@pytest.mark.parametrize("text", ["size=_old_size_", "[_old_size_]", "<_old_size_>", "{_old_size_}", "'_old_size_'"])
def test_an_unknown_placeholder_is_known_between_any_marks(text: str) -> None:
    """What no token has before or after it sets it apart."""
    assert template.read({"url": URL, "body": json.dumps(text)}, "Secret a/b").unknown == {"_old_size_"}


def test_a_piece_of_a_token_is_no_unknown_placeholder() -> None:
    """What is warned about is logged, so it must stand by itself."""
    assert not template.read({"url": URL, "body": '["R0_abc_def-_ghi_-x"]'}, "Secret a/b").unknown


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


@given(st.text())
def test_control_characters_never_reach_a_header(message: str) -> None:
    """Neither from a message nor from the Secret itself."""
    values = template.values_of(dataclasses.replace(OCCURRENCE, message=message), target=None)
    headers = json.dumps({"X-A": "a\r\nInjected: _message_", "X-B": "token\n"})
    sent = request(values=values, headers=headers)
    assert not [
        value for value in sent.headers.values() if any(ord(one) < 32 or 127 <= ord(one) < 160 for one in value)
    ]
    assert sent.headers["X-B"] == "token"


def test_slack_gets_its_markup_escaped() -> None:
    """A message can neither break the text nor call a channel; other receivers get it as it is."""
    values = template.values_of(dataclasses.replace(OCCURRENCE, message="&LabelSelector{<!channel>}"), target=None)
    body = '{"text": "*x* _message_", "whole": "_message_"}'
    slack = "https://hooks.slack.com/services/T/B/X"
    escaped = "&amp;LabelSelector{&lt;!channel&gt;}"
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
        ({"url": f"https://{SECRET}:99999/"}, "the key url is no url"),
        ({"url": "https:///x"}, "the key url has no host and port that can be connected to"),
        ({"body": f'{{"{SECRET}": }}'}, "the key body is not JSON: Expecting value at line 1 column 13"),
        ({"body": "[" * 100000}, "the key body is not JSON that can be read: a number too long, or nesting too deep"),
        ({"body": f'["{SECRET}", NaN]'}, "the key body is not JSON: NaN is no JSON value at line 1 column 1"),
        ({"body": f'["{SECRET}", 1e999]'}, "the key body has a number that JSON cannot carry"),
        ({"headers": f'["{SECRET}"]'}, "the key headers is JSON, but no object"),
        ({"headers": SECRET}, "the key headers is not JSON: Expecting value at line 1 column 1"),
        ({"headers": f'{{"X": ["{SECRET}"]}}'}, "the key headers has a value, of number 1, that is no text"),
        (
            {"headers": f'{{"A": "b", "{SECRET} x": ""}}'},
            "the key headers has a name, number 2, that no header can have",
        ),
        ({"headers": '{"Host": "x"}'}, "the key headers may not set Host"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_its_value(keys: dict[str, str], expected: str) -> None:
    """The sentence names the Secret and the key."""
    assert refusal(**keys) == f"Secret a/b: {expected}"


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ({"data": {"url": "%%%"}}, "Secret a/b: the key url is no text in base64"),
        ({"data": {"body": base64.b64encode(b"\xff").decode()}}, "Secret a/b: the key body is no text in base64"),
        ({"data": {"body": 7}}, "Secret a/b: the key body is no text in base64"),
        ({"stringData": {"url": 7}}, "Secret a/b: the key url is no text"),
        ({"data": []}, None),
        ({"data": ["x"]}, "Secret a/b is no Secret: its data is no object"),
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


@given(st.text(), st.text(), st.text())
def test_any_secret_gives_a_request_or_a_refusal(url: str, headers: str, body: str) -> None:
    """And nothing else."""
    try:
        read = template.read({"url": url, "headers": headers, "body": body}, "x")
    except errors.Refused:
        return
    json.loads(read.render(VALUES).body)
