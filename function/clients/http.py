"""The HTTP client for the Kubernetes API, issuers, webhooks and Operations, and its answers.

It uses nothing of the environment (proxies, .netrc), keeps no cookie and follows no redirect.
An answer is bounded, whatever the server does: in time (:mod:`function.clients.deadline`), in the bytes of its
head with all interim answers before it, and in the bytes of its body, as sent and as unpacked.
Under http.client, a server that sent ``100 Continue`` without end kept a worker busy until gunicorn killed it, after 60
seconds.
The HTTP library's errors quote urls, which may be secrets: they become :class:`NoAnswer`, without the library's words
and without a cause.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.utils
import enum
import math
import re
import ssl
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import certifi
import h11
import httpcore2
import msgspec

from function.clients import deadline, network

ACCEPT = "application/json, application/jwk-set+json"
"""JSON, and the keys of an issuer: a request for those as plain JSON is answered with 406 by the API server."""
HEAD_BYTES = 128 * 1024
"""For TLS handshake, interim answers and head together; proxies allow half of that."""
MOST_VALUES = 1_000_000
"""Values in an answer's JSON. Two bytes may become a Python object of 64, so a limit of bytes does not limit memory."""
KEPT_SECONDS = 30.0
"""How long an idle connection is kept."""
MOST_KEPT = 50


class Why(enum.StrEnum):
    """Why there is no answer, as the rest of a sentence that begins with who was asked."""

    UNRESOLVED = "has a host that cannot be resolved now"
    UNCONNECTED = "cannot be connected to"
    UNCONNECTED_IN_TIME = "cannot be connected to in time"
    UNTRUSTED = "has a certificate that cannot be verified"
    NO_TLS = "does not answer with TLS"
    NO_PROXY = "cannot be reached through its proxy"
    LATE = "did not answer in time"
    TOO_LONG = "gave an answer that is too long"
    CLOSED = "closed the connection before its answer was whole"
    NOT_HTTP = "gave no answer that is HTTP"
    NOT_JSON = "gave an answer that is not JSON"
    NOT_ASKED = "cannot be asked that: no HTTP request can hold it"


class NoAnswer(Exception):
    """There is no answer, or not a whole one; ``why`` is the reason."""

    def __init__(self, why: Why) -> None:
        super().__init__(str(why))
        self.why = why


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a request may take, and how long its answer may be.

    connect: seconds to connect to one address, and for each wait of the TLS handshake. wait: for each wait for bytes.
    seconds: for all. body_bytes: of the body, unpacked. body_seconds: for the body alone, from the head on.
    """

    connect: float
    seconds: float
    body_bytes: int
    wait: float = math.inf
    body_seconds: float = math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A request; ``target`` is the path with its query, and ``headers`` has the header Host.

    host: a name or an address, without brackets; a certificate is verified for it.
    """

    method: str
    scheme: str
    host: str
    port: int
    target: str = dataclasses.field(repr=False)
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    body: bytes | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer: its status, its headers by their names in lower case, and as much of its body as was read.

    missing: why that is not the whole body; None where it is.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray
    missing: Why | None = None

    def whole(self) -> bytes | bytearray:
        """Return the body; raise :class:`NoAnswer` where it is not whole."""
        if self.missing is not None:
            raise NoAnswer(self.missing)
        return self.body

    def json(self, most_values: int = MOST_VALUES, decoder: msgspec.json.Decoder[Any] | None = None) -> Any:
        """Return the body's JSON; raise :class:`NoAnswer` where it is not whole, not JSON, or has too many values.

        decoder: reads parts of it; JSON of another shape is returned whole.
        """
        body = self.whole()
        # Each value except the first follows one of these.
        if sum(map(body.count, (b",", b"[", b"{"))) >= most_values:
            raise NoAnswer(Why.TOO_LONG)
        try:
            if decoder is not None:
                with contextlib.suppress(msgspec.ValidationError):
                    return decoder.decode(body)
            return msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise NoAnswer(Why.NOT_JSON) from None

    def retry_after(self) -> float | None:
        """Return the header Retry-After in seconds (RFC 9110, section 10.2.3): a whole number, or a date.

        Some receivers send a fraction, which is rounded up. None where it is absent or neither.
        """
        text = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text):
            return float(math.ceil(float(text)))
        try:
            at = email.utils.parsedate_to_datetime(text)
            return max(0.0, (at - datetime.datetime.now(datetime.UTC)).total_seconds())
        except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
            return None


def trusting(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a TLS context that verifies by the authorities of a PEM file, by default certifi's."""
    return ssl.create_default_context(cafile=ca_file or certifi.where())


def trusting_anybody() -> ssl.SSLContext:
    """Return a TLS context that verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """Sends requests over kept connections; a process has one for each server, shared by its threads."""

    def __init__(self, tls: ssl.SSLContext, *, proxy: httpcore2.Proxy | None = None) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=tls,
            proxy=proxy,
            max_connections=None,  # a connection that hangs must not keep other calls waiting
            max_keepalive_connections=MOST_KEPT,
            keepalive_expiry=KEPT_SECONDS,
            network_backend=network.Backend(),
        )

    def ask(self, request: Request, limits: Limits, *, addresses: Sequence[str] | None = None) -> Answer:
        """Return the answer, once its head is there and its body is read as far as the limits let it be.

        addresses: those of the host that may be connected to, where the caller has resolved it.
        Raises :class:`NoAnswer` where there is no head.
        """
        with deadline.within(limits.seconds), network.connecting_to(addresses):
            network.exchange.allow(HEAD_BYTES)
            try:
                with self._sent(request, limits) as response:
                    return _read(response, limits)
            except FOREIGN as exc:
                raise NoAnswer(why(exc)) from None

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()

    def _sent(self, request: Request, limits: Limits) -> contextlib.AbstractContextManager[httpcore2.Response]:
        headers = [(name.encode(), value.encode("utf-8", "replace")) for name, value in request.headers.items()]
        if not any(name.lower() == b"accept-encoding" for name, _ in headers):
            headers.append((b"Accept-Encoding", b"identity"))
        return self._pool.stream(
            request.method,
            httpcore2.URL(scheme=request.scheme, host=request.host, port=request.port, target=request.target),
            headers=headers,
            content=request.body,
            extensions={"timeout": {"connect": limits.connect, "read": limits.wait, "write": limits.wait}},
        )


FOREIGN = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
    httpcore2.ConnectionNotAvailable,
    h11.ProtocolError,
    zlib.error,
)
"""The errors of httpcore, and of the libraries below it, for a request that was not answered."""

_WHY: tuple[tuple[type[Exception], Why], ...] = (
    (network.Unresolved, Why.UNRESOLVED),
    (network.Untrusted, Why.UNTRUSTED),
    (network.NoTls, Why.NO_TLS),
    (network.TooLong, Why.TOO_LONG),
    (httpcore2.ConnectTimeout, Why.UNCONNECTED_IN_TIME),
    (httpcore2.ConnectError, Why.UNCONNECTED),
    (httpcore2.TimeoutException, Why.LATE),
    (httpcore2.NetworkError, Why.CLOSED),
    (httpcore2.ProxyError, Why.NO_PROXY),
    (httpcore2.LocalProtocolError, Why.NOT_ASKED),
    (h11.LocalProtocolError, Why.NOT_ASKED),
)
"""The first that fits counts."""


def why(exc: Exception) -> Why:
    """Return the reason for an error of :data:`FOREIGN`, without its own words: those may quote a url."""
    return next((why for kind, why in _WHY if isinstance(exc, kind)), Why.NOT_HTTP)


def _read(response: httpcore2.Response, limits: Limits) -> Answer:
    """Read the body as far as the limits let it be."""
    headers = _headers(response)
    body = bytearray()
    missing: Why | None = None
    network.exchange.allow(2 * limits.body_bytes + HEAD_BYTES)
    try:
        with deadline.within(limits.body_seconds):
            for piece in _unpacked(_sent_bytes(response), headers.get("content-encoding", "")):
                body += piece
                if len(body) > limits.body_bytes:
                    raise network.TooLong
    except FOREIGN as exc:
        missing = why(exc)
    return Answer(response.status, headers, body, missing)


def _headers(response: httpcore2.Response) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _sent_bytes(response: httpcore2.Response) -> Iterator[bytes]:
    """Yield the body as it was sent; raise where tiny chunks make each byte cost many to read."""
    count = 0
    for piece in response.iter_stream():
        count += len(piece)
        if network.exchange.taken > HEAD_BYTES + 2 * count:
            raise network.TooLong
        yield piece


def _unpacked(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yield a body unpacked, a little at a time: a gzip of 64 kB may hold 64 MB."""
    if encoding.lower() in ("", "identity"):
        yield from pieces
        return
    if encoding.lower() not in ("gzip", "x-gzip"):
        raise httpcore2.RemoteProtocolError  # we asked for no other
    packed = zlib.decompressobj(16 + zlib.MAX_WBITS)
    for piece in pieces:
        left = piece
        while left and not packed.eof:
            yield packed.decompress(left, network.READ_BYTES)
            left = packed.unconsumed_tail
    yield packed.flush()
    if not packed.eof:
        raise httpcore2.ReadError
