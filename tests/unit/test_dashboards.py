"""The dashboards' files are what Grafana imports, and each panel says what it shows."""

from __future__ import annotations

import itertools
import re

import pytest

from function import measures
from tests import dashboards

KINDS = {"service.json": "prometheus", "ledger.json": "postgres"}
every = pytest.mark.parametrize("name", dashboards.FILES)


def test_there_are_two() -> None:
    """One of the service, one of the ledger."""
    assert set(dashboards.FILES) == set(KINDS)


@every
def test_a_dashboard_can_be_imported_anywhere(name: str) -> None:
    """It has a uid of its own, no id of the Grafana that it was made in, and asks for its data source."""
    board = dashboards.board(name)
    assert board["uid"] == f"vmledger-{name.removesuffix('.json')}"
    assert "id" not in board
    assert board["schemaVersion"] >= 36
    [source] = [each for each in board["templating"]["list"] if each["type"] == "datasource"]
    assert (source["name"], source["query"]) == ("datasource", KINDS[name])
    expected = {"type": KINDS[name], "uid": "${datasource}"}
    asking = [
        *dashboards.panels(name),
        *(target for panel in dashboards.panels(name) for target in panel["targets"]),
        *(each for each in board["templating"]["list"] if each["type"] == "query"),
    ]
    assert [each["datasource"] for each in asking] == [expected] * len(asking)


@every
def test_each_panel_says_what_a_person_learns(name: str) -> None:
    """A title, a sentence, a unit, and a legend where there are lines."""
    for panel in dashboards.panels(name):
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"], panel["title"]
        if KINDS[name] == "prometheus":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@every
def test_ids_and_titles_are_given_once_and_no_panel_covers_another(name: str) -> None:
    """Grafana takes the last of two with one id."""
    found = dashboards.board(name)["panels"]
    for key in ("id", "title"):
        assert len({panel[key] for panel in found}) == len(found)
    places = [panel["gridPos"] for panel in found]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, two in itertools.combinations(places, 2):
        assert (
            one["x"] + one["w"] <= two["x"]
            or two["x"] + two["w"] <= one["x"]
            or one["y"] + one["h"] <= two["y"]
            or two["y"] + two["h"] <= one["y"]
        )


def test_the_service_shows_every_metric_of_the_receiver_and_no_other() -> None:
    """A metric that nobody looks at is cost alone; a name that is not declared shows nothing."""
    asked = {
        re.sub(r"_(bucket|sum|count)$", "", metric)
        for panel in dashboards.panels("service.json")
        for target in panel["targets"]
        for metric in re.findall(r"\bvmledger_\w+", target["expr"])
    }
    declared = {metric.name for metric in measures.ALL}
    wanted = {metric.name for metric in measures.ALL if metric.source is not measures.Source.LEDGER}
    assert asked <= declared
    assert wanted <= asked
