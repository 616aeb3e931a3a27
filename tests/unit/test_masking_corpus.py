"""Nothing of the corpus leaks, whole, cut off or broken; and what must stay stays."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import io
import json
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from flask import testing
from hypothesis import strategies

from function import settings, wiring
from function.echo import masking
from tests import masking_corpus

EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "here", "ce-type": "a.test"}
SAMPLES = pathlib.Path(__file__).parent.parent / "events"
ENCODED = re.compile(r"(?=([A-Za-z0-9+/_-]{8,}))(?:/|[A-Za-z0-9+_-]++/?)")


def seen(text: str, depth: int = 0) -> Iterator[str]:
    """What a reader finds in a line: it, and all that is base64 or gzip in it."""
    yield text.replace("\\u0000", "")
    for run in ENCODED.findall(re.sub(r"\\n *|\n *", "", text)) + ENCODED.findall(text) if depth < 5 else ():
        with contextlib.suppress(binascii.Error):
            inside = base64.b64decode(
                run[: len(run) - (len(run) % 4 == 1)] + "==", altchars="-_" if "_" in run else "+/"
            )
            for unpack in (gzip.decompress, zlib.decompress, _beginning):
                with contextlib.suppress(zlib.error, OSError, EOFError):
                    inside = unpack(inside)
                    break
            yield from seen(inside.decode("latin-1").replace("\0", ""), depth + 1)


def _beginning(data: bytes) -> bytes:
    """What is packed, though its end is wrong or missing."""
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(data[:-8])


def leaks(text: str) -> bool:
    """Whether any secret of the corpus is in it."""
    return any(piece in found for found in seen(text) for piece in masking_corpus.PIECES)


def printed(function: testing.FlaskClient, body: str | bytes, headers: dict[str, str]) -> str:
    """What the echo prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        function.post("/echo", data=body, headers=headers)
    assert out.getvalue().count("\n") == 1
    return out.getvalue()


def test_the_corpus_is_large_and_each_payload_has_a_secret() -> None:
    """At least 150 that are not made of one name; a payload without a secret would prove nothing."""
    apart = [name for name in masking_corpus.SECRETS if not name.startswith(("JSON member", "assignment", "YAML line"))]
    assert len(apart) >= 150
    function = wiring.Service(settings.Settings.from_env({"ECHO_SECRETS": "show"})).app.test_client()
    headers = {**EVENT, "Content-Type": "application/octet-stream"}
    lines = {name: printed(function, payload, headers) for name, payload in masking_corpus.SECRETS.items()}
    assert [name for name, line in lines.items() if not leaks(line)] == []


@pytest.mark.parametrize(
    "headers",
    [
        {**EVENT, "Content-Type": "application/json"},
        {**EVENT, "Content-Type": "text/plain"},
        {**EVENT, "Content-Type": "application/octet-stream"},
        {**EVENT, "Content-Type": "text/plain; charset=cp037"},
        {"Content-Type": "application/json"},
    ],
)
def test_no_payload_leaks(headers: dict[str, str]) -> None:
    """As the data of an event, by whatever content type, a wrong one too; and as a body that is not an event."""
    function = wiring.Service(settings.Settings.from_env({})).app.test_client()
    lines = {name: printed(function, payload, headers) for name, payload in masking_corpus.SECRETS.items()}
    assert {name: line for name, line in lines.items() if leaks(line)} == {}


def test_no_payload_leaks_as_a_part_of_another() -> None:
    """A text in JSON, in XML, in YAML, in a sentence, in base64."""
    texts = {name: payload for name, payload in masking_corpus.SECRETS.items() if isinstance(payload, str)}
    forms: dict[str, Callable[[str], str]] = {
        "JSON": lambda text: json.dumps({"message": text}),
        "JSON twice": lambda text: json.dumps({"message": json.dumps([text])}),
        "base64": masking_corpus.encoded,
        "gzip": lambda text: masking_corpus.encoded(masking_corpus.packed(text)),
        "log": lambda text: f"2026-11-22T10:00:00Z INFO handled:\n{text}\n2026-11-22T10:00:01Z INFO next",
    }
    masked = {
        (name, form): masking.mask_text(wrap(text)) for name, text in texts.items() for form, wrap in forms.items()
    }
    assert {key: text for key, text in masked.items() if leaks(text)} == {}


@pytest.mark.parametrize("name", masking_corpus.HARMLESS)
def test_what_need_not_be_masked_stays(name: str) -> None:
    """A person has to read it: references to Secrets, words that contain a secret's word, digests, certificates."""
    payload = masking_corpus.HARMLESS[name]
    assert masking.mask_text(payload) == payload


def hidden(value: Any, name: str = "") -> Iterator[str]:
    """The names of the members in which something is masked."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from hidden(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from hidden(inner, name)
    elif isinstance(value, str) and masking.MASK in value:
        yield name


def test_of_real_events_only_secrets_are_masked() -> None:
    """The samples of this repository, all their members."""
    found = {path.stem: masking.Encoder().encode(json.loads(path.read_text())) for path in SAMPLES.rglob("*.json")}
    masked = {stem: sorted(hidden(json.loads(text))) for stem, text in found.items()}
    assert masked["encrypted-vm"] == ["Modified", "Value", "Value"]
    assert masked["logged-out"] == ["SessionId"]
    others = {name for stem, names in masked.items() if stem not in ("encrypted-vm", "logged-out") for name in names}
    assert others == {"userData"}


JSON_PAYLOADS = sorted(
    name
    for name, payload in masking_corpus.SECRETS.items()
    if isinstance(payload, str)
    and payload.startswith("{")
    and name.startswith(("JSON member", "pair", "Secret", "docker"))
)


@pytest.mark.parametrize("name", ["Secret", "Secret as text", "docker config", "pair DB_PASS", "Ignition"])
def test_json_leaks_nothing_wherever_it_is_cut(name: str) -> None:
    """What is cut is not JSON any more, and its secrets still have their names and places."""
    payload = str(masking_corpus.SECRETS[name])
    assert [end for end in range(len(payload)) if leaks(masking.mask_text(payload[:end]))] == []


@pytest.mark.parametrize("name", ["Secret", "Secret as text", "docker config", "pair DB_PASS", "Ignition"])
@pytest.mark.parametrize("byte", [b"\xff", b"\0"])
def test_one_byte_that_is_not_text_switches_nothing_off(name: str, byte: bytes) -> None:
    """Wherever it is, in the middle of a name too."""
    payload = str(masking_corpus.SECRETS[name]).encode()
    masked = {at: masking.Encoder().data(payload[:at] + byte + payload[at:]) for at in range(len(payload) + 1)}
    assert [at for at, text in masked.items() if text is None or leaks(text)] == []


@hypothesis.given(strategies.sampled_from(JSON_PAYLOADS), strategies.sampled_from("{}[],: "), strategies.data())
def test_one_sign_too_many_switches_nothing_off(name: str, sign: str, data: strategies.DataObject) -> None:
    """Any sign of JSON's own, beside any brace and any comma."""
    payload = str(masking_corpus.SECRETS[name])
    places = [at for at in range(len(payload) + 1) if re.search(r"[][{},]", payload[max(0, at - 1) : at + 1])]
    at = data.draw(strategies.sampled_from(places))
    assert not leaks(masking.mask_text(payload[:at] + sign + payload[at:]))


ANY: strategies.SearchStrategy[Any] = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(max_size=5),
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@hypothesis.given(
    strategies.sampled_from(["password", "client_secret", "apiKey", "auth", "guestinfo.talos.config"]),
    strategies.dictionaries(strategies.text(max_size=5), ANY, max_size=3),
    strategies.sampled_from([",", "]", " ...", "\x00", "}"]),
)
def test_what_is_broken_is_masked_as_what_is_whole(name: str, others: dict[str, Any], end: str) -> None:
    """Any object around the secret, with something after it that JSON does not allow."""
    text = json.dumps({**others, name: [{"deep": masking_corpus.SECRET}], "kind": "x"})
    assert not leaks(masking.mask_text(text))
    assert not leaks(masking.mask_text(text + end))
