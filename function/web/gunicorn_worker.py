"""The door for gunicorn: its worker and its logger, as the function needs them; ``gunicorn.conf.py`` names them.

gunicorn's parser stands between strangers and the application. What is here is the loop around it: which bytes it gets,
when, and what is answered where it refuses them.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import http
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket
import gunicorn.arbiter
import gunicorn.http.errors
import gunicorn.http.message
import gunicorn.http.parser
import gunicorn.http.wsgi
import gunicorn.workers.ggevent

from function import errors, logs, measures, turns
from function.web import connections, heads, listening, tally

log = logging.getLogger(__name__)

SEND_SECONDS = 30.0
"""How long a sender may take to read its answer."""
LINGER_SECONDS = 1.0
"""How long a connection that ends here is still read, so that its sender gets the answer; see :func:`_linger`."""
LINGER_BYTES = 16 * 2**20
TRAILER_BYTES = 8192
"""Of a chunked body's trailers, which nobody reads here."""
REFUSALS = {
    connections.TooSlow: http.HTTPStatus.REQUEST_TIMEOUT,
    gunicorn.http.errors.LimitRequestLine: http.HTTPStatus.REQUEST_URI_TOO_LONG,
    gunicorn.http.errors.LimitRequestHeaders: http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}
"""gunicorn's refusals that are not 400."""
SINGLE = {"CONTENT-LENGTH": "Content-Length", "CONTENT-TYPE": "Content-Type", "HOST": "Host"}
"""Headers that a request may have once (RFC 9110, section 5.3), as gunicorn's refusal and as people spell them."""


class Request(gunicorn.http.message.Request):  # type: ignore[misc]  # gunicorn is not typed
    """A request as gunicorn's parser reads it."""

    def set_body_reader(self) -> None:
        """Choose how the body is read, with few trailers: gunicorn searches all that has come of them at each read."""
        self.max_buffer_headers = TRAILER_BYTES
        super().set_body_reader()


class Parser(gunicorn.http.parser.RequestParser):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's parser."""

    mesg_class = Request


_connections = tally.Tally()
"""Of all workers: this module is loaded before they are forked."""


class Worker(gunicorn.workers.ggevent.GeventWorker):  # type: ignore[misc]  # gunicorn is not typed
    """Serves connections, each in a greenlet of its own."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self._connections = connections.Connections(self.worker_connections)
        self._limits = connections.Limits(
            most_line=self.cfg.limit_request_line,
            most_fields=self.cfg.limit_request_fields,
            idle_seconds=self.cfg.keepalive,
        )
        self._served = 0
        self._taken = 0
        self.server_class = functools.partial(listening.Server, handle=self.handle, took=self._took, ahead=self._ahead)

    def load_wsgi(self) -> None:
        """Load the application, and let the log's lines be written together."""
        # gunicorn finds each setting only once an attribute of that name was missing, some thirty times for a request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        try:
            super().load_wsgi()
        except errors.BadSetting as exc:  # one that only the application can find; gunicorn would print a traceback
            log.error(str(exc), extra={"action": "start.refused"})  # noqa: TRY400
            sys.exit(gunicorn.arbiter.Arbiter.WORKER_BOOT_ERROR)
        logs.gather(self._write_lines)
        turns.use(_on_thread)
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

    def handle(self, listener: gevent.socket.socket, client: gevent.socket.socket, address: object) -> None:
        """Serve a connection to its end."""
        connection = connections.Connection(client, self._limits)
        parser = Parser(self.cfg, client, address)
        parser.unreader = connection
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError):  # the sender has gone before it was refused
                self._converse(connection, parser, listener.getsockname(), address)
        finally:
            self._connections.remove(connection)
            self._taken -= 1
            self._say()
            client.close()

    def _say(self) -> None:
        """Say to the other workers how many connections this one has."""
        _connections.say(self.age, self._taken, time.monotonic())

    def _took(self) -> None:
        """Count a connection at once: of many that come together, none is served before all are taken."""
        self._taken += 1
        self._say()

    def _ahead(self) -> float:
        """Return how many connections this worker has more than the one that has the fewest."""
        self._say()
        return self._taken - _connections.fewest(time.monotonic())

    def _converse(self, connection: connections.Connection, parser: Parser, listener: object, address: object) -> None:
        """Answer one request after another, until there can be no more."""
        try:
            while connection.await_head():
                if not self._answer(next(parser), connection, listener, address):
                    return
        except gunicorn.http.errors.ParseException as exc:
            _refuse(connection.sock, REFUSALS.get(type(exc), http.HTTPStatus.BAD_REQUEST), _sentence(exc))
        except (StopIteration, OSError):  # the sender has gone, or rests for too long
            return
        except Exception:
            log.exception("unexpected error", extra={"action": "request.failed"})
            _refuse(connection.sock, http.HTTPStatus.SERVICE_UNAVAILABLE, errors.UNEXPECTED)

    def _answer(self, request: Request, connection: connections.Connection, listener: object, address: object) -> bool:
        """Answer a request; return whether the connection may bring another."""
        client = connection.sock
        response, environ = gunicorn.http.wsgi.create(request, client, address, listener, self.cfg)
        environ["wsgi.multithread"] = True
        environ[heads.REPEATED] = heads.repeated([name for name, _ in request.headers])
        self._served += 1
        try:
            pieces = self.wsgi(environ, response.start_response)
        finally:
            self._served -= 1
        is_read = _is_read(request)
        if not (is_read and self.alive):
            response.force_close()
        client.settimeout(SEND_SECONDS)
        try:
            for piece in pieces:
                response.write(piece)
            response.close()
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        connection.rest()
        if response.should_close():
            _linger(client)  # also where all was read: HTTP/1.0 and Connection: close may be followed by more bytes
            return False
        return True

    def notify(self) -> None:
        """Say that the worker lives; gunicorn calls this every second, also while it waits for the end.

        At a stop it ends the connections that wait for a request: a Broker keeps some open, and gunicorn would wait all
        of graceful_timeout for them.
        """
        super().notify()
        if measures.recorder is not None:
            self._measure(measures.recorder)
        if self.alive:
            self._say()
        else:
            _connections.forget(self.age)
            self._connections.end_idle()

    def _measure(self, to: measures.Recorder) -> None:
        """Measure what is in flight: once a second, because at each request it would cost more than it shows."""
        to.set(measures.IN_FLIGHT, self._served)
        application = getattr(self, "wsgi", None)
        if application is not None:
            to.set(measures.IN_FLIGHT_BYTES, application.extensions["vmledger.memory"].drawn)


def _on_thread(work: Callable[[], Any]) -> Any:
    """Do pure work on a thread, and let the loop go on meanwhile; the interpreter switches between the two."""

    def tried() -> tuple[Any, Exception | None]:
        try:
            return work(), None
        except Exception as exc:  # gevent would print it
            return None, exc

    result, failure = gevent.get_hub().threadpool.apply(tried)
    if failure is not None:
        raise failure
    return result


def _is_read(request: Request) -> bool:
    """Whether the application has read the request's body to its end, so that another request can follow it."""
    reader = request.body.reader
    return not (request.body.failed or getattr(reader, "length", 0) or getattr(reader, "parser", None))


def _sentence(exc: gunicorn.http.errors.ParseException) -> str:
    """Return what the sender is told of gunicorn's refusal; never its own words, which quote the request."""
    header = SINGLE.get(str(getattr(exc, "hdr", "")))
    if header:
        return f"the header {header} cannot be used here: it may be there once, with one value"
    status = REFUSALS.get(type(exc), http.HTTPStatus.BAD_REQUEST)
    return "the request is not HTTP that can be read here: " + status.phrase.lower()


def _refuse(client: gevent.socket.socket, status: http.HTTPStatus, sentence: str) -> None:
    """Answer what the application never sees as the application would, and end the connection."""
    body = json.dumps({"error": sentence}).encode()
    if measures.recorder is not None:
        measures.recorder.add(measures.REQUEST_ERRORS, (str(status.value),))
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    log.warning(sentence, extra={"action": "event.refused", "status": status.value})
    client.settimeout(SEND_SECONDS)
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    _linger(client)


def _linger(client: gevent.socket.socket) -> None:
    """End our side of a connection, and read on for a moment, within bounds, before it is closed.

    A close while bytes still arrive is a reset, and a reset takes the answer away from a sender that has not read it
    yet (RFC 9112, section 9.6).
    """
    client.shutdown(socket.SHUT_WR)
    left = LINGER_BYTES
    with gevent.Timeout(LINGER_SECONDS, False):
        while left > 0 and (read := client.recv(min(left, 65536))):
            left -= len(read)
            connections.give_way()


def starts(_: object, __: object) -> None:
    """Let SIGTERM end a worker that still starts: until it listens for signals it would miss it, and be waited for."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ends(_: object, worker: object) -> None:
    """Close what the worker holds, once nothing is in flight: a token of Operations would live on for hours."""
    application = getattr(worker, "wsgi", None)
    if application is not None:
        application.extensions["vmledger.close"]()
