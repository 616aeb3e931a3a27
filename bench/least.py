"""A Flask application that stores each event's id before it answers, and does nothing else.

It shares its writes as vmledger does, so this is the least that a receiver can do which loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import flask

from function.clients import postgres
from function.inventory.storage import group_commit, shared_write

INSERT = "INSERT INTO least SELECT unnest(%s)"
SECONDS = 10.0

app = flask.Flask("least")
database = postgres.Database({"dsn": os.environ["DATABASE_URL"]}, timeout=SECONDS)
app.extensions["vmledger.close"] = database.close  # gunicorn.conf.py closes the application at its end


def _write(ids: Sequence[str], seconds: float, /, *, lock_wait: float) -> Sequence[str]:
    database.run(lambda cursor: cursor.execute(INSERT, [list(ids)]), timeout=seconds, lock_wait=lock_wait)
    return ids


def _not_free(_: Sequence[str], __: float, /, **___: float) -> dict[object, bool]:
    return {}


commits = group_commit.GroupCommit(
    shared_write.Table(_write, _not_free, database.wait_until_free, str, lambda _: ["least"]), patience=SECONDS
)


@app.post("/")
def receive() -> tuple[str, int]:
    """Store the id, then answer 204."""
    commits.submit([flask.request.headers["ce-id"]])
    return "", 204
