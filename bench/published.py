"""The published example's way: one connection and one INSERT for each event, on Flask's development server.

Written for this benchmark; it does what that example does for each event, with the insert into the 11 columns.
"""

from __future__ import annotations

import os
import sys

import flask
import psycopg2

app = flask.Flask("published")
COLUMNS = (
    "type",
    "id",
    "kind",
    "name",
    "namespace",
    "time",
    "cpucores",
    "cpusockets",
    "memory",
    "storageclass",
    "network",
)
INSERT = f"INSERT INTO published ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
TABLE = f"CREATE TABLE IF NOT EXISTS published ({', '.join(f'{name} text' for name in COLUMNS)})"


def values() -> list[object]:
    """Return the columns of one event: its attributes, or for a whole object what the example's transformer takes."""
    body = flask.request.get_json(silent=True)
    values: dict[str, object] = {name: flask.request.headers.get(f"ce-{name}") for name in COLUMNS}
    if body:
        guest = body["spec"]["template"]["spec"]
        values["cpucores"] = guest["domain"]["cpu"]["cores"]
        values["memory"] = guest["domain"]["memory"]["guest"]
        values["network"] = guest["networks"][0]["name"]
    return [values[name] for name in COLUMNS]


@app.post("/")
def receive() -> tuple[flask.Response, int]:
    """Connect, insert, commit, close."""
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    cursor = connection.cursor()
    cursor.execute(INSERT, values())
    connection.commit()
    cursor.close()
    connection.close()
    return flask.jsonify({"status": "success"}), 200


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]))
