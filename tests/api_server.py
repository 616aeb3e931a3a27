"""The API server of a model cluster over real HTTP: objects that live, change and die, and lists of them in pages.

::

    with api_server.running() as api:                     # or ApiServer().start() ... .stop(), for a process of its own
        made = api.create(machines.vm("web"))             # what the watch would have said: step and object
        api.update(kubernetes.VMS, "shop", "web", {"status": {"printableStatus": "Running"}})      # a merge patch
        gone = api.delete(kubernetes.VMS, "shop", "web")  # gone.object has the deletion's own resourceVersion
        api.objects(kubernetes.VMS)                       # {(namespace, name): object}: the truth
        settings = settings.Settings.from_env({"KUBECONFIG": api.kubeconfig(tmp_path)})

What can go wrong with lists, each once (``times``), counted from the call on, for every resource or just ``of`` one::

        api.expire_after(3)                               # three pages are served, the next is 410 Expired
        api.fail_after(1, 503, retry_after=2)             # one page, then 503
        api.cut_after(1)                                  # one page, then half a page and a closed connection
        api.spoil_after(1, lambda page: page["metadata"].pop("resourceVersion"))       # one page, then a damaged one
        api.on_page(lambda page: api.create(...))         # while the list runs: called before a page leaves
        api.delay = 0.5                                   # seconds before each answer
        api.drip = 0.5                                    # seconds between the tenths of each answer
        api.forbidden.add(("list", "virtualmachines"))    # 403
        api.absent.add("virtualmachines")                 # 404: KubeVirt is not installed
        api.compact()                                     # every list that is under way expires
        saved = api.backup(); ...; api.rewind(saved)      # etcd restored: objects and revisions as they were then
        api.calm()                                        # nothing goes wrong any more

It behaves as kube-apiserver does with etcd, where a client can tell: one revision counter for all kinds; a write that
changes nothing is none; the generation rises with the spec, not with metadata and status; a list shows one revision
on all of its pages, in the order of etcd's keys; items of built-in kinds lack apiVersion and kind; large answers are
gzipped. There are no watches, and no finalizers: a test that wants the update before a delete makes it itself.
Objects are kept as the bytes that are sent, so 10,000 of them are served in well under a second.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import gzip
import http.server
import json
import pathlib
import re
import socket
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from function.clients import kubernetes
from tests import cluster

Object = kubernetes.Object
Key = tuple[kubernetes.Resource, str, str]
"""Resource, namespace ('' where the cluster is the scope) and name."""

TOKEN = cluster.TOKEN
RESOURCES = (
    kubernetes.HPAS,
    kubernetes.SECRETS,
    kubernetes.VMS,
    kubernetes.VMIS,
    kubernetes.CONTROLLER_REVISIONS,
    kubernetes.NAMESPACES,
)
SUBRESOURCES = "/apis/subresources.kubevirt.io/v1"
SNAPSHOTS = 20
"""Lists that may be under way; the oldest expires when there is one more."""
GZIP_BYTES = 128 * 1024
"""From this size on kube-apiserver compresses."""


class WatchEvent(NamedTuple):
    """What a watch says about a change: "add", "update" or "delete", and the object."""

    step: str
    object: Object

    @property
    def type(self) -> str:
        """The type of the CloudEvent that Knative's ApiServerSource makes of it."""
        return f"dev.knative.apiserver.resource.{self.step}"


class Reply(NamedTuple):
    """An answer; with ``cut`` the connection ends after half of the body."""

    status: int
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012  # nobody writes to it
    cut: bool = False


@dataclasses.dataclass
class _Fault:
    """Something that befalls ``times`` pages after ``after`` others were served."""

    after: int
    times: int
    of: kubernetes.Resource | None
    befall: Callable[[Reply], Reply]


class Backup(NamedTuple):
    """All objects of a moment, and its revision."""

    objects: dict[Key, bytes]
    revision: int


@dataclasses.dataclass(frozen=True)
class _Call:
    """A request for an object (``name``), a list or a subresource."""

    resource: kubernetes.Resource
    namespace: str
    name: str
    query: dict[str, str]


class Cluster:
    """The model: objects, one revision counter for all of them, and the moments that lists under way still show."""

    def __init__(self, *, revision: int = 1000) -> None:
        self.revision = revision
        self.now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)
        self.manager = ""
        """The field manager that is noted, with the time, at each write; none where it is empty."""
        self._objects: dict[Key, bytes] = {}
        self._snapshots: dict[tuple[int, kubernetes.Resource, str], list[tuple[str, bytes]]] = {}
        self._lock = threading.RLock()
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})

    def create(self, given: Object) -> WatchEvent:
        """Store a new object; what it lacks of uid, generation and creationTimestamp is added. A status is kept."""
        with self._lock:
            metadata = given["metadata"]
            key = (_resource(given), metadata.get("namespace", ""), metadata["name"])
            if key in self._objects:
                raise ValueError(f"{key[0].kind} {key[1]}/{key[2]} already exists")
            added = {
                "uid": str(uuid.uuid4()),
                "generation": 1,
                "creationTimestamp": self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            return self._store("add", key, {**given, "metadata": {**added, **metadata}})

    def update(self, resource: kubernetes.Resource, namespace: str, name: str, patch: Object) -> WatchEvent | None:
        """Apply a JSON merge patch (RFC 7386); None where it changes nothing, and then nobody hears of it."""
        with self._lock:
            old = self.get(resource, namespace, name)
            new = _merged(old, patch)
            if new == old:
                return None
            if _counted(new) != _counted(old):
                new["metadata"]["generation"] += 1
            return self._store("update", (resource, namespace, name), new)

    def delete(self, resource: kubernetes.Resource, namespace: str, name: str) -> WatchEvent:
        """Remove an object; the event's is the last one stored, with the resourceVersion of the deletion."""
        with self._lock:
            event = self._store("delete", (resource, namespace, name), self.get(resource, namespace, name))
            del self._objects[resource, namespace, name]
            return event

    def get(self, resource: kubernetes.Resource, namespace: str, name: str) -> Object:
        """Return an object; KeyError where there is none."""
        with self._lock:
            return _decoded(self._objects[resource, namespace, name])

    def objects(self, resource: kubernetes.Resource) -> dict[tuple[str, str], Object]:
        """Return all objects of a resource by namespace and name."""
        with self._lock:
            return {key[1:]: _decoded(data) for key, data in self._objects.items() if key[0] == resource}

    def seed(self, objects: Iterable[Object]) -> None:
        """Store many objects that nobody heard of."""
        for each in objects:
            self.create(each)

    @property
    def uid(self) -> str:
        """The cluster's identity: the uid of namespace kube-system."""
        return str(self.get(kubernetes.NAMESPACES, "", "kube-system")["metadata"]["uid"])

    def backup(self) -> Backup:
        """Return the cluster as it is, for :meth:`rewind`."""
        with self._lock:
            return Backup(dict(self._objects), self.revision)

    def rewind(self, to: Backup) -> None:
        """Restore the cluster: it counts revisions on from the backup's, so they come again with other objects."""
        with self._lock:
            self._objects, self.revision = dict(to.objects), to.revision
            self._snapshots.clear()

    def compact(self) -> None:
        """Let every list that is under way expire."""
        with self._lock:
            self._snapshots.clear()

    def _store(self, step: str, key: Key, found: Object) -> WatchEvent:
        self.revision += 1
        found["metadata"]["resourceVersion"] = str(self.revision)
        if self.manager and step != "delete":
            note = {"manager": self.manager, "operation": "Update", "time": f"{self.now():%Y-%m-%dT%H:%M:%SZ}"}
            found["metadata"]["managedFields"] = [note]
        self._objects[key] = msgspec.json.encode(found)
        return WatchEvent(step, _decoded(self._objects[key]))

    def _snapshot(self, revision: int, call: _Call) -> list[tuple[str, bytes]]:
        """Return all objects of a list as they were at the revision, by etcd's key and in its order."""
        key = (revision, call.resource, call.namespace)
        if key not in self._snapshots:
            self._snapshots[key] = sorted(
                (f"{namespace}/{name}", data)
                for (resource, namespace, name), data in self._objects.items()
                if resource == call.resource and call.namespace in ("", namespace)
            )
            while len(self._snapshots) > SNAPSHOTS:
                del self._snapshots[next(iter(self._snapshots))]
        return self._snapshots[key]


class ApiServer(Cluster):
    """The cluster's API over HTTP, and what may befall it; ``calls`` is what was asked: path?query."""

    def __init__(self, *, revision: int = 1000) -> None:
        super().__init__(revision=revision)
        self.port = 0
        self.tokens = {TOKEN}
        self.calls: list[str] = []
        self.delay: float = 0
        self.drip: float = 0
        self.compress = True
        self.forbidden: set[tuple[str, str]] = set()
        """Verb and plural, such as ("list", "virtualmachines")."""
        self.absent: set[str] = set()
        """Plurals of resources that this cluster does not know."""
        self.instancetypes: dict[str, tuple[int, str]] = {"u1.large": (2, "8Gi")}
        """CPUs and memory by name, for expand-spec where no ControllerRevision says it."""
        self._faults: list[_Fault] = []
        self._watchers: list[Callable[[Object], object]] = []
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def expire_after(self, pages: int, *, times: int = 1, of: kubernetes.Resource | None = None) -> None:
        """Answer 410 Expired after so many pages."""
        self._fault(pages, times, of, lambda _: _failure(410, "Expired", {"continue": _token(-1, "")}))

    def fail_after(
        self,
        pages: int,
        status: int,
        *,
        times: int = 1,
        of: kubernetes.Resource | None = None,
        retry_after: object = None,
    ) -> None:
        """Answer another status after so many pages."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._fault(pages, times, of, lambda _: _failure(status, "AsAsked")._replace(headers=headers))

    def cut_after(
        self, pages: int, *, times: int = 1, of: kubernetes.Resource | None = None, announced: bool = True
    ) -> None:
        """Send half a page after so many, and hang up; not ``announced``: without the length that tells."""

        def cut(reply: Reply) -> Reply:
            return reply._replace(cut=True, headers={} if announced else {"Connection": "close"})

        self._fault(pages, times, of, cut)

    def spoil_after(
        self, pages: int, change: Callable[[Object], object], *, times: int = 1, of: kubernetes.Resource | None = None
    ) -> None:
        """Let ``change`` damage a page after so many."""

        def spoil(reply: Reply) -> Reply:
            page = _decoded(reply.body)
            change(page)
            return reply._replace(body=json.dumps(page).encode())

        self._fault(pages, times, of, spoil)

    def replace_after(self, pages: int, reply: Reply, *, times: int = 1, of: kubernetes.Resource | None = None) -> None:
        """Answer something else after so many pages."""
        self._fault(pages, times, of, lambda _: reply)

    def on_page(self, callback: Callable[[Object], object]) -> None:
        """Call back with each page of a list, once it is made up and before it is sent."""
        self._watchers.append(callback)

    def calm(self) -> None:
        """Forget all faults, callbacks, delays and prohibitions."""
        with self._lock:
            self._faults.clear()
            self._watchers.clear()
            self.forbidden.clear()
            self.absent.clear()
            self.delay = self.drip = 0

    def _fault(self, after: int, times: int, of: kubernetes.Resource | None, befall: Callable[[Reply], Reply]) -> None:
        with self._lock:
            self._faults.append(_Fault(after, times, of, befall))

    def _befallen(self, resource: kubernetes.Resource, reply: Reply) -> Reply:
        """Return the page, or what the first fault that is due makes of it."""
        armed = [fault for fault in self._faults if fault.times and fault.of in (None, resource)]
        due = next((fault for fault in armed if fault.after <= 0), None)
        if due is None:
            for fault in armed:
                fault.after -= 1
            return reply
        due.times -= 1
        return due.befall(reply)

    def start(self) -> ApiServer:
        """Listen on 127.0.0.1, on the same port as before if there was one."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Hang up on everybody and listen no more; the objects stay."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.hang_up()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: pathlib.Path, token: str = TOKEN) -> str:
        """Write a KUBECONFIG file; return its path."""
        path = folder / f"kubeconfig-{self.port}"
        path.write_text(json.dumps(cluster.kubeconfig(self.url, token)))
        return str(path)

    def answer(self, path: str, authorization: str) -> Reply:
        """Answer a GET."""
        self.calls.append(path)
        time.sleep(self.delay)
        if authorization.removeprefix("Bearer ") not in self.tokens:
            return _failure(401, "Unauthorized")
        call = _call(path)
        if call is None or call.resource.plural in self.absent:
            return Reply(404, b"404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})
        expands = path.startswith(SUBRESOURCES)
        verb, plural = "get" if call.name else "list", call.resource.plural + "/expand-spec" * expands
        if (verb, plural) in self.forbidden:
            return _failure(403, "Forbidden")
        if not call.name:
            return self._list(call)
        with self._lock:
            data = self._objects.get((call.resource, call.namespace, call.name))
            if data is None:
                return _failure(404, "NotFound", details={"name": call.name, "kind": call.resource.plural})
            return Reply(200, msgspec.json.encode(self._expanded(_decoded(data))) if expands else data)

    def _list(self, call: _Call) -> Reply:
        """Answer one page."""
        with self._lock:
            page = self._page(call)
            reply = self._befallen(call.resource, page) if page.status == 200 else page
        for callback in list(self._watchers) if reply.status == 200 else ():
            callback(_decoded(page.body))
        return reply

    def _page(self, call: _Call) -> Reply:
        token = call.query.get("continue")
        if token and "resourceVersion" in call.query:
            return _failure(400, "BadRequest")
        try:
            revision, after = _position(token) if token else (self.revision, "")
        except (ValueError, TypeError, KeyError):
            return _failure(400, "BadRequest")
        if revision < 0:  # the token out of a 410: the rest, as it is now
            revision = self.revision
        elif token and (revision, call.resource, call.namespace) not in self._snapshots:
            return _failure(410, "Expired", {"continue": _token(-1, after)})
        entries = [entry for entry in self._snapshot(revision, call) if entry[0] > after]
        limit = int(call.query.get("limit", "0")) or len(entries)
        metadata: Object = {"resourceVersion": str(revision)}
        if len(entries) > limit:
            metadata |= {
                "continue": _token(revision, entries[limit - 1][0]),
                "remainingItemCount": len(entries) - limit,
            }
        items = [data for _, data in entries[:limit]]
        return Reply(200, _list_of(call.resource, metadata, items))

    def _expanded(self, machine: Object) -> Object:
        """Return a VM as KubeVirt's expand-spec does: what the instancetype holds is written into the template."""
        matcher = machine["spec"].pop("instancetype", None)
        machine["spec"].pop("preference", None)
        if matcher:
            kept = machine.get("status", {}).get("instancetypeRef", {}).get("controllerRevisionRef", {}).get("name")
            key = (
                kubernetes.CONTROLLER_REVISIONS,
                machine["metadata"]["namespace"],
                kept or matcher.get("revisionName", ""),
            )
            if key in self._objects:
                said = _decoded(self._objects[key])["data"]["spec"]
                cpus, memory = said["cpu"]["guest"], said["memory"]["guest"]
            else:
                cpus, memory = self.instancetypes[matcher["name"]]
            domain = machine["spec"]["template"]["spec"]["domain"]
            domain |= {"cpu": {"cores": 1, "sockets": cpus, "threads": 1}, "memory": {"guest": memory}}
        return machine


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are sent one by one
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # one side hung up
            super().handle()

    def do_GET(self) -> None:
        api = self.server.api
        status, body, headers, cut = api.answer(self.path, self.headers.get("Authorization") or "")
        headers = {"Content-Type": "application/json", **headers}
        if api.compress and len(body) > GZIP_BYTES and "gzip" in (self.headers.get("Accept-Encoding") or ""):
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        if headers.get("Connection") != "close":
            headers["Content-Length"] = str(len(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(body[: len(body) // 2] if cut else body, api.drip)
        self.close_connection = self.close_connection or cut

    def _send(self, data: bytes, drip: float) -> None:
        size = len(data) // 10 + 1 if drip else len(data) or 1
        for start in range(0, len(data), size):
            self.wfile.write(data[start : start + size])
            time.sleep(drip)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: ApiServer) -> None:
        self.api = api
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def hang_up(self) -> None:
        """Close every connection."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(**options: Any) -> Iterator[ApiServer]:
    """Serve a model cluster for as long as the block runs."""
    api = ApiServer(**options).start()
    try:
        yield api
    finally:
        api.stop()


def _resource(found: Object) -> kubernetes.Resource:
    return next(each for each in RESOURCES if (_api_version(each), each.kind) == (found["apiVersion"], found["kind"]))


def _api_version(resource: kubernetes.Resource) -> str:
    return f"{resource.group}/{resource.version}".lstrip("/")


def _decoded(data: bytes) -> Object:
    found: Object = msgspec.json.decode(data)
    return found


def _merged(old: Object, patch: Object) -> Object:
    """Apply a JSON merge patch."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            below = new.get(key)
            new[key] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            new[key] = value
    return new


def _counted(found: Object) -> Object:
    """Return what the generation counts changes of."""
    return {key: value for key, value in found.items() if key not in ("metadata", "status")}


def _call(path: str) -> _Call | None:
    """Return what a path asks for; None where no resource has it."""
    parts = urllib.parse.urlsplit(path)
    query = {key: values[0] for key, values in urllib.parse.parse_qs(parts.query).items()}
    expand = re.fullmatch(SUBRESOURCES + r"/namespaces/([^/]+)/virtualmachines/([^/]+)/expand-spec", parts.path)
    if expand:
        return _Call(kubernetes.VMS, expand[1], expand[2], query)
    for resource in RESOURCES:
        root = f"/apis/{_api_version(resource)}" if resource.group else f"/api/{resource.version}"
        scope = r"(?:/namespaces/(?P<namespace>[^/]+))?" if resource.namespaced else "(?P<namespace>)"
        found = re.fullmatch(rf"{re.escape(root)}{scope}/{resource.plural}(?:/(?P<name>[^/]+))?", parts.path)
        if found:
            return _Call(resource, found["namespace"] or "", found["name"] or "", query)
    return None


def _list_of(resource: kubernetes.Resource, metadata: Object, items: list[bytes]) -> bytes:
    if "." not in resource.group:  # a built-in kind: apiVersion and kind are said once, for the list
        bare = [
            {key: value for key, value in _decoded(item).items() if key not in ("apiVersion", "kind")} for item in items
        ]
        items = [msgspec.json.encode(item) for item in bare]
    head = {"apiVersion": _api_version(resource), "kind": f"{resource.kind}List", "metadata": metadata}
    return msgspec.json.encode(head)[:-1] + b',"items":[' + b",".join(items) + b"]}"


def _token(revision: int, after: str) -> str:
    said = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": after + "\0"}).encode()
    return base64.urlsafe_b64encode(said).decode().rstrip("=")


def _position(token: str) -> tuple[int, str]:
    """Return the revision and the key after which the list goes on."""
    said = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return int(said["rv"]), str(said["start"]).rstrip("\0")


def _failure(code: int, reason: str, metadata: Object | None = None, details: Object | None = None) -> Reply:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": metadata or {}, "status": "Failure"}
    body |= {"details": details} if details else {}
    return Reply(code, json.dumps({**body, "message": "as asked", "reason": reason, "code": code}).encode())
