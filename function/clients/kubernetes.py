"""The door to the Kubernetes API; the only room that imports its client, lightkube.

In a cluster by the ServiceAccount's files, on a laptop by KUBECONFIG, which wins.
The token's file is read again when the API no longer takes the token (lightkube's BearerTokenFileAuth), which is how a
token that the kubelet replaces each hour stays good.
Every call has an end, and what the client raises becomes one of :mod:`errors` here, without the client's words.

The client is imported and set up at the first use: an import of 0.2 seconds, which most starts need not pay.
Of lightkube we take the access: its reading of KUBECONFIG, its tokens, plugins and TLS, as an HTTP client.
Objects are read as plain dictionaries, not as lightkube's types: lightkube 1.0.1 on msgspec 0.22 crashed the process
when several threads decoded their first typed object at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from function import errors, settings

if TYPE_CHECKING:
    import httpx2

Object = dict[str, Any]
"""A Kubernetes object as JSON says it."""

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
PAGE_SECONDS = 30.0
"""A page of 500 VMs is megabytes, which the API server reads from etcd first."""
PAUSE_SECONDS = 1.0
"""Before a page is asked for once more, where the API does not say how long."""
LONGEST_PAUSE = 10.0
LAST_VERSION = 2**63 - 1
"""etcd's revisions are int64."""
NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
"""RFC 1123 label, the name of a namespace."""
NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)
"""RFC 1123 subdomain, the name of an HPA or a Secret."""


@dataclasses.dataclass(frozen=True)
class Resource:
    """A kind of object of the Kubernetes API; ``group`` is empty for the core."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True


HPAS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SECRETS = Resource("", "v1", "Secret", "secrets")
VMS = Resource("kubevirt.io", "v1", "VirtualMachine", "virtualmachines")
VMIS = Resource("kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances")
CONTROLLER_REVISIONS = Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", namespaced=False)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a list; every page of one list has its ``resource_version``.

    ``remaining`` is how many objects come after it, where the API says so: an estimate.
    Objects of built-in kinds, unlike KubeVirt's, lack apiVersion and kind in a list.
    """

    items: list[Object]
    resource_version: int
    remaining: int | None


@dataclasses.dataclass(frozen=True)
class _Connected:
    """The HTTP client, which knows the token and whom to trust, and the URL of the API."""

    http: httpx2.Client
    server: str


@dataclasses.dataclass(frozen=True)
class _Reading:
    """What is read, in the words of a Role: "list" and "virtualmachines"; without a namespace in the whole cluster.

    name: of the object that a 404 must be about; '' for any.
    """

    verb: str
    what: str
    namespace: str | None
    name: str = ""


@dataclasses.dataclass(frozen=True)
class _Answer:
    """An answer of the API; status 0 where there was none, and then ``body`` is the name of the client's error."""

    status: int
    body: bytes | bytearray
    retry_after: str = ""

    @property
    def passes(self) -> bool:
        """Whether the same request may fare better in a moment."""
        return self.status in (0, 429) or self.status >= 500

    def pause(self, seconds: float) -> float:
        """Return how many seconds the API asks to wait, within reason; where it does not, ``seconds``."""
        known = self.retry_after.isascii() and self.retry_after.isdigit()
        return min(float(self.retry_after), LONGEST_PAUSE) if known else seconds


class Kube:
    """The Kubernetes API of the cluster that the settings name; one client for each process, shared by its threads."""

    def __init__(
        self, part: settings.Kubernetes, *, service_account: str = SERVICE_ACCOUNT, pause: float = PAUSE_SECONDS
    ) -> None:
        self._settings = part
        self._service_account = service_account
        self._pause = pause
        self._lock = threading.Lock()
        self._connected: _Connected | None = None
        self._state = "not used yet"

    def get(
        self, resource: Resource, *, name: str, namespace: str | None = None, surely: bool = False
    ) -> Object | None:
        """Return the object, or None where there is none; a namespaced one needs a namespace.

        surely: a 404 must be about the object, because something is deleted if it is gone.

        Raises :class:`errors.Unavailable` where the API gives no usable answer now, :class:`errors.Refused` where it
        forbids the reading, and for a name that no object can have.
        """
        reading = _Reading("get", resource.plural, namespace, name if surely else "")
        return self._object(_path(resource, namespace, name), reading)

    def expand(self, namespace: str, name: str) -> Object | None:
        """Return a VirtualMachine with what its instancetype and preference say written into its template.

        KubeVirt's subresource ``expand-spec``; None where there is no such VM. Raises as :meth:`get` does.
        """
        path = _path(_EXPANDED, namespace, name) + "/expand-spec"
        return self._object(path, _Reading("get", "virtualmachines/expand-spec", namespace))

    def cluster_uid(self) -> str:
        """Return what tells this cluster from any other: the uid of its namespace kube-system."""
        found = self.get(NAMESPACES, name="kube-system") or {}
        metadata = found.get("metadata")
        uid = metadata.get("uid") if isinstance(metadata, dict) else None
        if not (isinstance(uid, str) and uid):
            raise errors.Unavailable("the Kubernetes API shows no namespace kube-system with a uid")
        return uid

    def pages(self, resource: Resource, *, limit: int = 500) -> Iterator[Page]:
        """Yield a list of all namespaces page by page, as it was at one moment: the first request is a consistent read.

        Each page is asked for when the caller wants it, so memory holds no more than the caller does; once more where
        the API does not answer, or with 429 or 5xx. The list is whole when the iterator ends by itself; else it raises
        :class:`errors.ListExpired` where the API no longer knows the moment, :class:`errors.Unavailable` where an
        answer fails, is damaged or belongs to another list, :class:`errors.Refused` where listing is forbidden or the
        resource is not installed.
        """
        token, version = "", None
        while True:
            with self._noting():
                page, following = self._page(resource, limit, token)
                if version not in (None, page.resource_version):
                    raise _damaged(resource, "changed its resourceVersion from one page to the next")
                if following and following == token:
                    raise _damaged(resource, "does not go on")
            version, token = page.resource_version, following
            yield page
            if not token:
                return
            del page  # before the next one comes

    def addresses(self) -> list[tuple[str, int]]:
        """Return the hosts and ports of the API: as this process reaches it, and as Pods do."""
        found = [self.address()]
        if self._settings.host:
            found.append((self._settings.host, self._settings.port))
        return found

    def address(self) -> tuple[str, int]:
        """Return the host, a name or an address, and the port of the API."""
        server = self._connect().server
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
            connected.http.close()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except errors.Unavailable as exc:
            self._state = str(exc)
            raise
        self._state = "ok"

    def _object(self, path: str, reading: _Reading) -> Object | None:
        with self._noting():
            answer = self._ask(path, ANSWER_SECONDS)
            if answer.status == 404:
                if reading.name and not _is_about(answer, reading.name):
                    raise errors.Unavailable(
                        f"the Kubernetes API answered 404 to the reading of {reading.what} {reading.name}, and not"
                        " about that object: is the resource installed, and is this the API server?"
                    )
                return None
            if answer.status != 200:
                raise _translate(answer, reading)
            found = _decoded(answer.body)
            if not isinstance(found, dict):
                raise errors.Unavailable(f"the Kubernetes API answered something else to the reading of {reading.what}")
            return found

    def _page(self, resource: Resource, limit: int, token: str) -> tuple[Page, str]:
        """Return a page, and the token of the one that follows it, '' after the last."""
        query = {"limit": str(limit)} | ({"continue": token} if token else {})
        answer = self._ask(_path(resource), PAGE_SECONDS, query)
        if answer.passes:
            log.info("a page of %s is asked for once more", resource.plural, extra={"action": "kube.again"})
            time.sleep(answer.pause(self._pause))
            answer = self._ask(_path(resource), PAGE_SECONDS, query)
        if answer.status == 410:
            raise errors.ListExpired(
                f"the Kubernetes API let the list of {resource.plural} expire before it was read to its end"
            )
        if answer.status == 404:
            raise errors.Refused(
                f"the Kubernetes API knows no {resource.plural} of {resource.group}/{resource.version}:"
                " they are not installed in this cluster"
            )
        if answer.status != 200:
            raise _translate(answer, _Reading("list", resource.plural, None))
        with _collector_paused():
            return _page_of(resource, _decoded(answer.body))

    def _ask(self, path: str, seconds: float, query: dict[str, str] | None = None) -> _Answer:
        """Return the answer to a GET, whole, within so many seconds."""
        connected = self._connect()
        import httpx2
        import lightkube.core.exceptions

        until = time.monotonic() + seconds
        timeout = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
        body = bytearray()
        try:
            with connected.http.stream("GET", path, params=query, timeout=timeout) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > until:
                        return _Answer(0, b"ReadTimeout")
                return _Answer(response.status_code, body, response.headers.get("Retry-After", ""))
        except (httpx2.TransportError, httpx2.DecodingError) as exc:
            return _Answer(0, type(exc).__name__.encode())
        except (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            httpx2.StreamError,
            ValueError,
            TypeError,
            LookupError,  # what a plugin of the KUBECONFIG file says lacks the token
        ) as exc:
            raise _no_answer(type(exc).__name__) from None
        except (lightkube.core.exceptions.ConfigError, OSError) as exc:
            raise _unusable(exc) from None

    def _connect(self) -> _Connected:
        with self._lock:
            if self._connected is None:
                self._connected = self._set_up()
            return self._connected

    def _set_up(self) -> _Connected:
        from lightkube.config import client_adapter

        # A proxy may stand before a laptop, never between a Pod and its API.
        trust_env = self._settings.kubeconfig is not None
        try:
            access = self._config()
            http = client_adapter.Client(access, client_adapter.ConnectionParams(trust_env=trust_env))
        except Exception as exc:  # a file that a person wrote: YAML, certificates and types may fail in any way
            raise _unusable(exc) from None
        return _Connected(http, access.cluster.server)

    def _config(self) -> Any:
        from lightkube.config import kubeconfig, models

        if self._settings.kubeconfig:
            return kubeconfig.KubeConfig.from_file(self._settings.kubeconfig).get()
        host = self._settings.host or ""
        return kubeconfig.KubeConfig.from_one(
            cluster=models.Cluster(
                server=f"https://{f'[{host}]' if ':' in host else host}:{self._settings.port}",
                certificate_auth=f"{self._service_account}/ca.crt",
            ),
            user=models.User(token_file=f"{self._service_account}/token"),
        ).get()


_EXPANDED = Resource("subresources.kubevirt.io", "v1", "VirtualMachine", "virtualmachines")


def _path(resource: Resource, namespace: str | None = None, name: str | None = None) -> str:
    """Return the path of an object, or of the list of all of them; a name that no object can have leads elsewhere."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    if name is None:
        return f"{root}/{resource.plural}"
    known = NAME.fullmatch(name) and (NAMESPACE.fullmatch(namespace or "") or not resource.namespaced)
    if not known:
        place = f"{namespace}/{name}" if resource.namespaced else name
        raise errors.Refused(f"there can be no {resource.kind} {errors.shown(place)}: no such names")
    scope = f"/namespaces/{namespace}" if resource.namespaced else ""
    return f"{root}{scope}/{resource.plural}/{name}"


def _decoded(body: bytes | bytearray) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise _no_answer(type(exc).__name__) from None


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from walking a page's containers again and again while they come.

    That was 1.6 of the 2.8 seconds of CPU that a list of 10,000 VMs took.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def _page_of(resource: Resource, said: Any) -> tuple[Page, str]:
    """Return a page and the token of the next; raise :class:`errors.Unavailable` for what is no page of this list."""
    if not isinstance(said, dict) or said.get("kind") != f"{resource.kind}List":
        raise _damaged(resource, f"is no {resource.kind}List")
    metadata, items = said.get("metadata"), said.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _damaged(resource, "has no items that are objects")
    if not isinstance(metadata, dict):
        raise _damaged(resource, "has no metadata")
    version = metadata.get("resourceVersion")
    if not (isinstance(version, str) and re.fullmatch(r"[0-9]{1,19}", version) and int(version) <= LAST_VERSION):
        raise _damaged(resource, "has no resourceVersion that is a number")
    following, remaining = metadata.get("continue") or "", metadata.get("remainingItemCount")
    if not isinstance(following, str):
        raise _damaged(resource, "has a continue token that is no text")
    if not isinstance(remaining, int):
        remaining = None
    if remaining and not following:
        raise _damaged(resource, f"ends with {remaining} objects missing")
    return Page(items, int(version), remaining), following


def _is_about(answer: _Answer, name: str) -> bool:
    """Whether a 404 can be about the object of that name; of a path that is not served it says something else."""
    if not answer.body:
        return True
    try:
        said = _decoded(answer.body)
    except errors.Unavailable:
        return False
    if not isinstance(said, dict) or said.get("kind") != "Status":
        return False
    details = said.get("details")
    return not isinstance(details, dict) or details.get("name") == name


def _translate(answer: _Answer, reading: _Reading) -> errors.VmledgerError:
    verb, what = reading.verb, reading.what
    if answer.status == 403:
        place = f"namespace {reading.namespace}" if reading.namespace else "the whole cluster"
        role = "Role or ClusterRole" if reading.namespace else "ClusterRole"
        return errors.Refused(
            f"the Kubernetes API forbids this function to {verb} {what} in {place}:"
            f" its ServiceAccount needs a {role} with the verb {verb} on {what}"
        )
    if answer.status == 401:
        return errors.Unavailable("the Kubernetes API does not take this function's token (401)")
    if answer.status:
        return errors.Unavailable(f"the Kubernetes API answered {answer.status} to the reading of {what}")
    return _no_answer(answer.body.decode())


def _no_answer(reason: str) -> errors.Unavailable:
    return errors.Unavailable(f"the Kubernetes API gives no usable answer now ({reason})")


def _damaged(resource: Resource, problem: str) -> errors.Unavailable:
    return errors.Unavailable(f"the Kubernetes API's list of {resource.plural} {problem}")


def _unusable(exc: Exception) -> errors.Unavailable:
    return errors.Unavailable(
        "the access to the Kubernetes API cannot be set up: the file that KUBECONFIG names, or the ServiceAccount's"
        f" token and certificate, cannot be used ({type(exc).__name__})"
    )
