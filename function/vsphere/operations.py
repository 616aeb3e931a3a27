"""The door to Operations (vRealize, Aria, VCF): its suite-api, and the only room of vSphere that speaks HTTP.

One session and one token for the process. The token is acquired at the first use, kept, renewed once where a call is
answered 401, never on 403, and released at the end.
Every call ends within VROPS_TIMEOUT, whatever the network or a server that drips does.
Answers are read as JSON only where they say 2xx, because errors may be HTML. What the server or the HTTP library says
is never passed on: it may quote what we sent.
Paths and shapes: the OpenAPI documents of VCF Operations 9.0 and 9.1, and of vRealize Operations 8.10.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import http.client
import http.cookiejar
import json
import logging
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import requests
import requests.adapters
import urllib3

from function import errors, settings
from function.vsphere import maintenance

T = TypeVar("T")

log = logging.getLogger(__name__)

API = "/suite-api/api"
HOSTS = "/adapterkinds/VMWARE/resourcekinds/HostSystem/resources"
PAGE = 1000
MOST_PAGES = 100
MOST_BYTES = 64 * 2**20
RELEASE_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class _Call:
    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class _Answer:
    status: int
    content: bytes

    def json(self, what: str) -> dict[str, Any]:
        """Return the object that the answer holds; a proxy or a booting appliance may have answered with a page."""
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise errors.Unavailable(f"Operations answered {what} with something that is not its API's JSON")
        return value


class Operations:
    """Finds, marks and unmarks hosts. Each method takes ``end``, the monotonic time at which the event gives up."""

    def __init__(self, access: settings.OperationsAccess, part: settings.Operations) -> None:
        self._access = access
        self._url = access.url + API
        self._timeout = part.timeout
        self._auth_source = part.auth_source
        self._scheme = part.token_scheme
        self._vcenter_uuid = (part.vcenter_uuid or "").strip().lower()
        self._verify: bool | str = not part.insecure and (part.ca_file or True)
        self._session = _session()
        self._login = threading.Lock()
        self._token: str | None = None
        self._refusals = 0
        self.state = "not answered yet"
        """What the last call came to: "ok", or a sentence."""
        if part.insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def find(self, wanted: maintenance.Intent, end: float) -> maintenance.Host:
        """Return the one host that ``wanted`` means; raise :class:`errors.Refused` for none and for several."""
        hosts = list(self._hosts(wanted.host, end))
        found = maintenance.named(wanted, hosts)
        if found and self._vcenter_uuid:
            found = self._in_the_vcenter(found, end)
        elif found:
            vcenters = self._vcenters(end)
            if len(found) > 1 or len({vcenter.uuid or vcenter.host for vcenter in vcenters}) > 1:
                found = maintenance.in_vcenter(wanted, found, vcenters) or _unless_unknown(wanted, found, vcenters)
        if len(found) == 1:
            return self._now(found[0], end)
        raise errors.Refused(_none(wanted) if not found else _several(wanted, found))

    def mark(self, host: maintenance.Host, minutes: int, end: float) -> None:
        """Put a host into maintenance, for so many minutes, or without limit for 0."""
        query = {"duration": str(minutes)} if minutes else {}
        self._call(_Call("PUT", _maintained(host), query), "the mark of a host", end)

    def unmark(self, host: maintenance.Host, end: float) -> None:
        """End a host's maintenance."""
        self._call(_Call("DELETE", _maintained(host)), "the unmarking of a host", end)

    def close(self) -> None:
        """Release the token, so that it does not live on for hours; a failure is only logged."""
        token, self._token = self._token, None
        if token is not None:
            try:
                self._send(_Call("POST", "/auth/token/release"), time.monotonic() + RELEASE_SECONDS, token)
            except errors.VmledgerError as exc:
                log.info("the token was not released: %s", exc, extra={"action": "operations.release"})
        self._session.close()

    # --- what is there ---

    def _in_the_vcenter(self, hosts: list[maintenance.Host], end: float) -> list[maintenance.Host]:
        """Return the hosts of the vCenter that VROPS_VCENTER_UUID names, by their own uuid or by their adapter's."""
        mine: set[str] = set()
        if not all(host.vcenter_uuid for host in hosts):
            mine = {vcenter.adapter for vcenter in self._vcenters(end) if vcenter.uuid == self._vcenter_uuid}
        return [
            host
            for host in hosts
            if (host.vcenter_uuid == self._vcenter_uuid if host.vcenter_uuid else host.adapters & mine)
        ]

    def _hosts(self, name: str, end: float) -> Iterator[maintenance.Host]:
        """Yield each host whose name contains ``name``: that is how the API compares."""
        what = "the search for a host"
        seen: set[str] = set()
        for page in range(MOST_PAGES):
            query = {"name": name, "page": str(page), "pageSize": str(PAGE)}
            answer = self._call(_Call("GET", HOSTS, query), what, end).json(what)
            resources = _list(answer, "resourceList")
            fresh = [host for host in map(_host, resources) if host and host.identifier not in seen]
            seen.update(host.identifier for host in fresh)
            yield from fresh
            total = _at(answer, "pageInfo", "totalCount")
            # The links of the answer are no help: NEXT is there on the last page too.
            if not fresh or (len(seen) >= total if isinstance(total, int) else len(resources) < PAGE):
                return

    def _now(self, host: maintenance.Host, end: float) -> maintenance.Host:
        """Return the host with its states as they are now: a search tells what its index knows."""
        what = "the state of a host"
        answer = self._call(_Call("GET", _resource(host)), what, end, unless=404)
        # One that is gone meanwhile is refused by the call that acts on it.
        now = _host(answer.json(what)) if answer.status != 404 else None
        return dataclasses.replace(host, states=now.states) if now and now.states else host

    def _vcenters(self, end: float) -> list[maintenance.VCenter]:
        """Return the vCenters that Operations monitors."""
        what = "the list of adapters"
        answer = self._call(_Call("GET", "/adapters", {"adapterKindKey": "VMWARE"}), what, end).json(what)
        adapters = _list(answer, "adapterInstancesInfoDto")
        return [vcenter for vcenter in map(_vcenter, adapters) if vcenter]

    # --- how it is asked ---

    def _call(self, call: _Call, what: str, end: float, *, unless: int | None = None) -> _Answer:
        """Return the answer to an authorised call if it says 2xx, or the status ``unless``.

        ``what`` names the call in the error's sentence.
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

    def _acquired(self, end: float, *, instead_of: str | None = None) -> str:
        """Return the token, acquired where there is none; or a new one instead of one that does not work any more."""
        if not self._login.acquire(timeout=max(end - time.monotonic(), 0)):
            raise errors.Unavailable("Operations did not let us in in time")
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
        answer = self._send(_Call("POST", "/auth/token/acquire", body=body), end)
        if answer.status in (400, 401):  # some versions say 400 for an authSource that is not there
            raise self._refused(
                "Operations refuses the login: are VROPS_USER, VROPS_PASSWORD and VROPS_AUTH_SOURCE right?"
            )
        _check(answer, "the login")
        token = answer.json("the login").get("token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise errors.Unavailable("Operations answered the login without a token")
        return token

    def _refused(self, sentence: str) -> errors.VmledgerError:
        """Return the error for a refused login: it may be for now; the second time it is taken for good."""
        self._refusals += 1
        return errors.Unavailable(sentence) if self._refusals == 1 else errors.Refused(sentence)

    def _send(self, call: _Call, end: float, token: str | None = None) -> _Answer:
        """Send one request, and return whatever is answered; raise where nothing is."""
        seconds = min(self._timeout, end - time.monotonic())
        if seconds <= 0:
            raise errors.Unavailable("Operations is too slow: the event was given up")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"{self._scheme} {token}"
        return _within(seconds, lambda: self._exchange(call, headers, seconds))

    def _exchange(self, call: _Call, headers: Mapping[str, str], seconds: float) -> _Answer:
        end = time.monotonic() + seconds
        content = bytearray()
        with self._session.request(
            call.method,
            self._url + call.path,
            params=call.query,
            json=call.body,
            headers=headers,
            timeout=seconds,
            allow_redirects=False,  # what is sent is for this address alone
            verify=self._verify,
            stream=True,
        ) as response:
            while piece := response.raw.read1(2**16, decode_content=True):
                content += piece
                if len(content) > MOST_BYTES or time.monotonic() > end:
                    raise requests.Timeout
            return _Answer(response.status_code, bytes(content))


def _session() -> requests.Session:
    """Return a session that takes nothing from the environment (netrc, proxies, CA bundles) and keeps no cookies."""
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=64)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return what ``call`` returns; raise :class:`errors.Unavailable` where it fails or takes longer.

    requests bounds each wait for a byte, not the whole: not a server that drips, and not the look-up of a name.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # handed to the caller
            future.set_exception(exc)

    threading.Thread(target=work, daemon=True, name="operations").start()
    try:
        return future.result(seconds)
    except FOREIGN as exc:
        raise errors.Unavailable(_sentence(exc)) from exc


FOREIGN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    TimeoutError,
    OSError,
    ValueError,
)
"""What requests, and what it stands on, raise for a call that was not answered."""


def _sentence(exc: BaseException) -> str:
    if isinstance(exc, requests.exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            return "the certificate of Operations cannot be verified: name its CA in VROPS_CA_FILE"
        return "Operations cannot be reached: TLS fails"
    if isinstance(exc, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
        return "Operations did not answer in time"
    return f"Operations cannot be reached ({type(exc).__name__})"


def _check(answer: _Answer, what: str) -> None:
    """Raise for an answer that does not say 2xx, by what the sender of the event should do next."""
    status = answer.status
    if 200 <= status < 300:
        return
    if status >= 500 or status in (408, 429):
        raise errors.Unavailable(f"Operations answers {what} with {status} for now")
    if status == 403:
        raise errors.Refused(f"Operations forbids {what} (403): VROPS_USER lacks the permission")
    if status < 400:
        raise errors.Refused(f"Operations redirects {what} ({status}): VROPS_URL is not its own address")
    raise errors.Refused(f"Operations refuses {what} with {status}")


# --- what the answers say ---------------------------------------------------------------------------------------------


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _list(answer: Mapping[str, Any], name: str) -> list[Any]:
    found = answer.get(name)
    return found if isinstance(found, list) else []


def _identifiers(resource: Any) -> dict[str, str]:
    """Return what identifies a resource, by name: VMEntityObjectID, VMEntityVCID, VCURL."""
    entries = _at(resource, "resourceKey", "resourceIdentifiers")
    found = {}
    for entry in entries if isinstance(entries, list) else []:
        name, value = _at(entry, "identifierType", "name"), _at(entry, "value")
        if isinstance(name, str) and isinstance(value, str) and value:
            found[name] = value
    return found


def _host(resource: Any) -> maintenance.Host | None:
    """Return the host that a resource describes; None for a resource of another kind, or one that cannot be told."""
    identifier, name = _at(resource, "identifier"), _at(resource, "resourceKey", "name")
    kind = _at(resource, "resourceKey", "resourceKindKey")
    if (
        not isinstance(identifier, str)
        or not identifier
        or not isinstance(name, str)
        or kind not in (None, "HostSystem")
    ):
        return None
    identifiers = _identifiers(resource)
    states = [state for state in _list(resource, "resourceStatusStates") if isinstance(state, dict)]
    return maintenance.Host(
        identifier=identifier,
        name=name,
        moref=identifiers.get("VMEntityObjectID"),
        vcenter_uuid=identifiers["VMEntityVCID"].lower() if "VMEntityVCID" in identifiers else None,
        adapters=frozenset(str(state.get("adapterInstanceId")) for state in states),
        states=tuple(str(state.get("resourceState")) for state in states),
    )


def _vcenter(adapter: Any) -> maintenance.VCenter | None:
    """Return the vCenter that an adapter instance collects from."""
    identifiers = _identifiers(adapter)
    if "VCURL" not in identifiers or _at(adapter, "resourceKey", "adapterKindKey") not in (None, "VMWARE"):
        return None
    uuid = identifiers.get("VMEntityVCID")
    return maintenance.VCenter(
        adapter=str(_at(adapter, "id")),
        host=maintenance.host_of(identifiers["VCURL"]),
        uuid=uuid.lower() if uuid else None,
    )


def _resource(host: maintenance.Host) -> str:
    return f"/resources/{urllib.parse.quote(host.identifier, safe='')}"


def _maintained(host: maintenance.Host) -> str:
    return f"{_resource(host)}/maintained"


# --- why a host was not found -----------------------------------------------------------------------------------------


def _unless_unknown(
    wanted: maintenance.Intent, found: list[maintenance.Host], vcenters: list[maintenance.VCenter]
) -> list[maintenance.Host]:
    """Return none where the wanted vCenter is monitored and has no such host; raise where it is not known at all."""
    if any(vcenter.host == wanted.vcenter for vcenter in vcenters):
        return []
    if len(found) > 1:
        raise errors.Refused(_several(wanted, found))
    raise errors.Refused(
        f"Operations monitors several vCenters, and none of them as {errors.shown(wanted.vcenter)}: the host"
        f" {errors.shown(wanted.host)} was not touched; VROPS_VCENTER_UUID can say which vCenter is meant"
    )


def _described(wanted: maintenance.Intent) -> str:
    moref = f" with the id {errors.shown(wanted.moref)}" if wanted.moref else ""
    return f"{errors.shown(wanted.host)}{moref} of vCenter {errors.shown(wanted.vcenter)}"


def _none(wanted: maintenance.Intent) -> str:
    return (
        f"Operations shows no host {_described(wanted)}: it is not monitored, or the scope of the account VROPS_USER"
        " hides it"
    )


def _several(wanted: maintenance.Intent, found: list[maintenance.Host]) -> str:
    return (
        f"Operations shows {len(found)} hosts that could be {_described(wanted)}, and none was touched:"
        " VROPS_VCENTER_UUID can say which vCenter is meant"
    )
