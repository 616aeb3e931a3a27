"""The page ``/metrics``: an HTTP server so small that nobody can hold it up.

One request a connection, GET and HEAD alone, a limit on everything: the connections, the bytes of a request, and the
time from the first byte of the request to the last one of the answer.
"""

from __future__ import annotations

import contextlib
import http
import logging
import socket
import threading
import time
from collections.abc import Callable

from function import errors

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 16
MOST_BYTES = 16 * 1024
"""Of a request: its line and its headers."""
SECONDS = 5.0
"""For a request to arrive, and again for its answer to be read."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""


def listening(port: int) -> socket.socket:
    """Return a socket that listens on METRICS_PORT; raise :class:`errors.BadSetting` where it is taken."""
    try:
        return socket.create_server(("0.0.0.0", port), backlog=MOST_CONNECTIONS)  # noqa: S104  # as the receiver's
    except OSError as exc:
        raise errors.BadSetting("METRICS_PORT", f"cannot be listened on: {exc.strerror}") from None


class Page:
    """Serves what ``render`` returns on a socket that listens, in threads of its own; render may be slow, and fail."""

    def __init__(self, listener: socket.socket, render: Callable[[], bytes]) -> None:
        self._listener = listener
        self._render = render
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        self._closed = False

    def start(self) -> None:
        """Begin to serve, in the background."""
        threading.Thread(target=self._accept, daemon=True, name="metrics").start()

    def close(self) -> None:
        """End the listening; a request in flight is still answered, if the process lives so long."""
        self._closed = True
        with contextlib.suppress(OSError):  # wakes the thread that waits for a connection
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed, or no descriptor is free at the moment
                time.sleep(0.1)
                continue
            if not self._free.acquire(blocking=False):
                client.close()
                continue
            try:
                threading.Thread(target=self._serve, args=(client,), daemon=True, name="metrics-request").start()
            except RuntimeError:  # no thread can be started
                client.close()
                self._free.release()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):
                head = _head(client, time.monotonic() + SECONDS)
                if head is None:
                    return
                answer = self._answer(head)
                client.settimeout(SECONDS)  # for all of the answer
                client.sendall(answer)
        finally:
            self._free.release()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        target, _, version = rest.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            return _response(http.HTTPStatus.BAD_REQUEST)
        if target.partition(b"?")[0] != b"/metrics":
            return _response(http.HTTPStatus.NOT_FOUND)
        if method not in (b"GET", b"HEAD"):
            return _response(http.HTTPStatus.METHOD_NOT_ALLOWED, head="Allow: GET, HEAD\r\n")
        try:
            body = self._render()
        except Exception:
            log.exception("the metrics cannot be shown", extra={"action": "metrics.failed"})
            return _response(http.HTTPStatus.INTERNAL_SERVER_ERROR)
        return _response(http.HTTPStatus.OK, body, with_body=method == b"GET")


def _head(client: socket.socket, end: float) -> bytes | None:
    """Return a request's line and headers; None where they do not come whole in time, or are too long."""
    head = b""
    while b"\r\n\r\n" not in head:
        left = end - time.monotonic()
        if left <= 0 or len(head) > MOST_BYTES:
            return None
        client.settimeout(left)
        more = client.recv(4096)
        if not more:
            return None
        head += more
    return head


def _response(status: http.HTTPStatus, body: bytes = b"", *, head: str = "", with_body: bool = True) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"{head}Content-Length: {len(body)}\r\n\r\n"
    )
    return lines.encode() + (body if with_body else b"")
