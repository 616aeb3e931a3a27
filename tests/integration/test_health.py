"""The view ``ledger_health`` over a real Postgres, what readiness says by it, and the dead letters in it."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg2.extensions
import pytest

from dev import embedded_postgres
from function import errors, events, migrate, settings, wiring
from function.clients import postgres, postgres_session
from function.inventory import health
from function.inventory.mapping import versions, vm
from function.inventory.storage import refusals, store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]
VM, VMI = "VirtualMachine", "VirtualMachineInstance"
HOUR = 3600


def change(cluster: str = "east", name: str = "a") -> versions.Change:
    """A change of a VM."""
    known = {"id": "1", "type": "dev.knative.apiserver.resource.add", "name": name, "namespace": "team"}
    return vm.change(events.Event({**known, "resourceversion": "1"}, None), cluster_name=cluster)


def reconciled(query: Query, cluster: str, minutes: float, outcome: str = "clean", **columns: Any) -> None:
    """A run that began some minutes ago; it took a second."""
    values = {"cluster": cluster, "outcome": outcome, "seconds": 1, **columns}
    query(
        f"INSERT INTO reconcile_runs (started_at, {', '.join(values)})"
        f" VALUES (now() - %s * interval '1 minute'{', %s' * len(values)})",
        [minutes, *values.values()],
    )


def heard_of(query: Query, cluster: str, minutes: float, kind: str = VM, writer: str = "w", **columns: Any) -> None:
    """An event that was stored some minutes ago."""
    values = {"writer": writer, "cluster": cluster, "kind": kind, **columns}
    query(
        f"INSERT INTO ledger_heard (last_event_at, updated_at, first_at, {', '.join(values)})"
        f" SELECT at, at, at{', %s' * len(values)} FROM (SELECT now() - %s * interval '1 minute' AS at) AS moment",
        [*values.values(), minutes],
    )


def minutes(column: str) -> str:
    """SQL for an interval in whole minutes."""
    return f"floor(extract(epoch FROM {column}) / 60)::int"


def test_an_empty_ledger_has_no_rows_and_is_unhealthy(db: postgres.Database) -> None:
    """Nobody sent anything and nobody compared."""
    assert health.read(db) == []
    assert not health.judge([], HOUR).healthy


def test_an_event_is_heard_in_the_moment_that_it_is_stored(
    db: postgres.Database, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates too: who sends them is not silent. A reconcile's own changes are no events."""
    monkeypatch.setattr(store, "NOTE_SECONDS", 0.0)
    tables = store.Store(db)
    tables.write([change("east")])
    tables.write([change("west")], listed=True)
    seen = "SELECT cluster, kind, silence < interval '1 minute', silence IS NULL FROM ledger_health ORDER BY 1, 2"
    expected = [("east", VM, True, False), ("east", VMI, None, True), ("west", VM, None, True)]
    assert query(seen)[:3] == expected
    query("UPDATE ledger_heard SET last_event_at = now() - interval '1 day'")
    tables.write([change("east")])
    assert query(seen)[:3] == expected


def test_a_kind_that_was_noted_lately_is_not_noted_again(
    db: postgres.Database, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each group of events would else write the same row; each cluster and each kind has its own note."""
    noted = "SELECT cluster, kind, last_event_at > now() - interval '1 hour' FROM ledger_heard ORDER BY 1, 2"
    tables = store.Store(db)
    monkeypatch.setattr(store, "NOTE_SECONDS", 3600.0)
    tables.write([change("east")])
    query("UPDATE ledger_heard SET last_event_at = now() - interval '1 day'")
    tables.write([change("east")])
    tables.write([change("east"), change("west")])
    assert query(noted) == [("east", VM, False), ("west", VM, True)]
    monkeypatch.setattr(store, "NOTE_SECONDS", 0.0)
    tables.write([change("east")])
    assert query(noted) == [("east", VM, True), ("west", VM, True)]


def test_a_note_that_was_not_stored_is_made_again(
    db: postgres.Database, url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the events, which are sent again."""
    monkeypatch.setattr(store, "NOTE_SECONDS", 3600.0)
    tables = store.Store(db)
    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE ledger_heard IN SHARE MODE")
        with pytest.raises(errors.Locked):
            tables.write([change("east")], lock_wait=0.01)
    tables.write([change("east")])
    assert query("SELECT cluster FROM ledger_heard") == [("east",)]


def test_the_newest_of_all_writers_counts(query: Query) -> None:
    """Each process has a row of its own."""
    for number, age in enumerate((90, 5, 40)):
        heard_of(query, "east", age, writer=str(number))
    assert query(f"SELECT {minutes('silence')}, kind FROM ledger_health ORDER BY kind LIMIT 1") == [(5, VM)]


def test_a_cluster_that_only_the_tables_know_is_unreconciled(db: postgres.Database, query: Query) -> None:
    """An import, an older version of the ledger, or a run that failed."""
    store.Store(db).write([change("imported"), change("imported", "b"), change("other")], listed=True)
    query("UPDATE vm_state SET updated_at = now() - interval '2 hours' WHERE cluster = 'imported'")
    reconciled(query, "failing", 30, "failed", error="no answer")
    query("INSERT INTO clusters (cluster, uid) VALUES ('identified', 'u')")
    rows = health.read(db)
    assert [row.cluster for row in rows if row.kind == VM] == ["failing", "identified", "imported", "other"]
    assert all(row.last_complete_list_at is None for row in rows)
    problems = health.judge(rows, HOUR).problems
    assert len([problem for problem in problems if "was never reconciled" in problem]) == 4
    assert "the last reconcile of cluster 'failing' failed: no answer" in problems
    ages = query(f"SELECT cluster, {minutes('unreconciled')} FROM ledger_health WHERE kind = '{VM}' ORDER BY 1")
    assert ages == [("failing", 30), ("identified", None), ("imported", 120), ("other", 0)]
    assert query(f"SELECT DISTINCT {minutes('oldest_unreconciled')} FROM ledger_health") == [(120,)]


def test_the_last_complete_list_is_told_from_the_last_run(db: postgres.Database, query: Query) -> None:
    """A run that was refused or failed read no complete list; a dry run changed nothing."""
    heard_of(query, "east", 1)
    reconciled(query, "east", 50, "repaired", missed_adds=1, missed_updates=2, missed_deletes=3)
    reconciled(query, "east", 40, "refused", error="too many deletes", missed_deletes=99)
    reconciled(query, "east", 30, "clean", dry_run=True)
    row = health.read(db)[0]
    assert row.unreconciled is not None
    assert health.short(row.unreconciled).startswith("50m")
    assert (row.missed_adds, row.missed_updates, row.missed_deletes) == (1, 2, 3)
    assert (row.last_reconcile_outcome, row.last_reconcile_error) == ("refused", "too many deletes")
    [problem] = health.judge([row], HOUR).problems
    assert problem == "the last reconcile of cluster 'east' was refused: too many deletes"
    reconciled(query, "east", 0)
    assert health.judge(health.read(db), HOUR).healthy


def test_a_run_that_another_one_kept_out_is_no_news(db: postgres.Database, query: Query) -> None:
    """It was refused because a run was under way, and that one read a complete list."""
    heard_of(query, "east", 1)
    reconciled(query, "east", 4, "refused", error="another reconcile of this cluster runs")
    reconciled(query, "east", 5, "clean", seconds=120)
    row = health.read(db)[0]
    assert (row.last_reconcile_outcome, row.last_reconcile_error) == ("clean", None)
    reconciled(query, "east", 2.5, "failed")
    assert health.read(db)[0].last_reconcile_outcome == "failed"


def test_a_cluster_that_never_sent_an_event_is_silent_since_its_first_list(db: postgres.Database, query: Query) -> None:
    """The seeding is not enough: the source must be heard too."""
    for age in (20, 10, 0):
        reconciled(query, "east", age)
    assert query(f"SELECT {minutes('silence')} FROM ledger_health") == [(20,), (20,)]
    rows = health.read(db)
    assert health.judge(rows, HOUR).healthy
    [problem] = health.judge(rows, 15 * 60).problems
    assert problem.startswith("cluster 'east' has never sent an event in the 20m since its first reconcile")
    heard_of(query, "east", 0)
    assert query(f"SELECT {minutes('silence')} FROM ledger_health ORDER BY kind") == [(0,), (None,)]


def test_it_stays_cheap_whatever_the_ledger_holds(url: str, query: Query) -> None:
    """Of the VMs and the runs it reads a handful for each cluster; planned as the function plans, and as psql does."""
    query(
        "INSERT INTO vm_state (type, id, kind, name, namespace, cluster, version_number, version_time, version_step,"
        " shape, digest, effective_at) SELECT 'x', '1', 'VirtualMachine', 'vm-' || n, 'ns', 'c' || n %% 3, 1, now(), 0,"
        " 0, 0, now() FROM generate_series(1, 30000) AS n",
        [],
    )
    query(
        "INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome) SELECT 'c' || n %% 4,"
        " now() - n * interval '10 minutes', 1, CASE WHEN n < 9000 AND n %% 4 = 1 THEN 'failed' ELSE 'clean' END"
        " FROM generate_series(1, 20000) AS n",
        [],
    )
    query("ANALYZE")
    for planner in ({}, postgres.NEEDS.settings()):
        counts = [_rows(node) for node in _nodes(_plan(url, planner)) if node.get("Relation Name") in BIG]
        assert len(counts) >= 4
        assert sum(counts) <= 60


CLUSTERS = """
INSERT INTO vm_state (type, id, kind, name, namespace, cluster, version_number, version_time, version_step, shape,
                      digest, effective_at)
SELECT 'x', '1', 'VirtualMachine', 'vm', 'ns', 'c' || n, 1, now(), 0, 0, 0, now()
FROM generate_series(%(first)s, %(last)s) AS n;
INSERT INTO clusters (cluster) SELECT 'c' || n FROM generate_series(%(first)s, %(last)s) AS n;
INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome)
SELECT 'c' || n, now() - age * interval '1 minute', 1, CASE n %% 3 WHEN 0 THEN 'failed' ELSE 'clean' END
FROM generate_series(%(first)s, %(last)s) AS n, generate_series(1, 2) AS age;
INSERT INTO ledger_heard (writer, cluster, kind, last_event_at, dead_letters)
SELECT 'w' || writer, 'c' || n, kind, CASE WHEN kind <> '' THEN now() END, CASE kind WHEN '' THEN 1 ELSE 0 END
FROM generate_series(%(first)s, %(last)s) AS n, generate_series(1, 2) AS writer,
     unnest('{VirtualMachine,VirtualMachineInstance,""}'::text[]) AS kind;
"""
"""Clusters of a few rows in each table."""


@pytest.mark.parametrize("analyzed", [False, True])
def test_its_cost_is_in_proportion_to_the_clusters(analyzed: bool, url: str, query: Query) -> None:
    """Ten times the clusters are ten times the rows that it reads and compares, whoever plans it, by whatever facts."""
    spent: dict[str, list[float]] = {}
    for first, last in ((1, 1_000), (1_001, 10_000)):
        query(CLUSTERS, {"first": first, "last": last})
        if analyzed:
            query("ANALYZE")
        for who, planner in (("psql", {}), ("function", postgres.NEEDS.settings())):
            plan = _plan(url, planner)
            assert plan["Actual Rows"] == 2 * last
            spent.setdefault(who, []).append(sum(map(_rows, _nodes(plan))))
    for few, many in spent.values():
        assert many < 12 * few


BIG = ("vm_state", "reconcile_runs")


def _plan(url: str, planner: Mapping[str, str]) -> dict[str, Any]:
    """Execute the view in a session with these settings; return its plan, with what was counted."""
    session = postgres_session.SQL.by_name["apply_settings"].sql + postgres_session.SQL.call("apply_settings")
    explain = f"{session} EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM ledger_health"
    [(found,)] = conftest.execute(url, explain, {"settings": json.dumps(planner)})
    return found[0]["Plan"]  # type: ignore[no-any-return]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _rows(node: dict[str, Any]) -> float:
    """Return how many rows a part of a plan handled, with those that it left out."""
    removed = sum(node.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Join Filter", "Index Recheck"))
    return float(node["Actual Rows"] + removed) * float(node["Actual Loops"])


def test_the_queries_of_the_page_run(query: Query) -> None:
    """As docs/health.md shows them: each finds the silent cluster."""
    page = (pathlib.Path(__file__).parent.parent.parent / "docs" / "health.md").read_text()
    look, metrics, drift = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    for cluster in ("gone-for-good", "default"):
        heard_of(query, cluster, 90)
        reconciled(query, cluster, 10, "repaired", missed_adds=2)
    assert {row[0] for row in query(look)} == {"default", "gone-for-good"}
    assert {row[4] for row in query(metrics)} == {2}
    assert [row[1] for row in query(drift)] == ["repaired"]


def test_readiness_asks_now_and_then(db: postgres.Database, query: Query) -> None:
    """Each pod is asked every few seconds; what it knows it says again."""
    watch = health.Watch(db, HOUR, kept=0.5)
    assert watch.state().startswith("nothing was ever stored")
    heard_of(query, "east", 1)
    reconciled(query, "east", 1)
    assert watch.state().startswith("nothing was ever stored")
    time.sleep(0.6)
    assert watch.state() == "ok"


def test_readiness_shows_a_few_sentences(db: postgres.Database, query: Query) -> None:
    """The command shows all of them."""
    for number in range(7):
        heard_of(query, f"c{number}", 1)
    state = health.Watch(db, HOUR).state()
    assert state.count("was never reconciled") == 3
    assert state.endswith("; and 4 more")


def test_readiness_never_fails(server: embedded_postgres.Postgres, db: postgres.Database, query: Query) -> None:
    """It says why it does not know."""
    query("DROP VIEW ledger_health")
    assert health.Watch(db, HOUR).state().startswith("not known: the database schema is older")
    away = postgres.Database({"dsn": server.url(database="nowhere")}, timeout=10)
    assert health.Watch(away, HOUR).state().startswith("not known: the database cannot be used now")


def test_readiness_does_not_wait_for_a_locked_ledger(db: postgres.Database, url: str) -> None:
    """A migration may hold the tables; the probe has its own end."""
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        other = conftest.session(url)
        with other.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE ledger_heard IN ACCESS EXCLUSIVE MODE")
            locked.set()
            done.wait(30)
        other.close()

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait(10)
    started = time.monotonic()
    assert health.Watch(db, HOUR).state().startswith("not known")
    assert time.monotonic() - started < 20
    done.set()
    holder.join()


def test_the_application_s_role_reads_it(new_database: Callable[..., str], server: embedded_postgres.Postgres) -> None:
    """And writes its count of dead letters."""
    url = new_database()
    conftest.execute(server.url(), "CREATE ROLE health_app LOGIN")
    try:
        configuration = settings.Settings.from_env({"DATABASE_URL": url, "DB_APP_ROLE": "health_app"})
        migrate.run(configuration)
        mine = postgres.Database({"dsn": url.replace("postgres@", "health_app@")}, timeout=5)
        counter = refusals.Refusals(mine, cluster="east")
        counter.count()
        counter.close()
        assert [row.dead_letters for row in health.read(mine)] == [1]
        mine.close()
    finally:
        conftest.execute(url, "DROP OWNED BY health_app")
        conftest.execute(server.url(), "DROP ROLE health_app")


COUNTED = "SELECT coalesce(sum(dead_letters), 0)::int, count(*) FROM ledger_heard"


def wait_for(query: Query, sql: str, expected: object, seconds: float = 30) -> None:
    """Wait until a query gives what is expected."""
    end = time.monotonic() + seconds
    while query(sql) != [expected] and time.monotonic() < end:
        time.sleep(0.05)
    assert query(sql) == [expected]


def test_dead_letters_are_written_soon_by_somebody_else(db: postgres.Database, query: Query, url: str) -> None:
    """Many are one write; who counts does not wait for it."""
    counter = refusals.Refusals(db, cluster="east")
    with contextlib.closing(conftest.session(url)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE ledger_heard IN SHARE MODE")
        for _ in range(1000):
            counter.count()
        assert query(COUNTED) == [(0, 0)]
    wait_for(query, COUNTED, (1000, 1))
    counter.count()
    wait_for(query, COUNTED, (1001, 1))
    assert query("SELECT cluster, kind, last_event_at FROM ledger_heard") == [("east", "", None)]


def test_dead_letters_outlive_the_database_s_absence(
    server: embedded_postgres.Postgres, url: str, query: Query
) -> None:
    """They stay in memory, and no error reaches who counts."""
    name = psycopg2.extensions.parse_dsn(url)["dbname"]
    conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    db = postgres.Database({"dsn": url}, timeout=5)
    counter = refusals.Refusals(db, cluster="east")
    counter.count()
    counter.flush()
    counter.count()
    counter.flush()
    conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert query(COUNTED) == [(0, 0)]
    counter.close()
    assert query(COUNTED) == [(2, 1)]
    db.close()


def test_writing_a_count_again_changes_nothing(db: postgres.Database, query: Query) -> None:
    """Nobody knows whether a commit whose answer was lost is there."""
    row = {"writer": "w", "cluster": "east"}
    for _ in range(3):
        db.run(lambda cursor: refusals.SQL.run(cursor, "count_dead_letters", {**row, "count": 5}))
    db.run(lambda cursor: refusals.SQL.run(cursor, "count_dead_letters", {**row, "count": 4}))
    assert query(COUNTED) == [(5, 1)]


def test_a_process_begins_a_row_of_its_own_each_day(
    db: postgres.Database, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old row may be merged away meanwhile, and none of it is counted twice."""
    counter = refusals.Refusals(db, cluster="east")
    counter.count()
    counter.flush()
    query("UPDATE ledger_heard SET updated_at = now() - interval '31 days'")
    db.run(refusals.merge_writers)
    monkeypatch.setattr(refusals, "WRITER_SECONDS", 0.0)
    counter.count()
    counter.close()
    assert query(COUNTED) == [(2, 2)]


HEARD = (
    "SELECT cluster, kind, last_event_at, silence > interval '39 days', dead_letters, unreconciled > interval '1 day'"
)


def test_writers_that_are_gone_become_one(db: postgres.Database, query: Query) -> None:
    """The view says the same before and after, however often; those who still write keep their rows."""
    days = 24 * 60
    for writer, age in (("a", 50), ("b", 40), ("c", 41)):
        heard_of(query, "east", age * days, writer=writer)
        heard_of(query, "east", age * days, kind=VMI, writer=writer)
        heard_of(query, "east", age * days, kind="", writer=writer, dead_letters=2)
    heard_of(query, "west", 1, writer="d")
    before = query(f"{HEARD} FROM ledger_health ORDER BY cluster, kind")
    for _ in range(2):
        db.run(refusals.merge_writers)
        assert query(f"{HEARD} FROM ledger_health ORDER BY cluster, kind") == before
    writers = query("SELECT writer, cluster, kind FROM ledger_heard ORDER BY 1, 2, 3")
    assert writers == [("d", "west", VM), ("gone", "east", ""), ("gone", "east", VM), ("gone", "east", VMI)]
    heard_of(query, "east", 35 * days, kind="", writer="e", dead_letters=3)
    db.run(refusals.merge_writers)
    assert query("SELECT writer, dead_letters FROM ledger_heard WHERE kind = ''") == [("gone", 9)]


def test_refusals_of_the_receiver_are_counted_and_nothing_else(url: str, query: Query) -> None:
    """400, 413 and 422, as Knative sends these to the dead letter sink; once for a request."""
    environ = {"DATABASE_URL": url, "CLUSTER_NAME": "east", "MAX_EVENT_BYTES": "1024"}
    built = wiring.Service(settings.Settings.from_env(environ))
    client = built.app.test_client()
    vms = {"type": "dev.knative.apiserver.resource.add", "kind": VM, "name": "a", "namespace": "team"}

    def post(path: str = "/", **attributes: str) -> int:
        known = {"specversion": "1.0", "id": "1", "source": "s", **attributes}
        return client.post(path, headers={f"ce-{name}": value for name, value in known.items()}).status_code

    assert [post(**vms), post(type="other")] == [204, 204]
    assert client.post("/echo", data="nonsense").status_code == 400
    assert client.get("/").status_code == 405
    refused = [post(), post(**{**vms, "name": ""}), client.post("/", data="x" * 2000).status_code]
    refused.append(post(**{**vms, "type": "dev.knative.apiserver.ref.add"}))
    assert refused == [400, 400, 413, 422]
    batch = json.dumps([{"specversion": "1.0"}] * 5)
    content = "application/cloudevents-batch+json"
    assert client.post("/", data=batch, content_type=content).status_code == 400
    built.close()
    assert query("SELECT DISTINCT cluster, dead_letters FROM ledger_health") == [("east", 5)]


def test_what_is_retried_is_no_dead_letter(server: embedded_postgres.Postgres, url: str, query: Query) -> None:
    """503: the same event comes again."""
    built = wiring.Service(settings.Settings.from_env({"DATABASE_URL": url, "DB_TIMEOUT": "1"}))
    name = psycopg2.extensions.parse_dsn(url)["dbname"]
    conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    kind = "dev.knative.apiserver.resource.add"
    known = {"specversion": "1.0", "id": "1", "source": "s", "type": kind, "kind": VM, "name": "a", "namespace": "b"}
    answer = built.app.test_client().post("/", headers={f"ce-{name}": value for name, value in known.items()})
    assert answer.status_code == 503
    conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    built.close()
    assert query(COUNTED) == [(0, 0)]


def test_readiness_names_the_ledger(url: str, query: Query) -> None:
    """Beside the database; it writes down what has waited."""
    built = wiring.Service(settings.Settings.from_env({"DATABASE_URL": url}))
    assert built.states()["ledger"].startswith("nothing was ever stored")
    query("DROP VIEW ledger_health")
    query("DELETE FROM _yoyo_migration")
    assert built.states()["ledger"] == "not known: the database cannot be used now"
    built.close()
    assert wiring.Service(settings.Settings.from_env({})).states()["ledger"] == "not configured"


def test_without_a_database_the_command_cannot_know() -> None:
    """A sentence, as everywhere."""
    with pytest.raises(errors.Refused, match="set DB_HOST or DATABASE_URL"):
        health.ask(settings.Settings())
