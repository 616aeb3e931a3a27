"""What of the work is traced: each request, each shared write and each call of a webhook; pure.

By default nothing is, and OpenTelemetry is not imported: only :mod:`function.clients.telemetry` does that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from function import events

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Place = Any
"""Where in a trace some code runs: a span, or None."""


class Call(Protocol):
    """The span of a request that is sent; ``headers`` carry the trace on."""

    @property
    def headers(self) -> Mapping[str, str]: ...  # noqa: D102

    def answered(self, status: int) -> None:
        """Note the status of the answer."""

    def failed(self, why: str) -> None:
        """Note why there is no answer, in a word."""


class Tracer(Protocol):
    """What records spans."""

    def application(self, inner: WSGIApplication) -> WSGIApplication:
        """Return an application that records a span for each request with events."""

    def events(self, batch: Sequence[events.Event]) -> None:
        """Note which events the current request has brought."""

    def here(self) -> Place:
        """Return the current request's span; None where there is none that is recorded."""

    def write(
        self, places: Iterable[Place], tables: Callable[[], Sequence[str]], changes: int
    ) -> contextlib.AbstractContextManager[None]:
        """Record the write of some changes to tables, for the requests whose spans are given."""

    def call(self, webhook: str, attempt: int) -> contextlib.AbstractContextManager[Call]:
        """Record a POST to a webhook, which is named by its Secret; attempt: from 1."""

    def close(self) -> None:
        """Send what was recorded, within a bound."""


class _NoCall:
    headers: Mapping[str, str] = {}

    def answered(self, status: int) -> None:
        pass

    def failed(self, why: str) -> None:
        pass


class Off:
    """Records nothing."""

    _nothing = contextlib.nullcontext()
    _no_call = contextlib.nullcontext(_NoCall())

    def application(self, inner: WSGIApplication) -> WSGIApplication:
        """Return the application itself."""
        return inner

    def events(self, batch: Sequence[events.Event]) -> None:
        """Note nothing."""

    def here(self) -> Place:
        """Return None."""
        return None

    def write(
        self, _: Iterable[Place], __: Callable[[], Sequence[str]], ___: int
    ) -> contextlib.AbstractContextManager[None]:
        """Record nothing."""
        return self._nothing

    def call(self, _: str, __: int) -> contextlib.AbstractContextManager[Call]:
        """Record nothing."""
        return self._no_call

    def close(self) -> None:
        """Do nothing."""


class _Process:
    tracer: Tracer = Off()


def tracer() -> Tracer:
    """Return the tracer of this process."""
    return _Process.tracer


def use(chosen: Tracer) -> None:
    """Let a tracer record what this process does from now on."""
    _Process.tracer = chosen


def stop() -> None:
    """Send what was recorded, and record nothing more."""
    _Process.tracer, last = Off(), _Process.tracer
    last.close()
