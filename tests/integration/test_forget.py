"""``python -m function forget-cluster`` over a real Postgres."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from function import errors, events, progress, settings
from function.cli import main as cli
from function.clients import postgres
from function.inventory import forget, portions
from function.inventory.mapping import instance, versions, vm
from function.inventory.reconcile import snapshot
from function.inventory.storage import store
from tests import conftest, machines

Query = Callable[..., list[tuple[Any, ...]]]

OLD = "now() - interval '2 days'"
AGE = f"""
UPDATE vm_state SET updated_at = {OLD};
UPDATE vm_runtime SET updated_at = {OLD};
UPDATE ledger_heard SET updated_at = {OLD}, last_event_at = {OLD};
UPDATE reconcile_runs SET started_at = {OLD};
"""
TABLES = """
SELECT c.relname
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'cluster' AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 1
"""
"""Each table that names clusters."""


def machine(cluster: str, name: str, version: int) -> versions.Change:
    """A version of a VM."""
    known = {"id": f"m{version}", "type": "dev.knative.apiserver.resource.update", "specversion": "1.0", "source": "s"}
    metadata = {"name": name, "namespace": "team", "uid": f"u-{name}", "resourceVersion": str(version)}
    return vm.change(events.Event(known, {"metadata": metadata}), cluster_name=cluster)


def running(cluster: str, name: str, version: int) -> versions.Change:
    """A version of the VM's instance."""
    known = {"id": f"i{version}", "type": "dev.knative.apiserver.resource.update", "specversion": "1.0", "source": "s"}
    found = machines.vmi(machines.vm(name, "team", uid=f"u-{name}"), uid=f"i-{name}")
    found["metadata"]["resourceVersion"] = str(version)
    change = instance.change(events.Event(known, found), cluster_name=cluster)
    assert change is not None
    return change


def fill(db: postgres.Database, query: Query, *clusters: str, count: int = 3) -> None:
    """Give clusters something in each table: machines and instances with two versions each, and what else there is."""
    tables = store.Store(db)
    for cluster in clusters:
        for number in range(count):
            tables.write([machine(cluster, f"vm-{number}", version) for version in (1, 2)])
            tables.write([running(cluster, f"vm-{number}", version) for version in (3, 4)])
        query("INSERT INTO clusters (cluster, uid) VALUES (%s, 'u')", [cluster])
        query("INSERT INTO reconcile_seen (cluster, kind, namespace, name) VALUES (%s, 'k', 'team', 'a')", [cluster])
        query(
            "INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome) VALUES (%s, now(), 1, 'clean')",
            [cluster],
        )
        query("INSERT INTO prune_due VALUES ('machines', %s, 'team', 'vm-0')", [cluster])
        query("INSERT INTO fleet_days VALUES (now(), %s, 'team', NULL, 3, 3, 3, NULL, NULL)", [cluster])
    query(AGE)


def left(query: Query, cluster: str) -> dict[str, int]:
    """How many rows each table has of a cluster."""
    names = [name for (name,) in query(TABLES)]
    return {name: query(f"SELECT count(*)::int FROM {name} WHERE cluster = %s", [cluster])[0][0] for name in names}


def run(url: str, cluster: str, **options: Any) -> forget.Forgotten:
    """Take a cluster out."""
    return forget.run(settings.Settings.from_env({"DATABASE_URL": url}), cluster, **options)


def test_a_cluster_goes_whole_and_no_other(url: str, db: postgres.Database, query: Query) -> None:
    """No table that names clusters has its name any more; the health neither."""
    fill(db, query, "east", "west")
    before = left(query, "west")
    assert all(before.values())
    assert left(query, "east") == before
    done = run(url, "east")
    assert (done.machines, done.machine_versions, done.instances, done.instance_versions) == (3, 6, 3, 6)
    assert (done.reconciles, done.others) == (1, 6)
    assert not any(left(query, "east").values())
    assert left(query, "west") == before
    assert query("SELECT DISTINCT cluster FROM ledger_health") == [("west",)]


def test_each_table_that_names_clusters_is_emptied_by_the_statements(query: Query) -> None:
    """A new one must be added to them."""
    sql = (pathlib.Path(forget.__file__).parent / "sql" / "forget.sql").read_text()
    assert sorted(set(re.findall(r"DELETE FROM (\w+)", sql))) == [name for (name,) in query(TABLES)]


def test_versions_that_belong_to_no_state_go_too(url: str, db: postgres.Database, query: Query) -> None:
    """A person may have deleted the states by hand."""
    fill(db, query, "east")
    query("DELETE FROM vm_state; DELETE FROM vm_runtime")
    done = run(url, "east")
    assert (done.machines, done.machine_versions, done.instances, done.instance_versions) == (0, 6, 0, 6)
    assert not any(left(query, "east").values())


def test_a_dry_run_counts_the_same_and_deletes_nothing(url: str, db: postgres.Database, query: Query) -> None:
    """Of a cluster that is not quiet too: nothing happens to it."""
    fill(db, query, "east")
    query("UPDATE ledger_heard SET updated_at = now()")
    before = left(query, "east")
    counted = run(url, "east", dry_run=True)
    assert left(query, "east") == before
    done = run(url, "east", force=True)
    assert (counted.dry_run, done.dry_run) == (True, False)
    assert {**vars(counted), "dry_run": False} == vars(done)


@pytest.mark.parametrize(
    "recent",
    [
        "UPDATE vm_state SET updated_at = now() - interval '23 hours' WHERE name = 'vm-1'",
        "UPDATE vm_runtime SET updated_at = now() - interval '23 hours' WHERE name = 'vm-1'",
        "UPDATE ledger_heard SET updated_at = now() - interval '23 hours' WHERE kind = 'VirtualMachine'",
        "UPDATE reconcile_runs SET started_at = now() - interval '23 hours'",
    ],
)
def test_what_was_stored_within_the_last_day_is_a_refusal(
    recent: str, url: str, db: postgres.Database, query: Query
) -> None:
    """Until --force: it is probably in use."""
    fill(db, query, "east")
    query(recent)
    before = left(query, "east")
    with pytest.raises(errors.Refused, match=r"'east' within the last day.*--force"):
        run(url, "east")
    assert left(query, "east") == before
    run(url, "east", force=True)
    assert not any(left(query, "east").values())


def test_a_name_that_nothing_is_stored_under_is_a_refusal(url: str, db: postgres.Database, query: Query) -> None:
    """It is mistyped, or it is out already; force changes nothing about that."""
    fill(db, query, "east")
    for force in (False, True):
        with pytest.raises(errors.Refused, match="nothing is stored under the name 'eats'"):
            run(url, "eats", force=force)


def test_a_running_reconcile_keeps_it_away(url: str, db: postgres.Database, query: Query) -> None:
    """The reconcile would store again what is gone."""
    fill(db, query, "east")
    with contextlib.closing(snapshot.Snapshot({"dsn": url}, "east")) as reconcile:
        reconcile.open()
        assert reconcile.alone()
        with pytest.raises(errors.Refused, match="a reconcile of the cluster 'east' is running"):
            run(url, "east")
    run(url, "east")


def test_it_goes_in_portions(url: str, db: postgres.Database, query: Query) -> None:
    """After each of them a machine is there with all its versions, or not at all."""
    count = portions.FEWEST + 3
    fill(db, query, "east", count=count)
    seen: list[tuple[str, int, int]] = []
    left = "SELECT (SELECT count(*)::int FROM vm_state), (SELECT count(*)::int FROM vm_history)"

    class Seen(progress.Progress):
        def at(self, what: str, count: int, most: int) -> None:
            seen.append((what, count, most))
            [(states, versions)] = query(left)
            assert versions == 2 * states

    run(url, "east", talk=Seen())
    for noun in ("virtual machines", "instances"):
        shown = [each for each in seen if each[0] == noun]
        assert (shown[0], shown[-1]) == ((noun, portions.FEWEST, count), (noun, count, count))
    assert query(left) == [(0, 0)]


def test_writers_of_other_clusters_do_not_wait(
    url: str, db: postgres.Database, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a portion is under way, here because somebody holds one of its rows, their events are stored."""
    monkeypatch.setattr(forget, "NEEDS", dataclasses.replace(forget.NEEDS, lock=60))
    fill(db, query, "east", "west")
    with contextlib.closing(conftest.session(url)) as holder, concurrent.futures.ThreadPoolExecutor() as pool:
        cursor = holder.cursor()
        cursor.execute("BEGIN; SELECT FROM vm_state WHERE cluster = 'east' AND name = 'vm-2' FOR UPDATE")
        done = pool.submit(run, url, "east")
        while query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            assert not done.done()
        assert store.Store(db).write([machine("west", "vm-1", 9)]) == [store.Outcome.STORED]
        assert not done.done()
        cursor.execute("COMMIT")
        assert done.result(60).machines == 3


def test_it_needs_the_owner(new_database: Callable[..., str], template: str, query: Query) -> None:
    """The function's role may only count; the sentence says who may."""
    url = new_database(template)
    conftest.execute(url, "INSERT INTO clusters (cluster) VALUES ('east')")
    conftest.execute(url, "CREATE ROLE forgetful LOGIN")
    try:
        conftest.execute(url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO forgetful")
        mine = url.replace("postgres@", "forgetful@")
        assert mine != url
        assert run(mine, "east", dry_run=True).others == 1
        with pytest.raises(errors.Refused, match="log in as the owner of the tables"):
            run(mine, "east")
    finally:
        conftest.execute(url, "DROP OWNED BY forgetful; DROP ROLE forgetful")


def test_the_command_says_what_it_did(
    url: str,
    db: postgres.Database,
    query: Query,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As JSON where nobody looks; exit code 0, 1 for what it refuses, 2 for a mistake in the arguments."""
    fill(db, query, "east")
    monkeypatch.setenv("DATABASE_URL", url)
    assert cli.main(["forget-cluster", "east", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"] is True
    assert cli.main(["forget-cluster", "east"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["action"], said["cluster"], said["machines"], said["dry_run"]) == ("forget.done", "east", 3, False)
    assert cli.main(["forget-cluster", "east"]) == 1
    assert "nothing is stored under the name 'east'" in capsys.readouterr().err
    assert cli.main(["forget-cluster"]) == 2
    assert cli.main(["forget-cluster", "half \ud800 a character"]) == 2
    assert "must be UTF-8 text" in capsys.readouterr().err
