"""Who may send: with OIDC_AUDIENCE set, a caller shows a token of the cluster's issuer, as Knative's Triggers do.

Knative gives each Trigger a ServiceAccount and sends its token to a subscriber that has an audience. Nothing verifies
it for a Knative Service, so it is verified here, before the body of the request is read.
A token is good when one of the issuer's keys signed it (RS256 or ES256), for our audience, in time, and when its
subject matches one of the globs of OIDC_SUBJECTS (RFC 7519; RFC 8725 for what must not be believed).

Nothing of a token is logged, answered or kept, except the subject of one that was verified: a refusal names it.
A token that was verified is remembered by its hash. Verifying costs about 150 microseconds, a look-up 2, and a sender
shows the same token for most of an hour.
"""

from __future__ import annotations

import collections
import fnmatch
import hashlib
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from function import errors, measures
from function.clients import issuer

LEEWAY_SECONDS = 60
"""How far apart two clocks may be."""
MOST_TOKEN_CHARACTERS = 8192
"""Kubernetes' tokens have about 1,200."""
REMEMBERED = 1024
"""Tokens; each Trigger has one at a time. The one that was verified first is forgotten first."""
REMEMBERED_SECONDS = 3600
"""A key that the issuer has withdrawn counts no longer than that."""
SOON_SECONDS = 5
"""An issuer publishes a key at least so long before it signs with it."""
_BEARER = re.compile(r"bearer +([\w-]+\.[\w-]+\.[\w-]+) *", re.IGNORECASE | re.ASCII)
_KEY_ID = re.compile(r"[!-~]{1,256}")
_WRONG = {
    "ExpiredSignatureError": "has expired",
    "ImmatureSignatureError": "is not valid yet",
    "InvalidAudienceError": "is for another audience than OIDC_AUDIENCE",
    "InvalidIssuerError": "is from another issuer",
    "InvalidSignatureError": "has a signature that does not fit",
    "MissingRequiredClaimError": "lacks one of the claims exp, iss, aud and sub",
}
"""What is wrong with a token, by PyJWT's error, whose own words may quote the token; of others it cannot be read."""
_REASONS: dict[type[errors.VmledgerError], str] = {
    errors.Unauthenticated: "unauthenticated",
    errors.Forbidden: "forbidden",
}
"""Why a caller was refused, as the value of a label."""
_NO_KEY = "the caller's token is signed with no key of the issuer"


def of_triggers(namespace: str) -> tuple[str, ...]:
    """Return globs for the subjects that Knative's Triggers of a namespace send with.

    Knative names the ServiceAccount after the Trigger. A name above 63 characters is cut, and a hash of 32 hexadecimal
    digits takes the place of its end (kmeta.ChildName in knative/pkg). Dead letters come from the default Broker's
    channel, whose Subscription has a ServiceAccount of its own; its name is always that long.
    """
    accounts = f"system:serviceaccount:{namespace}:"
    return accounts + "*oidc-eventing.knative.dev-trigger", accounts + "?" * 30 + "*" + "[0-9a-f]" * 32


class Callers:
    """Lets those pass who may send; shared by all threads.

    subjects: globs. refused: how many requests were refused so far, by the kind of their error.
    """

    def __init__(self, audience: str, subjects: Sequence[str], keys: issuer.Issuer) -> None:
        self._audience = audience
        self._subjects = subjects
        self._keys = keys
        self._good_until: dict[bytes, float] = {}
        self._turn = threading.Lock()
        self.refused: collections.Counter[type[errors.VmledgerError]] = collections.Counter()

    def remembers(self, authorization: str) -> bool:
        """Whether a token was verified before and is still good; this waits for nothing."""
        return self._good_until.get(_hash(authorization), 0.0) > time.time()

    def check(self, authorization: str) -> None:
        """Return where the caller may send; ``authorization`` is the value of that header, '' for none.

        Raises :class:`errors.Unauthenticated` without a good token, :class:`errors.Forbidden` for a subject that may
        not send, :class:`errors.Unavailable` where the issuer's keys cannot be read.
        """
        if self.remembers(authorization):
            return
        try:
            claims = self._verified(_token(authorization))
            if not any(fnmatch.fnmatchcase(claims["sub"], glob) for glob in self._subjects):
                raise errors.Forbidden(
                    f"the caller {errors.shown(claims['sub'], 256)} may not send here: OIDC_SUBJECTS"
                )
        except errors.VmledgerError as exc:
            with self._turn:
                self.refused[type(exc)] += 1
            if measures.recorder is not None:
                measures.recorder.add(measures.CALLERS_REFUSED, (_REASONS.get(type(exc), "keys_unavailable"),))
            raise
        self._remember(_hash(authorization), min(int(claims["exp"]), time.time() + REMEMBERED_SECONDS))

    def state(self) -> str:
        """Return whether there are keys to verify with, and how many callers were refused so far."""
        unknown, unwelcome = self.refused[errors.Unauthenticated], self.refused[errors.Forbidden]
        counted = f"; refused so far: {unknown} without a good token, {unwelcome} of another subject"
        return self._keys.state() + (counted if unknown or unwelcome else "")

    def _remember(self, token: bytes, until: float) -> None:
        with self._turn:
            while len(self._good_until) >= REMEMBERED:
                del self._good_until[next(iter(self._good_until))]
            self._good_until[token] = until

    def _verified(self, token: str) -> dict[str, Any]:
        """Return what a token says, once its signature, its times, its issuer and its audience are verified."""
        import jwt

        try:
            name, key = self._key(token)
            return jwt.decode(
                token,
                key,
                algorithms=issuer.ALGORITHMS,
                audience=self._audience,
                issuer=name,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as exc:
            raise errors.Unauthenticated(
                f"the caller's token {_WRONG.get(type(exc).__name__, 'cannot be read')}"
            ) from None

    def _key(self, token: str) -> tuple[str, issuer.Key]:
        """Return the name of the issuer, and the key that the token names."""
        import jwt

        head = jwt.get_unverified_header(token)
        if head.get("alg") not in issuer.ALGORITHMS:
            raise errors.Unauthenticated(f"the caller's token is not signed by {' or '.join(issuer.ALGORITHMS)}")
        key_id = head.get("kid")
        if not (isinstance(key_id, str) and _KEY_ID.fullmatch(key_id)):
            raise errors.Unauthenticated(_NO_KEY)
        found = self._keys.find(key_id)
        if found is not None:
            return found
        issued = jwt.decode(token, options={"verify_signature": False}).get("iat")
        if isinstance(issued, int) and issued > self._keys.read_at + SOON_SECONDS:
            raise errors.Unavailable("the caller's token may be signed with a key that its issuer made a moment ago")
        raise errors.Unauthenticated(_NO_KEY)


def _hash(authorization: str) -> bytes:
    return hashlib.sha256(authorization.encode("utf-8", "replace")).digest()


def _token(authorization: str) -> str:
    """Return the token of a header ``Authorization: Bearer`` (RFC 6750, section 2.1).

    Several headers arrive as one, joined by a comma, and hold no token.
    """
    if not authorization:
        raise errors.Unauthenticated("the request has no header Authorization with a token of the caller")
    if len(authorization) > MOST_TOKEN_CHARACTERS:
        raise errors.Unauthenticated(f"the header Authorization is longer than {MOST_TOKEN_CHARACTERS} characters")
    found = _BEARER.fullmatch(authorization)
    if found is None:
        raise errors.Unauthenticated("the header Authorization holds something else than one token after Bearer")
    return found[1]
