"""The door for gunicorn: its worker and its logger, as the function needs them; ``gunicorn.conf.py`` names them."""

from __future__ import annotations

import contextlib
import gc
import http
import json
import logging.config
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
import gunicorn.glogging
import gunicorn.http.errors
import gunicorn.workers.ggevent

from function import logs, settings

log = logging.getLogger(__name__)

BODY_SECONDS = 30
LINGER_SECONDS = 1.0
"""How long a refused connection is still read, so that its sender gets the refusal; see :func:`_linger`."""
LINGER_BYTES = 2**20
REFUSALS = {
    gunicorn.http.errors.LimitRequestLine: http.HTTPStatus.REQUEST_URI_TOO_LONG,
    gunicorn.http.errors.LimitRequestHeaders: http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}
"""gunicorn's refusals that are not 400."""


class Logger(gunicorn.glogging.Logger):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's messages among ours; no access log, because each event has a line of its own."""

    level = settings.Settings().receiver.log_level
    """Set by ``gunicorn.conf.py``."""

    def setup(self, cfg: object) -> None:  # noqa: ARG002  # gunicorn gives its configuration
        """Log through the root logger, as everything else."""
        logging.config.dictConfig(logs.configuration(self.level))

    def access(self, *_: object) -> None:
        """Log nothing."""


class Worker(gunicorn.workers.ggevent.GeventWorker):  # type: ignore[misc]  # gunicorn is not typed
    """Ends idle connections at a stop: a Broker keeps some open, and gunicorn would wait all of graceful_timeout."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self._idle: dict[gevent.Greenlet, gevent.Timeout] = {}
        self._served = 0

    def load_wsgi(self) -> None:
        """Load the application, and let the log's lines be written together."""
        super().load_wsgi()
        logs.gather(self._write_lines)
        # What is loaded stays: the collector need not look through it again and again while events come and go.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    def _write_lines(self, write: Callable[[], None]) -> None:
        """Write the log's lines once for a turn of the loop; at once where a single request is served."""
        if self._served > 1:
            gevent.get_hub().loop.run_callback(write)
        else:
            write()

    @contextlib.contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for the next request of a connection."""
        greenlet = gevent.getcurrent()
        with super().timeout_ctx() as timeout:
            self._idle[greenlet] = timeout
            try:
                yield
            finally:
                del self._idle[greenlet]

    def handle_request(self, listener: object, request: object, client: gevent.socket.socket, address: object) -> Any:
        """Serve a request; a body of which nothing comes for a while is broken."""
        client.settimeout(BODY_SECONDS)
        self._served += 1
        try:
            return super().handle_request(listener, request, client, address)
        finally:
            self._served -= 1
            client.settimeout(None)

    def handle_error(self, request: object, client: gevent.socket.socket, address: object, exc: BaseException) -> None:
        """Refuse what is no HTTP request with a sentence, as the application would; gunicorn answers in HTML."""
        if not isinstance(exc, gunicorn.http.errors.ParseException):
            super().handle_error(request, client, address, exc)
            return
        status = REFUSALS.get(type(exc), http.HTTPStatus.BAD_REQUEST)
        sentence = "the request is no HTTP that can be read here: " + status.phrase.lower()
        body = json.dumps({"error": sentence}).encode()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        log.warning(sentence, extra={"action": "event.refused", "status": status.value})
        with contextlib.suppress(OSError):
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            _linger(client)

    def notify(self) -> None:
        """Say that the worker lives; gunicorn calls this every second, also while it waits for the end."""
        super().notify()
        if not self.alive:
            for greenlet in list(self._idle):
                gevent.get_hub().loop.run_callback(self._end, greenlet)

    def _end(self, greenlet: gevent.Greenlet) -> None:
        """End the wait of a connection as its timeout would, unless a request has come just now."""
        if greenlet in self._idle:
            greenlet.throw(self._idle[greenlet])


def _linger(client: gevent.socket.socket) -> None:
    """End our side of a refused connection, and read on for a moment, within bounds, before gunicorn closes it.

    A close while bytes still arrive is a reset, and a reset takes the refusal away from a sender that has not read it
    yet (RFC 9112, section 9.6).
    """
    client.shutdown(socket.SHUT_WR)
    left = LINGER_BYTES
    with gevent.Timeout(LINGER_SECONDS, False):
        while left > 0 and (read := client.recv(min(left, 65536))):
            left -= len(read)


def starts(_: object, __: object) -> None:
    """Let SIGTERM end a worker that still starts: until it listens for signals it would miss it, and be waited for."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ends(_: object, worker: object) -> None:
    """Close what the worker holds, once nothing is in flight: a token of Operations would live on for hours."""
    application = getattr(worker, "wsgi", None)
    if application is not None:
        application.extensions["vmledger.close"]()
