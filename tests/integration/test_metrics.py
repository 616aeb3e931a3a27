"""What the metrics read of the ledger, on a real Postgres."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from function import errors, measures, settings
from function.clients import postgres_short
from function.inventory import prune
from function.metrics import ledger

Query = Callable[..., list[tuple[Any, ...]]]

LIVE = (
    "INSERT INTO vm_state (cluster, namespace, name, uid, type, id, kind, version_number, version_time, version_step,"
    " shape, digest, effective_at, deleted_at) SELECT %s, 'n', 'vm-' || number, 'u', 'x', number::text,"
    " 'VirtualMachine', number, '-infinity', 1, 1, 1, now(), CASE WHEN number > %s THEN now() END"
    " FROM generate_series(1, %s) AS number"
)
RUN = (
    "INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome, missed_adds, missed_updates, missed_deletes,"
    " corrected) VALUES (%s, now() - %s * interval '1 second', 1, %s, %s, %s, %s, %s)"
)


def read(url: str, own: str = "default") -> dict[tuple[str, ...], float]:
    """The values by the metric's name and its labels."""
    samples = ledger.Ledger({"dsn": url}, own).read()
    found = {(sample.metric.name.removeprefix("vmledger_"), *sample.labels): float(sample.value) for sample in samples}
    assert len(found) == len(samples)
    return found


def test_an_empty_ledger_has_no_clusters(url: str) -> None:
    """The database is up, and what can be counted is 0."""
    found = read(url)
    assert found["database_up",] == 1
    assert found["clusters",] == 0
    assert found["dead_letters_kept", "waiting"] == 0
    assert found["history_rows", "vm_history"] == 0
    assert found["history_bytes", "vm_history"] > 0
    assert found["history_bytes", "vm_runtime_history"] > 0
    assert ("prune_last_run_timestamp_seconds",) not in found


def test_what_the_ledger_says_of_each_cluster(url: str, query: Query) -> None:
    """Silence, age, drift, corrections, refusals and the live VMs, each as the tables have them."""
    query(LIVE, ["east", 7, 10])
    query(LIVE, ["west", 0, 3])
    query(RUN, ["east", 900, "repaired", 1, 2, 3, 4])
    query(RUN, ["east", 300, "failed", 0, 0, 0, 0])
    query(RUN, ["west", 60, "clean", 0, 0, 0, 0])
    query(
        "INSERT INTO ledger_heard (writer, cluster, kind, last_event_at, dead_letters) VALUES"
        " ('w', 'east', 'VirtualMachine', now() - interval '2 hours', 0), ('w', 'east', '', NULL, 5),"
        " ('x', 'east', '', NULL, 2)"
    )
    query("INSERT INTO prune_runs (ended_at, old, redundant) VALUES ('1970-01-01 00:01:00+00', 1, 2)")
    found = read(url)
    assert found["clusters",] == 2
    assert (found["live_vms", "east"], found["live_vms", "west"]) == (7, 0)
    assert found["silence_seconds", "east", "VirtualMachine"] == pytest.approx(7200, abs=60)
    assert found["complete_list_age_seconds", "east"] == pytest.approx(900, abs=60)
    assert found["unreconciled_seconds", "east"] == pytest.approx(900, abs=60)
    assert [found["reconcile_missed", "east", change] for change in ("add", "update", "delete")] == [1, 2, 3]
    assert found["reconcile_corrected", "east"] == 4
    assert (found["reconcile_last_run_success", "east"], found["reconcile_last_run_success", "west"]) == (0, 1)
    assert found["refusals_total", "east"] == 7
    assert found["prune_last_run_timestamp_seconds",] == 60


def test_vms_are_counted_once_a_minute(url: str, query: Query) -> None:
    """All else is read anew; a ledger that cannot count them in time shows no number, and is up."""
    query(LIVE, ["east", 7, 10])
    of_a_pod = ledger.Ledger({"dsn": url}, "default")
    first = {sample.metric: sample.value for sample in of_a_pod.read() if sample.labels in ((), ("east",))}
    query("UPDATE vm_state SET deleted_at = now() WHERE name <> 'vm-1'")
    query(
        "INSERT INTO dead_letters (key, delivery, count, first_at, last_at, attributes, form)"
        " VALUES ('k', 'd', 1, now(), now(), '{}', 'masked')"
    )
    later = of_a_pod.read()
    assert first[measures.LIVE_VMS] == 7
    assert ledger.Sample(measures.LIVE_VMS, ("east",), 7) in later
    assert ledger.Sample(measures.LETTERS_KEPT, ("waiting",), 1) in later
    query("ALTER TABLE vm_state RENAME TO slow")
    query("CREATE VIEW vm_state AS SELECT slow.* FROM slow, pg_sleep(9)")
    samples = ledger.Ledger({"dsn": url}, "default").read()
    assert ledger.Sample(measures.DATABASE_UP, (), 1) in samples
    assert measures.LIVE_VMS not in {sample.metric for sample in samples}


def test_the_clusters_that_have_series_are_few(url: str, query: Query) -> None:
    """A hub that takes any name: the own cluster and those that were reconciled have series, whatever else comes."""
    query(
        "INSERT INTO ledger_heard (writer, cluster, kind, last_event_at)"
        " SELECT 'w', 'a' || number, 'VirtualMachine', now() FROM generate_series(1, 1000) AS number"
    )
    query(RUN, ["zebra", 60, "clean", 0, 0, 0, 0])
    query(
        "INSERT INTO ledger_heard (writer, cluster, kind, last_event_at) VALUES ('w', 'yak', 'VirtualMachine', now())"
    )
    found = read(url, own="yak")
    named = {labels[0] for name, *labels in found if name == "unreconciled_seconds"}
    assert found["clusters",] == 1002
    assert len(named) == measures.MOST_CLUSTERS
    assert {"zebra", "yak"} <= named


def test_a_session_of_the_metrics_cannot_write(url: str) -> None:
    """It reads, whatever its role may do."""
    with pytest.raises(errors.Unavailable), postgres_short.reading({"dsn": url}) as cursor:
        cursor.execute("CREATE TABLE mine (x int)")


def test_a_prune_is_noted(url: str, query: Query) -> None:
    """Not a dry one; and only the last hundred are kept."""
    configuration = settings.Settings.from_env({"DATABASE_URL": url})
    year, month = datetime.timedelta(days=365), datetime.timedelta(days=30)
    prune.run(configuration, year, month, dry_run=True)
    assert query("SELECT count(*) FROM prune_runs") == [(0,)]
    query("INSERT INTO prune_runs (old, redundant) SELECT 0, 0 FROM generate_series(1, 150)")
    prune.run(configuration, year, month)
    assert query("SELECT count(*), max(run) FROM prune_runs") == [(100, 151)]
    assert ("prune_last_run_timestamp_seconds",) in read(url)
