"""A Flask application that does nothing: the fastest that its server can be."""

from __future__ import annotations

import flask

app = flask.Flask("bare")
app.extensions["vmledger.close"] = lambda: None  # gunicorn.conf.py closes the application at its end


@app.post("/")
def receive() -> tuple[str, int]:
    """Answer 204."""
    return "", 204
