"""Servers that mean harm, over real sockets: each answers every connection in its own way and never comes to an end.

::

    with hostile.running("endless interim answers") as server:
        ask(server.url)                               # must end by itself
        server.asked                                  # how many requests came
    with hostile.running(*hostile.BEHAVIOURS) as server:          # another way for each connection, in turn
        ...

They send as fast as they can where speed is the harm, and a byte at a time where patience is.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import pathlib
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence

Send = Callable[[bytes], None]
Behaviour = Callable[["Server", Send], None]

DRIP_SECONDS = 0.02
STATUS = "200 OK"
"""What the answers say that say a status."""
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Server:
    """A server on 127.0.0.1; ``asked`` counts the requests that came."""

    def __init__(self, behaviours: Sequence[Behaviour], certificate: pathlib.Path | None = None) -> None:
        self.asked = 0
        self._behaviours = itertools.cycle(behaviours)
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: set[socket.socket] = set()
        self._stopped = threading.Event()
        self.port: int = self._listening.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"

    def serve(self) -> None:
        """Take connections until :meth:`stop`."""
        while not self._stopped.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._answer, args=[connection, next(self._behaviours)], daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody."""
        self._stopped.set()
        for each in (self._listening, *list(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def drip(self, data: bytes, send: Send) -> None:
        """Send a byte now and then."""
        for byte in data:
            if self._stopped.wait(DRIP_SECONDS):
                return
            send(bytes([byte]))

    def for_ever(self, data: bytes, send: Send) -> None:
        """Send the same again and again."""
        while not self._stopped.is_set():
            send(data)

    def wait(self) -> None:
        """Say nothing until the end."""
        self._stopped.wait()

    def _answer(self, connection: socket.socket, behaviour: Behaviour) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while _request(connection):
                self.asked += 1
                behaviour(self, connection.sendall)
        with contextlib.suppress(OSError):
            connection.close()
        self._open.discard(connection)


def _request(connection: socket.socket) -> bool:
    """Read a request to its end; return whether there was one."""
    came = b""
    while b"\r\n\r\n" not in came:
        data = connection.recv(65536)
        if not data:
            return False
        came += data
    head, _, body = came.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0].partition(b":")[2]) - len(body) if lengths else 0
    while left > 0:
        left -= len(connection.recv(65536))
    return True


@functools.cache
def bomb() -> bytes:
    """Return 64 MiB of zeros, gzipped to less than a hundredth."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(bytes(2**26)) + packer.flush()


def _ok() -> bytes:
    return f"HTTP/1.1 {STATUS}\r\n".encode()


def _silence(server: Server, _: Send) -> None:
    server.wait()


def _interim(server: Server, send: Send) -> None:
    server.for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 500, send)


def _hints(server: Server, send: Send) -> None:
    server.for_ever(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 500, send)


def _interim_drip(server: Server, send: Send) -> None:
    while not server._stopped.is_set():
        server.drip(b"HTTP/1.1 100 Continue\r\n\r\n", send)


def _head_drip(server: Server, send: Send) -> None:
    server.drip(_ok(), send)
    while not server._stopped.is_set():
        server.drip(b"X-Header: value\r\n", send)


def _head(server: Server, send: Send) -> None:
    send(_ok())
    server.for_ever(b"X-Header: value\r\n" * 500, send)


def _header(server: Server, send: Send) -> None:
    send(_ok() + b"X-Header: ")
    server.for_ever(b"x" * 65536, send)


def _status_line(server: Server, send: Send) -> None:
    send(_ok()[:13])
    server.for_ever(b"O" * 65536, send)


def _body(server: Server, send: Send) -> None:
    send(_ok() + b"Content-Length: 1000000000000\r\n\r\n")
    server.for_ever(b"[" * 65536, send)


def _body_to_the_end(server: Server, send: Send) -> None:
    send(_ok() + b"Connection: close\r\n\r\n")
    server.for_ever(b" " * 65536, send)


def _body_drip(server: Server, send: Send) -> None:
    send(_ok() + b"Content-Length: 1000000\r\n\r\n")
    server.drip(b" " * 1000000, send)


def _stall(server: Server, send: Send) -> None:
    send(_ok() + b"Content-Length: 1000\r\n\r\n{")
    server.wait()


def _chunks(server: Server, send: Send) -> None:
    send(_ok() + CHUNKED)
    server.for_ever(b"10000\r\n" + b" " * 65536 + b"\r\n", send)


def _tiny_chunks(server: Server, send: Send) -> None:
    send(_ok() + CHUNKED)
    server.for_ever(b"1\r\n \r\n" * 10000, send)


def _chunk_size(server: Server, send: Send) -> None:
    send(_ok() + CHUNKED)
    server.for_ever(b"0" * 65536, send)


def _chunk_extension(server: Server, send: Send) -> None:
    send(_ok() + CHUNKED + b"1;")
    server.for_ever(b"x=y;" * 16384, send)


def _trailers(server: Server, send: Send) -> None:
    send(_ok() + CHUNKED + b"2\r\n{}\r\n0\r\n")
    server.for_ever(b"X-Trailer: value\r\n" * 500, send)


def _bomb(server: Server, send: Send) -> None:
    packed = bomb()
    send(_ok() + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed))
    send(packed)


def _redirects(server: Server, send: Send) -> None:
    send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")


def _upgrade(server: Server, send: Send) -> None:
    send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    server.for_ever(b"x" * 65536, send)


def _noise(server: Server, send: Send) -> None:
    server.for_ever(bytes(range(256)) * 256, send)


BEHAVIOURS: dict[str, Behaviour] = {
    "silence": _silence,
    "endless interim answers": _interim,
    "endless early hints": _hints,
    "interim answers that drip": _interim_drip,
    "a head that drips": _head_drip,
    "an endless head": _head,
    "an endless header": _header,
    "an endless status line": _status_line,
    "an endless body": _body,
    "an endless body without a length": _body_to_the_end,
    "a body that drips": _body_drip,
    "a body that stalls": _stall,
    "endless chunks": _chunks,
    "endless tiny chunks": _tiny_chunks,
    "an endless chunk size": _chunk_size,
    "an endless chunk extension": _chunk_extension,
    "endless trailers": _trailers,
    "a gzip bomb": _bomb,
    "endless redirects": _redirects,
    "an upgrade": _upgrade,
    "noise": _noise,
}
"""What each does, by its name."""


@contextlib.contextmanager
def running(*behaviours: str, certificate: pathlib.Path | None = None) -> Iterator[Server]:
    """Run a server for as long as the block runs; over TLS where there is a certificate with its key."""
    bomb()  # made before anybody waits for it
    server = Server([BEHAVIOURS[name] for name in behaviours], certificate)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield server
    finally:
        server.stop()
