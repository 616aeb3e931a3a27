"""Where vRealize, Aria or VCF Operations is, and how the mirror marks hosts there."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse

from function import errors
from function.settings import variables


def token_scheme(value: str) -> str:
    """The word before a token in the header Authorization (RFC 9110, section 5.6.2)."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", value):
        raise ValueError("must be one word, such as vRealizeOpsToken or OpsToken")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operations(variables.Part):
    """Where Operations is, and how hosts are marked there."""

    url: str | None = variables.variable(
        "VROPS_URL", operations_url, doc="Address of vRealize, Aria or VCF Operations; turns the vSphere mirror on."
    )
    user: str | None = variables.variable("VROPS_USER", variables.text, doc="User of Operations' API.")
    password: str | None = variables.variable("VROPS_PASSWORD", variables.text, doc="Its password.", secret=True)
    published_fqdn: str | None = variables.variable(
        "vropsFqdn", operations_url, doc="As VROPS_URL, which wins: the published example's key."
    )
    published_user: str | None = variables.variable(
        "vropsUser", variables.text, doc="As VROPS_USER, which wins: the published example's key."
    )
    published_password: str | None = variables.variable(
        "vropsPassword", variables.text, doc="As VROPS_PASSWORD, which wins: the published example's key.", secret=True
    )
    secret: OperationsAccess | None = variables.variable(  # noqa: RUF009  # it returns a field, whatever the annotation
        "VROPS_SECRET",
        operations_secret,
        doc="One JSON object with vropsFqdn, vropsUser and vropsPassword; the variables above win.",
        secret=True,
    )
    auth_source: str | None = variables.variable(
        "VROPS_AUTH_SOURCE", variables.text, doc="Name of the user's source in Operations; without it a local user."
    )
    token_scheme: str = variables.variable(
        "VROPS_TOKEN_SCHEME", token_scheme, default="vRealizeOpsToken", doc="Word before the token in Authorization."
    )
    ca_file: str | None = variables.variable(
        "VROPS_CA_FILE",
        variables.certificates,
        doc="File with the CA certificates that vouch for Operations, in PEM form.",
    )
    insecure: bool = variables.variable(
        "VROPS_INSECURE", variables.flag, default=False, doc="`true` does not verify Operations' certificate."
    )
    timeout: float = variables.variable(
        "VROPS_TIMEOUT",
        variables.seconds(0.1, 60),
        default=10.0,
        doc="Longest that one call to Operations takes, in seconds.",
    )
    maintenance_minutes: int = variables.variable(
        "VROPS_MAINTENANCE_MINUTES",
        variables.whole(0, 2**31 - 1),
        default=0,
        doc="Ends a mark after so many minutes, should the exit be lost; 0 marks without limit.",
    )
    unmark: str = variables.variable(
        "VROPS_UNMARK",
        variables.one_of("MANUAL", "ANY"),
        default="MANUAL",
        doc="`any` ends timed maintenance windows too when a host exits; else only marks that are as ours.",
    )
    vcenter_uuid: str | None = variables.variable(
        "VROPS_VCENTER_UUID", variables.text, doc="Instance uuid of the only vCenter whose hosts are touched."
    )

    def check(self) -> None:
        """Raise :class:`errors.BadSetting` where only a part of an access is given."""
        self.access()

    def access(self) -> OperationsAccess | None:
        """Return the access to Operations; None where nothing of it is given, BadSetting where only a part is."""
        given = {
            "VROPS_URL": self.url or self.published_fqdn or (self.secret and self.secret.url),
            "VROPS_USER": self.user or self.published_user or (self.secret and self.secret.user),
            "VROPS_PASSWORD": self.password or self.published_password or (self.secret and self.secret.password),
        }
        if not any(given.values()):
            return None
        for name, value in given.items():
            if not value:
                raise errors.BadSetting(name, "is missing: VROPS_URL, VROPS_USER and VROPS_PASSWORD go together")
        url, user, password = (str(value) for value in given.values())
        return OperationsAccess(url=url, user=user, password=password)
