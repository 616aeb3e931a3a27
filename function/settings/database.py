"""Where Postgres is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from function.settings import variables

DB_PORT = 5432

LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE")
"""Variables of libpq that name a server; any of them turns the database on, as DB_HOST does."""


def connection_string(value: str) -> str:
    """A URL or a ``key=value`` string as libpq reads it."""
    import psycopg2.extensions

    try:
        found = psycopg2.extensions.parse_dsn(variables.utf8(value))
    except (psycopg2.Error, ValueError):
        # libpq's own message quotes the string, password included, so it is left behind.
        raise ValueError(NOT_UNDERSTOOD) from None
    # libpq looks at the port when it connects: it may be the rest of a password that was not percent-encoded.
    if not all(port.isdigit() or not port for port in found.get("port", "").split(",")):
        raise ValueError(NOT_UNDERSTOOD)
    if any("@" in host and host[0] not in "/@" for host in found.get("host", "").split(",")):
        raise ValueError("has an @ in its host, which may be the end of a password: write the password's @ as %40")
    return value


NOT_UNDERSTOOD = "is not a connection string that libpq understands (postgresql://user:password@host/name)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Database(variables.Part):
    """Where Postgres is, and who the function is there."""

    cuts_newlines: ClassVar[bool] = True

    url: str | None = variables.variable(
        "DATABASE_URL", connection_string, doc="Postgres as a URL or `key=value` string; wins over DB_*.", secret=True
    )
    host: str | None = variables.variable("DB_HOST", variables.utf8, doc="Postgres host, or the folder of its socket.")
    port: int = variables.variable("DB_PORT", variables.whole(1, 65535), default=DB_PORT, doc="Postgres port.")
    name: str | None = variables.variable("DB_NAME", variables.utf8, doc="Database name.")
    user: str | None = variables.variable("DB_USER", variables.utf8, doc="Role that the function logs in as.")
    password: str | None = variables.variable("DB_PASSWORD", variables.utf8, doc="Its password.", secret=True)
    timeout: int = variables.variable(
        "DB_TIMEOUT",
        variables.whole(1, 60),
        default=10,
        doc="Longest that an event waits for the database, in seconds; then 503.",
    )
    app_role: str | None = variables.variable(
        "DB_APP_ROLE",
        variables.utf8,
        doc="Role that `migrate` grants just what the function needs; used by `migrate` only.",
    )
    read_role: str | None = variables.variable(
        "DB_READ_ROLE",
        variables.utf8,
        doc="Role that `migrate` grants just what the page reads; used by `migrate` only.",
    )
    libpq: bool = False
    """A variable of libpq's own (PGHOST, PGSERVICE) names the server."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of the variables that are set, by field."""
        return {**super().read(environ), "libpq": any(environ.get(name) for name in LIBPQ_VARIABLES)}

    @property
    def configured(self) -> bool:
        """Whether the settings name a Postgres."""
        return bool(self.url or self.host or self.name or self.libpq)

    def connection(self) -> dict[str, Any]:
        """Return libpq's keywords; what is not given here, libpq reads from its own variables."""
        if self.url:
            return {"dsn": self.url}
        keywords = {
            "host": self.host,
            "port": self.port if self.host or self.port != DB_PORT else None,
            "dbname": self.name,
            "user": self.user,
            "password": self.password,
        }
        return {key: value for key, value in keywords.items() if value is not None}
