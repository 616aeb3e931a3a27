"""What is decided about the changes that are sent: their ids and headers, which are next, and when they are tried."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import pathlib
import re
import urllib.parse

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from function import errors, events, settings
from function.cli import publish as command
from function.clients import postgres
from function.publish import courier, message, position, sink
from function.web import cloudevents, routing
from tests import manifests

WHATS = ("appeared", "changed", "deleted", "recreated", "returned", "started", "moved", "stopped", "corrected")
AT = datetime.datetime(2026, 11, 27, 10, tzinfo=datetime.UTC)


def version(**given: object) -> message.Version:
    """A version of the VM shop/db-1."""
    known: dict[str, object] = {
        "cluster": "prod 1",
        "namespace": "shop",
        "name": "db-1",
        "instance": False,
        "owner_uid": "",
        "version_epoch": 0,
        "version_number": 120,
        "version_time": "-infinity",
        "version_step": 1,
        "corrected": False,
        "recorded_xid": 700,
        "corrected_xid": None,
    }
    return message.Version(**{**known, **given})  # type: ignore[arg-type]


def test_the_source_is_a_uri_reference_and_a_header_can_be_read_back() -> None:
    """CloudEvents, section source; HTTP protocol binding, section 3.1.3.2."""
    sent = message.message(version(), ("db-1",), what="changed", time=AT.isoformat(), body="{}")
    assert sent.attributes["source"] == "vmledger/prod%201"
    headers = message.headers(sent.attributes, {})
    assert headers["ce-cluster"] == "prod%201"
    assert {name: urllib.parse.unquote(headers[f"ce-{name}"]) for name in sent.attributes} == sent.attributes


@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_value_becomes_a_header_that_the_receiver_reads(value: str) -> None:
    """As vmledger itself reads one."""
    coded = message.headers({"cluster": value}, {})["ce-cluster"]
    assert coded.isascii()
    assert not set(coded) & {" ", '"', "\r", "\n"}
    assert urllib.parse.unquote(coded, errors="strict") == value


def test_the_operator_s_extensions_are_added() -> None:
    """K_CE_OVERRIDES; they win."""
    assert message.headers({"id": "1", "cluster": "a"}, {"cluster": "b", "team": "vm"}) == {
        "Content-Type": "application/json",
        "ce-id": "1",
        "ce-cluster": "b",
        "ce-team": "vm",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"cluster": "b"},
        {"namespace": "b"},
        {"name": "b"},
        {"instance": True, "owner_uid": "u"},
        {"version_epoch": 1},
        {"version_number": 121},
        {"version_time": "2026-11-27T10:00:00+00:00"},
        {"version_step": 2},
    ],
)
def test_another_version_has_another_id(other: dict[str, object]) -> None:
    """Whatever it differs in."""
    assert message.identity(version(**other), "changed") != message.identity(version(), "changed")


def test_the_id_of_news_is_of_the_version_alone_and_of_a_correction_of_its_transaction_too() -> None:
    """A row that was restored, or altered without being published, is the same change; a second correction is not."""
    assert message.identity(version(recorded_xid=9), "changed") == message.identity(version(), "changed")
    corrected = version(corrected=True, corrected_xid=800)
    again = version(corrected=True, corrected_xid=900)
    assert message.identity(corrected, "corrected") != message.identity(again, "corrected")
    assert message.identity(corrected, "corrected") == message.identity(corrected, "corrected")


def test_a_snapshot_is_read() -> None:
    """As Postgres writes it."""
    assert position.Snapshot.read("10:20:10,14") == position.Snapshot(20, (10, 14))
    assert position.Snapshot.read("10:10:") == position.Snapshot(10, ())


def moment(snapshot: str, system: str = "1") -> position.Moment:
    """A moment."""
    return position.Moment(snapshot=snapshot, at=AT, system=system)


def test_nothing_is_next_where_no_transaction_has_ended() -> None:
    """Then no history is read."""
    at = position.begin(moment("10:12:10"), position.Start(), foreign=False)
    assert position.window(at, moment("10:12:10")) is None
    assert position.window(at, moment("12:12:")) is not None


def test_a_window_that_was_left_goes_on_where_it_was() -> None:
    """With its own end, whatever was committed since."""
    at = position.begin(moment("10:10:"), position.Start(), foreign=False)
    window = position.window(at, moment("20:20:"))
    assert window is not None
    kept = position.midway(at, window, ("b", "team", "east", "2026-11-27 10:00:00+00"))
    again = position.window(kept, moment("30:30:"))
    assert again == dataclasses.replace(window, after=("b", "team", "east", "2026-11-27 10:00:00+00"))


@pytest.mark.parametrize("now", [moment("5:5:", "1"), moment("99:99:", "2")])
def test_another_postgres_cluster_is_noticed(now: position.Moment) -> None:
    """By its identifier, or by ids that are lower than they were; then the time decides besides."""
    at = position.begin(moment("10:10:"), position.Start(), foreign=False)
    assert position.is_moved(at, now)
    window = position.window(at, now)
    assert window is not None
    assert (window.whole, window.told.edge, window.cut_at) == (True, 10, (AT - position.CLOCKS).isoformat())
    assert (window.then.told, window.then.system) == (now.snapshot, now.system)
    assert position.midway(at, window, ("a", "", "", "")) == at


def test_the_waits_grow_to_a_limit() -> None:
    """From 0.2 seconds to 30, each a little less than twice the one before or more."""
    waits = [sink.pause(attempt) for attempt in range(1, 40)]
    assert 0.1 < waits[0] <= sink.SHORTEST
    assert all(0.8 * sink.LONGEST <= wait <= sink.LONGEST for wait in waits[9:])
    assert all(1.5 < later / earlier < 2.6 for earlier, later in itertools.pairwise(waits[:8]))


def test_a_place_is_reached_when_all_before_and_at_it_are_done() -> None:
    """Several changes of a VM may have one place."""
    places = [("a",), ("b",), ("b",), ("c",)]
    sent = [message.message(version(), place, what="changed", time="", body="{}") for place in places]
    assert courier.reached(sent, [True, True, False, True]) == ("a",)
    assert courier.reached(sent, [True, True, True, False]) == ("b",)
    assert courier.reached(sent, [False, True, True, True]) is None


@pytest.mark.parametrize(
    ("value", "since"),
    [
        ("now", None),
        ("beginning", "-infinity"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00+00:00"),
    ],
)
def test_from_is_a_word_or_a_time(value: str, since: str | None) -> None:
    """With its zone."""
    assert command.From().convert(value, None, None) == position.Start(since=since)


@pytest.mark.parametrize("value", ["yesterday", "2026-11-01T00:00:00", "", "-infinity"])
def test_from_is_nothing_else(value: str) -> None:
    """One sentence says what it may be."""
    with pytest.raises(click.BadParameter, match="must be now, beginning, or a time with its zone"):
        command.From().convert(value, None, None)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("K_SINK", "ftp://sink"),
        ("K_SINK", "http://"),
        ("K_SINK", "http://user:secret@sink/"),
        ("K_SINK", "http://sink:99999/"),
        ("K_CE_OVERRIDES", "{"),
        ("K_CE_OVERRIDES", "[]"),
        ("K_CE_OVERRIDES", '{"extensions": {"Team": "vm"}}'),
        ("K_CE_OVERRIDES", '{"extensions": {"team": 1}}'),
        ("K_CE_OVERRIDES", '{"extensions": {"id": "1"}}'),
        ("K_CE_OVERRIDES", '{"extensions": "team"}'),
        ("PUBLISH_IN_FLIGHT", "0"),
        ("PUBLISH_TIMEOUT", "0"),
    ],
)
def test_a_bad_setting_names_its_variable_and_not_its_value(variable: str, value: str) -> None:
    """As all of them do."""
    with pytest.raises(errors.BadSetting, match=variable) as caught:
        settings.Settings.from_env({variable: value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["{}", '{"extensions": null}', '{"extensions": {"team": "vm"}}'])
def test_a_sinkbinding_s_overrides_are_read(value: str) -> None:
    """With extensions, and without."""
    found = settings.Settings.from_env({"K_CE_OVERRIDES": value}).publish.overrides
    assert dict(found) == ({"team": "vm"} if "team" in value else {})


@pytest.mark.parametrize("what", WHATS)
def test_the_receiver_has_no_use_for_its_own_changes(what: str) -> None:
    """They are ignored, which is answered 204: an event of the ledger never becomes another one."""
    sent = message.message(version(), (), what=what, time=AT.isoformat(), body='{"metadata": {"name": "db-1"}}')
    environ = {
        f"HTTP_{name.replace('-', '_').upper()}": value for name, value in message.headers(sent.attributes, {}).items()
    }
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE")
    batch = cloudevents.from_wsgi(environ, sent.body)
    assert [event.type for event in batch] == [message.TYPE + what]
    assert isinstance(batch[0], events.Event)
    assert routing.Router({}).handle(batch) == [routing.NOT_FOR_US]


@pytest.mark.parametrize("word", ["direct", "transform", "kafka", "kafka-ordered"])
def test_no_trigger_to_the_receiver_takes_a_change(word: str, tmp_path: pathlib.Path) -> None:
    """At any of the Brokers, with all components: so no loop can be."""
    objects = manifests.extended(tmp_path, word, *manifests.components())
    brokers = [item["metadata"]["name"] for item in manifests.of_kind(objects, "Broker")]
    assert "broker-changes" in brokers
    for what in WHATS:
        attributes = message.message(version(), (), what=what, time="", body="").attributes
        assert {broker: manifests.arrivals(objects, broker, dict(attributes)) for broker in brokers} == dict.fromkeys(
            brokers, 0
        )


def test_the_facts_of_a_version_are_without_what_is_noted_beside_them() -> None:
    """A migration that defines ledger_facts anew leaves out all that those before it left out.

    Otherwise each version would differ from the one before it, and each would be a change.
    """
    left_out: set[str] = set()
    for path in sorted(postgres.MIGRATIONS.glob("*.sql")):
        for found in re.findall(r"FUNCTION ledger_facts\(.*?'\{(.*?)\}'::text\[\]", path.read_text(), re.DOTALL):
            names = set(re.findall(r"\w+", found))
            assert left_out - names == set(), f"{path.name} makes facts of these"
            left_out = names
    assert left_out >= {"recorded_at", "changed_by", "recorded_xid", "corrected_xid", "corrected_at", "stood_at"}
