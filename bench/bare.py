"""A Flask application that does nothing: the most that its server can give."""

from __future__ import annotations

import flask

app = flask.Flask("bare")


@app.post("/")
def receive() -> tuple[str, int]:
    """Answer 204."""
    return "", 204
