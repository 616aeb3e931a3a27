"""The POST itself: where it may go, how often it is tried, and what the receiver's answer means.

The host is resolved here, each address is judged by the policy, and the connection goes to an address that passed, so
a name cannot change its mind in between. A kept connection is used again for the same name only.
"""

from __future__ import annotations

import dataclasses
import enum
import random
import time
from collections.abc import Callable, Mapping, Sequence

from function import errors, measures, tracing
from function.clients import deadline, http, resolver
from function.scaling import address_policy, conventions, template

ATTEMPTS = 3
PAUSES = (0.5, 1.5)
"""Seconds before the second and the third POST, where the receiver does not say."""
SHORT_SECONDS = 5.0
"""The longest Retry-After that is waited for here; Knative's own retry waits longer."""
TIMEOUTS = 2.0
"""How many timeouts one POST may take in all: one to connect, and one to answer."""
ANSWER_BYTES = 64 * 1024
"""As much of an answer is read; a longer one costs the connection."""
ANSWER_SECONDS = 1.0
"""And for so long: the status is known by then."""
AGAIN = frozenset((408, 429))


class _Verdict(enum.Enum):
    """What is to be done after a POST."""

    DELIVERED = "nothing"
    REFUSED = "nothing: it would be refused again"
    LATER = "the same again"


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What came of one POST, and in words why it was not delivered; ``wait``: seconds that the receiver asks for."""

    verdict: _Verdict
    why: str = ""
    wait: float | None = None


class Sender:
    """Sends requests to webhooks, over kept connections.

    policy: which addresses are open. api: returns the address of the Kubernetes API, host and port. timeout: seconds
    for a connection, and for an answer. ca_file: authorities in place of certifi's.
    """

    def __init__(
        self,
        policy: address_policy.Policy,
        api: Callable[[], list[tuple[str, int]]],
        *,
        timeout: float,
        ca_file: str | None = None,
        resolve: Callable[[str], list[str]] | None = None,
    ) -> None:
        self._policy = policy
        self._api = api
        self._timeout = timeout
        self._lookup = resolve or resolver.Few().addresses
        self._client = http.Client(http.trusting(ca_file))

    def send(self, request: template.Request, where: str, *, until: float) -> None:
        """POST until it is delivered, at most three times, and return; ``where`` names the Secret in sentences.

        until: when to give up, on the monotonic clock. Raises :class:`errors.Unavailable` where the receiver may take
        it later, :class:`errors.Refused` where it refuses it, or where the url leads to a closed address.
        """
        began = time.monotonic()
        outcome = measures.FAILED
        try:
            self._send(request, where, until)
            outcome = "delivered"
        except errors.Refused:
            outcome = measures.REFUSED
            raise
        finally:
            if measures.recorder is not None:
                measures.recorder.add(measures.WEBHOOK_DELIVERIES, (outcome,))
                measures.recorder.observe(measures.WEBHOOK_SECONDS, time.monotonic() - began)

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()

    def _send(self, request: template.Request, where: str, until: float) -> None:
        with deadline.until(until):
            for attempt in range(1, ATTEMPTS + 1):
                outcome = self._attempt(request, where, attempt)
                if outcome.verdict is _Verdict.DELIVERED:
                    return
                if outcome.verdict is _Verdict.REFUSED:
                    raise errors.Refused(f"the webhook of {where} {outcome.why}")
                pause = outcome.wait if outcome.wait is not None else _pause(attempt)
                if attempt == ATTEMPTS or pause > SHORT_SECONDS or deadline.left() < pause + 1:
                    times = f"{attempt} times" if attempt > 1 else "once"
                    raise errors.Unavailable(f"the webhook of {where} {outcome.why}; it was asked {times}")
                time.sleep(pause)

    def _attempt(self, request: template.Request, where: str, attempt: int) -> _Outcome:
        try:
            addresses = self._open(request.url, where)
        except resolver.Unresolved:
            return _Outcome(_Verdict.LATER, http.Why.UNRESOLVED)
        if deadline.left() < 0.1:
            return _Outcome(_Verdict.LATER, "was not asked in time")
        with tracing.tracer().call(where, attempt) as call:
            try:
                answer = self._post(request, addresses, call.headers)
            except http.NoAnswer as exc:
                call.failed(exc.why.name.lower())
                return _Outcome(_Verdict.LATER, str(exc))
            call.answered(answer.status)
        return _judged(answer, request)

    def _post(
        self, request: template.Request, addresses: Sequence[address_policy.Address], further: Mapping[str, str]
    ) -> http.Answer:
        """POST once, with further headers, which replace the request's own."""
        url = request.url
        own = {name: value for name, value in request.headers.items() if name.lower() not in further}
        return self._client.ask(
            http.Request(
                method="POST",
                scheme=url.scheme,
                host=url.host,
                port=url.port,
                target=url.path,
                headers={**own, **further, "Host": url.authority},
                body=request.body,
            ),
            http.Limits(
                connect=self._timeout,
                wait=self._timeout,
                seconds=TIMEOUTS * self._timeout,
                body_bytes=ANSWER_BYTES,
                body_seconds=ANSWER_SECONDS,
            ),
            addresses=[str(address) for address in addresses],
        )

    def _open(self, url: address_policy.Url, where: str) -> list[address_policy.Address]:
        """Return the addresses of ``url`` that a webhook may lead to; raise Refused where there is none."""
        api = {(address, port) for host, port in self._api() for address in self._resolve(host)}
        reasons = {address: self._policy.closed(url, address, api) for address in self._resolve(url.host)}
        addresses = [address for address, reason in reasons.items() if reason is None]
        if not addresses:
            reason = next(iter(reasons.values()))
            raise errors.Refused(f"the url of {where} leads to {reason}, where no webhook may lead here")
        return addresses

    def _resolve(self, host: str) -> list[address_policy.Address]:
        """Return the addresses of a host; raise :class:`resolver.Unresolved`."""
        try:
            return [address_policy.address(host)]
        except ValueError:
            with deadline.within(self._timeout):
                found = self._lookup(host)
        return list(dict.fromkeys(address_policy.address(text.partition("%")[0]) for text in found))


def _pause(attempt: int) -> float:
    return random.uniform(0.8, 1.2) * PAUSES[attempt - 1] if attempt <= len(PAUSES) else 0.0  # noqa: S311  # spreads retries


def _judged(answer: http.Answer, request: template.Request) -> _Outcome:
    """Return what an answer means: by its status, and where that is a 2xx, by its body."""
    status = answer.status
    if 200 <= status < 300:
        return _read(answer, request)
    if 300 <= status < 400:
        return _Outcome(_Verdict.REFUSED, f"answered with a redirect, {status}, and those are not followed")
    verdict = _Verdict.LATER if status in AGAIN or status >= 500 else _Verdict.REFUSED
    return _Outcome(verdict, f"answered {status}", answer.retry_after())


def _read(answer: http.Answer, request: template.Request) -> _Outcome:
    """Return what the body of a 2xx means."""
    refusal = conventions.refusal(bytes(answer.body), request.success, whole=answer.missing is None)
    if refusal is None:
        return _Outcome(_Verdict.DELIVERED)
    # A receiver may repeat what was sent to it. A number is not a secret; a word may be a part of one.
    quoted = refusal.code and (refusal.code.lstrip("-").isdigit() or not request.holds(refusal.code))
    why = f"answered {answer.status} {refusal.why}" + (f", {refusal.code}" if quoted else "")
    wait = answer.retry_after()
    verdict = _Verdict.LATER if refusal.temporary else _Verdict.REFUSED
    return _Outcome(verdict, why, refusal.wait if wait is None else wait)
