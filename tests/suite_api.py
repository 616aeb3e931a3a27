"""A suite-api over real HTTP, for the tests of the vSphere mirror: it behaves as vRealize Operations 8 and VCF 9 do.

Names match in part, in any case; tokens expire; a refused scheme and 403 come back as HTML; resources of several
vCenters stand side by side; lists are paged; marks have a state for each adapter instance.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import pathlib
import re
import ssl
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any

API = "/suite-api/api"
HTML = "<html><head><title>Apache</title></head><body><h1>Not for you</h1></body></html>"
PASSWORD = "p\"ä$s\\w'o}rd"

Reply = tuple[int, Any]
"""A status, and JSON, or a page as text."""


@dataclasses.dataclass
class Resource:
    """A host as the API knows it."""

    name: str
    moref: str | None
    vcid: str | None
    adapter: str
    state: str = "STARTED"
    identifier: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    def json(self) -> dict[str, Any]:
        """Return the resource's DTO."""
        identifiers = {"VMEntityName": self.name, "VMEntityObjectID": self.moref, "VMEntityVCID": self.vcid}
        return {
            "identifier": self.identifier,
            "resourceKey": {
                "name": self.name,
                "adapterKindKey": "VMWARE",
                "resourceKindKey": "HostSystem",
                "resourceIdentifiers": _identifiers(identifiers),
            },
            "resourceStatusStates": [
                {
                    "adapterInstanceId": self.adapter,
                    "resourceStatus": "DATA_RECEIVING",
                    "resourceState": self.state,
                    "statusMessage": "",
                }
            ],
        }


def _identifiers(values: dict[str, str | None]) -> list[dict[str, Any]]:
    return [
        {"identifierType": {"name": name, "dataType": "STRING", "isPartOfUniqueness": True}, "value": value}
        for name, value in values.items()
        if value is not None
    ]


class SuiteApi:
    """The model and the server over it; ``calls`` is what was asked: "METHOD path?query", without the API's prefix."""

    def __init__(self) -> None:
        self.user, self.password, self.auth_source = "mirror", PASSWORD, "LOCAL"
        self.schemes = {"vrealizeopstoken", "opstoken"}
        self.tokens: dict[str, int] = {}
        self.token_uses = 10**6
        self.resources: list[Resource] = []
        self.vcenters: dict[str, tuple[str, str | None]] = {}
        """By adapter instance: VCURL and VMEntityVCID."""
        self.page_size = 1000
        self.index_is_old = False
        """The search shows every host as it was when it was added."""
        self.durations: list[str | None] = []
        self.calls: list[str] = []
        self.fault: Callable[[str], Reply | None] = lambda _: None
        """Answers instead of the API where it returns something; given what stands in ``calls``."""
        self.drip: float = 0
        """Seconds between the bytes of each answer."""
        self.slow: Callable[[str], float] = lambda _: 0.0
        """Seconds before a call takes effect."""
        self._lock = threading.Lock()
        api = self

        class Handler(_Handler):
            model = api

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def vcenter(self, url: str, vcid: str | None = None) -> str:
        """Monitor a vCenter; return its adapter instance."""
        adapter = str(uuid.uuid4())
        self.vcenters[adapter] = (url, vcid)
        return adapter

    def host(self, name: str, moref: str | None, adapter: str, **more: Any) -> Resource:
        """Add a host of that vCenter."""
        vcid = more.pop("vcid", self.vcenters[adapter][1])
        resource = Resource(name, moref, vcid, adapter, **more)
        self.resources.append(resource)
        return resource

    def acts(self) -> list[str]:
        """Return the calls that change something, as "PUT" and "DELETE" with the host's name."""
        names = {resource.identifier: resource.name for resource in self.resources}
        found = [re.fullmatch(r"(PUT|DELETE) /resources/([^/]+)/maintained(\?.*)?", call) for call in self.calls]
        return [f"{match[1]} {names[match[2]]}" for match in found if match]

    def logins(self) -> int:
        """Return how many tokens were asked for."""
        return sum("token/acquire" in call for call in self.calls)

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> Reply:
        """Answer one request."""
        parts = urllib.parse.urlsplit(path)
        call = f"{method} {path.removeprefix(API)}"
        with self._lock:
            self.calls.append(call)
        time.sleep(self.slow(call))
        with self._lock:
            fault = self.fault(call)
            if fault is not None:
                return fault
            query = {key: values[0] for key, values in urllib.parse.parse_qs(parts.query).items()}
            if not parts.path.startswith(API + "/"):
                return 404, HTML
            path = parts.path.removeprefix(API)
            if (method, path) == ("POST", "/auth/token/acquire"):
                return self._acquire(json.loads(body))
            refused = self._refused(authorization)
            return refused or self._authorised(method, path, query, authorization.partition(" ")[2])

    def _acquire(self, given: dict[str, str]) -> Reply:
        wanted = {"username": self.user, "password": self.password}
        if given != wanted and given != {**wanted, "authSource": self.auth_source}:
            return 401, {"message": f"wrong: {given}", "httpStatusCode": 401, "apiErrorCode": 1510}
        token = f"{uuid.uuid4()}::{uuid.uuid4()}"
        self.tokens[token] = self.token_uses
        return 200, {"token": token, "validity": 1470421325035, "expiresAt": "Friday", "roles": []}

    def _refused(self, authorization: str) -> Reply | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() not in self.schemes:
            return 401, HTML
        if self.tokens.get(token, 0) <= 0:
            message = f'The provided token for auth scheme "{scheme}" is either invalid or has expired: {token}'
            return 401, {"message": message, "httpStatusCode": 401, "apiErrorCode": 1512}
        self.tokens[token] -= 1
        return None

    def _authorised(self, method: str, path: str, query: dict[str, str], token: str) -> Reply:
        if (method, path) == ("POST", "/auth/token/release"):
            del self.tokens[token]
            return 200, ""
        if (method, path) == ("GET", "/adapterkinds/VMWARE/resourcekinds/HostSystem/resources"):
            return 200, self._page(query)
        if (method, path) == ("GET", "/adapters"):
            return 200, {"adapterInstancesInfoDto": [self._adapter(*item) for item in self.vcenters.items()]}
        found = re.fullmatch(r"/resources/([^/]+)(/maintained)?", path)
        resource = next((one for one in self.resources if found and one.identifier == found[1]), None)
        if resource and found and method == "GET" and not found[2]:
            return 200, resource.json()
        if resource is None or method not in ("PUT", "DELETE"):
            return 404, {"message": f"No such Resource - {path}.", "httpStatusCode": 404, "apiErrorCode": 404}
        self.durations += [query.get("duration")] if method == "PUT" else []
        marked = "MAINTAINED" if "duration" in query or "end" in query else "MAINTAINED_MANUAL"
        resource.state = marked if method == "PUT" else "STARTED"
        return 200, ""

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        matching = [one.json() for one in self.resources if query.get("name", "").lower() in one.name.lower()]
        for one in matching if self.index_is_old else ():
            one["resourceStatusStates"][0]["resourceState"] = "STARTED"
        page, size = int(query.get("page", "0")), min(int(query.get("pageSize", "1000")), self.page_size)
        return {
            "pageInfo": {"totalCount": len(matching), "page": page, "pageSize": size},
            "links": [{"href": f"{API}/resources?page={page + 1}", "rel": "NEXT", "name": "next"}],
            "resourceList": matching[page * size : (page + 1) * size],
        }

    def _adapter(self, identifier: str, vcenter: tuple[str, str | None]) -> dict[str, Any]:
        return {
            "id": identifier,
            "resourceKey": {
                "name": "a vCenter",
                "adapterKindKey": "VMWARE",
                "resourceKindKey": "VMwareAdapter Instance",
                "resourceIdentifiers": _identifiers({"VCURL": vcenter[0], "VMEntityVCID": vcenter[1]}),
            },
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the answer is sent in pieces
    model: SuiteApi

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the caller gave up, or trusts us not
            super().handle()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, content = self.model.answer(str(self.command), self.path, self.headers.get("Authorization") or "", body)
        is_page = isinstance(content, str)
        data = (content if is_page else json.dumps(content)).encode()
        self.send_response(status)
        if data:
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
        self.send_header("Set-Cookie", "JSESSIONID=1; Path=/")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for start in range(0, len(data), 1 if self.model.drip else len(data) or 1):
            self.wfile.write(data[start : start + 1] if self.model.drip else data)
            time.sleep(self.model.drip)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # http.server's names

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with 5, the default, one of many that connect at once waits for a second


@contextlib.contextmanager
def running(certificate: pathlib.Path | None = None) -> Iterator[SuiteApi]:
    """Serve a suite-api for as long as the block runs; over TLS where there is a certificate with its key."""
    api = SuiteApi()
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        api.server.socket = context.wrap_socket(api.server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=api.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()
        thread.join()
