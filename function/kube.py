"""The door to the Kubernetes API; the only room that imports its client, lightkube.

In a cluster by the ServiceAccount's files, on a laptop by KUBECONFIG, which wins.
The token's file is read again when the API no longer takes the token (lightkube's BearerTokenFileAuth), which is how a
token that the kubelet replaces each hour stays good.
Every call has an end, and what the client raises becomes one of :mod:`errors` here, without the client's words.

The client is imported and set up at the first use: an import of 0.2 seconds, which most starts need not pay.
Objects are read as plain dictionaries (lightkube's generic resources): lightkube 1.0.1 on msgspec 0.22 crashed the
process when several threads decoded their first typed object at once.
The one typed thing left, the Status of an error, is decoded once while the lock is held, before anybody else can.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any

from function import config, errors

if TYPE_CHECKING:
    import lightkube

Object = dict[str, Any]
"""A Kubernetes object as JSON says it."""

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
"""RFC 1123 label, the name of a namespace."""
NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)
"""RFC 1123 subdomain, the name of an HPA or a Secret."""


@dataclasses.dataclass(frozen=True)
class Resource:
    """A kind of namespaced object of the Kubernetes API; ``group`` is empty for the core."""

    group: str
    version: str
    kind: str
    plural: str


HPAS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SECRETS = Resource("", "v1", "Secret", "secrets")
RESOURCES = (HPAS, SECRETS)


@dataclasses.dataclass(frozen=True)
class _Connected:
    """The client, and its class of each resource."""

    client: lightkube.Client
    classes: dict[Resource, Any]


class Kube:
    """The Kubernetes API of the cluster that the settings name; one client for each process, shared by its threads."""

    def __init__(self, settings: config.Settings, *, service_account: str = SERVICE_ACCOUNT) -> None:
        self._settings = settings
        self._service_account = service_account
        self._lock = threading.Lock()
        self._connected: _Connected | None = None
        self._state = "not used yet"

    def get(self, resource: Resource, *, namespace: str, name: str) -> Object | None:
        """Return the object, or None where there is none.

        Raises :class:`errors.Unavailable` where the API gives no usable answer now, :class:`errors.Refused` where it
        forbids the reading, and for a name that no object can have.
        """
        if not (NAMESPACE.fullmatch(namespace) and NAME.fullmatch(name)):
            raise errors.Refused(
                f"there can be no {resource.kind} {errors.shown(f'{namespace}/{name}')}: no such names"
            )
        try:
            found = self._get(resource, namespace, name)
        except errors.Unavailable as exc:
            self._state = str(exc)
            raise
        self._state = "ok"
        return found

    def address(self) -> tuple[str, int]:
        """Return the host, a name or an address, and the port of the API."""
        server = self._connect().client.config.cluster.server
        try:
            parts = urllib.parse.urlsplit(server)
            port = parts.port or (80 if parts.scheme == "http" else 443)
        except ValueError:
            raise errors.Unavailable("the address of the Kubernetes API in the KUBECONFIG file is no URL") from None
        return (parts.hostname or "").rstrip("."), port

    def state(self) -> str:
        """Return how the last call went: "ok", a sentence, or that there was none."""
        return self._state

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            connected, self._connected = self._connected, None
        if connected is not None:
            connected.client.close()

    def _get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        connected = self._connect()
        import httpx2
        import lightkube.core.exceptions
        import msgspec

        try:
            return dict(connected.client.get(connected.classes[resource], name, namespace=namespace))
        except (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            httpx2.StreamError,
            msgspec.MsgspecError,
            ValueError,
            TypeError,
            LookupError,  # what a plugin of the KUBECONFIG file says lacks the token
        ) as exc:
            status = _status(exc)
            if status == 404:
                return None
            raise _translate(exc, status, resource, namespace) from None
        except (lightkube.core.exceptions.ConfigError, OSError) as exc:
            raise _unusable(exc) from None

    def _connect(self) -> _Connected:
        with self._lock:
            if self._connected is None:
                self._connected = self._set_up()
            return self._connected

    def _set_up(self) -> _Connected:
        import httpx2
        import lightkube
        from lightkube.models import meta_v1

        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        # A proxy may stand before a laptop, never between a Pod and its API.
        trust_env = self._settings.kubeconfig is not None
        try:
            client = lightkube.Client(self._config(), timeout=timeout, trust_env=trust_env)
        except Exception as exc:  # a file that a person wrote: YAML, certificates and types may fail in any way
            raise _unusable(exc) from None
        meta_v1.Status.from_dict({"code": 404, "details": {"causes": [{}]}})
        return _Connected(client, {each: _class_of(each) for each in RESOURCES})

    def _config(self) -> Any:
        from lightkube.config import kubeconfig, models

        if self._settings.kubeconfig:
            return kubeconfig.KubeConfig.from_file(self._settings.kubeconfig).get()
        host = self._settings.kubernetes_host or ""
        return kubeconfig.KubeConfig.from_one(
            cluster=models.Cluster(
                server=f"https://{f'[{host}]' if ':' in host else host}:{self._settings.kubernetes_port}",
                certificate_auth=f"{self._service_account}/ca.crt",
            ),
            user=models.User(token_file=f"{self._service_account}/token"),
        ).get()


@functools.cache
def _class_of(resource: Resource) -> Any:
    """Return lightkube's class of a resource; its registry takes each once in a process."""
    from lightkube import generic_resource

    return generic_resource.create_namespaced_resource(resource.group, resource.version, resource.kind, resource.plural)


def _status(exc: BaseException | None) -> int | None:
    """Return the HTTP status behind ``exc``; lightkube may fail over an error's body and hide the error itself."""
    while exc is not None:
        response = getattr(exc, "response", None)
        if response is not None:
            return int(response.status_code)
        exc = exc.__cause__ or exc.__context__
    return None


def _translate(exc: Exception, status: int | None, resource: Resource, namespace: str) -> errors.VmledgerError:
    if status == 403:
        return errors.Refused(
            f"the Kubernetes API forbids this function to get {resource.plural} in namespace {namespace}:"
            f" its ServiceAccount needs a Role or ClusterRole with the verb get on {resource.plural}"
        )
    if status == 401:
        return errors.Unavailable("the Kubernetes API does not take this function's token (401)")
    if status is not None and status >= 300:
        return errors.Unavailable(f"the Kubernetes API answered {status} to the reading of {resource.plural}")
    return errors.Unavailable(f"the Kubernetes API gives no usable answer now ({type(exc).__name__})")


def _unusable(exc: Exception) -> errors.Unavailable:
    return errors.Unavailable(
        "the access to the Kubernetes API cannot be set up: the file that KUBECONFIG names, or the ServiceAccount's"
        f" token and certificate, cannot be used ({type(exc).__name__})"
    )
