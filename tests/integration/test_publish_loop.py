"""A loop is impossible: what `publish` sends is nothing that vmledger takes, or answers with an event."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flask.testing
import pytest

from function import settings, wiring
from function.clients import postgres
from function.inventory.storage import store
from function.publish import message
from tests import manifests, publishing
from tests.integration import test_past, test_publish

LEDGER = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history", "dead_letters")
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def sent(url: str, db: postgres.Database) -> list[message.Message]:
    """What was published of a machine that was made, started, resized, stopped and deleted, and of a correction."""
    reader = publishing.Reader(url)
    add, update, delete = test_past.ADD, test_past.UPDATE, test_past.DELETE
    machine, running, tables = test_past.machine, test_past.running, store.Store(db)
    test_past.write(tables, machine(add, 10, 0), running(add, 11, 1, "n1"), machine(update, 14, 4, cores=2))
    found = reader.read()
    test_past.write(tables, machine(update, 12, 2, cores=8), running(delete, 15, 5, "n1"), machine(delete, 16, 6))
    found += reader.read()
    assert {what for _, what in test_publish.story(found)} >= {"appeared", "started", "corrected", "stopped", "deleted"}
    return found


@pytest.fixture
def client(url: str) -> Iterator[flask.testing.FlaskClient]:
    """The receiver over the same ledger, which takes the events of any cluster."""
    with contextlib.closing(
        wiring.Service(settings.Settings.from_env({"DATABASE_URL": url, "CLUSTERS": "*"}))
    ) as built:
        yield built.app.test_client()


def structured(each: message.Message) -> dict[str, Any]:
    """A message in the JSON format."""
    return {**each.attributes, "datacontenttype": "application/json", "data": json.loads(each.body)}


def wrapped(each: message.Message) -> dict[str, Any]:
    """The whole event as the data of another, as a careless EventTransform makes it."""
    return {**structured(each), "id": "outer", "data": structured(each)}


@pytest.mark.parametrize("mode", ["binary", "structured", "batched", "wrapped"])
def test_what_was_published_is_not_taken(
    mode: str, sent: list[message.Message], client: flask.testing.FlaskClient, query: Query
) -> None:
    """In no mode: the ledger stays as it is, and the answer holds nothing that a Broker would take for an event."""
    before = [query(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in LEDGER]
    for each in sent:
        requests: dict[str, dict[str, Any]] = {
            "binary": {"headers": message.headers(each.attributes, {}), "data": each.body},
            "structured": {"data": json.dumps(structured(each)), "content_type": STRUCTURED},
            "batched": {"data": json.dumps([structured(each)] * 2), "content_type": BATCH},
            "wrapped": {"data": json.dumps(wrapped(each)), "content_type": STRUCTURED},
        }
        answer = client.post("/", **requests[mode])
        assert 200 <= answer.status_code < 300
        assert not [name for name, _ in answer.headers if name.lower().startswith("ce-")]
        assert "cloudevents" not in (answer.content_type or "")
    assert [query(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in LEDGER] == before


@pytest.mark.parametrize("word", ["direct", "transform", "kafka", "kafka-ordered", "dev"])
def test_no_trigger_brings_a_change_back(word: str, sent: list[message.Message], tmp_path: pathlib.Path) -> None:
    """Whatever Broker it is sent to."""
    objects = manifests.extended(tmp_path, word, "publish")
    brokers = {item["spec"]["broker"] for item in manifests.of_kind(objects, "Trigger")}
    brokers |= {item["metadata"]["name"] for item in manifests.of_kind(objects, "Broker")}
    assert "broker-changes" in brokers
    for broker in brokers:
        for each in sent:
            assert manifests.arrivals(objects, broker, dict(each.attributes)) == 0, (broker, each.attributes["type"])
