"""What went wrong with Postgres, in sentences of ours.

The driver's own words stay here: they quote data, names, and where a URL was mistyped a part of the password.
What fails in a session has an SQLSTATE. What fails before it has none: libpq gives only a text, in English, followed by
the server's own. So a failing connection is recognised by the patterns of :data:`FAILED_CONNECTIONS`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psycopg2
import psycopg2.errors

from function import errors

UNUSABLE = "the database cannot be used now"
OUTDATED = "the database schema is older than this function needs: run `python -m function migrate`"
LOCKED = "another transaction holds a lock on what this would change in the database"
READ_ONLY = f"{UNUSABLE}: it takes no writes, because it is read-only"
STANDBY = f"{UNUSABLE}: it takes no writes, because it is a standby"
DISK_FULL = f"{UNUSABLE}: it takes no writes, because its disk is full"

FAILED_CONNECTIONS: tuple[tuple[str, str], ...] = (
    (
        "too many (clients|connections)|connection slots are reserved|no more connections allowed",
        "too many connections: raise max_connections, or run fewer pods and workers",
    ),
    (
        "client certificate|certificate authentication failed|(?<!root )certificate file|private key",
        "client certificate not usable: it is missing, cannot be read, or is not accepted by the server",
    ),
    (
        "authentication failed|no password supplied|empty password|no such user",
        "login refused: the user or the password is wrong",
    ),
    ('role "" does not exist|not permitted to log in', "login refused: the server has no such user that may log in"),
    ('database "" does not exist|no such database', "no such database: the server has none of this name"),
    ("permission denied for database", "login refused: this user may not connect to this database"),
    ('database "" is not currently accepting connections', "login refused: this database takes no connections"),
    (
        "(no encryption|ssl off).*(ssl encryption|ssl on)|(ssl encryption|ssl on).*(no encryption|ssl off)",
        "login refused: the server's pg_hba.conf lets this user into this database from here in no way",
    ),
    (
        "no encryption|ssl off",
        "login refused: without TLS, the server's pg_hba.conf lets this user into this database from here in no way",
    ),
    (
        "ssl encryption|ssl on",
        "login refused: with TLS, the server's pg_hba.conf lets this user into this database from here in no way",
    ),
    (
        "certificate verify failed|certificate has expired|unknown ca",
        "certificate not trusted: it is not signed by a CA of sslrootcert, or it is not valid now",
    ),
    (
        "does not match host name|server's host name",
        "certificate for another host: the server's does not name the host that was connected to",
    ),
    ("root certificate", "no CA certificates: the file of sslrootcert is missing, or is not in PEM form"),
    ("does not support ssl", "no TLS: sslmode demands TLS, and the server does not offer it"),
    ("ssl error|ssl syscall error|channel binding", "TLS failed: the server and libpq cannot agree"),
    (
        "could not translate host name|could not parse network address",
        "host not found: no address belongs to the database's host name",
    ),
    (
        "invalid response to ssl negotiation|expected authentication request|unsupported frontend protocol",
        "what answers at the database's host and port is not Postgres",
    ),
    (
        "starting up|shutting down|recovery mode|not yet accepting|is not accepting connections",
        "the server is starting or stopping",
    ),
    ("hot standby mode|session is (not )?read-only", "no server is as target_session_attrs demands"),
    ("connection refused", "connection refused: no server listens at the database's host and port"),
    ('on socket "" failed', "no socket: no server can be reached in the folder of the database's socket"),
    ("timeout expired|timed out|no answer in time", "no answer in time"),
    ("no route to host|unreachable", "host not reachable: the network has no way to it"),
    (
        "server closed the connection|connection reset|could not (receive|send) data",
        "the server closed the connection",
    ),
    (
        "invalid|definition of service|service file|could not match|missing|cannot be",
        "libpq does not understand a setting of the connection: look at DATABASE_URL and PG*",
    ),
    ("fatal", "login refused: the server's own log says why"),
)
"""Patterns in small letters, for a text without its quoted names, and what they mean; the first that is found counts.

A connection is tried with TLS and without, and at each address of a host, so a text can hold several failures: what
says most stands first. A server writes in the language of its lc_messages; of that, only ``FATAL`` is recognised.
"""


class Unstorable(errors.BadEvent):
    """Postgres refuses a value for good."""


class Conflict(Exception):
    """Postgres chose this transaction to give way; it is tried again."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except psycopg2.Error as exc:
        raise translate(exc) from exc


def translate(exc: psycopg2.Error) -> Exception:
    """Return our error for the driver's, by what the sender of the event should do next."""
    match exc:
        case psycopg2.errors.SerializationFailure() | psycopg2.errors.DeadlockDetected():
            return Conflict()
        case psycopg2.errors.LockNotAvailable():
            return errors.Locked(LOCKED)
        case (
            psycopg2.DataError()
            | psycopg2.IntegrityError()
            | psycopg2.errors.ProgramLimitExceeded()
            | psycopg2.errors.StatementTooComplex()
        ):
            return Unstorable(f"the database can never store a value of this event ({_name(exc)})")
        case psycopg2.errors.UndefinedTable() | psycopg2.errors.UndefinedColumn() | psycopg2.errors.UndefinedFunction():
            return errors.SchemaOutdated(OUTDATED)
        case _:
            return errors.DatabaseUnavailable(_unavailable(exc))


def _unavailable(exc: psycopg2.Error) -> str:
    match exc:
        case psycopg2.errors.InsufficientPrivilege():
            return (
                "the database role may not do this: run `python -m function migrate` with DB_APP_ROLE set to that role"
            )
        case psycopg2.errors.QueryCanceled():
            return "the database did not finish in time"
        case psycopg2.errors.DiskFull():
            return DISK_FULL
        case psycopg2.errors.ReadOnlySqlTransaction():
            return READ_ONLY
        case psycopg2.OperationalError() if exc.pgcode is None:
            found = failed_connection(str(exc))
            return f"{UNUSABLE}: {found}" if found else f"{UNUSABLE} ({_name(exc)})"
        case _:
            return f"{UNUSABLE} ({_name(exc)})"


def failed_connection(text: str) -> str | None:
    """Return what libpq's text about a failed connection means, in words of ours; None for a text that is not known."""
    plain = re.sub(r'"[^"]*"', '""', text).lower()
    return next((means for found, means in FAILED_CONNECTIONS if re.search(found, plain, re.DOTALL)), None)


def _name(exc: psycopg2.Error) -> str:
    """Return the error's class in words, with its SQLSTATE; never its text, which may quote data or a password."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(exc).__name__).strip()
    return f"{words}, SQLSTATE {exc.pgcode}" if exc.pgcode else words
