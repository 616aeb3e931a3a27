"""An event of vCenter -> an intent, and the decision what to do about it; pure.

It reads what two producers send, in all their versions, according to their sources (vmware-event-router v0.3 to v0.8,
sources-for-knative v0.14 to v0.39): the event's name is the subject or the end of the type, the data is JSON or XML.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import re
import urllib.parse
import xml.parsers.expat
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from function import errors, events
from function.vsphere import producers

_SOURCE_TYPE = re.compile(rf"{re.escape(producers.SOURCE_PREFIX)}(\w+?)(?:\.v\d+)?", re.ASCII)

MAINTAINED_MANUAL = "MAINTAINED_MANUAL"
"""Marked without limit, by us or by a person."""
MAINTAINED = "MAINTAINED"
"""In a window that ends by itself."""
_MAINTAINED = frozenset({MAINTAINED_MANUAL, MAINTAINED})

_LONGEST_NAME = 255
_LONGEST_KEY = 64


class Action(enum.Enum):
    """What a host does: it enters or leaves maintenance mode."""

    ENTER = "enter"
    EXIT = "exit"


ACTIONS = {"EnteredMaintenanceModeEvent": Action.ENTER, "ExitMaintenanceModeEvent": Action.EXIT}
"""The only events that act. EnteringMaintenanceModeEvent does not: the host may still cancel."""


@dataclasses.dataclass(frozen=True, order=True)
class Moment:
    """When vCenter made an event: its CreatedTime, and its Key, which rises, for two events with the same time."""

    time: datetime.datetime
    number: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intent:
    """What one event asks for.

    host: the name as vCenter shows it. moref: its managed object id such as host-1012, None where the event has none.
    vcenter: the vCenter's host name in lower case, from the event's source. key: the event's Key in its vCenter.
    """

    action: Action
    host: str
    moref: str | None
    vcenter: str
    key: str
    moment: Moment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applied:
    """The newest event that was applied to a host."""

    vcenter: str
    key: str
    moment: Moment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """How to mark and what may be unmarked: VROPS_MAINTENANCE_MINUTES and VROPS_UNMARK."""

    minutes: int
    unmark_any: bool


def intent(event: events.Event) -> Intent | None:
    """Return what ``event`` asks for; None for every event that is not one of :data:`ACTIONS`.

    Raises :class:`errors.BadEvent` where it names no host, or cannot be ordered.
    """
    action = ACTIONS.get(name_of(event) or "")
    if action is None:
        return None
    data = _document(event.data)
    host = _member(data, "host")
    name = _text(_member(host, "name"), "the host's name", _LONGEST_NAME)
    if name is None:
        raise errors.BadEvent(f"the event names no host that could {action.value} maintenance mode")
    moref = _member(host, "host")
    key = _text(_member(data, "key"), "the event's Key", _LONGEST_KEY)
    identity = key or _text(event.id[:_LONGEST_NAME], "the event's id", _LONGEST_NAME)
    created = _member(data, "createdtime")
    time = event.time if created in (None, "") else events.parse_time(created, "CreatedTime")
    if time is None:
        raise errors.BadEvent("the event has neither CreatedTime nor time: it cannot be ordered")
    return Intent(
        action=action,
        host=name,
        moref=_text(_member(moref, "value") if isinstance(moref, Mapping) else moref, "the host's id", _LONGEST_KEY),
        vcenter=vcenter_of(str(event.attributes["source"])),
        key=identity or "",
        moment=Moment(time, int(key) if key and re.fullmatch(r"\d{1,18}", key, re.ASCII) else 0),
    )


def name_of(event: events.Event) -> str | None:
    """Return the name of an event of vCenter; None for an event of anything else, or without a name."""
    if event.type in producers.ROUTER_TYPES:
        subject = event.attributes.get("subject")
        return subject if isinstance(subject, str) else None
    found = _SOURCE_TYPE.fullmatch(event.type)
    return found[1] if found else None


def vcenter_of(source: str) -> str:
    """Return the vCenter's host name in lower case, from ``https://vc.example/sdk`` or the older ``vc.example``.

    A port is left out: it belongs to a way to the vCenter, and one vCenter may have several.
    """
    return _text(host_of(source), "the event's source", _LONGEST_NAME) or ""


def host_of(address: str) -> str:
    """Return the host of a URL, or of ``host:port``, in lower case; any other text as it is."""
    text = address.strip().lower()
    is_bare_ipv6 = text.count(":") > 1 and not re.search(r"[/\[]", text)
    try:
        host = urllib.parse.urlsplit(text if "://" in text else f"//[{text}]" if is_bare_ipv6 else f"//{text}").hostname
    except ValueError:
        host = None
    return (host or text).rstrip(".")


def is_old(wanted: Intent, newest: Applied | None) -> str | None:
    """Return "duplicate" or "outdated" where ``wanted`` must change nothing; None where it is newer than ``newest``."""
    if newest is None:
        return None
    # Two producers may name one vCenter differently; then the same time shows that it is the same event.
    if wanted.key == newest.key and (wanted.vcenter == newest.vcenter or wanted.moment == newest.moment):
        return "duplicate"
    return "outdated" if wanted.moment < newest.moment else None


def step(action: Action, states: Collection[str], policy: Policy) -> bool:
    """Return whether Operations must be called, given the host's resourceState for each adapter instance.

    A window that a person set survives both: an enter does not replace it, an exit does not end it.
    """
    maintained = _MAINTAINED & {*states}
    if action is Action.ENTER:
        return not maintained
    if action is Action.EXIT:
        return bool(maintained) and (policy.unmark_any or policy.minutes > 0 or MAINTAINED not in maintained)
    raise AssertionError(action)


# --- which host -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """A host in Operations; ``identifier`` is the resource's, ``adapters`` are the instances that report it."""

    identifier: str
    name: str
    moref: str | None
    vcenter_uuid: str | None
    adapters: frozenset[str]
    states: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VCenter:
    """A vCenter that Operations monitors; ``host`` is what its adapter instance connects to, in lower case."""

    adapter: str
    host: str
    uuid: str | None


def named(wanted: Intent, hosts: Sequence[Host]) -> list[Host]:
    """Return the hosts that have exactly the wanted name, in any case, and no other managed object id."""
    same = [host for host in hosts if host.name.casefold() == wanted.host.casefold()]
    if wanted.moref is None:
        return same
    certain = [host for host in same if host.moref == wanted.moref]
    return certain or [host for host in same if host.moref is None]


def in_vcenter(wanted: Intent, hosts: Sequence[Host], vcenters: Sequence[VCenter]) -> list[Host]:
    """Return the hosts of the wanted vCenter: managed object ids and names repeat across vCenters."""
    mine = [vcenter for vcenter in vcenters if vcenter.host == wanted.vcenter]
    uuids = {vcenter.uuid for vcenter in mine if vcenter.uuid}
    adapters = {vcenter.adapter for vcenter in mine}
    return [
        host
        for host in hosts
        if (host.vcenter_uuid in uuids if host.vcenter_uuid and uuids else host.adapters & adapters)
    ]


# --- the data, in any case and either form ----------------------------------------------------------------------------


def _document(data: Any) -> Mapping[str, Any]:
    """Return the event's data as an object, from JSON, from JSON that was sent as text, or from XML."""
    if isinstance(data, str | bytes):
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        start = raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        is_xml = start == b"<" or raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        data = _xml(raw, "utf-8" if isinstance(data, str) else None) if is_xml else events.parse_json(raw, "the data")
    if not isinstance(data, Mapping):
        raise errors.BadEvent("the event has no data that describes it: neither a JSON object nor XML")
    return data


def _member(value: Any, name: str) -> Any:
    """Return the member ``name`` of an object, whatever the case of its letters; None where there is none."""
    if not isinstance(value, Mapping):
        return None
    return next((value[key] for key in value if key.lower() == name), None)


def _text(value: Any, what: str, longest: int) -> str | None:
    """Return ``value`` as text that may stand in a URL, a log and a database; None for what is null or empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str) or not value.isprintable() or len(value) > longest:
        raise errors.BadEvent(f"{what} {errors.shown(value)} is not text that can be used")
    return value.strip()


MOST_PARTS = 20_000
"""Of an XML document, each of which is a call; vCenter's events have some hundreds."""


class _Tree:
    """Builds an object from XML: a member for each child element by its name without prefix, the first of each name.

    An element with no children is its text. Documents that declare anything are refused, so nothing is ever expanded.
    """

    def __init__(self) -> None:
        self.root: Any = None
        self._open: list[tuple[dict[str, Any], list[str]]] = []
        self._parts = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element; its attributes, such as a reference's type, are not needed."""
        del name, attributes
        self._count()
        if len(self._open) > 64:
            raise errors.BadEvent("the data is XML that is nested too deep")
        self._open.append(({}, []))

    def text(self, text: str) -> None:
        """Take a piece of text."""
        self._count()
        self._open[-1][1].append(text)

    def end(self, name: str) -> None:
        """End an element."""
        members, pieces = self._open.pop()
        value = members or "".join(pieces).strip()
        if self._open:
            self._open[-1][0].setdefault(name.rpartition(":")[2], value)
        else:
            self.root = value

    def _count(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise errors.TooLarge(f"the data is XML of more than {MOST_PARTS} elements and lines")

    def declaration(self, *_: Any) -> None:
        """Refuse a document type: vCenter's producers send none."""
        raise errors.BadEvent("the data is XML with a document type, which is not allowed")


def _xml(document: bytes, encoding: str | None) -> Any:
    """Return an XML document as an object; ``encoding`` overrides the one that it declares."""
    tree = _Tree()
    parser = xml.parsers.expat.ParserCreate(encoding)
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.text
    parser.StartDoctypeDeclHandler = tree.declaration
    try:
        parser.Parse(document, True)
    except xml.parsers.expat.ExpatError as exc:
        message = xml.parsers.expat.ErrorString(exc.code)
        raise errors.BadEvent(f"the data is not XML: {message} at line {exc.lineno}") from exc
    except (LookupError, ValueError) as exc:
        raise errors.BadEvent("the data is XML in an unknown encoding") from exc
    return tree.root
