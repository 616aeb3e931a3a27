"""An issuer of tokens: its keys, tokens as Kubernetes makes them and as nobody should, and its documents over TLS.

::

    signer = token_issuer.Signer("https://issuer.example")
    token = signer.token(aud=["vmledger"], sub=token_issuer.TRIGGER)
    signer.rotate()                                  # a new key signs from now on; `signer.documents()` shows both
    with token_issuer.served(folder) as web:         # over TLS; web.ca_file vouches for it
        web.asked                                    # the paths that were asked for
        web.answers["/keys"] = lambda: ...           # another answer than the documents'
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import ipaddress
import json
import pathlib
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import pytest_httpserver
import werkzeug
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests import cluster

AUDIENCE = "vmledger"
TRIGGER = "system:serviceaccount:vmledger:vmledger-add-oidc-eventing.knative.dev-trigger"
DISCOVERY = "/.well-known/openid-configuration"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Headers = dict[str, str]


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make a key for RS256."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key() -> ec.EllipticCurvePrivateKey:
    """Make a key for ES256."""
    return ec.generate_private_key(ec.SECP256R1())


def encoded(data: bytes) -> str:
    """Return base64 as a token has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclasses.dataclass(frozen=True)
class Key:
    """A key and its id, a hash as Kubernetes makes it."""

    private: PrivateKey

    @property
    def algorithm(self) -> str:
        """What it signs by."""
        return "RS256" if isinstance(self.private, rsa.RSAPrivateKey) else "ES256"

    @property
    def pem(self) -> bytes:
        """The public key, in PEM form."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)

    @property
    def id(self) -> str:
        """The key's id."""
        return encoded(hashlib.sha256(self.pem).digest())

    def public(self) -> dict[str, Any]:
        """Return the public key as a JWK."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            known = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            known = jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**known, "kid": self.id, "alg": self.algorithm, "use": "sig"}


class Signer:
    """Makes tokens; the last of its keys signs them."""

    def __init__(self, name: str = "https://issuer.example", key: PrivateKey | None = None) -> None:
        self.name = name
        self.keys = [Key(key or ec_key())]

    def rotate(self, key: PrivateKey | None = None) -> Key:
        """Sign with another key from now on; return it."""
        self.keys.append(Key(key or ec_key()))
        return self.keys[-1]

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a token of Kubernetes', with some changed, or left out where they are None."""
        now = int(time.time())
        known = {
            "aud": [AUDIENCE],
            "exp": now + 3600,
            "iat": now,
            "iss": self.name,
            "jti": "5ee7e0c1-0d5e-4b6a-8f5e-2f5f6f6b8a11",
            "kubernetes.io": {
                "namespace": "vmledger",
                "serviceaccount": {"name": TRIGGER.rpartition(":")[2], "uid": "8a6b"},
            },
            "nbf": now,
            "sub": TRIGGER,
        }
        return {name: value for name, value in {**known, **changed}.items() if value is not None}

    def token(self, key: Key | None = None, headers: dict[str, Any] | None = None, **changed: Any) -> str:
        """Return a token; key: another one than the last; headers: others than its own."""
        by = key or self.keys[-1]
        return jwt.encode(self.claims(**changed), by.private, by.algorithm, {"kid": by.id, **(headers or {})})

    def jwks(self) -> dict[str, Any]:
        """Return the JWK Set."""
        return {"keys": [key.public() for key in self.keys]}


def unsigned(claims: dict[str, Any], **headers: Any) -> str:
    """Return a token that nobody signed."""
    return f"{encoded(json.dumps(headers).encode())}.{encoded(json.dumps(claims).encode())}."


def by_hmac(claims: dict[str, Any], secret: bytes, **headers: Any) -> str:
    """Return a token that is signed by a secret that both sides know (HS256)."""
    signed = unsigned(claims, **{"alg": "HS256", "typ": "JWT", **headers}).removesuffix(".")
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


def bearer(token: str) -> Headers:
    """Return the header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def certificate(folder: pathlib.Path, *names: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Make a certificate that vouches for itself, for 127.0.0.1 and these names; return it alone, and with its key."""
    key = ec_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, names)]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    form, nothing = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    alone, both = folder / "ca.pem", folder / "both.pem"
    alone.write_bytes(made)
    both.write_bytes(made + key.private_bytes(serialization.Encoding.PEM, form, nothing))
    return alone, both


class Web:
    """An issuer's documents over TLS.

    asked: the paths that were asked for; shown: the header Authorization of each. token: what a request must show, as
    at a Kubernetes API. answers: by path, what answers instead of the documents.
    """

    def __init__(self, server: pytest_httpserver.HTTPServer, ca_file: pathlib.Path) -> None:
        self.url = f"https://127.0.0.1:{server.port}"
        self.ca_file = str(ca_file)
        self.reset()
        server.expect_request(cluster.any_path()).respond_with_handler(self._answer)

    def reset(self) -> None:
        """Begin anew, with another key."""
        self.signer = Signer(self.url)
        self.keys_at = f"{self.url}/openid/v1/jwks"
        self.token: str | None = None
        self.asked: list[str] = []
        self.shown: list[str | None] = []
        self.answers: dict[str, Callable[[], werkzeug.Response]] = {}

    def documents(self) -> dict[str, Any]:
        """Return what there is, by path."""
        return {
            DISCOVERY: {
                "issuer": self.signer.name,
                "jwks_uri": self.keys_at,
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/openid/v1/jwks": self.signer.jwks(),
        }

    def times(self, path: str) -> int:
        """Return how often a path was asked for."""
        return self.asked.count(path)

    def kubeconfig(self, folder: pathlib.Path, *, namespace: str = "vmledger") -> str:
        """Write a KUBECONFIG file of a Kubernetes API that is this issuer; return its path."""
        self.token = "token-of-the-function-itself"
        ca_data = base64.b64encode(pathlib.Path(self.ca_file).read_bytes()).decode()
        context = {"cluster": "test", "user": "test", "namespace": namespace}
        document = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": context}],
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority-data": ca_data}}],
            "users": [{"name": "test", "user": {"token": self.token}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(document))
        return str(path)

    def _answer(self, request: werkzeug.Request) -> werkzeug.Response:
        self.asked.append(request.path)
        self.shown.append(request.headers.get("Authorization"))
        if request.path in self.answers:
            return self.answers[request.path]()
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return werkzeug.Response("{}", 401)
        found = self.documents().get(request.path)
        if found is None:
            return werkzeug.Response("{}", 404)
        kind = "application/jwk-set+json" if "keys" in found else "application/json"
        # As a route of kube-apiserver's: it compares the header with what it produces, and with nothing like it.
        asked = [each.partition(";")[0].strip() for each in request.headers.get("Accept", "*/*").split(",")]
        if not {kind, "*/*"} & set(asked):
            return werkzeug.Response("406: Not Acceptable", 406)
        return werkzeug.Response(json.dumps(found), content_type=kind)


@contextlib.contextmanager
def served(folder: pathlib.Path) -> Iterator[Web]:
    """Serve an issuer's documents until the block ends."""
    folder.mkdir(exist_ok=True)
    alone, both = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with cluster.server(ssl_context=context) as server:
        yield Web(server, alone)


@pytest.fixture(scope="module", name="served")
def served_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """One issuer for a module."""
    with served(tmp_path_factory.mktemp("issuer")) as started:
        yield started


@pytest.fixture
def site(served: Web) -> Web:
    """An issuer that was asked for nothing yet, and answers what it should."""
    served.reset()
    return served
