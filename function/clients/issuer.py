"""The issuer of the callers' tokens: who it is, and the keys that it signs with.

OpenID Connect Discovery 1.0, as Kubernetes serves it for ServiceAccounts: a document at
``/.well-known/openid-configuration`` names the issuer and where its keys are (RFC 7517).
Asked is the Kubernetes API of the function's own cluster, with its token and authorities, or the issuer that
OIDC_ISSUER names, over https. The function's token goes to the Kubernetes API and nowhere else.

Keys are kept. They are asked for again for an unknown key id, at most every 30 seconds, and those that are known go on
working while the issuer is away. One request asks; those that come meanwhile wait for the same answer.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from function import errors

if TYPE_CHECKING:
    import jwt

    from function.clients import http, kubernetes

log = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
KUBERNETES_KEYS = "/openid/v1/jwks"
"""Where every kube-apiserver serves the keys of its ServiceAccounts, whatever address it announces for them."""
ALGORITHMS = ("RS256", "ES256")
"""What Kubernetes signs with; the names decide which of a document's keys are taken."""
PUBLIC_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
"""The members of a JWK that make up a public key, by its type (RFC 7518, section 6)."""
MOST_KEYS = 100
BYTES = 256 * 1024
"""Of a document."""
CONNECT_SECONDS = 3.0
SECONDS = 5.0
"""For one document."""
RSA_BITS = range(2048, 8192 + 1)
AGAIN_SECONDS = 30.0
"""Between two requests for the keys, where some are known: whoever sends made-up key ids causes no more."""
FIRST_SECONDS = 1.0
"""The same where none is known yet."""

Document = dict[str, Any]
Key: TypeAlias = "jwt.PyJWK"
Fetch = Callable[[str], Document]
"""Returns the JSON object at a URL of https, within a few seconds and bytes; raises :class:`errors.Unavailable`."""


@dataclasses.dataclass(frozen=True)
class Keys:
    """The keys of an issuer by their ids, and its name as the tokens say it (``iss``)."""

    issuer: str
    by_id: Mapping[str, Key]


class Web:
    """Reads JSON documents over https.

    ca_file: authorities in place of the system's.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._turn = threading.Lock()
        self._client: http.Client | None = None

    def document(self, url: str) -> Document:
        """Return the JSON object at a URL; raise :class:`errors.Unavailable` where it cannot be had."""
        from function.clients import http

        parts = _https(url)
        host = str(parts.hostname)
        request = http.Request(
            method="GET",
            scheme="https",
            host=host,
            port=parts.port or 443,
            target=urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, "")),
            headers={"Host": parts.netloc, "Accept": http.ACCEPT},
        )
        limits = http.Limits(connect=CONNECT_SECONDS, seconds=SECONDS, body_bytes=BYTES)
        try:
            answer = self._connected().ask(request, limits)
            said = answer.json() if answer.status == 200 else None
        except http.NoAnswer as exc:
            raise errors.Unavailable(f"{host} {exc.why}") from None
        if not isinstance(said, dict):
            raise errors.Unavailable(f"{host} answered {answer.status}, and no JSON object")
        return said

    def close(self) -> None:
        """Close the connections."""
        with self._turn:
            if self._client is not None:
                self._client.close()

    def _connected(self) -> http.Client:
        from function.clients import http

        with self._turn:
            if self._client is None:
                self._client = http.Client(ssl.create_default_context(cafile=self._ca_file))
            return self._client


class Issuer:
    """The keys of one issuer, shared by all threads; ``read`` asks for them.

    clock: seconds that only grow.
    """

    def __init__(self, read: Callable[[], Keys], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._keys = Keys("", {})
        self._turn = threading.Lock()
        self._asked = -math.inf
        self._next = -math.inf
        self._failure: str | None = None
        self.read_at = 0.0
        """When the keys that are known were asked for, in seconds since 1970."""

    def find(self, key_id: str) -> tuple[str, Key] | None:
        """Return the issuer's name and the key, or None where the issuer has no such key.

        Raises :class:`errors.Unavailable` where the keys could not be asked for.
        """
        if key_id not in self._keys.by_id:
            self._ask(key_id)
        keys = self._keys
        if key_id in keys.by_id:
            return keys.issuer, keys.by_id[key_id]
        if self._failure is not None:
            raise errors.Unavailable(self._failure)
        return None

    def state(self) -> str:
        """Return "ok" where there are keys, else why there are none."""
        return "ok" if self._keys.by_id else self._failure or "not used yet"

    def _ask(self, key_id: str) -> None:
        """Ask for the keys, unless somebody has since this call began, or it is too soon."""
        came = self._clock()
        with self._turn:
            now = self._clock()
            if key_id in self._keys.by_id or self._asked > came or now < self._next:
                return
            self._asked = now
            read_at = time.time()
            first = not self._keys.by_id
            try:
                self._keys = self._read()
            except errors.VmledgerError as exc:
                self._failure = f"the keys of the callers' issuer cannot be read: {exc}"
                log.warning(self._failure, extra={"action": "issuer.failed"})
                self._next = self._clock() + (FIRST_SECONDS if first else AGAIN_SECONDS)
                return
            self.read_at, self._failure = read_at, None
            # What made the first reading necessary was no unknown key id: the first of those may ask at once.
            self._next = -math.inf if first else self._clock() + AGAIN_SECONDS
            log.info("the issuer's keys were read", extra={"action": "issuer.read", "keys": len(self._keys.by_id)})


def of_cluster(api: kubernetes.Kube, fetch: Fetch) -> Keys:
    """Ask the Kubernetes API for the issuer of its ServiceAccounts' tokens, and for the keys.

    The API announces the keys at an address of its own choice, often one that a pod cannot reach or trust. It serves
    them itself too, so they are taken from there; ``fetch`` is for an API that does not.
    """
    told = _document(api, DISCOVERY)
    if told is None:
        raise errors.Unavailable(f"the Kubernetes API serves no {DISCOVERY}")
    announced = _text(told, "jwks_uri")
    found = _document(api, _path_at(api, announced) or KUBERNETES_KEYS)
    return Keys(_text(told, "issuer"), usable(found if found is not None else fetch(announced)))


def of_url(issuer: str, fetch: Fetch) -> Keys:
    """Ask an issuer by its URL; what it calls itself must be that (OpenID Connect Discovery, section 4.3)."""
    told = fetch(issuer.rstrip("/") + DISCOVERY)
    name = _text(told, "issuer")
    if name.rstrip("/") != issuer.rstrip("/"):
        raise errors.Unavailable("the issuer at OIDC_ISSUER calls itself something else")
    return Keys(name, usable(fetch(_text(told, "jwks_uri"))))


def _https(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]{1,2000}", url):
        raise errors.Unavailable("the issuer's document names an address that is not an https URL")
    return parts


def _document(api: kubernetes.Kube, path: str) -> Document | None:
    try:
        return api.document(path)
    except errors.Refused as exc:  # a missing right is our trouble, and no caller's
        raise errors.Unavailable(str(exc)) from exc


def _path_at(api: kubernetes.Kube, url: str) -> str | None:
    """Return the path of a URL of the Kubernetes API as we address it; None for one of another host."""
    try:
        parts = urllib.parse.urlsplit(url)
        there = (parts.hostname or "").rstrip("."), parts.port or 443
    except ValueError:
        return None
    return parts.path if there == api.address() and parts.path.startswith("/") else None


def _text(document: Document, name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise errors.Unavailable(f"the issuer's document has no {name}")
    return value


def usable(document: Document) -> Mapping[str, Key]:
    """Return the keys of a JWK Set that can verify a token here, by id; others are passed over."""
    listed = document.get("keys")
    found: dict[str, Key] = {}
    for entry in listed[:MOST_KEYS] if isinstance(listed, list) else ():
        key_id = entry.get("kid") if isinstance(entry, dict) else None
        key = _key(entry) if isinstance(key_id, str) else None
        if key is not None:
            found.setdefault(str(key_id), key)
    if not found:
        raise errors.Unavailable(f"the issuer's document holds no key for {' or '.join(ALGORITHMS)}")
    return found


def _key(entry: Document) -> Key | None:
    """Return the key where it verifies signatures by one of :data:`ALGORITHMS`; only its public members count."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    members = {name: entry.get(name) for name in ("kty", *PUBLIC_MEMBERS.get(str(entry.get("kty")), ()))}
    if len(members) == 1 or not all(isinstance(value, str) for value in members.values()):
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", ALGORITHMS[0]) not in ALGORITHMS:
        return None
    try:
        key = jwt.PyJWK(members, entry.get("alg"))
    except (jwt.PyJWTError, ValueError):
        return None
    if isinstance(key.key, rsa.RSAPublicKey) and key.key.key_size not in RSA_BITS:
        return None
    return key if key.algorithm_name in ALGORITHMS else None
