"""Which names say that what they name is a secret, and which members of an object say what another one holds; pure.

A name is what stands before a value: a JSON member, an XML element or attribute, a YAML key, a variable, an option.
Names are read in any case and with any of the usual separators: ``client_secret``, ``clientSecret``, ``CLIENT-SECRET``.
"""

from __future__ import annotations

import functools
import re
from typing import Any

_S = r"[-_. ]?"
_KEYS = (
    "api|app|access|account|auth|private|secret|shared|signing|encryption|decryption|cipher|master|storage|hmac|aes|"
    "licen[sc]e|product|activation|recovery|bootstrap|join|consumer|deploy|registry|subscription|session|root|unseal|"
    "preshared|client|server|certificate|tls|ssl|rsa|ca|vpn|wireguard"
)
"""A key of one of these is a secret. Keys of other kinds are names or public: partition key, label key, public key."""
_LONG = (
    r"pass(?:word|wort|wd|phrase|code)|pwd|token|secret|credential|authorization|cookie"
    rf"|access{_S}key|client{_S}key{_S}data"
    rf"|connection{_S}string|conn{_S}str(?![a-z])"
    rf"|session{_S}id(?!le|ent)|sessid|encryption{_S}(?:bundle|keysafe|data)"
    rf"|stringdata|last{_S}applied{_S}configuration"
    rf"|(?:user|network|vendor){_S}data(?:{_S}base64)?(?![a-z])"
    rf"|ignition{_S}(?:data|config)|talos{_S}config|guestinfo[-_.][\w.\-]{{0,40}}(?:data|config|script)"
    rf"|cloud{_S}(?:init|config){_S}(?:base64|data|user)(?![a-z])"
    rf"|docker{_S}(?:config{_S}json|cfg|auth{_S}config)"
    rf"|x-(?:amz|goog)-(?:signature|credential)|snmp{_S}community|authtok|saml(?:response|request|assertion)"
)
_SHORT = "pass|pw|psk|sig|auths?|creds?|dsn|otp|totp|rootpw|userpw|bearer|keystorepass|requirepass|ldapbindpw"
"""Words that are secrets by themselves and parts of harmless words too: ``pass`` and ``bypass``."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LONG_NAME = re.compile(rf"{_LONG}|(?<![a-z])(?:{_KEYS}){_S}keys?(?![a-z])", re.IGNORECASE)
_CAMEL_KEY = re.compile(rf"(?<=[a-z])(?i:{_KEYS})Keys?(?![a-z])")
_SHORT_WORDS = frozenset(re.sub(r"(\w+)s\?", r"\1|\1s", _SHORT).split("|"))

_HARMLESS_END = re.compile(
    rf"(?:refs?|references?|names?|namespaces?|paths?|files?|dir|mode|polic(?:y|ies)|types?|ttl|lifetime|leeway|length"
    rf"|counts?|limits?|budget|size|class|store|provider|version|lookup|enabled|disabled|required|used|url|uri|endpoint"
    rf"|audiences?|hash{_S}algorithm|expir\w{{0,16}}{_S}(?:at|in|on|date|time|seconds|ms|minutes|hours|days)?)$"
    r"|secretar|tokeni[sz]|passwordless|connectioncookie",
    re.IGNORECASE,
)
"""What a name with a secret's word in it says about the secret, without holding it: where it is, of what kind."""
_HARMLESS = frozenset(
    (
        *("automountserviceaccounttoken", "imagepullsecrets", "accesscredentials", "maxtokens", "prompttokens"),
        *("completiontokens", "totaltokens", "authorizationdetails", "oldpwd"),
    )
)
_LONGEST = 256
"""Characters of a name that are looked at; a longer one is text, and its end is what names something."""

SCAN = (
    rf"{_LONG}|(?:{_KEYS}){_S}keys?(?![a-z])|(?<![a-z])(?:{_SHORT})(?![a-z])"
    r"|(?<=[a-z])(?-i:Pass|Pw|Psk|Sig|Auth|Creds?)(?![a-z])"
)
"""The same as one pattern for names in text; what it finds may be a secret's name, and :func:`is_secret` decides."""

HINTS = (
    *("pass", "pwd", "pw", "psk", "token", "secret", "cred", "auth", "cookie", "key", "conn", "dsn", "sess", "encrypt"),
    *("applied", "data", "ignition", "talos", "guestinfo", "cloud", "docker", "signature", "sig", "credential"),
    *("community", "otp", "bearer", "basic ", "variant:", "\\u00", "saml"),
)
"""A text with a secret's name has one of these in it; looking for them first is what makes a large event cheap.

The last are Butane's first line, and a letter that JSON's escapes hide.
"""

NAMING = frozenset(
    (
        *("key", "name", "path", "id", "field", "label", "title", "type", "param", "parameter", "property", "option"),
        *("header", "variable", "attribute", "keyname", "k", "n"),
    )
)
"""Members that name what the member beside them holds: vSphere's OptionValue, a container's env, a JSON patch."""
VALUES = frozenset(
    (
        *("value", "values", "val", "content", "contents", "v", "default", "defaultvalue", "newvalue", "oldvalue"),
        *("stringvalue", "string", "text", "plaintext", "new", "old", "before", "after", "from", "to", "current"),
    )
)
LONGEST_NAMED = 80
"""Characters of a name that stands in a member of its own; what is longer is a sentence."""
SHORTEST_TEXT = 14
"""Characters of a member's name that may have a secret in it, such as a URL with a password."""
REFERENCE = frozenset(
    (
        *("name", "namespace", "secretname", "key", "optional", "items", "defaultmode", "mode", "path", "kind"),
        *("group", "apiversion", "uid", "audience", "expirationseconds", "property", "version", "serviceaccountname"),
        "serviceaccountnames",
    )
)
"""Members of an object that points to a Secret: a volume, an entry of the environment, a projected token."""
_POINTS = frozenset(("name", "secretname", "path", "serviceaccountname"))
_FLOW_KEY = re.compile(r"([\w.\-]{1,80}+)[\"']?[ \t]{0,8}:")
_DEEPEST_REFERENCE = 4
MARKING = frozenset(("sensitive", "secure", "issecret", "secret"))
"""Members that are true where the member beside them is a secret, as in what Terraform puts out."""
TYPES = (
    r"Opaque|kubernetes\.io/(?:tls|dockerconfigjson|dockercfg|basic-auth|ssh-auth|service-account-token)"
    r"|bootstrap\.kubernetes\.io/token|helm\.sh/release\.v1"
)
SECRET_TYPES = re.compile(TYPES, re.IGNORECASE)
"""What a Secret of Kubernetes calls its ``type``, where it does not say its kind."""


@functools.lru_cache(maxsize=4096)  # the same names come again in each object of a kind
def is_secret(name: str) -> bool:
    """Whether what ``name`` names is a secret."""
    name = name[-_LONGEST:].strip()
    if not (_LONG_NAME.search(name) or _CAMEL_KEY.search(name) or _has_short_word(name)):
        return False
    return not _HARMLESS_END.search(name) and re.sub(r"[^a-z0-9]", "", name.lower()) not in _HARMLESS


def _has_short_word(name: str) -> bool:
    return any(word.lower() in _SHORT_WORDS for word in _WORD.findall(name))


def may_name(lowered: str) -> bool:
    """Whether some text in lower case may have a secret's name in it."""
    return any(map(lowered.__contains__, HINTS))


def is_kind_of_secret(kind: object) -> bool:
    """Whether ``kind`` is that of a Kubernetes Secret."""
    return isinstance(kind, str) and kind.strip().lower() == "secret"


def bare(key: str) -> str:
    """Return a member's name in lower case, without the signs that are left at its ends where JSON is broken."""
    return key.strip("{}[],:'\" \t").lower()


def is_reference(value: Any, depth: int = 0) -> bool:
    """Whether ``value``, under a secret's name, only points to the secret: an object with a name, or a list of them.

    It may stand in others that hold nothing else: ``{"valueFrom": {"secretKeyRef": {"name": "db"}}}``.
    """
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and is_reference(item) for item in value)
    if not isinstance(value, dict) or depth > _DEEPEST_REFERENCE:
        return False
    members = {key.lower() for key in value}
    if members <= REFERENCE and not members.isdisjoint(_POINTS):
        return True
    return len(value) == 1 and is_reference(next(iter(value.values())), depth + 1)


def introduces(before: Any, value: Any, *, pair: bool) -> bool:
    """Whether a list's element names the next one: ``--password`` in a command, or the first of a pair."""
    if not isinstance(before, str) or re.search(r"[\s=]", before):
        return False
    if before in ("-u", "--user"):
        return isinstance(value, str) and ":" in value
    return (pair or before.startswith("-")) and is_secret(before)


def is_flow_of_reference(text: str) -> bool:
    """Whether a flow of YAML or JSON on one line only points to a secret: ``{name: db, optional: true}``."""
    keys = _FLOW_KEY.findall(text) if text[:1] in ("{", "[") else ()
    return bool(keys) and all(key.lower() in REFERENCE for key in keys)


def is_name_of_secret(value: str) -> bool:
    """Whether ``value``, in a member such as ``name``, is a secret's name and not a sentence about it."""
    return len(value) <= LONGEST_NAMED and value.count(" ") < 3 and is_secret(value)
