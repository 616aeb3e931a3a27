"""Where the page listens, for which names, and who it is in Postgres."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from function.settings import database, variables

LOOPBACK = "127.0.0.1"
HOSTS = ("localhost", LOOPBACK, "[::1]")
_HOST = re.compile(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]", re.ASCII)


def hosts(value: str) -> tuple[str, ...]:
    """Names or addresses separated by commas, as a browser sends them in Host, without a port."""
    found = tuple(word.lower() for word in variables.words(value))
    if not found or not all(_HOST.fullmatch(each) for each in found):
        raise ValueError("must be host names separated by commas, without a scheme and a port")
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page(variables.Part):
    """How the page serves, and the role that it reads as."""

    cuts_newlines: ClassVar[bool] = True

    port: int = variables.variable(
        "PAGE_PORT", variables.whole(1, 65535), default=8081, doc="Port that the page listens on."
    )
    host: str = variables.variable(
        "PAGE_HOST",
        variables.utf8,
        default=LOOPBACK,
        doc="Address that the page listens on; behind a proxy in the same Pod it stays the loopback.",
    )
    hosts: tuple[str, ...] = variables.variable(
        "PAGE_HOSTS",
        hosts,
        default=HOSTS,
        doc="Host names that the page answers for, separated by commas: what people type into the browser.",
    )
    workers: int = variables.variable(
        "PAGE_WORKERS",
        variables.whole(1, 16),
        default=2,
        doc="Processes of the page, each with one connection to Postgres.",
    )
    db_host: str | None = variables.variable(
        "PAGE_DB_HOST", variables.utf8, doc="Postgres host of the page, such as a standby; unset: as the function's."
    )
    db_port: int | None = variables.variable(
        "PAGE_DB_PORT", variables.whole(1, 65535), doc="Its port; unset: as the function's, or 5432 with PAGE_DB_HOST."
    )
    db_name: str | None = variables.variable(
        "PAGE_DB_NAME", variables.utf8, doc="Database name of the page; unset: as the function's."
    )
    db_user: str | None = variables.variable(
        "PAGE_DB_USER", variables.utf8, doc="Role that only reads, see DB_READ_ROLE; unset: the function's own role."
    )
    db_password: str | None = variables.variable("PAGE_DB_PASSWORD", variables.utf8, doc="Its password.", secret=True)

    @property
    def address(self) -> str:
        """The host and the port, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def configured(self, function: database.Database) -> bool:
        """Whether the settings name a Postgres, its own or the function's."""
        return bool(self.db_host or self.db_name or function.configured)

    def connection(self, function: database.Database) -> dict[str, Any]:
        """Return libpq's keywords: the function's, except where the page has its own.

        A host of its own brings its own port, and a role of its own brings its own password.
        """
        keywords = _parsed(function.connection())
        if self.db_host:
            keywords = {key: value for key, value in keywords.items() if key not in ("host", "hostaddr", "port")}
        if self.db_user:
            keywords.pop("password", None)
        own = {
            "host": self.db_host,
            "port": self.db_port,
            "dbname": self.db_name,
            "user": self.db_user,
            "password": self.db_password,
        }
        return {**keywords, **{key: value for key, value in own.items() if value is not None}}


def _parsed(keywords: Mapping[str, Any]) -> dict[str, Any]:
    if "dsn" not in keywords:
        return dict(keywords)
    import psycopg2.extensions

    return dict(psycopg2.extensions.parse_dsn(keywords["dsn"]))
