"""The network under the HTTP client: sockets whose waits end with the call, and whose bytes are counted.

httpcore asks for a network backend, which is this one; it reads HTTP itself.
It waits for each byte anew and reads as many interim answers (100 Continue) as come, so the bounds lie below it: the
call's end from :mod:`deadline`, and an allowance of bytes that the caller gives for each part of an answer.

TLS runs over memory, not over the socket: gevent begins a socket's timeout anew with each byte of a handshake.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import httpcore2

from function.clients import deadline, resolver

T = TypeVar("T")

READ_BYTES = 16 * 1024
"""Read at a time: 16 kB of interim answers take some 5 ms to parse."""
TURN_SECONDS = 0.005
"""How long one request may read without a wait before others get a turn."""
PAUSE_SECONDS = 0.001
"""What gives them the turn: a sleep of 0 does not, gevent looks at sockets and timers only after 1,000 of those."""
MOST_ADDRESSES = 3


class Unresolved(httpcore2.ConnectError):
    """The name has no address now."""


class NoTls(httpcore2.ConnectError):
    """The other side does not speak TLS, or none that is taken here."""


class Untrusted(NoTls):
    """Its certificate cannot be verified."""


class TooLong(httpcore2.ReadError):
    """There is more to read than was allowed."""


class Exchange(threading.local):
    """What this thread's request may do on the network.

    addresses: where it may connect to, None for those of the name. allowed: bytes that may still be read.
    taken: bytes that were read since they were last allowed. busy_since: when it last waited, so that others ran.
    """

    addresses: Sequence[str] | None = None
    allowed: float = math.inf
    taken: int = 0
    busy_since: float = 0.0

    def allow(self, count: float) -> None:
        """Allow so many bytes from now on."""
        self.allowed, self.taken = count, 0

    def receive(self, connection: socket.socket, most: int) -> bytes:
        """Return what has come, or wait for it.

        Where there is always something to read nobody waits, and under gevent nobody else would get a turn.
        """
        if self.taken >= self.allowed:
            raise TooLong
        before = time.monotonic()
        if before - self.busy_since > TURN_SECONDS:
            time.sleep(PAUSE_SECONDS)
            before = self.busy_since = time.monotonic()
        data = connection.recv(most)
        after = time.monotonic()
        if after - before > PAUSE_SECONDS:
            self.busy_since = after
        self.taken += len(data)
        return data


exchange = Exchange()


@contextlib.contextmanager
def connecting_to(addresses: Sequence[str] | None) -> Iterator[None]:
    """Connect to these addresses alone within the block, whatever the name means; None for those of the name."""
    exchange.addresses = addresses
    exchange.busy_since = time.monotonic()
    try:
        yield
    finally:
        exchange.addresses = None
        exchange.allow(math.inf)


class Backend(httpcore2.NetworkBackend):
    """Opens connections."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002  # httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        """Connect to the first address that takes it; ``timeout`` seconds for each.

        Raises what httpcore's own backend raises, and :class:`Unresolved`.
        """
        seconds = math.inf if timeout is None else timeout
        addresses = exchange.addresses
        if addresses is None:
            addresses = _resolved(host, seconds)
        failure: Exception = httpcore2.ConnectTimeout()
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return Stream(_connected(address, port, seconds))
            except TimeoutError:
                failure = httpcore2.ConnectTimeout()
            except OSError:
                failure = httpcore2.ConnectError()
        raise failure


def _resolved(host: str, seconds: float) -> Sequence[str]:
    try:
        with deadline.within(seconds):
            return resolver.addresses(host)
    except resolver.Unresolved:
        raise Unresolved from None


def _connected(address: str, port: int, seconds: float) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_seconds(seconds))
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _seconds(timeout: float | None) -> float | None:
    """Return the timeout of one wait; raise TimeoutError where the call is over, because 0 would mean "do not wait"."""
    left = deadline.left(math.inf if timeout is None else timeout)
    if left <= 0:
        raise TimeoutError
    return None if left == math.inf else left


class Stream(httpcore2.NetworkStream):
    """A TCP connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, or wait for it; ``b""`` at the end."""
        try:
            self._socket.settimeout(_seconds(timeout))
            return exchange.receive(self._socket, min(max_bytes, READ_BYTES))
        except TimeoutError:
            raise httpcore2.ReadTimeout from None
        except OSError:
            raise httpcore2.ReadError from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        left = memoryview(buffer)
        try:
            while left:
                self._socket.settimeout(_seconds(timeout))
                left = left[self._socket.send(left) :]
        except TimeoutError:
            raise httpcore2.WriteTimeout from None
        except OSError:
            raise httpcore2.WriteError from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """Begin TLS."""
        return TlsStream(self, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        """Return whether there is something to read, which on an idle connection is its end."""
        if info != "is_readable":
            return None
        poller = select.poll()
        poller.register(self._socket.fileno(), select.POLLIN)
        return bool(poller.poll(0))


def _handshake_failure(exc: BaseException) -> BaseException:
    match exc:
        case ssl.SSLCertVerificationError():
            return Untrusted()
        case ssl.SSLError() | ValueError():  # ValueError: a name that no certificate can have
            return NoTls()
        case httpcore2.TimeoutException():
            return httpcore2.ConnectTimeout()
        case _:
            return exc


class TlsStream(httpcore2.NetworkStream):
    """TLS over another stream, which may be TLS itself, as behind a proxy."""

    def __init__(
        self,
        stream: httpcore2.NetworkStream,
        context: ssl.SSLContext,
        name: str | None,
        timeout: float | None,
    ) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
            self._run(self._tls.do_handshake, timeout)
        except BaseException as exc:
            self.close()
            raise _handshake_failure(exc) from None

    def _run(self, act: Callable[[], T], timeout: float | None) -> T:
        """Return what ``act`` returns, given all that it wants to read and to send."""
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                self._flush(timeout)
                self._receive(timeout)
            except ssl.SSLError:
                with contextlib.suppress(httpcore2.NetworkError, httpcore2.TimeoutException):
                    self._flush(timeout)  # the alert that says why
                raise
            else:
                self._flush(timeout)
                return done

    def _flush(self, timeout: float | None) -> None:
        if data := self._outgoing.read():
            self._stream.write(data, timeout)

    def _receive(self, timeout: float | None) -> None:
        if data := self._stream.read(READ_BYTES, timeout):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, or wait for it; ``b""`` at the end, also at one that TLS does not announce."""
        try:
            return self._run(functools.partial(self._tls.read, max_bytes), timeout)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError:
            raise httpcore2.ReadError from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        left = memoryview(buffer)
        try:
            while left:
                left = left[self._run(functools.partial(self._tls.write, left), timeout) :]
        except ssl.SSLError:
            raise httpcore2.WriteError from None

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """Begin TLS inside this one: to the API through a proxy that is reached over TLS."""
        return TlsStream(self, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore wants to know: the TLS object, or whether there is something to read."""
        return self._tls if info == "ssl_object" else self._stream.get_extra_info(info)
