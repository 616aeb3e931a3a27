"""Finds the host in Operations that an event means, marks it and unmarks it.

A host is marked only if exactly one fits, because a mark on the wrong host hides its alerts.

Paths: the OpenAPI documents of VCF Operations 9.0 and 9.1, and of vRealize Operations 8.10.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterator

from function import errors, settings
from function.vsphere import maintenance, resources, session

HOSTS = "/adapterkinds/VMWARE/resourcekinds/HostSystem/resources"
PAGE = 100
"""Hosts in a page of a search."""
MOST_HOSTS = 10_000
"""In the answer to a search; a vCenter manages 2,500 at most."""


class Operations:
    """Finds, marks and unmarks hosts. Each method takes ``end``, the monotonic time at which the event gives up."""

    def __init__(self, access: settings.OperationsAccess, part: settings.Operations) -> None:
        self._session = session.Session(access, part)
        self._vcenter_uuid = (part.vcenter_uuid or "").strip().lower()

    @property
    def state(self) -> str:
        """How the last call went: "ok", or a sentence."""
        return self._session.state

    def find(self, wanted: maintenance.Intent, end: float) -> maintenance.Host:
        """Return the one host that ``wanted`` is about; raise :class:`errors.Refused` for none and for several."""
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
        """Put a host into maintenance for so many minutes; 0 is without limit."""
        query = {"duration": str(minutes)} if minutes else {}
        self._session.call(session.Call("PUT", _maintained(host), query), "the mark of a host", end)

    def unmark(self, host: maintenance.Host, end: float) -> None:
        """End a host's maintenance."""
        self._session.call(session.Call("DELETE", _maintained(host)), "the unmarking of a host", end)

    def close(self) -> None:
        """Close the session."""
        self._session.close()

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
        """Yield each host whose name contains ``name``: that is how the API compares.

        Raises :class:`errors.Unavailable` where they do not come to an end.
        """
        what = "the search for a host"
        seen: set[str] = set()
        for page in range(MOST_HOSTS // PAGE):
            query = {"name": name, "page": str(page), "pageSize": str(PAGE)}
            answer = self._session.read(session.Call("GET", HOSTS, query), what, end)
            found = resources.listed(answer, "resourceList")
            fresh = [host for host in map(resources.host, found) if host and host.identifier not in seen]
            seen.update(host.identifier for host in fresh)
            yield from fresh
            total = resources.at(answer, "pageInfo", "totalCount")
            # The links of the answer do not help: the last page has NEXT, too.
            if not fresh or (len(seen) >= total if isinstance(total, int) else len(found) < PAGE):
                return
            if len(seen) > MOST_HOSTS:
                break
        raise errors.Unavailable(f"Operations finds more than {MOST_HOSTS} hosts for one name")

    def _now(self, host: maintenance.Host, end: float) -> maintenance.Host:
        """Return the host with its states as they are now; the index that a search reads may be behind."""
        what = "the state of a host"
        answer = self._session.call(session.Call("GET", _resource(host)), what, end, unless=404)
        # A host that is gone by now is refused by the call that acts on it.
        now = resources.host(session.content(answer, what)) if answer.status != 404 else None
        return dataclasses.replace(host, states=now.states) if now and now.states else host

    def _vcenters(self, end: float) -> list[maintenance.VCenter]:
        """Return the vCenters that Operations monitors."""
        what = "the list of adapters"
        answer = self._session.read(session.Call("GET", "/adapters", {"adapterKindKey": "VMWARE"}), what, end)
        adapters = resources.listed(answer, "adapterInstancesInfoDto")
        return [vcenter for vcenter in map(resources.vcenter, adapters) if vcenter]


def _resource(host: maintenance.Host) -> str:
    return f"/resources/{urllib.parse.quote(host.identifier, safe='')}"


def _maintained(host: maintenance.Host) -> str:
    return f"{_resource(host)}/maintained"


# --- why a host was not found -----------------------------------------------------------------------------------------


def _unless_unknown(
    wanted: maintenance.Intent, found: list[maintenance.Host], vcenters: list[maintenance.VCenter]
) -> list[maintenance.Host]:
    """Return none where the wanted vCenter is monitored and has no such host; raise where it is not monitored."""
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
