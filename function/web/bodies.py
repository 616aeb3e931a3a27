"""The body of a request: whole, no larger than it may be, and out of a budget that all requests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from function import errors
from function.web import budget

SECONDS = 30.0
"""How long a body may take to come; with what the database may take, below the Service's timeout."""
_STEP = 64 * 1024


class _Input(Protocol):
    def read(self, size: int) -> bytes: ...


def read(environ: Mapping[str, Any], share: budget.Share, *, most: int) -> bytes:
    """Return the request's body; ``share`` holds its bytes as they come.

    Flask would read nothing of a chunked body behind hypercorn, which does not say that its input ends.

    Raises :class:`errors.TooLarge` for more than ``most`` bytes, :class:`errors.TooSlow` and :class:`errors.BadEvent`
    where they do not come, :class:`errors.Unavailable` where the budget has no room for them.
    """
    announced = int(environ.get("CONTENT_LENGTH") or -1)  # the server has checked that it is a number
    body = b""
    if announced <= most:
        try:
            source = environ["wsgi.input"]
            if 0 <= announced <= _STEP:
                body = source.read(announced)
                share.hold(len(body))
            else:
                body = b"".join(_pieces(source, most + 1 if announced < 0 else announced, share))
        except errors.VmledgerError:
            raise
        except TimeoutError as exc:
            raise too_slow() from exc
        except Exception as exc:  # each server has errors of its own for a body that is broken
            raise errors.BadEvent("the request's body cannot be read to its end") from exc
    if max(announced, len(body)) > most:
        raise errors.TooLarge(f"the request is larger than MAX_EVENT_BYTES, {most} bytes")
    if len(body) < announced:
        # Without its body, the headers of a whole object would pass for a flat event.
        raise errors.BadEvent(f"the request's body ends after {len(body)} of {announced} bytes")
    return body


def too_slow() -> errors.TooSlow:
    """Return the error for a body that takes longer than it may."""
    return errors.TooSlow("the request's body did not come to its end in time")


def _pieces(source: _Input, size: int, share: budget.Share) -> Iterator[bytes]:
    """Yield the body's bytes, up to ``size`` of them."""
    while size > 0:
        piece = source.read(min(size, _STEP))
        if not piece:
            return
        share.hold(len(piece))
        size -= len(piece)
        yield piece
