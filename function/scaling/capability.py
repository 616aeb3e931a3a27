"""Scaling as a capability: Events about HPAs in, notices at webhooks out, each occurrence once."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from function import errors, events, settings
from function.clients import kubernetes, postgres
from function.scaling import address_policy, claims, occurrences, placeholders, rate, subscriptions, template

if TYPE_CHECKING:
    from function.scaling import sender

log = logging.getLogger(__name__)

BUDGET_SECONDS = 45.0
"""How long a request may take in all: less than a claim's lease, and than the Trigger's timeout, a minute each."""
FAILURE_THROTTLE = 600
WARN_AGAIN_SECONDS = 60.0
MOST_WARNED = 1000
NO_API = "no Kubernetes API is configured here: the function must run in a cluster, or be given KUBECONFIG"
_REFERENCE = "dev.knative.apiserver.ref."


class Scaling:
    """Turns Events into occurrences (:meth:`prepare`, pure) and sends notices of them (:meth:`perform`)."""

    def __init__(
        self,
        part: settings.Scaling,
        webhooks: settings.Webhooks,
        *,
        names: settings.Ledger,
        db: postgres.Database | None,
        api: kubernetes.Kube | None,
    ) -> None:
        self._settings = part
        self._webhooks = webhooks
        self._names = names
        self._api = api
        self._lookup = subscriptions.Lookup(api, part) if api else None
        kept = claims.kept_seconds(part.max_age)
        self._notices: claims.Notices = claims.Table(db, kept=kept) if db and api else claims.Memory(kept=kept)
        self._lock = threading.Lock()
        self._sender: sender.Sender | None = None
        self._warned: set[tuple[str, str]] = set()
        self._warn_at = 0.0

    def prepare(self, event: events.Event) -> occurrences.Occurrence | None:
        """Return the occurrence that ``event`` reports; None where it is not about an HPA.

        Raises :class:`errors.BadEvent` for an HPA's Event that cannot be read, :class:`errors.Refused` for one of a
        cluster that is not taken here, or that would notify where no Kubernetes API is configured.
        """
        if event.type.startswith(_REFERENCE):
            self._warn_reference()
            return None
        occurrence = occurrences.occurrence(event, cluster_name=self._names.cluster_name)
        if occurrence is None:
            return None
        self._names.admit(occurrence.cluster)
        if self._lookup is None:
            reasons = self._settings.reasons
            if self._too_old(occurrence) or not (subscriptions.ALL in reasons or occurrence.reason in reasons):
                return None
            raise errors.Refused(NO_API)
        return occurrence

    def perform(self, occurrences: Sequence[occurrences.Occurrence]) -> list[str]:
        """Send a notice of each occurrence; return what became of each in a word, or raise where one failed.

        All are tried before anything is raised, trouble that may pass first, so that a retry finds the rest done.
        """
        until = time.monotonic() + BUDGET_SECONDS
        outcomes: list[str] = []
        failures: list[errors.VmledgerError] = []
        for occurrence in occurrences:
            try:
                outcomes.append(self._handle(occurrence, until))
            except errors.VmledgerError as exc:
                failures.append(exc)
        if failures:
            raise next((exc for exc in failures if isinstance(exc, errors.Unavailable)), failures[0])
        return outcomes

    def close(self) -> None:
        """Close the connections to webhooks."""
        if self._sender is not None:
            self._sender.close()

    def _handle(self, occurrence: occurrences.Occurrence, until: float) -> str:
        if self._lookup is None:
            raise errors.Refused(NO_API)
        if self._too_old(occurrence):
            return "too old"
        if time.monotonic() > until:
            raise errors.Unavailable(
                "there was no time left for all events of the request: the rest is to be sent again"
            )
        subscription = self._lookup.subscription(occurrence.namespace, occurrence.name)
        if subscription is None:
            return "not subscribed"
        if not subscription.wants(occurrence.reason):
            return "reason not subscribed"
        secret = self._lookup.secret(subscription, occurrence.namespace)
        claim = self._notices.claim(occurrence, throttle=self._throttle(occurrence))
        if claim.answer is claims.Answer.IN_FLIGHT:
            raise errors.Unavailable("this occurrence, or another one of its HPA and reason, is being sent right now")
        if claim.warn:
            self._warn_implausible(claim)
        if claim.answer is not claims.Answer.CLAIMED:
            return str(claim.answer.value)
        self._tell(self._lookup, secret, claim, until, target=subscription.target)
        return "notified"

    def _tell(
        self,
        lookup: subscriptions.Lookup,
        secret: subscriptions.SecretName,
        claim: claims.Claim,
        until: float,
        *,
        target: str | None,
    ) -> None:
        """Send what is claimed, and mark it; give the claim back where it was not sent."""
        occurrence = claim.occurrence
        try:
            read = lookup.template(secret)
            self._warn_remarks(read, secret)
            request = read.render(placeholders.values_of(occurrence, target=target))
            self._the_sender().send(request, str(secret), until=until)
        except Exception as exc:
            if isinstance(exc, errors.Refused):
                lookup.forget(secret)
            self._release(claim)
            raise
        try:
            self._notices.mark(claim)
        except errors.VmledgerError as exc:
            # It was sent. To answer 503 would have it sent again; the claim keeps duplicates away for a minute.
            log.warning(
                "sent, but not marked as sent: %s", exc, extra={"action": "notice.unmarked", **_place(occurrence)}
            )

    def _release(self, claim: claims.Claim) -> None:
        try:
            self._notices.release(claim)
        except errors.VmledgerError as exc:
            log.warning(
                "not sent, and the claim could not be given back: it ends by itself within a minute: %s",
                exc,
                extra={"action": "notice.unreleased", **_place(claim.occurrence)},
            )

    def _the_sender(self) -> sender.Sender:
        with self._lock:
            if self._sender is None:
                from function.scaling import sender  # the first notice imports the HTTP client, not each start

                policy = address_policy.Policy(
                    denied=address_policy.Rules.read(self._webhooks.denied_hosts),
                    allowed=address_policy.Rules.read(self._webhooks.allowed_hosts),
                )
                self._sender = sender.Sender(
                    policy, self._api_hosts, timeout=self._webhooks.timeout, ca_file=self._webhooks.ca_file
                )
            return self._sender

    def _api_hosts(self) -> list[tuple[str, int]]:
        return self._api.addresses() if self._api else []

    def _too_old(self, occurrence: occurrences.Occurrence) -> bool:
        age = (datetime.datetime.now(datetime.UTC) - occurrence.occurred_at).total_seconds()
        return bool(self._settings.max_age) and age > self._settings.max_age

    def _throttle(self, occurrence: occurrences.Occurrence) -> int:
        if self._settings.throttle is not None:
            return self._settings.throttle
        return 0 if occurrence.reason == occurrences.RESCALED else FAILURE_THROTTLE

    def _warn_reference(self) -> None:
        """Warn at most once a minute: the source sends every Event of the cluster."""
        now = time.monotonic()
        if now < self._warn_at:
            return
        self._warn_at = now + WARN_AGAIN_SECONDS
        log.warning(
            "the event only refers to a Kubernetes Event and does not hold it: use mode: Resource in the"
            " ApiServerSource",
            extra={"action": "scaling.reference"},
        )

    def _warn_remarks(self, read: template.Template, secret: subscriptions.SecretName) -> None:
        for remark in read.remarks:
            if (str(secret), remark) not in self._warned and len(self._warned) < MOST_WARNED:
                self._warned.add((str(secret), remark))
                log.warning("%s is sent as it stands: %s", secret, remark, extra={"action": "scaling.placeholder"})

    def _warn_implausible(self, claim: claims.Claim) -> None:
        log.warning(
            "there are more Events about this HPA than its controller can have sent, %s at once and then one in %s"
            " seconds: %s so far notify nobody",
            rate.BURST,
            int(rate.REFILL.total_seconds()),
            claim.excess,
            extra={"action": "scaling.implausible", **_place(claim.occurrence)},
        )


def _place(occurrence: occurrences.Occurrence) -> dict[str, str]:
    return {"namespace": occurrence.namespace, "object": occurrence.name, "occurrence": occurrence.key}
