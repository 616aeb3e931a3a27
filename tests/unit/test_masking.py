"""No secret is left, by its name or its place, and nothing else is lost."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from function.echo import masking
from tests import masking_corpus

SECRET = "S3CRET"
JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats(allow_nan=False)
    | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
)  # fmt: skip


def encoded(value: Any, **options: Any) -> Any:
    """What is left of a JSON value."""
    return json.loads(masking.Encoder(**options).encode(value))


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "adminPassword",
        "ROOT_PASSWORD",
        "token",
        "vRealizeOpsToken",
        "SessionId",
        "session_id",
        "vmware-api-session-id",
        "encryption.bundle",
        "userData",
        "userDataBase64",
        "networkData",
        "guestinfo.userdata",
        "kubectl.kubernetes.io/last-applied-configuration",
        "Authorization",
        "Proxy-Authorization",
    ],
)
@pytest.mark.parametrize("value", [SECRET, [SECRET], {"a": SECRET}, 5, True])
def test_a_secret_name_hides_the_whole_value(name: str, value: Any) -> None:
    """Text, a list, an object, a number."""
    assert encoded({"deep": [{name: value, "other": "stays"}]}) == {"deep": [{name: "***", "other": "stays"}]}


@pytest.mark.parametrize("name", ["userDataSecretRef", "author", "key", "name", "userDatabase", "sessionIdle"])
def test_other_names_hide_nothing(name: str) -> None:
    """A reference to a Secret is not a secret."""
    assert encoded({name: "shown"}) == {name: "shown"}


def test_what_is_empty_stays_empty() -> None:
    """That there is no password is not a secret."""
    assert encoded({"password": "", "token": None}) == {"password": "", "token": None}


@pytest.mark.parametrize(
    "pair",
    [
        {"Key": "encryption.bundle", "Value": SECRET},
        {"value": SECRET, "key": "guestinfo.userdata"},
        {"name": "DB_PASSWORD", "value": SECRET},
        {"op": "add", "path": "/spec/token", "value": {"a": SECRET}},
    ],
)
def test_a_key_beside_its_value_hides_it(pair: dict[str, Any]) -> None:
    """An OptionValue of vSphere, a container's environment, a JSON patch."""
    left = encoded([pair, {"Key": "svga.present", "Value": "TRUE"}])
    assert SECRET not in json.dumps(left)
    assert left[1] == {"Key": "svga.present", "Value": "TRUE"}


def test_the_data_of_a_kubernetes_secret_is_hidden_wherever_it_is() -> None:
    """By itself, in a List, in a SecretList whose items name no kind; the keys are shown."""
    secret = {"kind": "Secret", "metadata": {"name": "db"}, "data": {"user": SECRET}, "stringData": {"host": SECRET}}
    hidden = {**secret, "data": {"user": "***"}, "stringData": {"host": "***"}}
    nameless = {"metadata": {"name": "db"}, "data": {"user": SECRET}}
    assert encoded(secret) == hidden
    assert encoded({"kind": "List", "items": [secret]}) == {"kind": "List", "items": [hidden]}
    assert encoded({"kind": "SecretList", "items": [nameless]})["items"][0]["data"] == {"user": "***"}
    assert encoded({"kind": "ConfigMap", "data": {"user": "shown"}})["data"] == {"user": "shown"}


@pytest.mark.parametrize(
    "text",
    [
        f'config.extraConfig("encryption.bundle").value: "{SECRET}" -> "{SECRET}"; numCPU: 2 -> 4',
        f'config.extraConfig("encryption.bundle").value: <unset> -> "{SECRET}"; numCPU: 2 -> 4',
        f'config.extraConfig("encryption.bundle"): (key = "encryption.bundle", value = "{SECRET}"); numCPU: 2 -> 4',
        f"GET /login?password={SECRET}&numCPU: 2 -> 4",
        f"Authorization: Basic {SECRET}\nnumCPU: 2 -> 4",
        f"Authorization: vRealizeOpsToken {SECRET}\nnumCPU: 2 -> 4",
        f"sent vRealizeOpsToken {SECRET}::12345678, numCPU: 2 -> 4",
        f"password: {SECRET} with {SECRET}\nnumCPU: 2 -> 4",
        f"userData: |\n  #cloud-config\n  {SECRET}\nnumCPU: 2 -> 4",
        f"kind: Secret\ndata:\n  a: {SECRET}\n  b: {SECRET}\ntype: Opaque\nnumCPU: 2 -> 4",
        f"userData: |\r\n  #cloud-config\r\n  {SECRET}\r\nnumCPU: 2 -> 4",
        f"kind: Secret\r\ndata:\r\n  a: {SECRET}\r\ntype: Opaque\r\nnumCPU: 2 -> 4",
        f"kind: Secret\nstringData: {{a: {SECRET},\n  b: {SECRET}}}\nnumCPU: 2 -> 4",
        f"- data:\n    a: {SECRET}\n  kind: Secret\n- numCPU: 2 -> 4",
        f"password:\n  inside: {SECRET}\n  beside: {SECRET}\nnumCPU: 2 -> 4",
        f"tokens:\n- {SECRET}\n- {SECRET}\nnumCPU: 2 -> 4",
        f"- password: |\n    {SECRET}\n- numCPU: 2 -> 4",
        f'{{"password": "{SECRET}", broken, numCPU: 2 -> 4',
        f"{{'sessionId': '{SECRET}', 'x': 'numCPU: 2 -> 4'}}",
        f"<a><password>{SECRET}</password><b>numCPU: 2 -> 4</b></a>",
        f'<a token="{SECRET}">numCPU: 2 -> 4</a>',
        f"<v:a><v:Password x='1'>{SECRET}<b>{SECRET}</b></v:Password>numCPU: 2 -> 4</v:a>",
        f"<o><key>encryption.bundle</key><value>{SECRET}</value></o><b>numCPU: 2 -> 4</b>",
        f'<o key="sessionId" value="{SECRET}"/><b>numCPU: 2 -> 4</b>',
        f"<m>config(&#34;encryption.bundle&#34;).value: &#34;{SECRET}&#34;; numCPU: 2 -> 4</m>",
        f"<m>numCPU: 2 -> 4<![CDATA[password={SECRET}]]><!-- token: {SECRET} --></m>",
        f'<!DOCTYPE m [<!ENTITY pw "{SECRET}">]><m>numCPU: 2 -> 4<password>&pw;</password></m>',
        f"<m>numCPU: 2 -> 4<token>{SECRET}",
        f"<m>&lt;password&gt;{SECRET}&lt;/password&gt;numCPU: 2 -> 4</m>",
        f"it said &lt;password&gt;{SECRET}&lt;/password&gt;, numCPU: 2 -&gt; 4",
        f"<Secret><data><user>{SECRET}</user></data><b>numCPU: 2 -> 4</b></Secret>",
        f"<o><s:data><user>{SECRET}</user></s:data><kind>Secret</kind><b>numCPU: 2 -> 4</b></o>",
    ],
)
def test_text_loses_its_secrets_and_keeps_the_rest(text: str) -> None:
    """Sentences of vCenter, headers, YAML, broken JSON, XML: where a person reads on."""
    masked = masking.mask_text(text)
    assert SECRET not in masked
    assert "numCPU: 2 -" in masked
    assert "***" in masked


def test_data_that_is_no_secrets_stays_in_xml() -> None:
    """A ConfigMap's, and an element that is called so."""
    text = "<o><kind>ConfigMap</kind><data><user>shown</user></data></o>"
    assert masking.mask_text(text) == text


def test_cloud_init_is_hidden_by_its_first_line() -> None:
    """Whatever the name that it stands under."""
    assert encoded({"data": f"#cloud-config\nchpasswd: {SECRET}"}) == {"data": "***"}


def test_json_that_is_text_is_looked_into() -> None:
    """To any honest depth; what has no secret keeps its own spelling."""
    inner = json.dumps({"token": SECRET, "a": json.dumps({"password": SECRET, "b": "shown"})})
    left = encoded({"annotation": inner, "other": '{ "a" :1}'})
    assert SECRET not in json.dumps(left)
    assert json.loads(json.loads(left["annotation"])["a"])["b"] == "shown"
    assert left["other"] == '{ "a" :1}'


@hypothesis.given(JSON)
def test_any_json_is_written_as_it_was_where_secrets_are_shown(value: Any) -> None:
    """On one line, whatever splits lines, in UTF-8, whatever cannot be encoded."""
    line = masking.Encoder(show=True).encode(value)
    assert line.encode().decode().splitlines() == [line]
    if "Infinity" not in json.dumps(value):
        assert json.loads(line) == value


@hypothesis.given(JSON)
def test_any_json_is_written_where_secrets_are_masked(value: Any) -> None:
    """Masking never fails, and gives JSON of the same type."""
    left = encoded(value)
    assert isinstance(left, dict | list) == isinstance(value, dict | list)


@hypothesis.given(
    strategies.lists(
        strategies.sampled_from(
            ["<a>", "</a>", "<password>", "</password>", '<b token="', '">', "<!--", "]]>", "<![CDATA[", "&lt;",
             "token",
             ": ", "=", '"', "'", "\\", "{", "}", "[", "kind: Secret\ndata:\n", "  x", "|\n", "-> ", "bearer ", "\n"]
        )
    ).map("".join)
)  # fmt: skip
def test_any_text_can_be_masked_again(text: str) -> None:
    """No text breaks it, and what is masked holds no more secrets than before."""
    assert isinstance(masking.mask_text(masking.mask_text(text)), str)


@hypothesis.given(strategies.text(alphabet="<>&;lt\"' ab/", max_size=30), strategies.text(alphabet="<>&\"'=/ ab"))
def test_no_secret_element_leaks_its_content(around: str, before: str) -> None:
    """Whatever surrounds it, closed or not."""
    assert "zzz" not in masking.mask_text(f"<r>{around.replace('<', '')}<password>zzz</password>{before}")


def test_what_is_deep_can_be_written() -> None:
    """Encoding uses no recursion."""
    value: Any = "end"
    for _ in range(50_000):
        value = [value]
    assert masking.Encoder().encode(value).count("[") == 50_000


@pytest.mark.parametrize("piece", masking_corpus.HARD_TO_READ)
def test_the_longest_text_is_done_and_its_end_is_masked(piece: str) -> None:
    """A step whose time grew with the text's square would not come to its end here; `bench.masking` measures it."""
    masked = masking.mask_text(piece * (400_000 // len(piece)) + "\n\"'>} \npassword=hunter2 ")
    assert "hunter2" not in masked


def wrapped(text: str, *, times: int) -> str:
    """A text in base64, so many times."""
    for _ in range(times):
        text = base64.b64encode(text.encode()).decode()
    return text


@pytest.mark.parametrize("times", [1, 3, 8, 9, 30])
def test_base64_is_looked_into_to_any_honest_depth_and_hidden_below(times: int) -> None:
    """No depth switches masking off, and none costs more than the text is long."""
    assert masking.mask_text(wrapped("about nothing", times=min(times, 7))) != masking.MASK
    assert masking.mask_text(wrapped(f"password={SECRET}", times=min(times, 12))) == masking.MASK


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_bomb_is_hidden_in_little_memory(pack: Callable[[bytes], bytes]) -> None:
    """A megabyte that would unpack to a gigabyte: no more is unpacked than one event may have."""
    bomb = base64.b64encode(pack(bytes(64 * 2**20)) * 16).decode()
    tracemalloc.start()
    try:
        assert masking.mask_text(bomb) == masking.MASK
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_what_unpacks_to_much_together_is_hidden() -> None:
    """Many small bombs are one large one; what comes before the limit is read."""
    pieces = [base64.b64encode(gzip.compress(b"nothing " * 20_000, mtime=0)).decode() for _ in range(20)]
    masked = json.loads(masking.Encoder().encode(pieces))
    assert masked[0] == pieces[0]
    assert masked[-1] == masking.MASK


@pytest.mark.parametrize("magic", [b"BZh91AY&SY", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"])
def test_what_cannot_be_unpacked_is_hidden(magic: bytes) -> None:
    """bzip2, xz, zstandard, zip: whatever is in there."""
    assert masking.mask_text(base64.b64encode(magic + b"0123456789").decode()) == masking.MASK


def test_a_text_that_may_be_read_in_many_ways_is_read_a_few_times() -> None:
    """Each level doubles the ways; 2^8 of them would not come to an end here."""
    text = f"&quot;%22 {'x' * 200_000} password={SECRET}"
    for _ in range(7):
        text = '{"a":' + json.dumps(f"%22&quot;{text}") + ",,"
    assert SECRET not in masking.mask_text(text)


def test_no_more_is_kept_of_what_is_nested_than_a_few_hundred_levels() -> None:
    """Each level takes memory: a million of them are hidden from some depth on."""
    for piece in ("{", "[", '{"a":', "<a>"):
        tracemalloc.start()
        try:
            assert SECRET not in masking.mask_text(piece * 200_000 + f"password={SECRET}")
            assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
        finally:
            tracemalloc.stop()
