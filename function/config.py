"""The settings, read once from the environment that the caller passes in.

Each variable is declared beside its field, with what it means; README's table is checked against these declarations.
Nothing else in the function reads the environment.
A bad value raises :class:`errors.BadSetting`, whose sentence names the variable and never its value.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Self

from function import errors

DB_PORT = 5432

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
    if "\x00" in value or len(value.encode("utf-8", "surrogatepass")) > 253 or not value.isprintable():
        raise ValueError("must be at most 253 bytes of printable text")
    return value


def connection_string(value: str) -> str:
    """A URL or a ``key=value`` string as libpq reads it."""
    import psycopg2.extensions

    try:
        ports = psycopg2.extensions.parse_dsn(value).get("port", "").split(",")
    except psycopg2.Error:
        # libpq's own message quotes the string, password included, so it is left behind.
        ports = ["none"]
    # libpq looks at the port when it connects: it may be the rest of a password that was not percent-encoded.
    if not all(port.isdigit() or not port for port in ports):
        raise ValueError("is no connection string that libpq understands (postgresql://user:password@host/name)")
    return value


def flag(value: str) -> bool:
    """True or false, as people write it."""
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A number of seconds between ``least`` and ``most``."""

    def parse(value: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII) or not least <= float(value) <= most:
            raise ValueError(f"must be a number of seconds from {least:g} to {most:g}")
        return float(value)

    return parse


DEFAULT_CLUSTER = "default"
"""The cluster of events where nobody named one."""
UNITS = {"d": 24 * 3600, "h": 3600, "m": 60, "s": 1}
"""The units of a duration, in seconds, the greatest first."""


def duration(value: str) -> int:
    """A span of time in seconds: 5400, 90s, 15m, 1h, 2d."""
    found = re.fullmatch(r"(\d{1,9})([dhms]?)", value.strip().lower(), re.ASCII)
    if not found:
        raise ValueError("must be a number of seconds, or a number with a unit, such as 90s, 15m, 1h or 2d")
    return int(found[1]) * UNITS[found[2] or "s"]


def token_scheme(value: str) -> str:
    """The word before a token in the header Authorization (RFC 9110, section 5.6.2)."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", value):
        raise ValueError("must be one word, such as vRealizeOpsToken or OpsToken")
    return value


def certificates(value: str) -> str:
    """The path of a file with certificates in PEM form."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
    except (OSError, ValueError):  # ssl.SSLError is an OSError; a path with NUL is a ValueError
        raise ValueError("is no file with certificates in PEM form that can be read") from None
    return value


def operations_url(value: str) -> str:
    """The address of Operations: a host name, or a URL with or without /suite-api; returned without it."""
    url = value.strip() if "://" in value else f"https://{value.strip()}"
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment or not _PLAIN.fullmatch(url):
        raise ValueError("must be the address of Operations, such as https://operations.example.com")
    path = re.sub(r"/suite-api(/api)?$", "", parts.path.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc}{path}"


PUBLISHED_KEYS = ("vropsFqdn", "vropsUser", "vropsPassword")
"""The keys of the published walk-through's Secret."""
_PLAIN = re.compile(r"[!-~]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperationsAccess:
    """Where Operations is, and who we are there; ``url`` ends before /suite-api."""

    url: str
    user: str
    password: str = dataclasses.field(repr=False)


def operations_secret(value: str) -> OperationsAccess:
    """A JSON object with the published keys vropsFqdn, vropsUser and vropsPassword."""
    try:
        content = json.loads(value.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    found = [content.get(key) if isinstance(content, dict) else None for key in PUBLISHED_KEYS]
    for key, given in zip(PUBLISHED_KEYS, found, strict=True):
        if not isinstance(given, str) or not given:
            raise ValueError(f"must be a JSON object in which {key} is a text that is not empty")
    fqdn, user, password = map(str, found)
    try:
        return OperationsAccess(url=operations_url(fqdn), user=user, password=password)
    except ValueError as exc:
        raise ValueError(f"has a vropsFqdn that {exc}") from None


def words(value: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(word for part in value.split(",") if (word := part.strip()))


def namespaces(value: str) -> tuple[str, ...]:
    """Names of namespaces separated by commas, or ``*``."""
    found = words(value)
    if not all(name == "*" or re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in found):
        raise ValueError("must list names of namespaces, or *, separated by commas")
    return found


def annotation(value: str) -> str:
    """The key of an annotation: a name, with or without a prefix and a slash (apimachinery's qualified name)."""
    if not re.fullmatch(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("must be the key of an annotation, such as hpa-event or example.com/hpa-event")
    return value


def hosts(value: str) -> tuple[str, ...]:
    """Host names, globs of them, addresses and networks, separated by commas."""
    found = tuple(word.lower().strip("[]") for word in words(value))
    for word in found:
        try:
            ipaddress.ip_network(word, strict=False)
        except ValueError:
            if not re.fullmatch(r"[a-z0-9_.*?-]+", word):
                raise ValueError("must list host names, globs, addresses or networks, separated by commas") from None
    return found


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
    workers: int | None = variable(
        "WEB_CONCURRENCY",
        whole(1, 64),
        doc="Processes of gunicorn, each with one connection to Postgres. Unset: 2, or 1 without a database.",
    )
    cluster_name: str = variable(
        "CLUSTER_NAME", cluster, default=DEFAULT_CLUSTER, doc="Cluster of events that carry no `cluster` attribute."
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
    db_port: int = variable("DB_PORT", whole(1, 65535), default=DB_PORT, doc="Postgres port.")
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
    health_max_silence: int = variable(
        "HEALTH_MAX_SILENCE",
        duration,
        default=3600,
        doc="Longest silence of a healthy ledger, in seconds or as 90s, 15m, 1h, 2d; 0 for no limit.",
    )
    echo: str = variable("ECHO", one_of("ON", "OFF"), default="ON", doc="`off` closes POST /echo: 404.")
    echo_max_bytes: int = variable(
        "ECHO_MAX_BYTES",
        whole(1, 2**30),
        default=64 * 2**10,
        doc="Most that the echo prints of an event's data, in bytes; what is longer is cut, and the line says so.",
    )
    echo_secrets: str = variable(
        "ECHO_SECRETS",
        one_of("MASK", "SHOW"),
        default="MASK",
        doc="`show` makes the echo print secrets, which it masks otherwise.",
    )
    function_debug: bool = variable(
        "FUNCTION_DEBUG", flag, default=False, doc="`true` prints every event on `/` as the echo does, and handles it."
    )
    vrops_url: str | None = variable(
        "VROPS_URL", operations_url, doc="Address of vRealize, Aria or VCF Operations; turns the vSphere mirror on."
    )
    vrops_user: str | None = variable("VROPS_USER", text, doc="User of Operations' API.")
    vrops_password: str | None = variable("VROPS_PASSWORD", text, doc="Its password.", secret=True)
    vrops_fqdn_published: str | None = variable(
        "vropsFqdn", operations_url, doc="As VROPS_URL, which wins: the published example's key."
    )
    vrops_user_published: str | None = variable(
        "vropsUser", text, doc="As VROPS_USER, which wins: the published example's key."
    )
    vrops_password_published: str | None = variable(
        "vropsPassword", text, doc="As VROPS_PASSWORD, which wins: the published example's key.", secret=True
    )
    vrops_secret: OperationsAccess | None = variable(  # noqa: RUF009  # it returns a field, whatever the annotation
        "VROPS_SECRET",
        operations_secret,
        doc="One JSON object with vropsFqdn, vropsUser and vropsPassword; the variables above win.",
        secret=True,
    )
    vrops_auth_source: str | None = variable(
        "VROPS_AUTH_SOURCE", text, doc="Name of the user's source in Operations; without it a local user."
    )
    vrops_token_scheme: str = variable(
        "VROPS_TOKEN_SCHEME", token_scheme, default="vRealizeOpsToken", doc="Word before the token in Authorization."
    )
    vrops_ca_file: str | None = variable(
        "VROPS_CA_FILE", certificates, doc="File with the CA certificates that vouch for Operations, in PEM form."
    )
    vrops_insecure: bool = variable(
        "VROPS_INSECURE", flag, default=False, doc="`true` does not verify Operations' certificate."
    )
    vrops_timeout: float = variable(
        "VROPS_TIMEOUT", seconds(0.1, 60), default=10.0, doc="Longest that one call to Operations takes, in seconds."
    )
    vrops_maintenance_minutes: int = variable(
        "VROPS_MAINTENANCE_MINUTES",
        whole(0, 2**31 - 1),
        default=0,
        doc="Ends a mark after so many minutes, should the exit be lost; 0 marks without limit.",
    )
    vrops_unmark: str = variable(
        "VROPS_UNMARK",
        one_of("MANUAL", "ANY"),
        default="MANUAL",
        doc="`any` ends timed maintenance windows too when a host exits; else only marks that are as ours.",
    )
    vrops_vcenter_uuid: str | None = variable(
        "VROPS_VCENTER_UUID", text, doc="Instance uuid of the only vCenter whose hosts are touched."
    )
    kubeconfig: str | None = variable(
        "KUBECONFIG", text, doc="File with the access to the Kubernetes API, for a laptop; wins over the cluster's own."
    )
    kubernetes_host: str | None = variable(
        "KUBERNETES_SERVICE_HOST", text, doc="Address of the Kubernetes API; Kubernetes sets it in each Pod."
    )
    kubernetes_port: int = variable(
        "KUBERNETES_SERVICE_PORT", whole(1, 65535), default=443, doc="Its port; Kubernetes sets it in each Pod."
    )
    reconcile_max_deletes: int = variable(
        "RECONCILE_MAX_DELETES",
        whole(0, 100),
        default=20,
        doc="Most that `reconcile` deletes without `--force`, in percent of the VMs that live; 10 VMs always.",
    )
    hpa_reasons: tuple[str, ...] = variable(
        "HPA_REASONS",
        words,
        default=("SuccessfulRescale", "FailedRescale"),
        doc="Reasons of an HPA's Events that notify, separated by commas; `*` for all.",
    )
    hpa_throttle: int | None = variable(
        "HPA_THROTTLE",
        whole(0, 10**9),
        doc="Least seconds between two notices of one HPA and reason. Unset: 0 for SuccessfulRescale, 600 for others.",
    )
    hpa_max_age: int = variable(
        "HPA_MAX_AGE",
        whole(0, 10**11),
        default=3600,
        doc="Seconds after which an occurrence notifies nobody any more; 0 for no limit.",
    )
    hpa_annotation: str = variable(
        "HPA_ANNOTATION", annotation, default="hpa-event", doc="Annotation of an HPA that names the Secret."
    )
    hpa_secret_namespaces: tuple[str, ...] = variable(
        "HPA_SECRET_NAMESPACES",
        namespaces,
        default=(),
        doc="Namespaces whose Secrets an HPA of another one may name, separated by commas; `*` for all.",
    )
    webhook_timeout: float = variable(
        "WEBHOOK_TIMEOUT",
        seconds(0.1, 30),
        default=10.0,
        doc="Longest wait for a webhook's connection, and for its answer, in seconds.",
    )
    webhook_ca_file: str | None = variable(
        "WEBHOOK_CA_FILE", certificates, doc="PEM file of the authorities that webhooks are verified with."
    )
    webhook_denied_hosts: tuple[str, ...] = variable(
        "WEBHOOK_DENIED_HOSTS",
        hosts,
        default=(),
        doc="Names, globs, addresses and networks that no webhook may lead to, separated by commas; wins.",
    )
    webhook_allowed_hosts: tuple[str, ...] = variable(
        "WEBHOOK_ALLOWED_HOSTS",
        hosts,
        default=(),
        doc="Once set, webhooks lead only there. Networks open loopback and link-local addresses too, names do not.",
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
        settings = cls(**values, libpq=any(environ.get(name) for name in LIBPQ_VARIABLES))
        settings.operations()  # a half of an access stops the start
        return settings

    def operations(self) -> OperationsAccess | None:
        """Return the access to Operations; None where nothing of it is given, BadSetting where only a part is."""
        secret = self.vrops_secret
        given = {
            "VROPS_URL": self.vrops_url or self.vrops_fqdn_published or (secret and secret.url),
            "VROPS_USER": self.vrops_user or self.vrops_user_published or (secret and secret.user),
            "VROPS_PASSWORD": self.vrops_password or self.vrops_password_published or (secret and secret.password),
        }
        if not any(given.values()):
            return None
        for name, value in given.items():
            if not value:
                raise errors.BadSetting(name, "is missing: VROPS_URL, VROPS_USER and VROPS_PASSWORD go together")
        url, user, password = (str(value) for value in given.values())
        return OperationsAccess(url=url, user=user, password=password)

    @property
    def has_database(self) -> bool:
        """Whether the settings name a Postgres."""
        return bool(self.database_url or self.db_host or self.db_name or self.libpq)

    @property
    def has_kubernetes(self) -> bool:
        """Whether the settings name a Kubernetes API."""
        return bool(self.kubeconfig or self.kubernetes_host)

    def connection(self) -> dict[str, Any]:
        """Return libpq's keywords for the database; what is not given here, libpq reads from its own variables."""
        if self.database_url:
            return {"dsn": self.database_url}
        keywords = {
            "host": self.db_host,
            "port": self.db_port if self.db_host or self.db_port != DB_PORT else None,
            "dbname": self.db_name,
            "user": self.db_user,
            "password": self.db_password,
        }
        return {key: value for key, value in keywords.items() if value is not None}
