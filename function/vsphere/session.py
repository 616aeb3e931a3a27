"""The session with Operations (vRealize, Aria, VCF): its token, and one call of its suite-api.

A process has one token. It is acquired at the first use, kept, renewed once where a call is answered with 401 (never
with 403), and released at the end.
Every call ends within VROPS_TIMEOUT, even if the server sends its answer a byte at a time.
Only an answer with 2xx is read as JSON, because errors may be HTML. The text of an error is never passed on: it may
quote the request, which has the password.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import requests

from function import errors, measures, settings
from function.clients import http

log = logging.getLogger(__name__)

API = "/suite-api/api"
MOST_BYTES = 4 * 2**20
MOST_VALUES = 200_000
"""In an answer; a page of 100 hosts has 400 kB and 15,000 values."""
RELEASE_SECONDS = 3.0
"""For releasing the token: a process that is asked to end has 20 seconds for everything."""
UNTRUSTED = "the certificate of Operations cannot be verified: name its CA in VROPS_CA_FILE"


@dataclasses.dataclass(frozen=True)
class Call:
    """A request of the API; the path is relative to :data:`API`."""

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Mapping[str, str] | None = None


class Session:
    """Makes calls; ``end`` of each is the monotonic time at which the event gives up."""

    def __init__(self, access: settings.OperationsAccess, part: settings.Operations) -> None:
        self._access = access
        self._url = urllib.parse.urlsplit(access.url + API)
        self._timeout = part.timeout
        self._auth_source = part.auth_source
        self._scheme = part.token_scheme
        insecure = part.insecure
        self._client = http.Client(http.trusting_anybody() if insecure else http.trusting(part.ca_file))
        self._login = threading.Lock()
        self._token: str | None = None
        self._refusals = 0
        self.state = "not answered yet"
        """How the last call went: "ok", or a sentence."""

    def call(self, call: Call, what: str, end: float, *, unless: int | None = None) -> http.Answer:
        """Make a call with the token, and return its answer if the status is 2xx or ``unless``.

        ``what`` names the call in an error's sentence.
        """
        try:
            token = self._acquired(end)
            answer = self._send(call, end, token)
            if answer.status == 401:
                token = self._acquired(end, instead_of=token)
                answer = self._send(call, end, token)
            if answer.status == 401:
                raise self._refused("Operations refuses the token that it has just given: is VROPS_TOKEN_SCHEME right?")
            self._refusals = 0
            if answer.status != unless:
                _check(answer, what)
        except errors.VmledgerError as exc:
            self.state = str(exc)
            raise
        self.state = "ok"
        return answer

    def read(self, call: Call, what: str, end: float) -> dict[str, Any]:
        """Return the object that the answer to a call holds."""
        return content(self.call(call, what, end), what)

    def close(self) -> None:
        """Release the token, which would stay valid for hours; a failure is only logged."""
        token, self._token = self._token, None
        if token is not None:
            try:
                self._send(Call("POST", "/auth/token/release"), time.monotonic() + RELEASE_SECONDS, token)
            except errors.VmledgerError as exc:
                log.info("the token was not released: %s", exc, extra={"action": "operations.release"})
        self._client.close()

    def _acquired(self, end: float, *, instead_of: str | None = None) -> str:
        """Return the token, after acquiring it if there is none, or if it is ``instead_of``, which was refused.

        One thread at a time logs in, so that the others use its token and need none of their own.
        """
        if not self._login.acquire(timeout=max(end - time.monotonic(), 0)):
            raise errors.Unavailable("the login to Operations did not end in time")
        try:
            if self._token is None or self._token == instead_of:
                self._token = None
                self._token = self._acquire(end)
            return self._token
        finally:
            self._login.release()

    def _acquire(self, end: float) -> str:
        body = {"username": self._access.user, "password": self._access.password}
        if self._auth_source:
            body["authSource"] = self._auth_source
        answer = self._send(Call("POST", "/auth/token/acquire", body=body), end)
        if answer.status in (400, 401):  # some versions answer 400 for an authSource that does not exist
            raise self._refused(
                "Operations refuses the login: are VROPS_USER, VROPS_PASSWORD and VROPS_AUTH_SOURCE right?"
            )
        _check(answer, "the login")
        token = content(answer, "the login").get("token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise errors.Unavailable("Operations answered the login without a token")
        return token

    def _refused(self, sentence: str) -> errors.VmledgerError:
        """Return the error for a refused login: the first is to be retried, the second is final."""
        self._refusals += 1
        return errors.Unavailable(sentence) if self._refusals == 1 else errors.Refused(sentence)

    def _send(self, call: Call, end: float, token: str | None = None) -> http.Answer:
        """Send one request, and return the answer whatever its status; raise where there is none."""
        seconds = min(self._timeout, end - time.monotonic())
        if seconds <= 0:
            raise errors.Unavailable("Operations is too slow: there was no time left for the event")
        limits = http.Limits(connect=seconds, seconds=seconds, body_bytes=MOST_BYTES)
        status: int | None = None
        try:
            answer = self._client.ask(self._request(call, token), limits)
            status = answer.status
        except http.NoAnswer as exc:
            sentence = UNTRUSTED if exc.why is http.Why.UNTRUSTED else f"Operations {exc}"
            raise errors.Unavailable(sentence) from exc
        finally:
            if measures.recorder is not None:
                measures.recorder.add(measures.OPERATIONS_CALLS, (measures.outcome(status),))
        return answer

    def _request(self, call: Call, token: str | None) -> http.Request:
        """Return the call as requests prepares it, query, JSON and headers; our own client sends it, within limits."""
        url = self._url
        headers = {"Host": url.netloc, "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"{self._scheme} {token}"
        asked = requests.Request(
            call.method, url.geturl() + call.path, headers=headers, params=call.query, json=call.body
        ).prepare()
        body = asked.body.encode() if isinstance(asked.body, str) else asked.body
        return http.Request(
            method=call.method,
            scheme=url.scheme,
            host=url.hostname or "",
            port=url.port or {"http": 80, "https": 443}[url.scheme],
            target=asked.path_url,
            headers=asked.headers,
            body=body or b"",
        )


def content(answer: http.Answer, what: str) -> dict[str, Any]:
    """Return the JSON object that the answer holds; a proxy, or an appliance that boots, answers with a web page."""
    try:
        value = answer.json(MOST_VALUES)
    except http.NoAnswer as exc:
        if exc.why is not http.Why.NOT_JSON:
            raise errors.Unavailable(f"Operations {exc}") from exc
        value = None
    if not isinstance(value, dict):
        raise errors.Unavailable(f"Operations answered {what} with something that is not its API's JSON")
    return value


def _check(answer: http.Answer, what: str) -> None:
    """Raise for a status other than 2xx: Unavailable where the event should be sent again, else Refused."""
    status = answer.status
    if 200 <= status < 300:
        return
    if status >= 500 or status in (408, 429):
        raise errors.Unavailable(f"Operations answers {what} with {status} at the moment")
    if status == 403:
        raise errors.Refused(f"Operations forbids {what} (403): VROPS_USER lacks the permission")
    if status < 400:
        raise errors.Refused(f"Operations redirects {what} ({status}): VROPS_URL must be its own address")
    raise errors.Refused(f"Operations refuses {what} with {status}")
