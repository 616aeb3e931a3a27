"""The POST to the sink, and what its answer means.

An answer is read as Knative reads one: a 2xx is taken; 404, 408, 409, 429, 5xx and no answer are tried again, with
growing waits and without end, because what is not taken is not published; anything else is refused for good.
The operator names the sink, or a SinkBinding does. So it may be a name of the cluster, over plain HTTP: the policy that
keeps webhooks from such addresses is for urls that users write into Secrets.
"""

from __future__ import annotations

import enum
import logging
import random
import threading
import urllib.parse

from function import measures, settings
from function.clients import http
from function.publish import message

AGAIN = frozenset((404, 408, 409, 429))
SHORTEST, LONGEST = 0.2, 30.0
"""Seconds before the second try, and before any later one."""
LONGEST_ASKED = 120.0
"""The longest Retry-After that is waited for."""
CONNECT_SECONDS = 5.0
ANSWER_BYTES = 64 * 1024
ANSWER_SECONDS = 1.0
"""How much of an answer's body is read, and for how long: the status alone counts."""

log = logging.getLogger(__name__)


class Outcome(enum.StrEnum):
    """What became of a message."""

    SENT = "sent"
    REFUSED = "refused"
    """The sink will never take it; it was logged and passed over."""
    STOPPED = "stopped"
    """`publish` is ending."""


class Sink:
    """Sends messages over kept connections; shared by threads.

    stop: once it is set, nothing is tried again.
    """

    def __init__(self, part: settings.Publish, url: str, stop: threading.Event) -> None:
        parts = urllib.parse.urlsplit(url)
        self._scheme = parts.scheme
        self._host = parts.hostname or ""
        self._port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        self._authority = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._overrides = dict(part.overrides)
        self._timeout = part.timeout
        self._stop = stop
        self._client = http.Client(http.trusting(part.ca_file))
        self._failing = False

    def send(self, sent: message.Message) -> Outcome:
        """POST a message until it is taken, or refused for good."""
        attempt = 0
        while True:
            why, wait = self._attempt(sent)
            if why is None:
                self._works()
                return Outcome.SENT
            if wait is None:
                self._refused(sent, why)
                return Outcome.REFUSED
            self._fails(why)
            attempt += 1
            if self._stop.wait(max(wait, pause(attempt))):
                return Outcome.STOPPED

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()

    def _attempt(self, sent: message.Message) -> tuple[str | None, float | None]:
        """POST once; return why it was not taken, None where it was; and the least wait, None where it is refused."""
        try:
            answer = self._client.ask(
                http.Request(
                    method="POST",
                    scheme=self._scheme,
                    host=self._host,
                    port=self._port,
                    target=self._target,
                    headers={"Host": self._authority, **message.headers(sent.attributes, self._overrides)},
                    body=sent.body,
                ),
                http.Limits(
                    connect=min(CONNECT_SECONDS, self._timeout),
                    wait=self._timeout,
                    seconds=self._timeout,
                    body_bytes=ANSWER_BYTES,
                    body_seconds=ANSWER_SECONDS,
                ),
            )
        except http.NoAnswer as exc:
            return f"the sink {exc}", 0.0
        if 200 <= answer.status < 300:
            return None, None
        why = f"the sink answered {answer.status}"
        if answer.status in AGAIN or answer.status >= 500:
            return why, min(answer.retry_after() or 0.0, LONGEST_ASKED)
        return why, None

    def _works(self) -> None:
        _count("delivered")
        if self._failing:
            self._failing = False
            log.info("the sink takes changes again", extra={"action": "publish.recovered"})

    def _fails(self, why: str) -> None:
        _count("failed")
        if not self._failing:
            self._failing = True
            log.warning("%s: the changes are sent again until it takes them", why, extra={"action": "publish.failing"})

    def _refused(self, sent: message.Message, why: str) -> None:
        _count("refused")
        shown = {name: sent.attributes[name] for name in ("id", "type", "source", "subject")}
        log.error("%s: the change is passed over", why, extra={"action": "publish.refused", "event": shown})


def pause(attempt: int) -> float:
    """Return the seconds before the next try after so many: twice as long each time, spread a little."""
    longest: float = min(LONGEST, SHORTEST * 2.0 ** min(attempt - 1, 30))
    return longest * random.uniform(0.8, 1.0)  # noqa: S311  # spreads tries; guards no secret


def _count(outcome: str) -> None:
    if measures.recorder is not None:
        measures.recorder.add(measures.PUBLISHED, (outcome,))
