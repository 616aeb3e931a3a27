"""A change as a CloudEvent: its id, its attributes, and the headers of the HTTP binding's binary mode; pure."""

from __future__ import annotations

import dataclasses
import hashlib
import urllib.parse
from collections.abc import Mapping

import msgspec

TYPE = "dev.vmledger.vm."
CORRECTED = "corrected"
_AS_THEY_ARE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""The characters that a header's value holds unchanged: CloudEvents, HTTP protocol binding, section 3.1.3.2."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a version of a VM or of its instance, as the statements find it.

    instance: it is one of what ran of the VM whose uid is ``owner_uid``. corrected: it was altered after it had been
    published. recorded_xid, corrected_xid: the transactions that stored it and altered it last. recorded_at: when it
    was stored.
    """

    cluster: str
    namespace: str
    name: str
    instance: bool
    owner_uid: str
    version_epoch: int
    version_number: int
    version_time: str
    version_step: int
    corrected: bool
    recorded_xid: int | None
    corrected_xid: int | None

    @property
    def key(self) -> tuple[str, str, str]:
        """The VM, whose changes keep their order."""
        return (self.cluster, self.namespace, self.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent about a change. key: the VM. place: the change's in a window, as a position has it."""

    key: tuple[str, str, str]
    place: tuple[str, ...]
    attributes: Mapping[str, str]
    body: bytes = dataclasses.field(repr=False)


def message(version: Version, place: tuple[str, ...], *, what: str, time: str, body: str) -> Message:
    """Return what is sent about a version. what: the change, in a word; time: since when it counts, in RFC 3339."""
    cluster, namespace, name = version.key
    attributes = {
        "specversion": "1.0",
        "id": identity(version, what),
        "type": TYPE + what,
        "source": "vmledger/" + urllib.parse.quote(cluster, safe=""),
        "subject": f"{namespace}/{name}",
        "time": time,
        "partitionkey": f"{cluster}/{namespace}/{name}",
        "cluster": cluster,
    }
    return Message(key=version.key, place=place, attributes=attributes, body=body.encode())


def identity(version: Version, what: str) -> str:
    """Return the id of an event: equal whenever the same change is sent.

    A version may be corrected more than once, so a correction is identified by its transaction besides.
    """
    parts: list[object] = [*version.key, version.instance, version.owner_uid]
    parts += [version.version_epoch, version.version_number, version.version_time, version.version_step]
    if what == CORRECTED:
        parts.append(version.corrected_xid if version.corrected else version.recorded_xid)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def headers(attributes: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an event in binary mode; overrides: extensions that the operator adds or replaces."""
    values = {**attributes, **overrides}
    coded = {f"ce-{name}": urllib.parse.quote(value, safe=_AS_THEY_ARE) for name, value in values.items()}
    return {"Content-Type": "application/json", **coded}
