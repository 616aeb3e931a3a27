"""The POST itself; the only room of scaling that imports requests.

The host is resolved here, each address is judged by the policy, and the connection goes to an address that passed: the
request's url holds the address, the header Host and the certificate's verification hold the name.
Nothing of the environment is used (proxies, .netrc), no cookies are kept, no redirect is followed.
What requests raises quotes urls, which are secrets: nothing of it is passed on, not even as a cause.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.utils
import http.client
import http.cookiejar
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from function import errors
from function.scaling import address_policy, template

log = logging.getLogger(__name__)

ATTEMPTS = 3
PAUSES = (0.5, 1.5)
"""Seconds before the second and the third POST, where the receiver does not say."""
SHORT_SECONDS = 5.0
"""The longest Retry-After that is waited for here; Knative's own retry waits longer."""
MOST_ADDRESSES = 3
DRIP = 2.0
"""How many timeouts one POST may take in all, up to its answer's head: one to connect, and one to answer."""
ANSWER_BYTES = 64 * 1024
"""As much of an answer is read, and dropped, to keep the connection; a longer one costs the connection."""
ANSWER_SECONDS = 1.0
"""And for so long: the status is known by then."""
AGAIN = frozenset((408, 429))


class _Deadline(threading.local):
    """When the POST of this thread must have its answer's head, on the monotonic clock."""

    at: float = float("inf")


_deadline = _Deadline()


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What came of one POST: a status, or none with the reason; ``wait`` is Retry-After in seconds."""

    status: int | None
    why: str
    wait: float | None = None


class Sender:
    """Sends requests to webhooks, over kept connections.

    policy: which addresses are open. api: returns the address of the Kubernetes API, host and port. timeout: seconds
    for a connection, and for an answer. ca_file: authorities in place of certifi's.
    """

    def __init__(
        self,
        policy: address_policy.Policy,
        api: Callable[[], list[tuple[str, int]]],
        *,
        timeout: float,
        ca_file: str | None = None,
        resolve: Callable[[str, int], list[str]] | None = None,
    ) -> None:
        self._policy = policy
        self._api = api
        self._timeout = timeout
        self._verify: str | bool = ca_file or True
        self._lookup = resolve or _getaddrinfo
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(pool_connections=50))

    def send(self, request: template.Request, where: str, *, until: float) -> None:
        """POST until a 2xx, at most three times, and return; ``where`` names the Secret in sentences.

        until: when to give up, on the monotonic clock. Raises :class:`errors.Unavailable` where the receiver may take
        it later, :class:`errors.Refused` where it refuses it, or where the url leads to a closed address.
        """
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._attempt(request, where, until)
            if answer.status is not None and 200 <= answer.status < 300:
                return
            if answer.status is not None and answer.status not in AGAIN and answer.status < 500:
                raise errors.Refused(f"the webhook of {where} {answer.why}")
            pause = answer.wait if answer.wait is not None else random.uniform(0.8, 1.2) * PAUSES[min(attempt, 2) - 1]  # noqa: S311  # spreads retries
            if attempt == ATTEMPTS or pause > SHORT_SECONDS or time.monotonic() + pause + 1 > until:
                times = f"{attempt} times" if attempt > 1 else "once"
                raise errors.Unavailable(f"the webhook of {where} {answer.why}; it was asked {times}")
            time.sleep(pause)

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def _attempt(self, request: template.Request, where: str, until: float) -> _Answer:
        answer = _Answer(None, "was not asked in time")
        try:
            open_to_us = self._open(request.url, where, until)
        except OSError:
            return _Answer(None, "has a host that cannot be resolved now")
        for address in open_to_us[:MOST_ADDRESSES]:
            left = until - time.monotonic()
            if left < 0.1:
                break
            answer = self._post(request, address, left)
            if answer.status is not None or answer.why not in _UNCONNECTED:
                break
        return answer

    def _post(self, request: template.Request, address: address_policy.Address, left: float) -> _Answer:
        timeout = min(self._timeout, left)
        _deadline.at = time.monotonic() + min(DRIP * timeout, left)
        headers = {name: value.encode("utf-8", "replace") for name, value in request.headers.items()}
        headers["Host"] = request.url.authority.encode()
        try:
            response = self._session.post(
                request.url.at(address),
                data=request.body,
                headers=headers,
                timeout=timeout,
                verify=self._verify,
                allow_redirects=False,
                stream=True,
            )
            with response:
                _drain(response)
        except _FAILURES as exc:
            return _Answer(None, _why(exc))
        return _Answer(response.status_code, _says(response.status_code), _retry_after(response))

    def _open(self, url: address_policy.Url, where: str, until: float) -> list[address_policy.Address]:
        """Return the addresses of ``url`` that a webhook may lead to; raise Refused where there is none."""
        api = {(address, port) for host, port in self._api() for address in self._resolve(host, port, until)}
        found = self._resolve(url.host, url.port, until)
        reasons = {address: self._policy.closed(url, address, api) for address in found}
        addresses = [address for address, reason in reasons.items() if reason is None]
        if not addresses:
            reason = next(iter(reasons.values()))
            raise errors.Refused(f"the url of {where} leads to {reason}, where no webhook may lead here")
        return addresses

    def _resolve(self, host: str, port: int, until: float) -> list[address_policy.Address]:
        """Return the addresses of a host; raise OSError where there are none, or not in time."""
        with contextlib.suppress(ValueError):
            return [address_policy.address(host)]
        found: list[str] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                found.extend(self._lookup(host, port))
            except (OSError, UnicodeError) as exc:
                failed.append(exc)

        # The system's resolver takes no timeout, and may take half a minute to give up.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(max(0.1, min(self._timeout, until - time.monotonic())))
        if failed or not found:
            raise OSError("no address")
        return list(dict.fromkeys(address_policy.address(text.partition("%")[0]) for text in found))


def _getaddrinfo(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)
"""What a POST can raise. requests lets some of urllib3's and the standard library's errors through."""
_UNCONNECTED = ("cannot be connected to", "cannot be connected to in time")


def _why(exc: Exception) -> str:
    """Return in our words why there was no answer; the exception's own words quote the url."""
    match exc:
        case requests.exceptions.ConnectTimeout():
            return _UNCONNECTED[1]
        case requests.exceptions.SSLError():
            return "has a certificate that cannot be verified, or speaks no TLS"
        case requests.exceptions.Timeout():
            return "did not answer in time"
        case requests.exceptions.ConnectionError() if _refused(exc):
            return _UNCONNECTED[0]
        case _:
            return "gave no answer that is HTTP"


def _refused(exc: requests.exceptions.ConnectionError) -> bool:
    cause = exc.args[0] if exc.args else None
    reason = getattr(cause, "reason", cause)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _says(status: int) -> str:
    if 300 <= status < 400:
        return f"answered with a redirect, {status}, and those are not followed"
    return f"answered {status}"


def _retry_after(response: requests.Response) -> float | None:
    """Return the header Retry-After in seconds (RFC 9110, section 10.2.3): a number, or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = email.utils.parsedate_to_datetime(text)
        return max(0.0, (at - datetime.datetime.now(datetime.UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return None


def _drain(response: requests.Response) -> None:
    """Read the rest of an answer, so that its connection can be kept; nothing here can fail the answer."""
    line = getattr(getattr(response.raw, "connection", None), "sock", None)
    if line is None:  # it ends with the answer
        return
    end, left = time.monotonic() + ANSWER_SECONDS, ANSWER_BYTES
    with contextlib.suppress(*_FAILURES):
        line.settimeout(ANSWER_SECONDS)
        while left > 0 and time.monotonic() < end:
            chunk = response.raw.read1(min(left, 16384), decode_content=False)
            if not chunk:
                break
            left -= len(chunk)


class _Bounded(urllib3.connection.HTTPConnection):
    """Ends each step of a POST at the thread's deadline, however slowly the receiver drips.

    A socket's own timeout begins anew with each byte; under gevent also within one TLS handshake.
    """

    _line: socket.socket | None = None
    """The connection once more: the socket itself changes hands when TLS begins."""

    def connect(self) -> None:
        """Connect; for TLS, with the handshake."""
        with self._ended():
            super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send the request."""
        with self._ended():
            super().request(*args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """Read the answer's head."""
        with self._ended():
            return super().getresponse()

    def close(self) -> None:
        """Close both."""
        super().close()
        if self._line is not None:
            self._line.close()

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        self._line = connected.dup()
        return connected

    @contextlib.contextmanager
    def _ended(self) -> Iterator[None]:
        late = threading.Event()

        def end() -> None:
            late.set()
            with contextlib.suppress(OSError):
                if self._line is not None:
                    self._line.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, _deadline.at - time.monotonic()), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception:
            if late.is_set():
                raise TimeoutError("the receiver drips") from None
            raise
        finally:
            timer.cancel()


class _HTTPSConnection(_Bounded, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Bounded


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """Connects to the address in the url, and verifies the certificate for the name in the header Host."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use connections whose answers have an end."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Return what tells one connection from another: the address, and for TLS the name."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        address_policy.address(str(host["host"]).strip("[]"))  # a name here would be resolved a second time, unseen
        tls = {"server_hostname": _name(request.headers["Host"])} if host["scheme"] == "https" else {}
        return host, {**pool, **tls}


def _name(authority: str | bytes) -> str:
    text = authority.decode() if isinstance(authority, bytes) else authority
    bracketed, found, _ = text.removeprefix("[").partition("]")
    return bracketed if found else text.partition(":")[0]
