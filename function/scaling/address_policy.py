"""Where a webhook may lead; pure: no name is resolved here and nothing is connected to.

The url is written by whoever may write a Secret, so it must not become a way to reach what only this function reaches.
The rules are about addresses, after resolution, because a name may say anything and change its mind.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Collection, Sequence
from typing import Self

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Endpoint = tuple[Address, int]
"""An address and a port."""

_PRINTABLE = re.compile(r"[!-\[\]-~]+")
"""ASCII without blanks, and without the backslash, which some parsers take for a slash."""
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?")
_NUMERIC = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}", re.ASCII)
_API_NAMES = re.compile(r"kubernetes(?:\.default(?:\.svc(?:\..*)?)?)?")
"""The names of the Kubernetes API inside a cluster."""

NEVER: tuple[tuple[str, tuple[Network, ...]], ...] = tuple(
    (what, tuple(ipaddress.ip_network(network) for network in networks))
    for what, networks in (
        ("a loopback address", ("127.0.0.0/8", "::1/128")),
        ("an address that means this host", ("0.0.0.0/8", "::/128")),
        ("a link-local address", ("169.254.0.0/16", "fe80::/10")),
        # Clouds answer metadata, with credentials, also on these: AWS, Google, Alibaba, Azure, Oracle.
        (
            "an address of cloud metadata",
            ("fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
        ),
        ("an address of many hosts", ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")),
        ("a reserved address", ("240.0.0.0/4",)),
        # RFC 8215: which part of it is the IPv4 address that is reached, only the site knows.
        ("an address that the site translates", ("64:ff9b:1::/48",)),
    )
)
_HERE = tuple(network for _, networks in NEVER[:2] for network in networks)
"""This host, by its many addresses."""
_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0:0/96"))
"""NAT64 and SIIT: the last 32 bits are the IPv4 address that is reached."""
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class BadUrl(ValueError):
    """The url cannot be used; the text has the reason and does not quote the url."""


@dataclasses.dataclass(frozen=True)
class Url:
    """A webhook's url, in the parts that a request needs; its text is a secret.

    host: as it was written, in lower case, without brackets. path: with the query.
    userinfo: ``user:password``, or empty.
    """

    scheme: str
    host: str
    port: int
    path: str = dataclasses.field(repr=False)
    userinfo: str = dataclasses.field(repr=False)

    @property
    def authority(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    def at(self, address: Address) -> str:
        """Return the url with ``address`` for its host."""
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse(text: str) -> Url:
    """Read a url; raise :class:`BadUrl` where no webhook can have it.

    This is the only reading of it: what is checked, resolved and connected to comes from here, so that no two parsers
    can see two hosts in it.
    """
    text = text.strip()
    if not _PRINTABLE.fullmatch(text):
        raise BadUrl("is empty, or has characters that a url cannot have")
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise BadUrl("is not a url") from None
    if parts.scheme not in ("http", "https"):
        raise BadUrl("does not begin with http:// or https://")
    if port == 0 or not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise BadUrl("has no host and port that can be connected to")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(
        scheme=parts.scheme,
        host=host,
        port=port or {"http": 80, "https": 443}[parts.scheme],
        path=path,
        userinfo=urllib.parse.unquote(parts.netloc.rpartition("@")[0]),
    )


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def address(text: str) -> Address:
    """Return the address that ``text`` is, an IPv4 address in IPv6 clothes as IPv4; raise ValueError for a name.

    2130706433, 0x7f.1 and 0177.0.0.1 are addresses too, as the system's resolver reads them (inet_aton).
    """
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        if not _NUMERIC.fullmatch(text):
            raise
        try:
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except OSError:
            raise ValueError("is not an address") from None
    if found.version == 6 and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


@dataclasses.dataclass(frozen=True)
class Rules:
    """A list of hosts as a setting gives it: globs of names, and networks."""

    globs: tuple[str, ...]
    networks: tuple[Network, ...]

    @classmethod
    def read(cls, items: Sequence[str]) -> Self:
        """Tell networks, and addresses, which are networks of one, from names."""
        globs, networks = [], []
        for item in items:
            try:
                networks.append(ipaddress.ip_network(item, strict=False))
            except ValueError:
                globs.append(item.rstrip("."))
        return cls(tuple(globs), tuple(networks))

    def __bool__(self) -> bool:
        return bool(self.globs or self.networks)

    def name(self, host: str) -> bool:
        """Whether a glob matches the host as it was written."""
        return any(fnmatch.fnmatchcase(host, glob) for glob in self.globs)

    def network(self, where: Address) -> bool:
        """Whether a network holds the address."""
        return any(where in network for network in self.networks)


@dataclasses.dataclass(frozen=True)
class Policy:
    """What a deployment allows: WEBHOOK_DENIED_HOSTS and WEBHOOK_ALLOWED_HOSTS over rules that are always there."""

    denied: Rules
    allowed: Rules

    def closed(self, url: Url, where: Address, api: Collection[Endpoint]) -> str | None:
        """Return why ``url`` may not lead to the address ``where``; None where it may. ``api``: the Kubernetes API."""
        host = url.host.rstrip(".")
        if self.denied.name(host) or any(self.denied.network(face) for face in _faces(where)):
            return "a host that WEBHOOK_DENIED_HOSTS closes"
        if _API_NAMES.fullmatch(host) or any(_reaches(face, url.port, api) for face in _faces(where)):
            return "the Kubernetes API"
        if self.allowed.network(where):
            return None
        for what, networks in NEVER:
            if any(face in network for face in _faces(where) for network in networks):
                return what
        if self.allowed and not self.allowed.name(host):
            return "a host that WEBHOOK_ALLOWED_HOSTS does not name"
        return None


def _reaches(where: Address, port: int, api: Collection[Endpoint]) -> bool:
    """Whether one of the endpoints is there; a server of this host listens on each of its addresses."""
    return any(
        port == its_port and (where == address or (_is_here(where) and _is_here(address))) for address, its_port in api
    )


def _is_here(where: Address) -> bool:
    return any(where in network for network in _HERE)


def _faces(where: Address) -> list[Address]:
    """Return the address, and the IPv4 address that is reached through it where it only wraps one."""
    if where.version == 4:
        return [where]
    faces: list[Address] = [where]
    if where.sixtofour is not None:
        faces.append(where.sixtofour)
    if where.teredo is not None:
        faces.extend(where.teredo)
    if any(where in network for network in _TRANSLATED) or (where in _COMPATIBLE and int(where) > 0xFFFF):
        faces.append(ipaddress.IPv4Address(int(where) & 0xFFFFFFFF))
    return faces
