"""The settings, read once from the environment that the caller passes in.

Each variable is declared beside its field, with what it means; README's table is checked against these declarations.
Nothing else in the function reads the environment.
A bad value raises :class:`errors.BadSetting`, whose sentence names the variable and never its value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

from function import errors

LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE")
"""Variables of libpq that name a server; any of them turns the database on, as DB_HOST does."""


def text(value: str) -> str:
    """Any text."""
    return value


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number between ``least`` and ``most``."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and least <= int(value[:20]) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """One of ``words``, in any case."""

    def parse(value: str) -> str:
        if value.upper() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value.upper()

    return parse


def cluster(value: str) -> str:
    """The name of a cluster: what fits the ledger's key."""
    if "\x00" in value or len(value.encode()) > 253:
        raise ValueError("must be at most 253 bytes of text")
    return value


def connection_string(value: str) -> str:
    """A URL or a ``key=value`` string as libpq reads it."""
    import psycopg2.extensions

    try:
        psycopg2.extensions.parse_dsn(value)
    except psycopg2.Error:
        # libpq's own message quotes the string, password included, so it is left behind.
        raise ValueError(
            "is no connection string that libpq understands (postgresql://user:password@host/name)"
        ) from None
    return value


def variable(name: str, parse: Callable[[str], Any], *, default: Any = None, doc: str, secret: bool = False) -> Any:
    """Declare a field that is read from the variable ``name``; unset or empty gives ``default``."""
    return dataclasses.field(
        default=default,
        repr=not secret,
        metadata={"variable": name, "parse": parse, "doc": doc},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the function was told by its environment."""

    port: int = variable(
        "PORT", whole(1, 65535), default=8080, doc="Port that the receiver listens on; Knative sets it."
    )
    cluster_name: str = variable(
        "CLUSTER_NAME", cluster, default="default", doc="Cluster of events that carry no `cluster` attribute."
    )
    log_level: str = variable(
        "LOG_LEVEL",
        one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        default="INFO",
        doc="Least level that is logged: DEBUG, INFO, WARNING or ERROR.",
    )
    max_event_bytes: int = variable(
        "MAX_EVENT_BYTES", whole(1024, 2**30), default=2 * 2**20, doc="Largest request body, in bytes; above it: 413."
    )
    database_url: str | None = variable(
        "DATABASE_URL", connection_string, doc="Postgres as a URL or `key=value` string; wins over DB_*.", secret=True
    )
    db_host: str | None = variable("DB_HOST", text, doc="Postgres host, or the folder of its socket.")
    db_port: int = variable("DB_PORT", whole(1, 65535), default=5432, doc="Postgres port.")
    db_name: str | None = variable("DB_NAME", text, doc="Database name.")
    db_user: str | None = variable("DB_USER", text, doc="Role that the function logs in as.")
    db_password: str | None = variable("DB_PASSWORD", text, doc="Its password.", secret=True)
    db_timeout: int = variable(
        "DB_TIMEOUT",
        whole(1, 60),
        default=10,
        doc="Longest that an event waits for the database, in seconds; then 503.",
    )
    db_app_role: str | None = variable(
        "DB_APP_ROLE", text, doc="Role that `migrate` grants just what the function needs; used by `migrate` only."
    )
    libpq: bool = False
    """A variable of libpq's own (PGHOST, PGSERVICE) names the server."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from ``environ``; raise :class:`errors.BadSetting` for the first value that is wrong."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name = field.metadata.get("variable", "")
            given = environ.get(name, "")
            if not given:
                continue
            try:
                values[field.name] = field.metadata["parse"](given)
            except ValueError as exc:
                raise errors.BadSetting(name, str(exc)) from None
        return cls(**values, libpq=any(environ.get(name) for name in LIBPQ_VARIABLES))

    @property
    def has_database(self) -> bool:
        """Whether the settings name a Postgres."""
        return bool(self.database_url or self.db_host or self.db_name or self.libpq)

    def connection(self) -> dict[str, Any]:
        """Return libpq's keywords for the database; what is not given here, libpq reads from its own variables."""
        if self.database_url:
            return {"dsn": self.database_url}
        keywords = {
            "host": self.db_host,
            "port": self.db_port if self.db_host else None,
            "dbname": self.db_name,
            "user": self.db_user,
            "password": self.db_password,
        }
        return {key: value for key, value in keywords.items() if value is not None}
