"""docs/concepts.md explains the ledger by an example; here the example is played."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

from function import settings, wiring

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "concepts.md").read_text()
DAY = "2026-11-02"

Query = Callable[..., list[tuple[Any, ...]]]


def rows(mark: str) -> list[list[str]]:
    """The cells of the table below a mark in the page."""
    lines = PAGE.split(f"<!-- example: {mark} -->\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_late_event_of_the_page_is_stored_as_the_page_says(url: str, query: Query) -> None:
    """The history has its rows, the state is the newest one, and the past is as the page tells it."""
    service = wiring.Service(settings.Settings.from_env({"DATABASE_URL": url}))
    client = service.app.test_client()
    for name, verb, version, time, cores in rows("events"):
        event = {
            "specversion": "1.0",
            "source": "test",
            "id": name,
            "type": f"dev.knative.apiserver.resource.{verb}",
            "time": f"{DAY}T{time}:00Z",
            "kind": "VirtualMachine",
            "namespace": "shop",
            "name": "db-1",
            "resourceversion": version,
            "cpucores": cores,
        }
        assert client.post("/", headers={f"ce-{key}": value for key, value in event.items()}).status_code == 204
    service.close()
    stored = query(
        "SELECT id, version_number::text, to_char(effective_at, 'HH24:MI'),"
        " CASE WHEN overtaken THEN 'yes' ELSE 'no' END, vcpus::text FROM vm_history ORDER BY version_number"
    )
    assert [list(row) for row in stored] == rows("history")
    assert query("SELECT id FROM vm_state") == [("c",)]
    at = "SELECT vcpus FROM virtual_machines_at(%s)"
    assert [query(at, [f"{DAY}T{time}Z"]) for time in ("10:01", "10:03", "10:40")] == [[(1,)], [(2,)], [(4,)]]
    told = query("SELECT changes->'vcpus'->'old', changes->'vcpus'->'new' FROM vm_changes ORDER BY changed_at")
    assert told == [(None, 1), (1, 2), (2, 4)]


def test_the_delayed_source_of_the_page_leaves_no_trace_in_the_past(url: str, query: Query) -> None:
    """Each version counts since the page says, whatever the time of its event."""
    service = wiring.Service(settings.Settings.from_env({"DATABASE_URL": url}))
    client = service.app.test_client()
    for kind, version, written, sent, _ in rows("delayed"):
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "db-1", "uid": "vm"}
        metadata: dict[str, Any] = {"name": "db-1", "namespace": "shop", "resourceVersion": version}
        metadata["ownerReferences"] = [owner]
        metadata |= {"uid": "vm" if kind == "VirtualMachine" else "vmi"}
        metadata |= {"managedFields": [{"manager": "virt-controller", "time": f"{DAY}T{written}Z"}]}
        event: dict[str, Any] = {"specversion": "1.0", "source": "test", "id": version, "time": f"{DAY}T{sent}Z"}
        event |= {"type": "dev.knative.apiserver.resource.update", "kind": kind, "data": {"metadata": metadata}}
        answer = client.post("/", data=json.dumps(event), content_type="application/cloudevents+json")
        assert answer.status_code == 204, answer.get_data(as_text=True)
    service.close()
    times = "to_char(object_time, 'HH24:MI:SS'), to_char(time, 'HH24:MI:SS'), to_char(effective_at, 'HH24:MI:SS')"
    stored = query(
        f"SELECT 'VirtualMachine', resource_version::text, {times} FROM vm_history UNION ALL"
        f" SELECT 'VirtualMachineInstance', resource_version::text, {times} FROM vm_runtime_history ORDER BY 2"
    )
    assert [list(row) for row in stored] == rows("delayed")


def test_the_glossary_names_each_word_once_and_places_that_exist() -> None:
    """One word for one thing, in alphabetical order; files and tables are where it says."""
    glossary = re.findall(r"^\| ([a-z ,]+) \| [^|]+ \|(.*)\|$", PAGE.split("## Glossary")[1], re.MULTILINE)
    words = [word for word, _ in glossary if word not in ("word",)]
    assert len(words) > 30
    assert words == sorted(set(words))
    function = pathlib.Path(__file__).parents[2] / "function"
    for _, where in glossary:
        for path in re.findall(r"`([a-z]+(?:/[a-z_.]+)+|echo)`", where):
            assert (function / path).exists(), path
