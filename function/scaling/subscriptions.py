"""Whether an HPA asks for notices, and the Secret with its webhook, as they stand in the cluster.

What is read is kept for seconds: a burst of Events costs one reading, and a changed Secret is used soon.
What is missing is not kept, nor is what was of no use, so that a repair is seen at once.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from typing import Any

from function import errors, settings
from function.clients import kubernetes
from function.scaling import template
from function.settings import variables

KEPT_SECONDS = 4.0
MOST_KEPT = 500
PATIENCE_SECONDS = 15.0
"""How long one request waits for the reading that another began: longer than that can take."""
REASONS = "hpa-event/reasons"
ALL = "*"

Key = tuple[kubernetes.Resource, str, str]


@dataclasses.dataclass(frozen=True)
class Subscription:
    """What the annotations of an HPA ask for.

    secret: the annotation's text. reasons: those that notify, or ``*``. target: what the HPA scales, Kind/name.
    """

    secret: str
    reasons: tuple[str, ...]
    target: str | None

    def wants(self, reason: str) -> bool:
        """Whether an occurrence with this reason notifies."""
        return ALL in self.reasons or reason in self.reasons


@dataclasses.dataclass(frozen=True, slots=True)
class SecretName:
    """A Secret that an HPA may use."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name}"


class Lookup:
    """Reads HPAs and Secrets through the Kubernetes API."""

    def __init__(self, api: kubernetes.Kube, part: settings.Scaling) -> None:
        self._api = api
        self._settings = part
        self._lock = threading.Lock()
        self._kept: dict[Key, tuple[float, kubernetes.Object]] = {}
        self._reading: dict[Key, concurrent.futures.Future[kubernetes.Object | None]] = {}

    def subscription(self, namespace: str, name: str) -> Subscription | None:
        """Return what the HPA asks for; None where it is gone, or has no annotation.

        Raises :class:`errors.Unavailable` or :class:`errors.Refused`.
        """
        found = self._read((kubernetes.HPAS, namespace, name))
        annotations = _part(found, "metadata", "annotations")
        secret = annotations.get(self._settings.annotation)
        if secret is None:
            return None
        reasons = variables.words(str(annotations.get(REASONS) or "")) or self._settings.reasons
        scaled = _part(found, "spec", "scaleTargetRef")
        target = f"{scaled['kind']}/{scaled['name']}" if scaled.get("kind") and scaled.get("name") else None
        return Subscription(str(secret), reasons, target)

    def secret(self, subscription: Subscription, namespace: str) -> SecretName:
        """Return the Secret that an HPA in ``namespace`` names; raise :class:`errors.Refused` where it may not."""
        given = subscription.secret.strip()
        owner, slash, name = given.rpartition("/")
        owner = owner if slash else namespace
        annotation = f"the annotation {self._settings.annotation} of the HPA"
        if not (kubernetes.NAMESPACE.fullmatch(owner) and kubernetes.NAME.fullmatch(name)):
            raise errors.Refused(f"{annotation} must be namespace/secret or secret, and is {errors.shown(given)}")
        allowed = (namespace, *self._settings.secret_namespaces)
        if owner not in allowed and ALL not in allowed:
            raise errors.Refused(
                f"{annotation} names a Secret of namespace {owner}, and HPAs of namespace {namespace} may not use those"
                " (HPA_SECRET_NAMESPACES)"
            )
        return SecretName(owner, name)

    def template(self, secret: SecretName) -> template.Template:
        """Return the Secret's template; raise :class:`errors.Refused` where it is missing or malformed."""
        found = self._read((kubernetes.SECRETS, secret.namespace, secret.name))
        if found is None:
            raise errors.Refused(f"{secret} does not exist, and the annotation of the HPA names it")
        return template.read(template.contents(found, str(secret)), str(secret))

    def forget(self, secret: SecretName) -> None:
        """Read the Secret anew next time: it, or what it leads to, was of no use."""
        with self._lock:
            self._kept.pop((kubernetes.SECRETS, secret.namespace, secret.name), None)

    def _read(self, key: Key) -> kubernetes.Object | None:
        """Return the object, kept or read; requests that want the same at the same time share one reading."""
        with self._lock:
            until, kept = self._kept.get(key, (0.0, {}))
            if until > time.monotonic():
                return kept
            reading = self._reading.get(key)
            if mine := reading is None:
                reading = self._reading[key] = concurrent.futures.Future()
        if mine:
            self._lead(key, reading)
        try:
            return reading.result(PATIENCE_SECONDS)
        except concurrent.futures.TimeoutError:
            raise errors.Unavailable("the Kubernetes API did not answer in time") from None

    def _lead(self, key: Key, reading: concurrent.futures.Future[kubernetes.Object | None]) -> None:
        resource, namespace, name = key
        try:
            found = self._api.get(resource, namespace=namespace, name=name)
        except Exception as exc:
            self._settle(key, None)
            reading.set_exception(exc)
        except BaseException:  # this request is being killed; those that wait for it are not
            self._settle(key, None)
            reading.set_exception(errors.Unavailable("the reading from the Kubernetes API was cut short"))
            raise
        else:
            self._settle(key, found)
            reading.set_result(found)

    def _settle(self, key: Key, found: kubernetes.Object | None) -> None:
        now = time.monotonic()
        with self._lock:
            del self._reading[key]
            self._kept = {old: entry for old, entry in self._kept.items() if entry[0] > now}
            if found is not None and len(self._kept) < MOST_KEPT:
                self._kept[key] = (now + KEPT_SECONDS, found)


def _part(found: kubernetes.Object | None, *path: str) -> dict[str, Any]:
    """Return the object inside an object; an empty one where there is none."""
    value: Any = found
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
