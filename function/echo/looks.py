"""Secrets that are known by how they look, whatever they stand under: keys, tokens, passwords in URLs; pure.

Each pattern is looked for only where a word that it must contain is there, and takes time in proportion to the text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

MASK = "***"

_PEM = re.compile(
    r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}.*?"
    r"(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)",
    re.DOTALL,
)
_PUTTY = re.compile(r"(Private-Lines: \d+(?:\s|\\[rn])+).*?(?=Private-MAC|\Z)", re.DOTALL)
_WEB_TOKEN = re.compile(r"(?<![\w-])[\w-]{8,}+\.[\w-]{4,}+(?:\.[\w-]*+){0,3}")
"""What may be a JSON Web Token, signed or encrypted (RFC 7515, 7516): its header begins with ``{"``, in base64."""
_USER_INFO = re.compile(r"(?<=://)(?!(?:git|hg|svn|ssh)@)(?:[^\s/?#\"'<>\\@]*+@(?!sha\d))+")
_ODD_USER_INFO = re.compile(
    r"(?<=://)(?:(?!://)[^\s:/\"'<>@\[]){1,64}:(?!\d{1,5}(?:[/?#\s,;]|\Z))(?:(?!://)[^\s\"'<>])*@(?!sha\d)"
)
"""A password with a slash or a question mark in it, which a URL must not have and people write."""
_QUERY = re.compile(
    r"([?&](?:amp;)?(?:key|code|signature|access|h|hmac|policy|x-(?:amz|goog)-[\w-]{1,32})=)[^\s&\"'<>#]{8,}+",
    re.IGNORECASE,
)
_ISSUED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|gh[opusr]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|gl(?:pat|ptt|dt|rt|cbt|soat)-[\w-]{16,}+"
    r"|xox[abeoprs]-[\w-]{10,}+|xapp-[\w-]{10,}+|[srp]k_(?:live|test)_\w{10,}+|sk-[\w-]{20,}+"
    r"|AIza[\w-]{30,}+|ya29\.[\w-]{16,}+|GOCSPX-[\w-]{16,}+|SG\.[\w-]{16,}+\.[\w-]{16,}+"
    r"|npm_[A-Za-z0-9]{20,}+|pypi-[\w-]{20,}+|dckr_(?:pat|oat)_[\w-]{16,}+|hv[sbr]\.[\w-]{20,}+|hf_[A-Za-z0-9]{20,}+"
    r"|do[opr]_v1_[a-f0-9]{32,}+|sha256~[\w-]{20,}+|AGE-SECRET-KEY-1[A-Z0-9]{20,}+|K10[a-f0-9]{32,}+::[\w:.~-]+"
    r"|glsa_\w{16,}+|PMAK-[\w-]{20,}+|shp(?:at|ca|pa|ss)_[a-f0-9]{20,}+"
    r")"
)
"""Tokens whose issuer marks them: AWS, GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, Docker, Vault, OpenShift."""
_MARKS = (
    *("AKIA", "ASIA", "gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "glptt-", "gldt-", "glrt-"),
    *("glcbt-", "glsoat-", "xox", "xapp-", "k_live_", "k_test_", "sk-", "AIza", "ya29.", "GOCSPX-", "SG.", "npm_"),
    *("pypi-", "dckr_", "hvs.", "hvb.", "hvr.", "hf_", "do", "sha256~", "AGE-SECRET-KEY-", "K10", "glsa_", "PMAK-"),
    *("shpat_", "shpca_", "shppa_", "shpss_"),
)
_HASHED = re.compile(r"\$(?:1|apr1|2[abxy]|5|6|7|y|gy|md5|argon2(?:id|i|d)|pbkdf2[\w-]{0,16}|scrypt)\$[\w./$=,+-]{8,}+")
"""What crypt(5) makes of a password."""
_LDAP_HASHED = re.compile(r"\{(?:S?SHA(?:\d{3})?|S?MD5|CRYPT|PBKDF2[\w-]{0,16})\}[\w./$=,+-]{8,}+", re.IGNORECASE)
_HOOK = re.compile(
    r"(hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/|\.webhook\.office\.com/|chat\.googleapis\.com/v1/spaces/"
    r"|api\.telegram\.org/(?:file/)?bot|events\.pagerduty\.com/integration/|oapi\.dingtalk\.com/robot/send\?)"
    r"[^\s\"'<>]++"
)
"""Webhooks whose address is the secret."""
_HOOKS = ("hooks.slack", "discord", "webhook.office", "chat.google", "telegram.org", "pagerduty", "dingtalk")
_COMMAND_USER = re.compile(r"((?<![\w-])(?:-u|--user|--proxy-user)(?:[ =]|\s{1,4})[\"']?[^\s:\"'/]{1,64}:)[^\s\"']++")
_PIPED = re.compile(
    r"((?:echo|printf)\s{1,4}(?:-\w{1,4}\s{1,4})?)[^|\n]{1,512}"
    r"(?=\|[^|\n]{0,64}(?:chpasswd|passwd|--password-stdin|--stdin|base64))"
)
_COMMANDS = re.compile(
    r"(sshpass\s{1,4}-p\s{0,4}|mysql\w{0,10}\s[^\n|;]{0,200}?\s-p(?=\S)|net\s{1,4}user\s{1,4}[^\s/]{1,64}\s{1,4}(?=[^\s/])"
    r"|convertto-securestring\s{1,4}(?:-string\s{1,4})?|--from-literal[= ][^=\s]{1,128}="
    r"|identified\s{1,4}(?:with\s{1,4}\w{1,32}\s{1,4})?by\s{1,4})"
    r"(?:\"[^\"]*+\"|'[^']*+'|\S++)",
    re.IGNORECASE,
)
"""What some commands take as a password, without a name that says so."""


def _web_token(found: re.Match[str]) -> str:
    header, _, rest = found[0].partition(".")
    at = header.find("eyJ")
    if at < 0 or (at and header[at - 1].isalnum()) or not ("." in rest or rest.startswith("eyJ")):
        return found[0]
    return found[0][:at] + MASK


@dataclasses.dataclass(frozen=True)
class _Rule:
    """A pattern, what takes its place, and the words of which a text with it has one."""

    words: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]


_RULES = (
    _Rule(("PRIVATE KEY",), _PEM, MASK),
    _Rule(("Private-Lines",), _PUTTY, rf"\1{MASK}"),
    _Rule(("eyJ",), _WEB_TOKEN, _web_token),
    _Rule(("@",), _USER_INFO, f"{MASK}@"),
    _Rule(("@",), _ODD_USER_INFO, f"{MASK}@"),
    _Rule(("?", "&"), _QUERY, rf"\1{MASK}"),
    _Rule(_MARKS, _ISSUED, MASK),
    _Rule(("$",), _HASHED, MASK),
    _Rule(("}",), _LDAP_HASHED, MASK),
    _Rule(_HOOKS, _HOOK, rf"\1{MASK}"),
    _Rule(("-u", "--user", "--proxy-user"), _COMMAND_USER, rf"\1{MASK}"),
    _Rule(("passwd", "stdin", "base64"), _PIPED, rf"\1{MASK} "),
    _Rule(("sshpass", "mysql", "net ", "literal", "dentified", "DENTIFIED", "SecureString"), _COMMANDS, rf"\1{MASK}"),
)

_WORDS = tuple(dict.fromkeys(word for rule in _RULES for word in rule.words))


def masked(text: str) -> str:
    """Return ``text`` without the secrets that are known by their look."""
    for rule in _RULES:
        if any(map(text.__contains__, rule.words)):
            text = rule.pattern.sub(rule.replacement, text)
    return text


def begins_key(text: str) -> bool:
    """Whether a private key begins in ``text``; its other lines may be the elements after it in a list."""
    return "PRIVATE KEY-----" in text and "BEGIN" in text


def may_hold(text: str) -> bool:
    """Whether a text has a word that some secret's look has in it."""
    return any(map(text.__contains__, _WORDS))
