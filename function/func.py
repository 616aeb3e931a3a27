"""The door for kn func: the same application behind func's ASGI middleware.

func builds a function from ``function.new`` and serves it with hypercorn; the middleware answers the health paths by
itself from :meth:`Function.alive` and :meth:`Function.ready`, so these say what the application's own routes say.
hypercorn comes with func's scaffolding and is imported nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from function import app, service

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def from_env(environ: Mapping[str, str]) -> Function:
    """Build the function; raise :class:`errors.BadSetting` where a variable cannot be used."""
    return Function(service.from_env(environ))


class Function:
    """What kn func serves: ASGI requests, health, and a stop."""

    def __init__(self, built: service.Service) -> None:
        from hypercorn.middleware import AsyncioWSGIMiddleware

        self._service = built
        self._most = built.settings.max_event_bytes
        self._asgi: Any = AsyncioWSGIMiddleware(built.app, max_body_size=2 * self._most + 2**20)

    async def handle(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        await self._asgi(scope, self._limited(receive), send)

    def alive(self) -> tuple[bool, str]:
        """Answer GET /health/liveness."""
        return True, "OK"

    def ready(self) -> tuple[bool, str]:
        """Answer GET /health/readiness."""
        return True, app.readiness_text(self._service.states())

    def stop(self) -> None:
        """Close the database when the server has stopped."""
        self._service.close()

    def _limited(self, receive: Receive) -> Receive:
        """Stop reading a body that is too large, so that the application sees it is and answers 413 itself."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return {**message, "more_body": False} if size > self._most else message

        return limited
