"""The door to the Kubernetes API.

Every call ends in time, and every failure becomes one of :mod:`errors` here, without the words of a client or a server.
Which API is called, and with which identity: :mod:`function.clients.cluster_access`.

The clients are imported and set up at the first use: that takes 0.2 seconds, which most starts need not pay.
Objects are read as plain dictionaries, not as lightkube's types: lightkube 1.0.1 on msgspec 0.22 crashed the process
when several threads decoded their first typed object at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import pathlib
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from function import errors, measures, settings
from function.clients import answers, list_pages

if TYPE_CHECKING:
    from function.clients import cluster_access, http

Object = list_pages.Object
Page = list_pages.Page

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
ANSWER_BYTES = 3 * 2**20
"""An object has 1.5 MiB at most in etcd, and a Secret a third more as JSON."""
PAGE_SECONDS = 30.0
"""For a page: 500 VMs are megabytes, which the API server first reads from etcd."""
PAGE_BYTES = 24 * 2**20
"""In a page; 500 VMs have 4 to 10 MB. Where they have more, smaller pages are requested."""
SMALLER = 4
"""A page that was too long is requested again with so many times fewer objects."""
PAUSE_SECONDS = 1.0
"""Before a page is requested again, where the API gives no Retry-After."""
LONGEST_PAUSE = 10.0
"""The most that a Retry-After is waited for, in seconds."""
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

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


HPAS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SECRETS = Resource("", "v1", "Secret", "secrets")
VMS = Resource("kubevirt.io", "v1", "VirtualMachine", "virtualmachines")
VMIS = Resource("kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances")
CONTROLLER_REVISIONS = Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", namespaced=False)


class Kube:
    """The Kubernetes API of the cluster that the settings name; one client for each process, shared by its threads."""

    def __init__(
        self, part: settings.Kubernetes, *, service_account: str = SERVICE_ACCOUNT, pause: float = PAUSE_SECONDS
    ) -> None:
        self._settings = part
        self._service_account = service_account
        self._pause = pause
        self._lock = threading.Lock()
        self._access: cluster_access.Access | None = None
        self._state = "not used yet"

    def get(
        self, resource: Resource, *, name: str, namespace: str | None = None, surely: bool = False
    ) -> Object | None:
        """Return the object, or None where there is none; a namespaced one needs a namespace.

        surely: a 404 must name the object, because the caller deletes what is gone; a wrong server answers 404, too.

        Raises :class:`errors.Unavailable` where the API gives no usable answer now, :class:`errors.Refused` where it
        forbids to read it, and for a name that no object can have.
        """
        reading = answers.Reading("get", resource.plural, namespace, name if surely else "")
        return self._object(_path(resource, namespace, name), reading)

    def expand(self, namespace: str, name: str) -> Object | None:
        """Return a VirtualMachine with its instancetype and preference written out in its template.

        KubeVirt's subresource ``expand-spec``; None where there is no such VM. Raises as :meth:`get` does.
        """
        path = _path(_EXPANDED, namespace, name) + "/expand-spec"
        return self._object(path, answers.Reading("get", "virtualmachines/expand-spec", namespace))

    def document(self, path: str) -> Object | None:
        """Return the JSON object that the API serves at ``path``; None where it answers 404.

        Raises as :meth:`get` does.
        """
        return self._object(path, answers.Reading("get", path, None))

    def namespace(self) -> str:
        """Return the namespace that the function lives in: its ServiceAccount's, or that of the KUBECONFIG's context.

        Raises :class:`errors.Unavailable` where no file has it.
        """
        try:
            if self._settings.kubeconfig:
                from function.clients import kubeconfig

                return kubeconfig.chosen(self._settings.kubeconfig).namespace
            return pathlib.Path(self._service_account, "namespace").read_text().strip()
        except Exception:  # the file is a person's, and may be wrong in any way
            raise errors.Unavailable("no file that can be read says in which namespace the function lives") from None

    def cluster_uid(self) -> str:
        """Return what distinguishes this cluster from any other: the uid of its namespace kube-system."""
        found = self.get(NAMESPACES, name="kube-system") or {}
        metadata = found.get("metadata")
        uid = metadata.get("uid") if isinstance(metadata, dict) else None
        if not (isinstance(uid, str) and uid):
            raise errors.Unavailable("the Kubernetes API shows no namespace kube-system with a uid")
        return uid

    def pages(self, resource: Resource, *, limit: int = 500, item: Any = Any) -> Iterator[Page]:
        """Yield a list of all namespaces page by page, as it was at one moment: the first request is a consistent read.

        Each page is requested when the caller wants it, so only one is in memory. It is requested once more where the
        API does not answer, or answers with 429 or 5xx, and with fewer objects where it is too long. The list is
        complete when the iterator ends by itself.

        item: a TypedDict with the parts of each object that are read; by default all. Most of an object is fields of
        its managers, and it takes long to make Python objects of them and drop these.

        Otherwise it raises :class:`errors.ListExpired` where the API no longer has that moment,
        :class:`errors.Unavailable` where an answer fails, is damaged or belongs to another list, or where the list has
        no end, :class:`errors.Refused` where listing is forbidden or the resource is not installed.
        """
        progress, token = list_pages.Progress(resource, limit, item), ""
        while True:
            with self._noting():
                page, token = self._page(resource, progress, token)
                progress.add(page, token)
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
        return self._connect().address

    def state(self) -> str:
        """Return how the last call went: "ok", a sentence, or that there was none."""
        return self._state

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            access, self._access = self._access, None
        if access is not None:
            access.close()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except errors.Unavailable as exc:
            self._state = str(exc)
            raise
        self._state = "ok"

    def _object(self, path: str, reading: answers.Reading) -> Object | None:
        with self._noting():
            answer = self._ask("get", path, ANSWER_SECONDS, ANSWER_BYTES)
            if answer.status == 404:
                if reading.name and not answers.is_about(answer, reading.name):
                    raise errors.Unavailable(
                        f"the Kubernetes API answered 404 to the reading of {reading.what} {reading.name}, and not"
                        " about that object: is the resource installed, and is this the API server?"
                    )
                return None
            if answer.status != 200:
                raise answers.refusal(answer, reading)
            with answers.translated():
                found = answer.json()
            if not isinstance(found, dict):
                raise errors.Unavailable(
                    f"the Kubernetes API answered the reading of {reading.what} without a JSON object"
                )
            return found

    def _page(self, resource: Resource, progress: list_pages.Progress, token: str) -> tuple[Page, str]:
        """Return a page, and the token of the next one, '' after the last."""
        while True:
            try:
                answer = self._page_answer(resource, progress.limit, token)
                with _collector_paused(), answers.translated():
                    return list_pages.read(resource, answer.json(decoder=progress.decoder))
            except answers.TooLong:
                if progress.limit == 1:
                    raise
                progress.limit = max(1, progress.limit // SMALLER)
                log.info(
                    "a page of %s is too long: it is requested with fewer objects",
                    resource.plural,
                    extra={"action": "kube.smaller", "limit": progress.limit},
                )

    def _page_answer(self, resource: Resource, limit: int, token: str) -> http.Answer:
        query = {"limit": str(limit)} | ({"continue": token} if token else {})
        path = f"{_path(resource)}?{urllib.parse.urlencode(query)}"
        answer = self._asked_again(path, f"a page of {resource.plural} is requested once more")
        if answer.status == 410:
            raise errors.ListExpired(
                f"the Kubernetes API let the list of {resource.plural} expire before it was read to its end"
            )
        if answer.status == 404:
            raise errors.Refused(
                f"the Kubernetes API has no {resource.plural} of {resource.group}/{resource.version}:"
                " they are not installed in this cluster"
            )
        if answer.status != 200:
            raise answers.refusal(answer, answers.Reading("list", resource.plural, None))
        return answer

    def _asked_again(self, path: str, sentence: str) -> http.Answer:
        """Return the answer for a page; where the first attempt may fail by chance, that to the second."""
        pause = self._pause
        try:
            answer = self._ask("list", path, PAGE_SECONDS, PAGE_BYTES)
            if answer.status != 429 and answer.status < 500:
                return answer
            retry_after = answer.retry_after()
            pause = min(self._pause if retry_after is None else retry_after, LONGEST_PAUSE)
        except answers.NoAnswer as exc:
            if isinstance(exc, answers.TooLong):
                raise
        log.info(sentence, extra={"action": "kube.again"})
        time.sleep(pause)
        return self._ask("list", path, PAGE_SECONDS, PAGE_BYTES)

    def _ask(self, verb: str, path: str, seconds: float, most_bytes: int) -> http.Answer:
        """Return the answer to a GET; one with status 200 is whole. verb: ``get`` or ``list``."""
        from function.clients import http

        limits = http.Limits(connect=CONNECT_SECONDS, seconds=seconds, body_bytes=most_bytes)
        access = self._connect()
        status: int | None = None
        try:
            with answers.translated():
                answer = access.ask(path, limits)
                if answer.status == 200:
                    answer.whole()
            status = answer.status
        finally:
            if measures.recorder is not None:
                measures.recorder.add(measures.KUBERNETES_CALLS, (verb, measures.outcome(status)))
        return answer

    def _connect(self) -> cluster_access.Access:
        from function.clients import cluster_access

        with self._lock:
            if self._access is None:
                self._access = cluster_access.opened(self._settings, self._service_account)
            return self._access


_EXPANDED = Resource("subresources.kubevirt.io", "v1", "VirtualMachine", "virtualmachines")


def _path(resource: Resource, namespace: str | None = None, name: str | None = None) -> str:
    """Return the path of an object, or of the list of all; refuse a name that could lead to another path."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    if name is None:
        return f"{root}/{resource.plural}"
    possible = NAME.fullmatch(name) and (NAMESPACE.fullmatch(namespace or "") or not resource.namespaced)
    if not possible:
        place = f"{namespace}/{name}" if resource.namespaced else name
        raise errors.Refused(f"a {resource.kind} {errors.shown(place)} cannot exist: Kubernetes allows no such names")
    scope = f"/namespaces/{namespace}" if resource.namespaced else ""
    return f"{root}{scope}/{resource.plural}/{name}"


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which would walk a page's containers again and again while they are made.

    With it, that was 1.6 of the 2.8 seconds of CPU that a list of 10,000 VMs took.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()
