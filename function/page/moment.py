"""``at=``: the moment that a page shows. Without it, a page shows the present."""

from __future__ import annotations

import datetime

from function import errors

SENTENCE = "at= must be a date and a time in UTC, such as 2026-11-27T09:30 or 2026-11-27T09:30:00Z"
EARLIEST = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)


def parsed(text: str) -> datetime.datetime | None:
    """Return the moment that ``at=`` names, None for the present; a time without a zone is UTC.

    Raises :class:`errors.BadQuestion`.
    """
    if not text.strip():
        return None
    try:
        found = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise errors.BadQuestion(SENTENCE) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    try:
        found = found.astimezone(datetime.UTC)
    except OverflowError:
        raise errors.BadQuestion(SENTENCE) from None
    if not EARLIEST <= found < LATEST:
        raise errors.BadQuestion(SENTENCE)
    return found
