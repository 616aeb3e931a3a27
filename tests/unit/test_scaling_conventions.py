"""What the body of a 2xx says."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function import errors
from function.scaling import conventions

Bodies = list[tuple[str, str, bool]]


def refusal(body: str | bytes, success: str = "") -> conventions.Refusal | None:
    """Return the error that a body holds, where the Secret's key success is this."""
    asked = conventions.success(success, "the key success")
    return conventions.refusal(body.encode() if isinstance(body, str) else body, asked)


TEAMS = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {} with ContextId"

FOR_GOOD: list[tuple[str, str]] = [
    ('{"ok": false, "error": "channel_not_found"}', "channel_not_found"),  # Slack
    ('{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}', "400"),  # Telegram
    ('{"errcode":310000,"errmsg":"keywords not in content"}', "310000"),  # DingTalk
    ('{"errcode":"300001","errmsg":"token is not exist"}', "300001"),
    ('{"errcode":93000,"errmsg":"invalid webhook url, hint: [1700]"}', "93000"),  # WeCom
    ('{"code":19024,"msg":"Key Words Not Found","data":{}}', "19024"),  # Feishu
    ('{"code":-2,"message":"no"}', "-2"),
    ('{"StatusCode":19001,"StatusMessage":"param invalid: incoming webhook access token invalid"}', "19001"),
    (TEAMS.format(400) + " tcid=503,server=x-1-429,cv=a", "400"),
    (json.dumps(TEAMS.format(413)), "413"),
    ('{"success":false,"error":{"code":404,"errors":"token"}}', "404"),  # Synology
    ('{"success":"false"}', ""),
    ('{"multicast_id":1,"success":0,"failure":1}', ""),  # Firebase
    ('{"Success": false, "Message": "archived"}', ""),
    ('{"status":"invalid event","message":"no","errors":["routing_key"]}', ""),  # PagerDuty
    ('{"status":{"result":"ERROR","message":"Name is required","code":400}}', "400"),  # Wavefront
    ('{"status":"error"}', "error"),
    ('{"status":401,"message":"Invalid access token"}', "401"),  # LINE
    ('{"result":"failure","message":"x"}', ""),  # VictorOps
    ('{"result":"error","msg":"x","code":"BAD_REQUEST"}', "BAD_REQUEST"),  # Zulip
    ('{"error":"invalid_token"}', "invalid_token"),
    ('{"error":{"code":-32602,"message":"Invalid params."},"jsonrpc":"2.0","id":1}', "-32602"),  # JSON-RPC
    ('{"errors":[{"message":"x"}]}', ""),  # GraphQL
    ('{"took":3,"errors":true,"items":[]}', ""),  # Elasticsearch
    ('{"errorMessage":"x","errorType":"Runtime"}', ""),  # a Lambda function
    ('[{"error":"x"}]', "x"),
    ('{"Response":{"Error":{"Code":"AuthFailure","Message":"x"},"RequestId":"1"}}', "AuthFailure"),  # Tencent
    ('{"meta":{"code":400,"message":"no"}}', "400"),
    ('{"errcode":"M_FORBIDDEN","error":"not in room"}', "M_FORBIDDEN"),  # Matrix
    ('{"delivered":false}', ""),
    ('{"err":"no such room"}', ""),
    ("invalid_payload", "invalid_payload"),  # Slack's webhooks, behind what hides the status
    ("channel_is_archived", "channel_is_archived"),
    ("no_service\n", "no_service"),
    ("ERROR: token hunter2", ""),
    ('"error"', "error"),
    ("Invalid token.", ""),
    ('\ufeff{"ok":false}', ""),
    (' {"ok":false}\r\n', ""),
]
PASSING: list[tuple[str, str]] = [
    ('{"ok":false,"error":"ratelimited"}', "ratelimited"),
    ('{"ok":false,"error":"internal_error"}', "internal_error"),
    ('{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7"}', "429"),
    ('{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}', "130101"),
    ('{"errcode":-1,"errmsg":"系统繁忙"}', "-1"),
    ('{"errcode":45009,"errmsg":"api freq out of limit"}', "45009"),
    ('{"code":9499,"msg":"too many request","data":{}}', "9499"),
    ('{"code":11232,"msg":"frequency limited psm"}', "11232"),
    (TEAMS.format(429), "429"),
    (TEAMS.format(503), "503"),
    ("Webhook message delivery failed with error: upstream said 429", "429"),
    ("Webhook message delivery failed with error: Error contacting Microsoft Teams endpoint", ""),
    ('{"success":false,"error":{"code":411,"errors":"create post too fast"}}', "411"),
    ('{"status":500,"message":"x"}', "500"),
    ('{"result":"error","msg":"API usage exceeded rate limit","code":"RATE_LIMIT_HIT"}', "RATE_LIMIT_HIT"),
    ('{"errors":[{"message":"Throttled"}]}', ""),
    ('{"error":"Service temporarily unavailable"}', ""),
    ('{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"rate limit"}}}', "RequestLimitExceeded"),
    ("failed: try again later", ""),
]
GOOD = [
    *("", "ok", "1", "true", "null", "[]", "{}", '"ok"', "0", "accepted", "<html></html>", "{", "\x00"),
    '{"ok":true}',
    '{"ok":true,"response":{"error":"x"}}',
    *("errors: 0", "failed: 0, ok: 1", "Error=0", "errata stored", "event_created", "OK, no error", "received"),
    '{"accepted":1,"sent":true}',
    '{"ok":true,"warning":"missing_charset","error":""}',
    '{"errcode":0,"errmsg":"ok"}',
    '{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}',
    '{"code":200,"message":"success"}',
    '{"code":1,"msg":"ok"}',
    '{"code":7}',
    '{"text":"Success","code":0}',
    '{"error_code":200,"topic_name":"x"}',
    '{"status":"ok","event":{"id":1}}',
    '{"status":"success","message":"Event processed","dedup_key":"x"}',
    '{"status":{"result":"OK","message":"","code":200},"response":{"name":"HPA Scaling"}}',
    '{"message":"Annotation added","id":1}',
    '{"id":"x","type":"scaling","start_time":1,"message":"New size: 4; reason: error: x"}',
    '{"result":"Request will be processed","took":0.1,"requestId":"x"}',
    '{"result":{"status":"error"}}',
    '{"error":null,"errors":[],"error_message":null}',
    '{"error":false}',
    '{"errors":0}',
    '{"success":true,"errors":{"a":1}}',
    '{"_index":"x","result":"created","_shards":{"failed":0}}',
]


@pytest.mark.parametrize(("body", "code"), FOR_GOOD)
def test_an_error_that_stays_is_recognized(body: str, code: str) -> None:
    """In the form of each receiver, with its code where that may be quoted."""
    expected = conventions.Refusal("with an error in its body", code, temporary=False)
    assert refusal(body) == expected


@pytest.mark.parametrize(("body", "code"), PASSING)
def test_an_error_that_passes_is_told_apart(body: str, code: str) -> None:
    """Too much at once, and trouble of the receiver: the same request may succeed later."""
    expected = conventions.Refusal("with an error in its body", code, temporary=True)
    assert refusal(body) == expected


@pytest.mark.parametrize("body", GOOD)
def test_any_other_body_is_a_success(body: str) -> None:
    """As most receivers answer, in words or without."""
    assert refusal(body) is None


@pytest.mark.parametrize("body", [body for body, _ in (*FOR_GOOD, *PASSING)])
def test_a_secret_may_turn_the_reading_off(body: str) -> None:
    """For a receiver whose success looks like an error."""
    assert refusal(body, "status") is None


@pytest.mark.parametrize(
    ("success", "good", "bad"),
    [
        ('{"errno": 0}', ['{"errno":0}', '{"errno":0.0,"x":1}'], ['{"errno":5}', '{"errno":false}', "{}", "", "[]"]),
        ('{"ok": true}', ['{"ok":true}'], ['{"ok":1}', '{"ok":"true"}', "ok"]),
        ('{"a": {"b": "c"}}', ['{"a":{"b":"c","d":1}}'], ['{"a":"c"}', '{"a":{}}', '{"b":"c"}']),
        ('"ok"', ["ok", " ok\n", '"ok"'], ["OK", "okay", "", '{"ok":true}', "invalid_payload"]),
        ("1", ["1", "1\r\n"], ["0", "", "true", TEAMS]),
        ('""', ["", "\n"], ["x"]),
        ("{}", ["{}", '{"a":1}'], ["", "ok"]),
    ],
)
def test_a_secret_may_say_what_a_success_looks_like(success: str, good: list[str], bad: list[str]) -> None:
    """The members of an object, or the whole of any other JSON; everything else is an error."""
    assert [refusal(body, success) for body in good] == [None] * len(good)
    assert all(refusal(body, success) for body in bad)


def test_what_is_not_the_success_that_was_asked_for_is_named_so() -> None:
    """Where no form of an error is recognized in it; it passes where its words say so."""
    assert refusal("no", '{"a": 1}') == conventions.Refusal("without what the key success asks for", "", False)
    assert refusal('{"a":2,"message":"rate limit"}', '{"a": 1}') == conventions.Refusal(
        "without what the key success asks for", "", True
    )
    assert refusal('{"a":2,"errcode":7}', '{"a": 1}') == conventions.Refusal("with an error in its body", "7", False)


@pytest.mark.parametrize(
    ("body", "wait"),
    [
        ('{"ok":false,"error_code":429,"parameters":{"retry_after":7}}', 7.0),
        ('{"error":"x","retry_after":0.5}', 0.5),
        ('{"error":"x","retry_after":"soon","parameters":[]}', None),
        ('{"error":"x","retry_after":-1}', None),
        ('{"error":"x","retry_after":1e300}', 1e9),
    ],
)
def test_a_receiver_may_say_how_long_to_wait(body: str, wait: float | None) -> None:
    """As Telegram and Discord do."""
    found = refusal(body)
    assert found is not None
    assert found.wait == wait


@pytest.mark.parametrize(
    "error", ["xoxb-123", "invalid token hunter2", "hunter2", "123456789012", "a" * 41, "a\nb", "ünbekannt", None, 1.5]
)
def test_a_code_holds_no_token(error: Any) -> None:
    """A number, or letters and underscores; no digits among letters, no blank, nothing long."""
    found = refusal(json.dumps({"ok": False, "error": error}))
    assert found is not None
    assert found.code == ""


@pytest.mark.parametrize("text", ["null", '{"a":', "[" * 11 + "]" * 11, '{"a":' * 11 + "1" + "}" * 11])
def test_a_key_success_that_cannot_be_used_is_refused(text: str) -> None:
    """When the Secret is read, and not when the answer is there."""
    with pytest.raises(errors.BadEvent):
        conventions.success(text, "the key success")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ok", "error", "errors", "code", "errcode", "status", "msg", "parameters", "retry_after"]),
            inner,
        )
    ),
)


@given(st.binary() | json_values.map(json.dumps).map(str.encode), json_values.filter(lambda node: node is not None))
def test_any_body_is_read(body: bytes, wanted: Any) -> None:
    """Whatever it says, under whatever convention; what equals the success that is asked for is one."""
    refusal(body)
    with contextlib.suppress(errors.BadEvent):  # nested too deep
        refusal(body, json.dumps(wanted))
        assert refusal(json.dumps(wanted).encode(), json.dumps(wanted)) is None


@pytest.mark.parametrize("opening", ["[", '{"status":', '{"error":', '{"parameters":', '[{"error":'])
def test_a_body_that_is_nested_deep_is_read(opening: str) -> None:
    """As deep as 64 KiB can be."""
    refusal(opening * (65536 // len(opening)))
    closing = "".join({"[": "]", "{": "}"}[letter] for letter in reversed(opening) if letter in "[{")
    for depth in (3, 90, 300, 900):
        body = opening * depth + "1" + closing * depth
        refusal(body)
        refusal(body, '{"a": {"b": 1}}')
