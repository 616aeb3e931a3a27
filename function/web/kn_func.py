"""The door for kn func: the same application behind func's ASGI middleware.

func builds a function from ``function.new`` and serves it with hypercorn; the middleware answers the health paths by
itself from :meth:`Function.alive` and :meth:`Function.ready`, so these say what the application's own routes say.
hypercorn comes with func's scaffolding and is imported nowhere else.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import flask

from function import errors, wiring
from function.web import app, bodies, budget, heads

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS = 64
"""Requests that are handled at once, each on a thread: as many as a pod is given (containerConcurrency).

asyncio's own number is four more than there are cores: so many that wait for a locked row would keep all others out.
"""
COPIES = 3
"""Of a body, which hypercorn's middleware holds besides the one that the application reads."""
CHECKS = 4
"""Callers that are verified at once, or wait for the issuer's keys, each on a thread; the others wait for those."""


def from_env(environ: Mapping[str, str]) -> Function:
    """Build the function; raise :class:`errors.BadSetting` where a variable cannot be used."""
    return Function(wiring.from_env(environ))


class Function:
    """What kn func serves: ASGI requests, health, and a stop."""

    def __init__(self, built: wiring.Service) -> None:
        from hypercorn.middleware import AsyncioWSGIMiddleware

        self._service = built
        self._most = built.configuration.receiver.max_event_bytes
        self._events = {"/", "/echo"} if built.configuration.echo.open else {"/"}
        self._checks = concurrent.futures.ThreadPoolExecutor(CHECKS, "callers")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asgi: Any = AsyncioWSGIMiddleware(built.app, max_body_size=2 * self._most + 2**20)

    async def handle(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; one that breaks off is not served, as if it had not come."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(THREADS, "events"))
        plain = _plain(scope)
        refusal = await self._refusal(plain)
        if refusal is not None:
            await _answer(refusal, send)
            return
        started = time.perf_counter()
        with self._service.door.memory.share() as share:
            try:
                async with asyncio.timeout(bodies.SECONDS):
                    body = await self._body(plain, receive, share)
            except TimeoutError:
                await _answer(app.failure(bodies.too_slow(), started), send)
            except errors.Unavailable as exc:
                await _answer(app.failure(exc, started), send)
            else:
                if body is not None:
                    await self._asgi(plain, _given(body), send)

    def alive(self) -> tuple[bool, str]:
        """Answer GET /health/liveness."""
        return True, "OK"

    def ready(self) -> tuple[bool, str]:
        """Answer GET /health/readiness."""
        return True, app.readiness_text(self._service.states())

    def stop(self) -> None:
        """Close the database when the server has stopped."""
        self._checks.shutdown(wait=False)
        self._service.close()

    async def _refusal(self, scope: Message) -> flask.Response | None:
        """Return the answer for a caller that may not send, before its body is read; the application checks it too."""
        guard = self._service.door.guard
        if guard is None or scope["method"] != "POST" or scope["path"] not in self._events:
            return None
        shown = b",".join(value for name, value in scope["headers"] if name == b"authorization").decode("latin-1")
        if guard.remembers(shown):
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._checks, app.refusal, guard, shown)

    async def _body(self, scope: Message, receive: Receive, share: budget.Share) -> bytes | None:
        """Read the body, or just so much that the application sees it is too large; None where it breaks off."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if int(announced) > self._most:
            return b""
        body = bytearray()
        while len(body) <= self._most:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            share.hold(COPIES * len(message.get("body", b"")))
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        return bytes(body)


async def _answer(response: flask.Response, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.get_data()})


_REPEATED = heads.REPEATED.removeprefix("HTTP_").lower().replace("_", "-").encode()
_ORIGIN = re.compile(r"\A[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)


def _plain(scope: Message) -> Message:
    """Return a request's scope as WSGI needs it: the path alone, and in a header of ours what WSGI would hide."""
    headers = [(name, value) for name, value in scope["headers"] if name != _REPEATED]
    repeated = heads.repeated([name.decode("latin-1") for name, _ in headers])
    if repeated:
        headers.append((_REPEATED, repeated.encode("latin-1")))
    return {**scope, "path": _ORIGIN.sub("", scope["path"]) or "/", "headers": headers}


def _given(body: bytes) -> Receive:
    """Return the ``receive`` of a request whose body has been read."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
