"""The dashboard of the ledger over a real Postgres: each query runs with the rights of the role that only reads."""

from __future__ import annotations

import contextlib
import datetime
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from dev import embedded_postgres
from function import migrate, settings, wiring
from function.inventory import days
from function.inventory.reconcile import result
from function.inventory.reconcile import run as reconciliation
from tests import api_server, conftest, dashboards, dead_letters, machines

ROLE = "grafana_reads"
PANELS = dashboards.panels("ledger.json")
CLUSTER = next(each for each in dashboards.board("ledger.json")["templating"]["list"] if each["name"] == "cluster")
NOW = datetime.datetime.now(datetime.UTC)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def reader(server: embedded_postgres.Postgres, template: str) -> Iterator[str]:
    """A ledger with a fleet, drift and a dead letter, as the URL of the role that DB_READ_ROLE names."""
    conftest.execute(server.url(), f"CREATE DATABASE dashboards TEMPLATE {template}")
    conftest.execute(server.url(), f"CREATE ROLE {ROLE} LOGIN")
    url = server.url(database="dashboards")
    migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_READ_ROLE": ROLE}))
    yield url.replace("postgres@", f"{ROLE}@")
    conftest.execute(url, f"DROP OWNED BY {ROLE}")
    conftest.execute(server.url(), "DROP DATABASE dashboards WITH (FORCE)")
    conftest.execute(server.url(), f"DROP ROLE {ROLE}")


@pytest.fixture(scope="module")
def filled(reader: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, once there is something to see."""
    folder = tmp_path_factory.mktemp("dashboards")
    with api_server.running() as api:
        fill(reader.replace(f"{ROLE}@", "postgres@"), api, folder)
    return reader


def fill(url: str, api: api_server.ApiServer, folder: pathlib.Path) -> None:
    """Let events, a reconcile and the sink fill a ledger, as in a cluster."""
    environ = {"DATABASE_URL": url, "KUBECONFIG": api.kubeconfig(folder), "CLUSTER_NAME": "o'east", "CLUSTERS": "*"}
    configuration = settings.Settings.from_env(environ)
    db = machines.vm("db", status="Running", cores=4, uid="u-db")
    instance = machines.vmi(db, uid="u-vmi")
    api.seed([db, instance, machines.vm("unheard", status="Stopped", uid="u-unheard")])
    small = machines.vm("web", instancetype="u1.small", uid="u-web")
    with contextlib.closing(wiring.Service(configuration)) as service:
        send(service, "add", db, "100", minutes=50)
        send(service, "update", machines.vm("db", status="Running", cores=8, uid="u-db"), "110", minutes=40)
        send(service, "add", instance, "120", minutes=39)
        send(service, "add", small, "130", minutes=30, cluster="west")
        send(service, "delete", machines.vm("gone", uid="u-gone"), "140", minutes=20, cluster="west")
        given = {**dead_letters.attributes(), **dead_letters.failure(422, "no such Secret")}
        body, headers = dead_letters.request(dead_letters.sample("networks"), given)
        assert service.app.test_client().post("/echo", data=body, headers=headers).status_code == 204
    assert reconciliation.run(configuration, result.Options()).outcome == "repaired"
    days.fill(configuration, seconds=days.RECONCILE_SECONDS)


def send(service: wiring.Service, step: str, found: Any, version: str, *, minutes: int, **attributes: str) -> None:
    """Send an event about an object, so many minutes ago."""
    found = {**found, "metadata": {**found["metadata"], "resourceVersion": version}}
    time = (NOW - datetime.timedelta(minutes=minutes)).isoformat()
    event = {
        **dead_letters.attributes(int(version), found["kind"]),
        "type": f"dev.knative.apiserver.resource.{step}",
        "time": time,
        "datacontenttype": "application/json",
        "data": found,
        **attributes,
    }
    service.handle(json.dumps(event).encode())


def clusters(url: str) -> list[str]:
    """Return the values of the variable cluster, by its own query."""
    return [name for (name,) in conftest.execute(url, CLUSTER["query"])]


def shown(url: str, panel: dashboards.Panel) -> list[Row]:
    """Return the rows of a panel for all clusters and the last hour, or for the days that it has of its own."""
    [target] = panel["targets"]
    own = panel.get("timeFrom", "").removesuffix("d")
    start = NOW - (datetime.timedelta(days=int(own)) if own else datetime.timedelta(hours=1))
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
    query = dashboards.sql(target["rawSql"], start=start, end=end, clusters=clusters(url))
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_of_a_new_ledger_shows_nothing_and_no_error(panel: dashboards.Panel, url: str) -> None:
    """Nor does the list of clusters, which is empty then."""
    assert clusters(url) == []
    assert shown(url, panel) is not None


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_rows_and_what_its_kind_needs(panel: dashboards.Panel, filled: str) -> None:
    """A line needs a time in each row, in order, and a number; a bar a name and a number; a single value one row."""
    rows = shown(filled, panel)
    assert rows
    match panel["type"]:
        case "timeseries":
            times = [row["time"] for row in rows]
            assert None not in times
            assert times == sorted(times)
            numbers = [row[name] for row in rows for name in row if name not in ("time", "metric")]
            assert any(number is not None for number in numbers)
        case "bargauge":
            assert all(row["name"] and row["vms"] for row in rows)
        case "stat":
            assert len(rows) == 1
            assert next(iter(rows[0].values())) is not None


def value(url: str, title: str) -> Any:
    """Return the number of a panel by its title."""
    [row] = shown(url, next(panel for panel in PANELS if panel["title"] == title))
    return next(iter(row.values()))


def test_the_panels_say_what_is_in_the_ledger(filled: str) -> None:
    """Two clusters, three VMs, one that no event had brought, one dead letter."""
    assert clusters(filled) == ["o'east", "west"]
    assert value(filled, "VMs that live") == 3
    assert value(filled, "Drift of the last lists") >= 1
    assert value(filled, "Dead letters that wait") == 1
    assert value(filled, "VMs that run") == 1
    assert value(filled, "VMs without a known size") == 1
    assert value(filled, "Clusters whose last run failed") == 0
    changes = shown(filled, next(panel for panel in PANELS if panel["title"] == "The last changes"))
    assert {(row["name"], row["what"]) for row in changes} >= {("db", "appeared"), ("db", "changed"), ("db", "started")}
    assert next(row["facts"] for row in changes if (row["name"], row["what"]) == ("db", "changed")).count("cpucores")
    by_day = shown(filled, next(panel for panel in PANELS if panel["title"] == "VMs and vCPUs by day"))
    assert by_day[-1]["VMs"] == 3


def test_the_role_that_the_panels_log_in_with_can_change_nothing(filled: str) -> None:
    """It is the page's: DB_READ_ROLE."""
    for statement in ("DELETE FROM dead_letters", "UPDATE vm_state SET name = 'x'", "SELECT data FROM dead_letters"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            conftest.execute(filled, statement)
