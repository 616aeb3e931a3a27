"""Who may send."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

from function import errors
from function.settings import variables

_PLAIN = re.compile(r"[!-~]{1,1000}")


def audience(value: str) -> str:
    """What a token must be for: one word, as a Trigger's ``subscriber.audience`` says it."""
    if not _PLAIN.fullmatch(value):
        raise ValueError("must be one word of printable ASCII characters, such as vmledger")
    return value


def issuer_url(value: str) -> str:
    """The URL of an issuer, as OpenID Connect Discovery (section 2) has it: https, without query and fragment."""
    try:
        parts = urllib.parse.urlsplit(value)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment or not _PLAIN.fullmatch(value):
        raise ValueError("must be the https URL of an issuer, such as https://issuer.example.com")
    return value


def subjects(value: str) -> tuple[str, ...]:
    """Globs for the subjects of tokens, separated by commas."""
    found = variables.words(value)
    if not found or not all(map(_PLAIN.fullmatch, found)):
        raise ValueError("must list subjects, or globs of them, separated by commas")
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Callers(variables.Part):
    """Which tokens let a caller send; without an audience nobody is asked for one."""

    audience: str | None = variables.variable(
        "OIDC_AUDIENCE",
        audience,
        doc="Audience that a caller's token must be for; turns the check of callers on (docs/security.md).",
    )
    issuer: str | None = variables.variable(
        "OIDC_ISSUER", issuer_url, doc="URL of the tokens' issuer, where it is not the Kubernetes API of the cluster."
    )
    subjects: tuple[str, ...] = variables.variable(
        "OIDC_SUBJECTS",
        subjects,
        default=(),
        doc="Globs of the subjects that may send, separated by commas. Unset: Triggers of the function's namespace.",
    )
    ca_file: str | None = variables.variable(
        "OIDC_CA_FILE",
        variables.certificates,
        doc="PEM file of the authorities that the issuer is verified with, in place of the system's.",
    )

    def check(self) -> None:
        """Raise :class:`errors.BadSetting` where callers look checked and are not."""
        if self.audience is None and (self.issuer or self.subjects or self.ca_file):
            raise errors.BadSetting("OIDC_AUDIENCE", "is missing: without it no other OIDC_ variable has an effect")
