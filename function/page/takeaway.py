"""A view as a list to take away: the same filters, all rows, as CSV or JSON, sent while they are read.

The worker has one connection to Postgres, and somebody may take minutes to take a list. So rows are read a portion at a
time, by their keys: between two portions the connection is everybody's, and no transaction is open. The price is that
portions may see different moments; a row is in the list once in any case. The command ``export`` sees one moment.

The first portion is read before the answer begins, so what is wrong with the question is a page with a sentence. After
that an error breaks the connection off, and whoever takes the list away sees that it is not whole.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import flask
import msgspec

from function import errors, tables
from function.page import views

log = logging.getLogger(__name__)

FORMS = {"csv": "text/csv; charset=utf-8; header=present", "json": "application/json"}
AT_ONCE = 3
"""Lists that a worker sends at once: each takes a thread until its reader has all of it, and views need some too."""
SEND_SECONDS = 30.0
"""For one portion; a reader that is slower than that, or gone, gives its thread back."""
BUSY = "as many lists as this page sends at once are being taken away: try again in a moment"
WHOLE = "a list is sent in pieces, and HTTP/1.0 cannot tell its end from a failure: ask with HTTP/1.1"


def response(name: str, listing: views.Listing, form: str, places: threading.BoundedSemaphore) -> flask.Response:
    """Return the answer with a list, as a file of that name.

    Raises :class:`errors.VmledgerError` where the first portion cannot be read, or too many lists are being sent.
    """
    if flask.request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        raise errors.BadQuestion(WHOLE)
    place = _Place(places)
    try:
        rows = iter(listing.portions)
        first = next(rows, ())
    except BaseException:
        place.release()
        raise
    _limit_sending()
    body = (_csv if form == "csv" else _json)(listing.columns, first, rows)
    found = flask.Response(_sent(body, place), content_type=FORMS[form])
    found.headers.set("Content-Disposition", "attachment", filename=f"vmledger-{name}.{form}")
    found.call_on_close(place.release)  # also where no byte of it is asked for, as by HEAD
    return found


class _Place:
    """One of the lists that a worker sends at once; raises :class:`errors.DatabaseUnavailable` where there is none."""

    def __init__(self, places: threading.BoundedSemaphore) -> None:
        self._places = places
        self._taken = places.acquire(blocking=False)
        if not self._taken:
            raise errors.DatabaseUnavailable(BUSY)

    def release(self) -> None:
        """Give it to the next list, once."""
        if self._taken:
            self._taken = False
            self._places.release()


def _limit_sending() -> None:
    """Let a send to a reader that takes nothing end; gunicorn sets the connection anew for its next request."""
    if (connection := flask.request.environ.get("gunicorn.socket")) is not None:
        connection.settimeout(SEND_SECONDS)


def _sent(body: Iterator[bytes], place: _Place) -> Iterator[bytes]:
    try:
        yield from body
    except errors.VmledgerError as exc:
        log.warning("a list broke off: %s", exc, extra={"action": "page.list_broke_off"})
        raise
    finally:
        place.release()


def _csv(columns: Sequence[str], first: views.Rows, rest: Iterator[views.Rows]) -> Iterator[bytes]:
    lines = tables.Csv()
    yield lines.text([columns]).encode() + lines.text(_cells(columns, first)).encode()
    for rows in rest:
        yield lines.text(_cells(columns, rows)).encode()


def _cells(columns: Sequence[str], rows: views.Rows) -> Iterator[list[tables.Cell]]:
    for row in rows:
        values = [row.get(name) for name in columns]
        yield [value if value.__class__ in _AS_IT_IS else cell(value) for value in values]


_json_text = msgspec.json.Encoder(enc_hook=str).encode
_AS_IT_IS = frozenset({str, int, type(None)})


def cell(value: Any) -> tables.Cell:
    """Return a value as a cell: times in ISO 8601, addresses joined by a comma, labels and facts as JSON."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if isinstance(value, (dict, list)):
        return _json_text(value).decode()
    return str(value)


def _json(columns: Sequence[str], first: views.Rows, rest: Iterator[views.Rows]) -> Iterator[bytes]:
    array = tables.JsonArray()
    yield array.text(_objects(columns, first))
    for rows in rest:
        yield array.text(_objects(columns, rows))
    yield array.end()


def _objects(columns: Sequence[str], rows: views.Rows) -> Iterable[Mapping[str, Any]]:
    return ({name: row.get(name) for name in columns} for row in rows)
