"""Hostile senders, each on one connection at a time: ``python -m dev.attacks NAME PORT SECONDS``.

Each sends without end, on a new connection where one is closed, and prints a line once its first bytes are sent.
The acceptance tests and ``python -m bench.edge`` run them, each in a process of its own, and look at who waits.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

Pieces = Callable[[], Iterable[bytes]]

_GET = b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n"
_EVENT = (
    b"ce-id: 1\r\nce-specversion: 1.0\r\nce-source: attack\r\nce-time: 2026-01-01T00:00:00Z\r\n"
    b"ce-type: dev.knative.apiserver.resource.add\r\nce-kind: VirtualMachine\r\n"
)
_CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n" + _EVENT
_BODY_BYTES = 1_800_000


def _always(piece: bytes, *, before: bytes = b"", pause: float = 0.0) -> Pieces:
    """Send ``piece`` again and again, after what comes before it."""

    def pieces() -> Iterator[bytes]:
        yield before
        while True:
            yield piece
            time.sleep(pause)

    return pieces


def _whole(*, body: bytes, kind: str = "application/json", path: str = "/", head: bytes = _EVENT) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n".encode()
        + head
        + b"\r\n"
        + body
    )


def _batch() -> bytes:
    """As many small events as a request may hold."""
    event = b'{"specversion":"1.0","id":"%d","source":"s","type":"other"}'
    return b"[" + b",".join([event % number for number in range(34_000)]) + b"]"


def dense(item: bytes, *, size: int = _BODY_BYTES, before: bytes = b'{"a":[', after: bytes = b"]}") -> bytes:
    """Return JSON of that size that is almost nothing but values."""
    return before + b",".join([item] * (size // (len(item) + 1))) + after


def _machine(item: bytes) -> bytes:
    """Return a VirtualMachine whose spec is dense, and small enough to be read."""
    metadata = b'{"metadata":{"name":"dense","namespace":"attack","resourceVersion":"1"},"spec":{"a":['
    return dense(item, size=900_000, before=metadata, after=b"]}}")


ATTACKS: Mapping[str, Pieces] = {
    "a header line without end": _always(b"a" * 65536, before=_GET + b"x: "),
    "header lines without end": _always(b"a: b\r\n" * 10_000, before=_GET),
    "long header lines without end": _always(b"a: " + b"b" * 60_000 + b"\r\n", before=_GET),
    "a request line without end": _always(b"a" * 65536, before=b"GET /"),
    "a header byte by byte": _always(b"a", before=_GET + b"x: "),
    "slow header lines": _always(b"a: b\r\n", before=_GET, pause=0.01),
    "large headers": _always(_GET + b"a: b\r\n" * 190 + (b"c: " + b"c" * 60_000 + b"\r\n") * 2 + b"\r\n"),
    "empty lines": _always(b"\r\n" * 30_000),
    "pipelined requests": _always((_GET + b"\r\n") * 1000),
    "pipelined events": _always((b"POST / HTTP/1.1\r\nContent-Length: 0\r\n" + _EVENT + b"\r\n") * 100),
    "chunks of one byte": _always(b"1\r\na\r\n" * 10_000, before=_CHUNKED + b"\r\n"),
    "chunk extensions": _always(b"1" + b";a" * 30_000 + b"\r\na\r\n", before=_CHUNKED + b"\r\n"),
    "a chunk's size byte by byte": _always(b"0", before=_CHUNKED + b"\r\n"),
    "trailers without end": _always(b"a: b\r\n" * 10_000, before=_CHUNKED + b"\r\n0\r\n"),
    "a trailer byte by byte": _always(b"a", before=_CHUNKED + b"\r\n0\r\na: "),
    "a body that is too large": _always(b"a" * 65536, before=b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n"),
    "JSON of empty objects": _always(_whole(body=dense(b"{}"))),
    "JSON that is just small enough": _always(_whole(body=dense(b'{"":0}', size=900_000))),
    "JSON that breaks off": _always(_whole(body=dense(b'{"":0}', size=900_000, after=b"]"))),
    "a machine of empty objects": _always(_whole(body=_machine(b'{"":0}'))),
    "a batch": _always(_whole(body=_batch(), kind="application/cloudevents-batch+json", head=b"")),
    "JSON for the echo": _always(_whole(body=dense(b"{}"), path="/echo")),
    "JSON in a text for the echo": _always(_whole(body=json.dumps("[" + "{}," * 500_000).encode(), path="/echo")),
    "text for the echo": _always(_whole(body=b"password: a " * 150_000, kind="text/plain", path="/echo")),
    "XML for the echo": _always(_whole(body=b"<a>" * 600_000, kind="text/xml", path="/echo")),
    "bytes for the echo": _always(_whole(body=bytes(range(256)) * 7000, kind="application/octet-stream", path="/echo")),
}
"""What is sent, by what it is."""


def run(name: str, port: int, seconds: float, begun: Callable[[], object] = lambda: None) -> int:
    """Attack a port of this machine for some seconds; return how many connections that took."""
    end = time.monotonic() + seconds
    has_begun = False
    for number in itertools.count(1):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            for piece in ATTACKS[name]():
                connection.sendall(piece)
                if not has_begun:
                    has_begun = True
                    begun()
                _discard(connection)
                if time.monotonic() > end:
                    return number
        if time.monotonic() > end:
            return number
    raise AssertionError


def _discard(connection: socket.socket) -> None:
    """Read what was answered, so that the server can go on answering."""
    connection.settimeout(0)
    try:
        while connection.recv(65536):
            pass
        raise ConnectionResetError("the server has closed the connection")
    except BlockingIOError:
        pass
    finally:
        connection.settimeout(1)


def main() -> int:
    """Run one attack."""
    name, port, seconds = sys.argv[1:]
    run(name, int(port), float(seconds), begun=lambda: print("begun", flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
