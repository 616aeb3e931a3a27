"""What events of vCenter mean, which are old, which host they are about, and what is done: all without I/O."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from function import errors, events
from function.vsphere import maintenance
from tests import vsphere

SAMPLES = sorted(path.stem for path in vsphere.SAMPLES.glob("*.json"))
CASES: list[Callable[[str], str]] = [str.upper, str.lower, str.title, str.strip]


def wanted(**changes: Any) -> maintenance.Intent:
    """What one event asks for."""
    known = maintenance.intent(vsphere.parsed(vsphere.source(vsphere.ENTER, vsphere.data(**changes))))
    assert known is not None
    return known


def host(name: str = vsphere.HOST, moref: str | None = vsphere.MOREF, **more: Any) -> maintenance.Host:
    """A host of Operations."""
    given: dict[str, Any] = {
        "identifier": f"{name}/{moref}",
        "vcenter_uuid": None,
        "adapters": frozenset(),
        "states": (),
    }
    return maintenance.Host(name=name, moref=moref, **{**given, **more})


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_recognised(name: str) -> None:
    """Both producers, all versions, JSON in any case and XML."""
    expected = json.loads((vsphere.SAMPLES / f"{name}.json").read_text())["action"]
    event = vsphere.parsed(vsphere.sample(name))
    if expected == "400":
        with pytest.raises(errors.BadEvent, match="names no host"):
            maintenance.intent(event)
        return
    found = maintenance.intent(event)
    assert (found and found.action.value) == expected
    if found:
        assert (found.host, found.moref, found.vcenter) == (vsphere.HOST, vsphere.MOREF, vsphere.VCENTER)
        assert found.key in ("71001", "71009")
        minute = {"enter": 8 * 60, "exit": 9 * 60 + 30}[found.action.value]  # CreatedTime, in UTC
        assert (found.moment.time.hour * 60 + found.moment.time.minute) == minute


@pytest.mark.parametrize(
    "name",
    [
        "EnteringMaintenanceModeEvent",
        "CanceledHostOperationEvent",
        "EnteredStandbyModeEvent",
        "ExitedStandbyModeEvent",
        "NotEnteredMaintenanceModeEvent",
        "EnteredMaintenanceModeEvents",
        "enteredmaintenancemodeevent",
        "com.example.ExitMaintenanceModeEvent",
    ],
)
def test_only_the_two_events_act(name: str) -> None:
    """Each by its name; no other event ends or begins anything."""
    for request in (vsphere.router(name, vsphere.data()), vsphere.source(name, vsphere.data())):
        assert maintenance.intent(vsphere.parsed(request)) is None


@pytest.mark.parametrize("kind", ["event", "eventex", "extendedevent"])
def test_the_routers_three_types_count(kind: str) -> None:
    """The name is in the subject."""
    request = vsphere.router(vsphere.EXIT, vsphere.data(), type=f"com.vmware.event.router/{kind}")
    found = maintenance.intent(vsphere.parsed(request))
    assert found is not None
    assert found.action is maintenance.Action.EXIT


@hypothesis.given(strategies.data())
def test_keys_are_read_in_any_case(data: strategies.DataObject) -> None:
    """PascalCase, lower camel case, anything between."""

    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        flips = [data.draw(strategies.sampled_from(CASES)) for _ in value]
        return {flip(key): shuffled(inner) for flip, (key, inner) in zip(flips, value.items(), strict=True)}

    content = vsphere.data()
    event = vsphere.parsed(vsphere.source(vsphere.ENTER, shuffled(content)))
    assert maintenance.intent(event) == maintenance.intent(vsphere.parsed(vsphere.source(vsphere.ENTER, content)))


@pytest.mark.parametrize(
    "change",
    [
        {"host": None},
        {"host": {}},
        {"host": "esx7"},
        {"host": {"Name": None, "Host": None}},
        {"host": {"Name": ""}},
        {"host": {"Name": 5.5}},
        {"host": {"Name": "esx\x00"}},
        {"host": {"Name": "esx\ud800"}},
        {"host": {"Name": "x" * 300}},
        {"host": {"Name": "esx", "Host": {"Value": ["host-1"]}}},
        {"created": "yesterday"},
        {"created": None},
        {"key": {"a": 1}},
    ],
)
def test_what_cannot_be_read_is_refused(change: dict[str, Any]) -> None:
    """400: it will not read better the next time."""
    content = vsphere.data(**{key: value for key, value in change.items() if key == "host"})
    content |= {"CreatedTime": change["created"]} if "created" in change else {}
    content |= {"Key": change["key"]} if "key" in change else {}
    with pytest.raises(errors.BadEvent):
        maintenance.intent(vsphere.parsed(vsphere.source(vsphere.ENTER, content)))


@pytest.mark.parametrize(
    "body",
    [
        "<a>",
        "<a></b>",
        "",
        "none",
        "<!DOCTYPE a [<!ENTITY l 'x'>]><a><host><name>&l;</name></host></a>",
        "<a>" * 70 + "</a>" * 70,
        '<?xml version="1.0" encoding="nonsense"?><a><host/></a>',
        f"<a>{'<b/>' * maintenance.MOST_PARTS}</a>",
        f"<a>{'&lt;' * maintenance.MOST_PARTS}</a>",
        "<EnteredMaintenanceModeEvent><host/></EnteredMaintenanceModeEvent>",
    ],
)
def test_xml_that_cannot_be_read_is_refused(body: str) -> None:
    """400, and nothing is expanded."""
    with pytest.raises(errors.BadEvent):
        maintenance.intent(vsphere.parsed(vsphere.source(vsphere.ENTER, body, type_="application/xml")))


@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff", "  \n"])
def test_xml_may_be_declared_and_prefixed(declaration: str) -> None:
    """As other writers of XML do."""
    body = declaration + vsphere.as_xml("vim:E", vsphere.data()).replace("<host>", '<host xmlns:vim="urn:vim25">')
    if declaration.isspace():
        body = body.strip()
    found = maintenance.intent(vsphere.parsed(vsphere.source(vsphere.ENTER, body, type_="text/xml; charset=utf-8")))
    assert found == wanted()


def test_data_that_came_as_text_is_read() -> None:
    """JSON under a wrong content type, XML in a structured event."""
    body = json.dumps(vsphere.data())
    assert maintenance.intent(vsphere.parsed(vsphere.source(vsphere.ENTER, body, type_="text/plain"))) == wanted()
    text = vsphere.as_xml(vsphere.ENTER, vsphere.data())
    headers, whole = vsphere.router(vsphere.ENTER, {}, datacontenttype="application/xml")
    event = vsphere.parsed((headers, json.dumps({**json.loads(whole), "data": text}).encode()))
    assert maintenance.intent(event) == wanted()


def test_without_created_time_the_events_time_counts() -> None:
    """And without both it cannot be ordered."""
    content = {key: value for key, value in vsphere.data().items() if key != "CreatedTime"}
    event = vsphere.parsed(vsphere.source(vsphere.ENTER, content, time="2026-03-01T08:00:00Z"))
    found = maintenance.intent(event)
    assert found is not None
    assert found.moment.time == datetime.datetime(2026, 3, 1, 8, tzinfo=datetime.UTC)
    with pytest.raises(errors.BadEvent, match="ordered"):
        maintenance.intent(vsphere.parsed(vsphere.source(vsphere.ENTER, content)))


@pytest.mark.parametrize(
    "source",
    [
        "https://vc1.example/sdk",
        "vc1.example",
        "vc1.example:443",
        "https://VC1.example:8443/sdk",
        "https://vc1.example./",
    ],
)
def test_the_vcenter_is_the_sources_host(source: str) -> None:
    """Whatever version wrote it."""
    assert maintenance.vcenter_of(source) == "vc1.example"


@hypothesis.given(strategies.text(min_size=1))
def test_any_source_gives_a_host_or_is_refused(source: str) -> None:
    """No other error."""
    with contextlib.suppress(errors.BadEvent):
        maintenance.vcenter_of(source)


@hypothesis.given(strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner)
    | strategies.dictionaries(strategies.sampled_from(["Host", "Name", "Value", "Key", "CreatedTime", "x"]), inner),
))  # fmt: skip
def test_any_data_gives_an_intent_or_is_refused(data: Any) -> None:
    """No other error."""
    attributes = {"id": "1", "source": "vc", "type": f"com.vmware.vsphere.{vsphere.ENTER}.v0"}
    with contextlib.suppress(errors.BadEvent):
        maintenance.intent(events.Event(attributes, data))


# --- old or new ---


def applied(of: maintenance.Intent) -> maintenance.Applied:
    """The memory of an event."""
    return maintenance.Applied(vcenter=of.vcenter, key=of.key, moment=of.moment)


def test_the_order_is_the_created_time_and_then_the_key() -> None:
    """Older changes nothing, the same is a duplicate, newer is news."""
    known = applied(wanted(key=10))
    assert maintenance.is_old(wanted(key=10), None) is None
    assert maintenance.is_old(wanted(key=10), known) == "duplicate"
    assert maintenance.is_old(wanted(key=9), known) == "outdated"
    assert maintenance.is_old(wanted(key=11), known) is None
    assert maintenance.is_old(wanted(key=9, created="2026-03-01T08:00:00.26Z"), known) is None
    assert maintenance.is_old(wanted(key=11, created="2026-03-01T09:00:00.24+01:00"), known) == "outdated"


def test_a_key_without_a_number_is_no_order() -> None:
    """Two events of the same time that cannot be ordered both count."""
    assert maintenance.is_old(wanted(key="b"), applied(wanted(key="a"))) is None


# --- what is done ---

MANUAL, TIMED, STARTED = "MAINTAINED_MANUAL", "MAINTAINED", "STARTED"


@pytest.mark.parametrize(
    ("action", "states", "minutes", "unmark_any", "expected"),
    [
        ("enter", [STARTED], 0, False, True),
        ("enter", [], 0, False, True),
        ("enter", ["STOPPED"], 60, False, True),
        ("enter", [MANUAL], 0, False, False),
        ("enter", [TIMED], 0, False, False),
        ("enter", [TIMED], 60, False, False),
        ("enter", [STARTED, MANUAL], 0, False, False),
        ("exit", [STARTED], 0, True, False),
        ("exit", [], 0, False, False),
        ("exit", [MANUAL], 0, False, True),
        ("exit", [STARTED, MANUAL], 0, False, True),
        ("exit", [TIMED], 0, False, False),
        ("exit", [TIMED], 60, False, True),
        ("exit", [TIMED], 0, True, True),
        ("exit", [MANUAL, TIMED], 0, False, False),
        ("exit", [MANUAL, TIMED], 0, True, True),
    ],
)
def test_the_state_decides(action: str, states: list[str], minutes: int, unmark_any: bool, expected: bool) -> None:
    """A window that a person set survives; what is there already is not done again."""
    policy = maintenance.Policy(minutes=minutes, unmark_any=unmark_any)
    assert maintenance.step(maintenance.Action(action), states, policy) is expected


# --- which host ---


def test_the_name_is_compared_whole_and_in_any_case() -> None:
    """The API matches parts."""
    hosts = [host("esx7.rack.example.org"), host("xesx7.rack.example"), host("ESX7.Rack.example")]
    assert maintenance.named(wanted(), hosts) == hosts[2:]


def test_the_managed_object_id_decides_where_it_is_known() -> None:
    """A host that was removed and added again has a new one."""
    old, new, unknown = host(moref="host-1"), host(), host(moref=None)
    assert maintenance.named(wanted(), [old, new, unknown]) == [new]
    assert maintenance.named(wanted(), [old, unknown]) == [unknown]
    assert maintenance.named(wanted(), [old]) == []
    nameless = wanted(host=vsphere.named(vsphere.HOST, None))
    assert maintenance.named(nameless, [old, new]) == [old, new]


def test_the_vcenter_decides_between_twins() -> None:
    """By its uuid, or by the adapter instance where the uuid is not known yet."""
    vcenters = [
        maintenance.VCenter(adapter="a1", host=vsphere.VCENTER, uuid="u1"),
        maintenance.VCenter(adapter="a2", host="vc2.example", uuid="u2"),
    ]
    mine = host(vcenter_uuid="u1", adapters=frozenset({"a1"}))
    other = host(vcenter_uuid="u2", adapters=frozenset({"a2"}))
    assert maintenance.in_vcenter(wanted(), [mine, other], vcenters) == [mine]
    without = [maintenance.VCenter(adapter=one.adapter, host=one.host, uuid=None) for one in vcenters]
    assert maintenance.in_vcenter(wanted(), [mine, other], without) == [mine]
    assert maintenance.in_vcenter(wanted(), [mine, other], vcenters[1:]) == []


def test_each_action_has_one_name() -> None:
    """Never by "else"."""
    names = itertools.groupby(sorted(maintenance.ACTIONS), key=lambda name: maintenance.ACTIONS[name])
    assert {action: list(group) for action, group in names} == {
        maintenance.Action.ENTER: [vsphere.ENTER],
        maintenance.Action.EXIT: [vsphere.EXIT],
    }
