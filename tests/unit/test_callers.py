"""Which tokens let a caller in, and when the issuer's keys are asked for."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import hypothesis
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies

from function import errors, settings
from function.clients import issuer
from function.web import app, callers, intake, routing
from tests import token_issuer

RSA = token_issuer.rsa_key()
OWN = "system:serviceaccount:vmledger:"


class Source:
    """Gives a signer's keys, as an issuer's documents would; ``times`` counts how often it was asked."""

    def __init__(self, signer: token_issuer.Signer) -> None:
        self.signer = signer
        self.times = 0
        self.away = False

    def __call__(self) -> issuer.Keys:
        """Return the keys."""
        self.times += 1
        if self.away:
            raise errors.Unavailable("it is away")
        return issuer.Keys(self.signer.name, issuer.usable(self.signer.jwks()))


class Clock:
    """Shows the seconds that a test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def signer() -> token_issuer.Signer:
    """An issuer with one key."""
    return token_issuer.Signer()


@pytest.fixture
def source(signer: token_issuer.Signer) -> Source:
    """Its documents."""
    return Source(signer)


@pytest.fixture
def clock() -> Clock:
    """The clock of the waits between two requests for the keys."""
    return Clock()


@pytest.fixture
def keys(source: Source, clock: Clock) -> issuer.Issuer:
    """The keys, not asked for yet."""
    return issuer.Issuer(source, clock=clock)


@pytest.fixture
def door(keys: issuer.Issuer) -> callers.Callers:
    """Lets Triggers of the namespace vmledger in."""
    return callers.Callers(token_issuer.AUDIENCE, callers.of_triggers("vmledger"), keys)


def bearer(token: str) -> str:
    """The value of the header that shows a token."""
    return f"Bearer {token}"


@pytest.mark.parametrize("key", [RSA, token_issuer.ec_key()], ids=["RS256", "ES256"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_a_triggers_token_lets_it_in(key: token_issuer.PrivateKey, scheme: str) -> None:
    """Signed by either algorithm; the scheme in any case (RFC 9110, section 11.1)."""
    signer = token_issuer.Signer(key=key)
    door = callers.Callers(token_issuer.AUDIENCE, callers.of_triggers("vmledger"), issuer.Issuer(Source(signer)))
    door.check(scheme + signer.token())
    assert door.remembers(scheme + signer.token()) == isinstance(key, type(RSA))  # ES256 signs anew each time
    assert not door.refused


@pytest.mark.parametrize("claims", [{"aud": "vmledger"}, {"aud": ["other", "vmledger"]}, {"iat": None}, {"nbf": None}])
def test_a_token_may_say_it_in_other_ways(
    claims: dict[str, Any], signer: token_issuer.Signer, door: callers.Callers
) -> None:
    """One audience as a text, ours among several, and no claims but those that count."""
    door.check(bearer(signer.token(**claims)))


def dated(claims: dict[str, Any]) -> dict[str, Any]:
    """Claims whose times are seconds from now."""
    times = {
        name: int(time.time()) + claims[name] for name in ("exp", "nbf", "iat") if isinstance(claims.get(name), int)
    }
    return {**claims, **times}


CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another audience": ({"aud": ["other"]}, "is for another audience than OIDC_AUDIENCE"),
    "a part of the audience": ({"aud": ["vmledge"]}, "another audience"),
    "no audience": ({"aud": None}, "lacks one of the claims"),
    "an empty audience": ({"aud": []}, "lacks one of the claims"),
    "expired": ({"exp": -3600}, "has expired"),
    "expired beyond the leeway": ({"exp": -62}, "has expired"),
    "without end": ({"exp": None}, "lacks one of the claims"),
    "an end that is not a number": ({"exp": "tomorrow"}, "cannot be read"),
    "not valid yet": ({"nbf": 3600}, "is not valid yet"),
    "issued later": ({"iat": 3600}, "is not valid yet"),
    "another issuer": ({"iss": "https://other.example"}, "is from another issuer"),
    "no issuer": ({"iss": None}, "lacks one of the claims"),
    "no subject": ({"sub": None}, "lacks one of the claims"),
}


@pytest.mark.parametrize(("claims", "sentence"), CLAIMS.values(), ids=CLAIMS)
def test_a_signed_token_that_is_not_for_us_is_401(
    claims: dict[str, Any], sentence: str, signer: token_issuer.Signer, door: callers.Callers
) -> None:
    """The sentence says which claim it is."""
    with pytest.raises(errors.Unauthenticated, match=sentence):
        door.check(bearer(signer.token(**dated(claims))))
    assert door.refused == {errors.Unauthenticated: 1}


@pytest.mark.parametrize("claims", [{"exp": -50}, {"nbf": 50}, {"iat": 50}])
def test_clocks_may_differ_by_a_minute(
    claims: dict[str, Any], signer: token_issuer.Signer, door: callers.Callers
) -> None:
    """An issuer whose clock is ahead or behind is believed."""
    door.check(bearer(signer.token(**dated(claims))))


Forge = Callable[[token_issuer.Signer], str]
"""Makes a token with the claims of a good one, which the issuer did not sign."""
OTHER = token_issuer.Key(RSA)
"""A key that is not the issuer's."""


def _by_other(**head: Any) -> Forge:
    return lambda signer: signer.token(OTHER, head)


def _under(**head: Any) -> Forge:
    return lambda signer: _with_header(signer, {"alg": "ES256", "kid": signer.keys[0].id, **head})


ALGORITHMS: list[Any] = ["RS256", "RS512", "PS256", "ES384", "EdDSA", "HS512", "", 7, None, [], {"alg": "ES256"}]
FORGED: dict[str, Forge] = {
    "signed by nobody": lambda s: token_issuer.unsigned(s.claims(), alg="none", kid=s.keys[0].id),
    "none, written otherwise": lambda s: token_issuer.unsigned(s.claims(), alg="NonE", kid=s.keys[0].id),
    "none, with a signature": lambda s: token_issuer.unsigned(s.claims(), alg="none", kid=s.keys[0].id) + "AAAA",
    "no algorithm": lambda s: token_issuer.unsigned(s.claims(), kid=s.keys[0].id) + "AAAA",
    "an empty signature": lambda s: s.token().rpartition(".")[0] + ".",
    "a signature cut short": lambda s: s.token()[:-4],
    "other claims under a signature": lambda s: _swapped(s.token(), s.claims(sub=OWN + "admin")),
    "a secret": lambda s: token_issuer.by_hmac(s.claims(), b"secret", kid=s.keys[0].id),
    "the public key as a secret": lambda s: token_issuer.by_hmac(s.claims(), s.keys[0].pem, kid=s.keys[0].id),
    "its JWK as a secret": lambda s: token_issuer.by_hmac(
        s.claims(), json.dumps(s.keys[0].public()).encode(), kid=s.keys[0].id
    ),
    "another key by the same id": lambda s: s.token(OTHER, {"kid": s.keys[0].id}),
    "another key by its own id": _by_other(),
    "a key that it brings itself": _by_other(jwk=OTHER.public()),
    "keys at an address": _by_other(jku="https://evil.example/keys"),
    "a certificate": _by_other(x5u="https://evil.example/", x5c=["AAAA"]),
    "what must be understood": lambda s: s.token(headers={"crit": ["exp"], "exp": 1}),
    **{
        f"key id {name[:20]!a}": _by_other(kid=name)
        for name in ("", "../../etc/passwd", "/dev/null", "' OR 1=1 --", "\0", "a\r\nX-Injected: 1", "🔑", "x" * 300)
    },
    **{f"key id {value}": _under(kid=value) for value in (7, None, True, [], {"a": 1}, ["x"])},
    **{f"algorithm {value!r}": _under(alg=value) for value in ALGORITHMS},
}


def _with_header(signer: token_issuer.Signer, header: Mapping[str, Any]) -> str:
    return ".".join([token_issuer.encoded(json.dumps(header).encode()), *signer.token().split(".")[1:]])


def _swapped(token: str, claims: dict[str, Any]) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{token_issuer.encoded(json.dumps(claims).encode())}.{signature}"


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_401(
    forge: Forge,
    signer: token_issuer.Signer,
    door: callers.Callers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever signed it, the issuer did not; neither the sentence nor the log quotes it."""
    token = forge(signer)
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.Unauthenticated) as caught:
        door.check(bearer(token))
    assert not door.remembers(bearer(token))
    told = str(caught.value) + caplog.text
    assert not [part for part in token.split(".") if len(part) > 8 and part in told]
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Bearer a.b.c d",
        "Bearer a+b.c/d.e=",
        "Bearer {0}, Bearer {0}",
        "Bearer {0},Bearer {0}",
        "Bearer {0}\n",
        "{0}",
        "Token {0}",
        "Bearer " + "a" * 20_000 + ".b.c",
        "Bearer " + "." * 20_000,
        "Bearer " + "%00" * 100,
    ],
)
def test_a_header_without_one_token_is_401(value: str, signer: token_issuer.Signer, door: callers.Callers) -> None:
    """Also where a good token is among what it holds, and where it has 20 kB."""
    with pytest.raises(errors.Unauthenticated, match=r"Authorization|cannot be read"):
        door.check(value.format(signer.token()))


def test_a_token_of_20_kilobytes_is_401_though_it_is_good(signer: token_issuer.Signer, door: callers.Callers) -> None:
    """Kubernetes makes none above 2 kB; a limit bounds what a stranger can cost."""
    with pytest.raises(errors.Unauthenticated, match="longer than 8192"):
        door.check(bearer(signer.token(more="x" * 15_000)))


@hypothesis.given(strategies.text() | strategies.binary().map(lambda data: "Bearer " + data.decode("latin-1")))
def test_any_header_lets_nobody_in_or_is_401(value: str) -> None:
    """Nothing else comes of it: no other error, and no pass."""
    door = callers.Callers(
        token_issuer.AUDIENCE, ["*"], issuer.Issuer(lambda: issuer.Keys("https://issuer.example", {}))
    )
    with pytest.raises(errors.Unauthenticated):
        door.check(value)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
    max_leaves=6,
)


@hypothesis.given(
    head=strategies.dictionaries(strategies.sampled_from(["alg", "kid", "typ", "crit", "b64", "x"]), JSON),
    claims=strategies.dictionaries(strategies.sampled_from(["exp", "iat", "nbf", "iss", "aud", "sub", "jti"]), JSON)
    | JSON,
)
def test_any_signed_claims_under_any_head_end_in_an_error_of_ours(head: dict[str, Any], claims: Any) -> None:
    """Claims of other kinds, such as an ``exp`` that is a list, are refused like others."""
    signer = token_issuer.Signer()
    source = Source(signer)
    door = callers.Callers(token_issuer.AUDIENCE, ["*"], issuer.Issuer(source))
    payload = json.dumps(claims).encode()
    known = {"alg": "ES256", "kid": signer.keys[0].id}
    token = jwt.api_jws.encode(payload, signer.keys[0].private, "ES256", headers=known)
    with pytest.raises(errors.NotAdmitted):
        door.check(bearer(token))
    with pytest.raises(errors.NotAdmitted):
        door.check(bearer(_with_header(signer, head)))


SUBJECTS = [
    (OWN + "vmledger-add-oidc-eventing.knative.dev-trigger", True),
    # A Trigger with a long name, one with 30 characters, and a Broker's Subscription: as kmeta.ChildName makes them.
    (OWN + "vmledger-vsphere-source-old-ent7636baae759046db878bc0cfe562eea7", True),
    (OWN + "vmledger-vsphere-old-enter-1234f1c3b75dedefaac7eb0c78703b355a0", True),
    (OWN + "broker-apiserversource-vmledgerc0091ff02b7cd820147c9320ff655df8", True),
    (OWN + "vmledger-vsphere-source-old-ent7636baae759046db878bc0cfe562eeag", False),
    (OWN + "0123456789abcdef0123456789abcdef", False),
    (OWN + "default", False),
    (OWN + "oidc-eventing.knative.dev-trigger-admin", False),
    ("system:serviceaccount:other:vmledger-add-oidc-eventing.knative.dev-trigger", False),
    ("x" + OWN + "a-oidc-eventing.knative.dev-trigger", False),
    (OWN + "a-oidc-eventing.knative.dev-trigger\n", False),
    ("", False),
]


@pytest.mark.parametrize(("subject", "lets_in"), SUBJECTS)
def test_by_default_the_triggers_of_the_own_namespace_may_send(
    subject: str, lets_in: bool, signer: token_issuer.Signer, door: callers.Callers
) -> None:
    """By the names that Knative gives their ServiceAccounts, whole or cut with a hash; others are 403."""
    if lets_in:
        door.check(bearer(signer.token(sub=subject)))
        return
    with pytest.raises(errors.Forbidden, match="may not send here: OIDC_SUBJECTS") as caught:
        door.check(bearer(signer.token(sub=subject)))
    assert errors.shown(subject, 256) in str(caught.value)
    assert door.refused == {errors.Forbidden: 1}


def test_no_subject_at_all_may_send_where_none_is_listed(signer: token_issuer.Signer, keys: issuer.Issuer) -> None:
    """An empty list opens nothing."""
    with pytest.raises(errors.Forbidden):
        callers.Callers(token_issuer.AUDIENCE, (), keys).check(bearer(signer.token()))


def test_a_verified_token_is_remembered_until_it_ends(
    signer: token_issuer.Signer, door: callers.Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an hour at most; then it is verified again. Of it a hash is kept."""
    now = int(time.time())
    token = signer.token(exp=now + 2 * 3600)
    shown = bearer(token)
    door.check(shown)
    assert door.remembers(shown)
    assert token not in repr(vars(door))
    monkeypatch.setattr(time, "time", lambda: now + 3590.0)
    assert door.remembers(shown)
    monkeypatch.setattr(time, "time", lambda: now + 3700.0)
    assert not door.remembers(shown)


def test_a_remembered_token_ends_when_it_says(
    signer: token_issuer.Signer, door: callers.Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end of digits without number is bounded like any other."""
    now = int(time.time())
    door.check(bearer(signer.token(exp=10**400)))
    shown = bearer(signer.token(exp=now + 100))
    door.check(shown)
    monkeypatch.setattr(time, "time", lambda: now + 101.0)
    assert not door.remembers(shown)


def test_only_so_many_tokens_are_remembered(
    signer: token_issuer.Signer, door: callers.Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is forgotten for the newest; it is good all the same."""
    monkeypatch.setattr(callers, "REMEMBERED", 3)
    shown = [bearer(signer.token(jti=str(number))) for number in range(5)]
    for each in shown:
        door.check(each)
    assert [door.remembers(each) for each in shown] == [False, False, True, True, True]
    door.check(shown[0])


def test_keys_are_read_once(signer: token_issuer.Signer, source: Source, door: callers.Callers) -> None:
    """Not before they are needed, and not for each token."""
    assert source.times == 0
    assert door.state() == "not used yet"
    for number in range(5):
        door.check(bearer(signer.token(jti=str(number))))
    assert source.times == 1
    assert door.state() == "ok"


def test_a_new_key_is_read_when_a_token_names_it(
    signer: token_issuer.Signer, source: Source, door: callers.Callers
) -> None:
    """Rotation: old tokens go on working, and new ones work at once."""
    old = signer.keys[0]
    door.check(bearer(signer.token()))
    signer.rotate(RSA)
    door.check(bearer(signer.token()))
    door.check(bearer(signer.token(old, jti="another")))
    assert source.times == 2


def test_a_withdrawn_key_is_forgotten_with_the_next_reading(signer: token_issuer.Signer, door: callers.Callers) -> None:
    """What it signed and was not verified before is 401 then."""
    withdrawn = signer.keys[0]
    door.check(bearer(signer.token()))
    signer.rotate()
    signer.keys.remove(withdrawn)
    door.check(bearer(signer.token()))
    with pytest.raises(errors.Unauthenticated, match="no key of the issuer"):
        door.check(bearer(signer.token(withdrawn, jti="another")))


def test_made_up_key_ids_are_asked_for_every_30_seconds_at_most(
    signer: token_issuer.Signer, source: Source, door: callers.Callers, clock: Clock
) -> None:
    """However many come; each is 401."""
    door.check(bearer(signer.token()))
    for _ in range(20):
        with pytest.raises(errors.Unauthenticated, match="no key of the issuer"):
            door.check(bearer(signer.token(token_issuer.Key(token_issuer.ec_key()))))
    assert source.times == 2
    clock.now += 29
    with pytest.raises(errors.Unauthenticated):
        door.check(bearer(signer.token(token_issuer.Key(RSA))))
    assert source.times == 2
    clock.now += 2
    with pytest.raises(errors.Unauthenticated):
        door.check(bearer(signer.token(token_issuer.Key(RSA))))
    assert source.times == 3


def test_a_token_of_a_newer_key_waits_until_the_issuer_may_be_asked_again(
    signer: token_issuer.Signer, door: callers.Callers, clock: Clock
) -> None:
    """A made-up key id before a rotation does not make a dead letter of what follows it: 503, then 204."""
    door.check(bearer(signer.token()))
    with pytest.raises(errors.Unauthenticated):
        door.check(bearer(signer.token(token_issuer.Key(RSA))))
    signer.rotate()
    token = signer.token(iat=int(time.time()) + 20)
    with pytest.raises(errors.Unavailable, match="made a moment ago"):
        door.check(bearer(token))
    clock.now += 31
    door.check(bearer(token))


def test_while_the_issuer_is_away_its_old_keys_work(
    signer: token_issuer.Signer, source: Source, door: callers.Callers, clock: Clock
) -> None:
    """A token of a key that cannot be asked for is 503, and is asked for every 30 seconds."""
    old = signer.keys[0]
    door.check(bearer(signer.token()))
    source.away = True
    signer.rotate()
    for _ in range(5):
        with pytest.raises(errors.Unavailable, match="keys of the callers' issuer cannot be read: it is away"):
            door.check(bearer(signer.token()))
    assert source.times == 2
    door.check(bearer(signer.token(old, jti="another")))
    source.away = False
    clock.now += 31
    door.check(bearer(signer.token()))
    assert door.refused == {errors.Unavailable: 5}


def test_without_any_key_a_token_is_503(
    signer: token_issuer.Signer, source: Source, door: callers.Callers, clock: Clock
) -> None:
    """Whatever it is worth; the issuer is asked again a second later."""
    source.away = True
    for _ in range(5):
        with pytest.raises(errors.Unavailable, match="it is away"):
            door.check(bearer(signer.token()))
    assert source.times == 1
    assert "it is away" in door.state()
    source.away = False
    clock.now += 1
    door.check(bearer(signer.token()))


def test_fifty_callers_at_once_during_a_rotation_ask_once(signer: token_issuer.Signer, source: Source) -> None:
    """All pass, those with old tokens without a wait for the answer."""
    slow = threading.Event()

    def read() -> issuer.Keys:
        found = source()
        if source.times == 2:
            slow.wait(20)
        return found

    door = callers.Callers(token_issuer.AUDIENCE, callers.of_triggers("vmledger"), issuer.Issuer(read))
    old = signer.keys[0]
    door.check(bearer(signer.token()))
    signer.rotate(RSA)
    fresh = [signer.token(jti=str(number)) for number in range(50)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        waiting = [pool.submit(door.check, bearer(token)) for token in fresh]
        door.check(bearer(signer.token(old, jti="another")))
        slow.set()
        for each in waiting:
            each.result(20)
    assert source.times == 2
    assert not door.refused


def test_fifty_made_up_key_ids_at_once_are_asked_for_once(source: Source, door: callers.Callers) -> None:
    """Those that came while the issuer was asked take its answer for theirs."""
    signer = source.signer
    door.check(bearer(signer.token()))
    made_up = [signer.token(token_issuer.Key(token_issuer.ec_key())) for _ in range(50)]

    def refused(token: str) -> bool:
        with pytest.raises(errors.Unauthenticated):
            door.check(bearer(token))
        return True

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert all(pool.map(refused, made_up))
    assert source.times == 2
    assert door.refused == {errors.Unauthenticated: 50}


PUBLIC = token_issuer.Key(RSA).public()
ON_P384 = ec.generate_private_key(ec.SECP384R1()).public_key()


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "a"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "RS256"},
        {**PUBLIC, "alg": "HS256"},
        {**PUBLIC, "alg": "RS512"},
        {**PUBLIC, "use": "enc"},
        {**PUBLIC, "kid": None},
        {**PUBLIC, "kid": 7},
        {**PUBLIC, "n": "AQAB"},
        {**PUBLIC, "n": "!"},
        {**PUBLIC, "n": None},
        {**PUBLIC, "e": "AA"},
        {**PUBLIC, "kty": "EC"},
        {**token_issuer.Key(token_issuer.rsa_key(1024)).public()},
        {**token_issuer.Key(token_issuer.ec_key()).public(), "x": "AAAA"},
        {**jwt.algorithms.ECAlgorithm.to_jwk(ON_P384, as_dict=True), "kid": "a"},
        {"kid": "a"},
        "a",
        None,
    ],
)
def test_a_key_that_cannot_verify_here_is_passed_over(entry: Any) -> None:
    """The others of the document are taken."""
    assert set(issuer.usable({"keys": [entry, {**PUBLIC, "kid": "good"}]})) == {"good"}
    with pytest.raises(errors.Unavailable, match="holds no key for RS256 or ES256"):
        issuer.usable({"keys": [entry]})


@hypothesis.given(
    strategies.fixed_dictionaries(
        {}, optional=dict.fromkeys(("kty", "kid", "n", "e", "crv", "x", "y", "alg", "use", "d", "k"), JSON)
    )
)
def test_any_document_of_keys_gives_keys_or_503(entry: dict[str, Any]) -> None:
    """Nothing else comes of it."""
    for document in ({"keys": [{**PUBLIC, **entry}]}, {"keys": [entry]}, {"keys": entry}, entry):
        try:
            found = issuer.usable(document)
        except errors.Unavailable:
            continue
        assert all(key.algorithm_name in issuer.ALGORITHMS for key in found.values())


def answered(door: callers.Callers | None, shown: dict[str, str]) -> tuple[int, int]:
    """Send an event that is not for us; return the status, and how many dead letters were counted."""
    dead_letters: list[None] = []
    part = settings.Settings()
    taken = intake.Intake(part.receiver, door)
    built = app.create_app(part, routing.Router({}), dict, door=taken, refused=lambda: dead_letters.append(None))
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
    return built.test_client().post("/", headers={**event, **shown}).status_code, len(dead_letters)


def test_a_refused_caller_makes_no_dead_letter(signer: token_issuer.Signer, door: callers.Callers) -> None:
    """A stranger's request is nobody's event: the ledger's count of dead letters does not see it."""
    assert answered(door, {}) == (401, 0)
    assert answered(door, token_issuer.bearer(signer.token(sub="x"))) == (403, 0)
    assert answered(door, {**token_issuer.bearer(signer.token()), "ce-id": ""}) == (400, 1)
    assert answered(door, token_issuer.bearer(signer.token())) == (204, 0)


def test_without_an_audience_nobody_is_asked() -> None:
    """Whatever the header holds."""
    assert answered(None, {}) == (204, 0)
    assert answered(None, {"Authorization": "Bearer x"}) == (204, 0)


def test_the_cryptography_is_loaded_only_where_callers_are_verified() -> None:
    """A start without OIDC_AUDIENCE does not pay for it."""
    code = (
        "import sys, function; function.create_app(); sys.exit('jwt' in sys.modules or 'cryptography' in sys.modules)"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OIDC_")}
    root = pathlib.Path(app.__file__).parent.parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, env=environ, check=False).returncode == 0


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"OIDC_AUDIENCE": "two words"}, "OIDC_AUDIENCE must be one word"),
        ({"OIDC_AUDIENCE": " "}, "OIDC_AUDIENCE must be one word"),
        ({"OIDC_AUDIENCE": "a", "OIDC_ISSUER": "http://x"}, "OIDC_ISSUER must be the https URL"),
        ({"OIDC_AUDIENCE": "a", "OIDC_ISSUER": "https://user:secret@x"}, "OIDC_ISSUER must be the https URL"),
        ({"OIDC_AUDIENCE": "a", "OIDC_ISSUER": "https://x?y"}, "OIDC_ISSUER must be the https URL"),
        ({"OIDC_AUDIENCE": "a", "OIDC_ISSUER": "https://x:y"}, "OIDC_ISSUER must be the https URL"),
        ({"OIDC_AUDIENCE": "a", "OIDC_SUBJECTS": " , "}, "OIDC_SUBJECTS must list subjects"),
        ({"OIDC_AUDIENCE": "a", "OIDC_CA_FILE": "/dev/null"}, "OIDC_CA_FILE is not a file"),
        ({"OIDC_SUBJECTS": "*"}, "OIDC_AUDIENCE is missing"),
        ({"OIDC_ISSUER": "https://x"}, "OIDC_AUDIENCE is missing"),
    ],
)
def test_settings_that_verify_nobody_stop_the_start(variables: dict[str, str], sentence: str) -> None:
    """Whoever sets one of them wants callers verified."""
    with pytest.raises(errors.BadSetting, match=sentence):
        settings.Settings.from_env(variables)


def test_settings_are_read() -> None:
    """Globs are separated by commas."""
    given = {"OIDC_AUDIENCE": "a", "OIDC_ISSUER": "https://x/y/", "OIDC_SUBJECTS": "system:*, b"}
    part = settings.Settings.from_env(given).callers
    assert (part.audience, part.issuer, part.subjects) == ("a", "https://x/y/", ("system:*", "b"))
