"""After a reconcile the ledger is what the cluster is, and nothing is lost on the way there."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import io
import logging
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psycopg2
import pytest

from function import events, migrate, settings
from function.cli import reconcile as reconcile_command
from function.clients import kubernetes, postgres
from function.inventory.mapping import instance, versions, vm
from function.inventory.reconcile import kinds, plan, report, result, snapshot
from function.inventory.reconcile import run as reconciliation
from function.inventory.storage import store
from tests import api_server, conftest, machines

Rows = list[tuple[Any, ...]]
Query = Callable[..., Rows]
Reconcile = Callable[..., result.Run]

ADD, UPDATE, DELETE = (f"dev.knative.apiserver.resource.{step}" for step in ("add", "update", "delete"))
FACTS = [name for name in vm.COLUMNS if name not in ("type", "id", "time", "cluster", "deleted_at")]
LIVE = "FROM (SELECT *, NULL AS deleted_at FROM virtual_machines) AS live"
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def api() -> Iterator[api_server.ApiServer]:
    """A cluster with nothing in it."""
    with api_server.running() as server:
        yield server


@pytest.fixture
def configuration(api: api_server.ApiServer, url: str, tmp_path: pathlib.Path) -> settings.Settings:
    """An empty ledger, and access to the cluster."""
    return settings.Settings.from_env(
        {"DATABASE_URL": url, "KUBECONFIG": api.kubeconfig(tmp_path), "CLUSTER_NAME": "east"}
    )


@pytest.fixture
def again(configuration: settings.Settings) -> Reconcile:
    """Reconcile, in pages of three; all that is found counts as missed, however new it is."""

    def run(talk: report.Report | None = None, **options: Any) -> result.Run:
        return reconciliation.run(configuration, result.Options(**{"page": 3, "in_flight": 0, **options}), talk)

    return run


@pytest.fixture
def ledger(db: postgres.Database) -> store.Store:
    """The ledger as the receiver writes it."""
    return store.Store(db)


class Teller:
    """Tells the ledger what a watch of the cluster says, as the receiver would."""

    def __init__(self, ledger: store.Store) -> None:
        self.ledger = ledger
        self.count = 0

    def tell(self, said: api_server.WatchEvent | None, time: datetime.datetime | None = None) -> store.Outcome:
        """Store one event, sent now or at another time."""
        assert said is not None
        self.count += 1
        sent = time or datetime.datetime.now(datetime.UTC)
        event = events.Event({"id": f"e{self.count}", "type": said.type, "time": sent}, said.object)
        if said.object["kind"] == instance.KIND:
            change = instance.change(event, cluster_name="east")
            assert change is not None
        else:
            change = vm.change(event, cluster_name="east")
        return self.ledger.write([change])[0]

    def flat(self, kind: str, name: str, time: datetime.datetime, **attributes: str) -> store.Outcome:
        """Store an event in the published example's form, without a resource version."""
        self.count += 1
        known = {"id": f"f{self.count}", "type": kind, "time": time, "namespace": "shop", "name": name, **attributes}
        return self.ledger.write([vm.change(events.Event(known, None), cluster_name="east")])[0]


@pytest.fixture
def teller(ledger: store.Store) -> Teller:
    """What tells the ledger."""
    return Teller(ledger)


def names(query: Query) -> list[str]:
    """The machines that live in the ledger."""
    return [name for (name,) in query("SELECT name FROM virtual_machines ORDER BY 1")]


def facts_of(row: versions.Row) -> dict[str, Any]:
    """What is a fact about a machine, as JSON."""
    said = msgspec.to_builtins(row)
    return {name: said.get(name) for name in FACTS}


def difference(api: api_server.ApiServer, query: Query) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The facts of each machine in the ledger, and in the cluster, where they are not the same."""
    held = query(f"SELECT namespace, name, to_json(v)::text FROM (SELECT {', '.join(vm.COLUMNS)} {LIVE}) AS v")
    ours = {
        (namespace, name): facts_of(msgspec.json.decode(row, type=vm.VirtualMachine)) for namespace, name, row in held
    }
    theirs = {
        place: facts_of(vm.change(events.Event({"id": "x", "type": UPDATE}, item), cluster_name="east").row)
        for place, item in api.objects(kubernetes.VMS).items()
    }
    return (
        {place: said for place, said in ours.items() if theirs.get(place) != said},
        {place: said for place, said in theirs.items() if ours.get(place) != said},
    )


def counts(done: result.Run) -> tuple[int, int, int]:
    """Missed adds, updates and deletes."""
    return done.missed_adds, done.missed_updates, done.missed_deletes


def rows(query: Query) -> Rows:
    """The rows about runs, the last one first."""
    return query(
        "SELECT outcome, dry_run, seen, missed_adds, missed_updates, missed_deletes, list_version, error"
        " FROM reconcile_runs ORDER BY run DESC"
    )


def everything(query: Query) -> list[Rows]:
    """All that a reconcile may write, but its own row."""
    tables = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history", "clusters", "reconcile_seen")
    return [query(f"SELECT to_json(t)::text FROM {table} AS t ORDER BY 1") for table in tables]


# The ledger becomes what the cluster is


def test_the_first_run_fills_the_ledger(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """Seeding: a source announces nothing that exists already."""
    api.seed(machines.fleet(10, size=0))
    done = again()
    assert (done.outcome, done.seen, counts(done), done.error) == ("repaired", 10, (10, 0, 0), None)
    assert difference(api, query) == ({}, {})
    assert query("SELECT DISTINCT type, cluster FROM virtual_machines") == [("vmledger.reconcile.add", "east")]
    assert rows(query) == [("repaired", False, 10, 10, 0, 0, api.revision, None)]
    assert query("SELECT uid FROM clusters") == [(api.uid,)]


def test_what_is_on_its_way_is_written_and_not_counted_as_missed(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """What changed in the minute before the list, by its object's time; what is gone, by when it was stored last."""
    api.manager = "virt-controller"
    now = datetime.datetime.now(datetime.UTC)
    for name, age in (("old", 300), ("older", 90), ("new", 5)):
        changed = now - datetime.timedelta(seconds=age)
        api.now = functools.partial(datetime.datetime.fromtimestamp, changed.timestamp(), datetime.UTC)
        teller.tell(api.create(machines.vm(f"gone-{name}")), time=changed)
        api.create(machines.vm(f"made-{name}"))
        api.create(machines.vmi(api.get(kubernetes.VMS, "shop", f"made-{name}")))
        api.delete(kubernetes.VMS, "shop", f"gone-{name}")
    query("UPDATE vm_state SET updated_at = updated_at - interval '2 minutes' WHERE name <> 'gone-new'")
    seen = again(dry_run=True, in_flight=60)
    done = again(in_flight=60)
    for each in (seen, done):
        assert (each.outcome, counts(each), each.instance_adds, each.in_flight) == ("repaired", (2, 0, 2), 2, 3)
    assert names(query) == ["made-new", "made-old", "made-older"]
    assert rows(query)[0][3:6] == (2, 0, 2)
    assert again(in_flight=60).outcome == "clean"


def test_a_run_right_after_is_clean(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """And writes nothing, not even when rows were written."""
    api.seed(machines.fleet(7, size=0))
    api.create(machines.vmi(api.get(kubernetes.VMS, "team-01", "vm-00001")))
    again()
    before = everything(query)[:4]
    done = again()
    assert (done.outcome, done.seen, counts(done), done.instances) == ("clean", 7, (0, 0, 0), 0)
    assert everything(query)[:4] == before
    assert rows(query)[0] == ("clean", False, 7, 0, 0, 0, api.revision, None)


def test_what_happened_in_silence_is_found(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """An add, an update and a delete that nobody told of; what was told is left as it is."""
    for name in ("told", "changed", "gone"):
        teller.tell(api.create(machines.vm(name)))
    api.create(machines.vm("made"))
    api.update(kubernetes.VMS, "shop", "changed", {"status": {"printableStatus": "Running"}})
    api.delete(kubernetes.VMS, "shop", "gone")
    done = again()
    assert (done.outcome, counts(done)) == ("repaired", (1, 1, 1))
    assert difference(api, query) == ({}, {})
    assert query("SELECT name, type FROM vm_state ORDER BY 1") == [
        ("changed", "vmledger.reconcile.update"),
        ("gone", "vmledger.reconcile.delete"),
        ("made", "vmledger.reconcile.add"),
        ("told", ADD),
    ]


def test_a_missed_delete_says_what_was_last_known(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Its version is the list's, its time is when the list began."""
    teller.tell(api.create(machines.vm("gone", cores=3)))
    api.delete(kubernetes.VMS, "shop", "gone")
    again()
    [row] = query(
        "SELECT type, version_number, resource_version, spec_vcpus, memory, labels, deleted_at = time,"
        " deleted_at <= now(), effective_at = time FROM vm_state"
    )
    assert row == (plan.DELETED, api.revision, api.revision, 3, "4Gi", {"app": "gone"}, True, True, True)
    assert query("SELECT count(*) FROM vm_history WHERE type = 'vmledger.reconcile.delete'") == [(1,)]


def test_a_machine_that_was_made_again_is_the_new_one(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Same name, another uid; the late events of the old one change nothing."""
    teller.tell(api.create(machines.vm("web")))
    deleted = api.delete(kubernetes.VMS, "shop", "web")
    api.create(machines.vm("web", cores=5))
    again()
    assert teller.tell(deleted) is store.Outcome.LATE
    assert query("SELECT cpucores FROM virtual_machines") == [(5,)]
    assert difference(api, query) == ({}, {})


def test_what_a_flat_event_left_out_is_filled_in(
    api: api_server.ApiServer, again: Reconcile, ledger: store.Store, query: Query
) -> None:
    """Also where it told of the very version that the list has."""
    made = api.create(machines.vm("web"))
    version = made.object["metadata"]["resourceVersion"]
    event = events.Event(
        {"id": "1", "type": UPDATE, "time": NOW, "namespace": "shop", "name": "web", "resourceversion": version}, None
    )
    ledger.write([vm.change(event, cluster_name="east")])
    assert counts(again()) == (0, 1, 0)
    assert difference(api, query) == ({}, {})
    assert again().outcome == "clean"


@pytest.mark.parametrize("quiet", [True, False], ids=["nothing else happened", "the cluster went on"])
@pytest.mark.parametrize("step", ["add", "update", "delete"])
def test_what_an_event_told_wrongly_is_set_right(
    step: str, quiet: bool, api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """A list is right about all up to its version.

    A trimmed event may have left something out, and a source with a label selector deletes what it no longer selects.
    """
    made = api.create(machines.vm("web"))
    other = {"template": {"spec": {"domain": {"cpu": {"cores": 40}}}}}
    teller.tell(api_server.WatchEvent(step, made.object if step == "delete" else {**made.object, "spec": other}))
    if not quiet:
        api.create(machines.vm("other"))
    done = again()
    assert counts(done) == ((1 if step == "delete" else 0) + (0 if quiet else 1), 0 if step == "delete" else 1, 0)
    assert difference(api, query) == ({}, {})
    assert again().outcome == "clean"
    assert (
        teller.tell(api.update(kubernetes.VMS, "shop", "web", {"metadata": {"labels": {"x": "y"}}}))
        is store.Outcome.STORED
    )
    assert again().outcome == "clean"


@pytest.mark.parametrize("step", ["update", "delete"])
def test_a_version_that_never_was_is_outranked(
    step: str, api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Between the list's version of a machine and the list's own there was nothing of this machine."""
    made = api.create(machines.vm("web"))
    for number in range(5):
        api.create(machines.vm(f"other-{number}"))
    for version in (api.revision - 2, api.revision):
        wrong = {**made.object, "metadata": {**made.object["metadata"], "resourceVersion": str(version)}}
        teller.tell(api_server.WatchEvent(step, wrong))
        again()
        assert difference(api, query) == ({}, {})
        assert again().outcome == "clean"


def test_machines_without_resource_versions_are_reconciled(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Flat events order by time; what the cluster holds outranks them, and what it has not goes."""
    api.create(machines.vm("web"))
    teller.flat(ADD, "web", NOW)
    teller.flat(ADD, "ghost", NOW)
    assert counts(again()) == (0, 1, 1)
    assert difference(api, query) == ({}, {})


def test_a_source_whose_clock_is_ahead_hides_nothing(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """What was received before the list began is older than the list, whatever time it bears."""
    teller.flat(ADD, "ghost", NOW + datetime.timedelta(days=300))
    assert counts(again()) == (0, 0, 1)
    assert names(query) == []


def test_an_empty_cluster_is_a_cluster(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """Nothing in it, nothing to do."""
    assert (again().outcome, query("SELECT machines_version FROM clusters")) == ("clean", [(api.revision,)])


def test_other_clusters_are_not_touched(
    api: api_server.ApiServer, again: Reconcile, ledger: store.Store, query: Query
) -> None:
    """They have lists of their own."""
    event = events.Event({"id": "1", "type": ADD, "time": NOW}, machines.vm("web"))
    ledger.write([vm.change(event, cluster_name="west")])
    assert again().outcome == "clean"
    assert query("SELECT cluster, name FROM virtual_machines") == [("west", "web")]


# While the list runs


def test_a_machine_that_changes_while_the_list_runs_is_not_set_back(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Nor is one that is made or goes meanwhile; the events are told before, after, or never."""
    api.seed(machines.vm(f"vm-{number}") for number in range(9))
    pages = iter(range(100))

    def meanwhile(page: kubernetes.Object) -> None:
        if next(pages) == 0:
            teller.tell(api.update(kubernetes.VMS, "shop", "vm-0", {"spec": {"runStrategy": "Halted"}}))
            teller.tell(api.update(kubernetes.VMS, "shop", "vm-8", {"spec": {"runStrategy": "Halted"}}))
            teller.tell(api.delete(kubernetes.VMS, "shop", "vm-1"))
            teller.tell(api.delete(kubernetes.VMS, "shop", "vm-7"))
            teller.tell(api.create(machines.vm("new")))

    api.on_page(meanwhile)
    done = again()
    assert done.seen == 9
    assert difference(api, query) == ({}, {})
    assert query("SELECT count(*) FROM vm_history WHERE type = 'vmledger.reconcile.delete'") == [(0,)]
    api.calm()
    assert again().outcome == "clean"


def test_what_flat_events_tell_while_the_list_runs_is_not_set_back(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """They cannot be compared with the list, so it is left to the next run which of them is right."""
    api.create(machines.vm("web"))
    teller.flat(ADD, "web", NOW)
    told: list[store.Outcome] = []

    def meanwhile(_: kubernetes.Object) -> None:
        if not told:
            now = datetime.datetime.now(datetime.UTC)
            told.append(teller.flat(UPDATE, "web", now, cpucores="9"))
            told.append(teller.flat(ADD, "new", now))

    api.on_page(meanwhile)
    assert counts(again()) == (0, 0, 0)
    assert query("SELECT name, cpucores FROM virtual_machines ORDER BY 1") == [("new", None), ("web", 9)]
    assert counts(again()) == (0, 1, 1)
    assert difference(api, query) == ({}, {})


def test_a_late_event_cannot_raise_what_the_list_did_not_hold(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Known machines and unknown ones, told in any order after the list."""
    known = api.create(machines.vm("known"))
    teller.tell(known)
    late = [api.update(kubernetes.VMS, "shop", "known", {"spec": {"runStrategy": "Halted"}})]
    api.delete(kubernetes.VMS, "shop", "known")
    late.append(api.create(machines.vm("unknown")))
    api.delete(kubernetes.VMS, "shop", "unknown")
    assert counts(again()) == (0, 0, 1)
    for said in reversed(late):
        assert teller.tell(said) is store.Outcome.LATE
    assert names(query) == []
    assert again().outcome == "clean"


def test_an_event_between_the_list_and_the_deletes_counts(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that comes back after the list is not deleted by it."""
    teller.tell(api.create(machines.vm("web")))
    api.delete(kubernetes.VMS, "shop", "web")
    complete = snapshot.Snapshot.complete

    def late(lists: snapshot.Snapshot, kind: Any, moment: plan.Moment) -> None:
        complete(lists, kind, moment)
        if kind is kinds.MACHINES:
            teller.tell(api.create(machines.vm("web")))

    monkeypatch.setattr(snapshot.Snapshot, "complete", late)
    assert counts(again()) == (0, 0, 0)
    assert names(query) == ["web"]


def test_what_an_event_tells_in_time_was_not_missed(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the ledger lacked it when the page was compared."""
    api.create(machines.vm("web"))
    compare = snapshot.Snapshot.compare

    def late(lists: snapshot.Snapshot, kind: Any, *rest: Any) -> Any:
        found = compare(lists, kind, *rest)
        if kind is kinds.MACHINES:
            teller.tell(api.update(kubernetes.VMS, "shop", "web", {"spec": {"runStrategy": "Halted"}}))
        return found

    monkeypatch.setattr(snapshot.Snapshot, "compare", late)
    assert again().outcome == "clean"


# A list that is not whole deletes nothing


def faults(api: api_server.ApiServer) -> dict[str, Callable[[], None]]:
    """What may befall the list after its second page."""

    def shorter(page: kubernetes.Object) -> None:
        page["metadata"].pop("continue", None)

    def other(page: kubernetes.Object) -> None:
        page["metadata"]["resourceVersion"] = "1"

    return {
        "expired": lambda: api.expire_after(2, of=kubernetes.VMS, times=2),
        "failed": lambda: api.fail_after(2, 503, times=2, of=kubernetes.VMS),
        "cut": lambda: api.cut_after(2, times=2, of=kubernetes.VMS),
        "short": lambda: api.spoil_after(1, shorter, of=kubernetes.VMS),
        "mixed": lambda: api.spoil_after(1, other, of=kubernetes.VMS),
        "nameless": lambda: api.spoil_after(
            1, lambda page: page["items"][0]["metadata"].pop("name"), of=kubernetes.VMS
        ),
    }


@pytest.mark.parametrize("what", ["expired", "failed", "cut", "short", "mixed", "nameless"])
def test_a_list_that_breaks_off_deletes_nothing(
    what: str, api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """What it did hold is stored, because it is true; the next run does the rest."""
    for number in range(9):
        teller.tell(api.create(machines.vm(f"vm-{number}")))
    api.delete(kubernetes.VMS, "shop", "vm-0")
    api.update(kubernetes.VMS, "shop", "vm-1", {"spec": {"runStrategy": "Halted"}})
    faults(api)[what]()
    done = again()
    assert (done.outcome, counts(done)) == ("failed", (0, 1, 0))
    assert done.error
    assert rows(query)[0][:6] == ("failed", False, done.seen, 0, 1, 0)
    assert "vm-0" in names(query)
    assert query("SELECT machines_version FROM clusters") == [(-1,)]
    api.calm()
    assert counts(again()) == (0, 0, 1)
    assert difference(api, query) == ({}, {})


@pytest.mark.parametrize("version", ["0", "9223372036854775807", str(2**62), "1e9", "-1"])
def test_a_list_version_that_cannot_be_is_a_failure(
    version: str, api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Nothing is written: from a version of 2^63-1 on, every later list would count from lower again."""
    teller.tell(api.create(machines.vm("known")))
    api.create(machines.vm("unknown"))
    api.spoil_after(0, lambda page: page["metadata"].update(resourceVersion=version), of=kubernetes.VMS)
    done = again(page=100)
    assert (done.outcome, counts(done), names(query)) == ("failed", (0, 0, 0), ["known"])
    assert query("SELECT machines_version FROM clusters WHERE machines_version >= 0") == []
    assert (again().outcome, names(query)) == ("repaired", ["known", "unknown"])


def test_a_list_that_expires_is_read_again_by_itself(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    """From its beginning, at its new moment: what went between the two is deleted, what came is added."""
    caplog.set_level("INFO")
    for number in range(9):
        teller.tell(api.create(machines.vm(f"vm-{number}")))
    api.delete(kubernetes.VMS, "shop", "vm-8")
    api.create(machines.vm("new-0"))

    def meanwhile(_: kubernetes.Object) -> None:
        if ("shop", "vm-0") in api.objects(kubernetes.VMS):
            api.delete(kubernetes.VMS, "shop", "vm-0")
            api.create(machines.vm("new-1"))

    api.on_page(meanwhile)
    api.expire_after(2, of=kubernetes.VMS)
    done = again()
    assert (done.outcome, done.seen, counts(done)) == ("repaired", 9, (2, 0, 2))
    assert done.list_version == api.revision
    assert names(query) == ["new-0", "new-1", *(f"vm-{number}" for number in range(1, 8))]
    assert difference(api, query) == ({}, {})
    assert "expired before its end: it is read again" in caplog.text
    assert query("SELECT count(*) FROM reconcile_seen") == [(0,)]
    assert again().outcome == "clean"


def test_a_list_of_instances_that_expires_is_read_again_by_itself(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """What the list of machines said stays, sizes included."""
    api.create(machines.revision("typed-1", cpus=3, memory="6Gi"))
    for number in range(5):
        teller.tell(api.create(machines.vmi(api.create(machines.vm(f"vm-{number}")).object)))
    api.create(machines.vm("typed", instancetype="u1.large"))
    api.update(kubernetes.VMS, "shop", "typed", machines.revised("typed-1"))
    gone = next(iter(api.objects(kubernetes.VMIS)))
    api.delete(kubernetes.VMIS, *gone)
    api.expire_after(1, of=kubernetes.VMIS)
    done = again()
    assert (done.outcome, done.seen, done.instances, done.sized) == ("repaired", 6, 1, 1)
    assert query("SELECT phase, count(*) FROM vm_runtime GROUP BY 1 ORDER BY 1") == [("Gone", 1), ("Running", 4)]
    assert query("SELECT vcpus FROM virtual_machines WHERE name = 'typed'") == [(3,)]


def test_a_dry_run_shows_each_difference_once(api: api_server.ApiServer, again: Reconcile) -> None:
    """Also where its list expires and is read again."""
    api.seed(machines.vm(f"vm-{number}") for number in range(9))
    api.expire_after(2, of=kubernetes.VMS)
    shown: list[str] = []

    class Shown(report.Report):
        def difference(self, what: str, row: versions.Row, *, was: int | None, now: int | None) -> None:
            shown.append(f"{what} {row.name}")

    done = again(Shown(), dry_run=True)
    assert (done.outcome, done.seen, counts(done)) == ("repaired", 9, (9, 0, 0))
    assert sorted(shown) == [f"VM add vm-{number}" for number in range(9)]


def test_the_api_away_is_a_failure(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """One sentence, and a row."""
    api.stop()
    done = again()
    assert done.outcome == "failed"
    assert rows(query) == [("failed", False, 0, 0, 0, 0, None, done.error)]


@pytest.mark.parametrize(("verb", "what"), [("get", "namespaces"), ("list", "virtualmachines")])
def test_what_is_forbidden_is_refused(
    verb: str, what: str, api: api_server.ApiServer, again: Reconcile, query: Query
) -> None:
    """The sentence says which right is missing."""
    api.forbidden.add((verb, what))
    done = again()
    assert done.outcome == "refused"
    assert f"the verb {verb} on {what}" in (done.error or "")
    assert rows(query)[0][0] == "refused"


def test_a_cluster_without_kubevirt_is_refused(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """No list is no empty list."""
    teller.tell(api.create(machines.vm("web")))
    api.absent.add("virtualmachines")
    assert again().outcome == "refused"
    assert names(query) == ["web"]


def test_the_database_lost_midway_is_a_failure(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """The run does not go on over another connection: its lock went with the first."""
    api.seed(machines.vm(f"vm-{number}") for number in range(9))
    api.on_page(
        lambda _: query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'vmledger'"
        )
    )
    done = again()
    assert done.outcome == "failed"
    assert rows(query)[0][0] == "failed"
    api.calm()
    assert again().outcome == "repaired"


def test_notes_that_were_lost_delete_nothing(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """They are in a table that a crash of the database empties."""
    for number in range(5):
        teller.tell(api.create(machines.vm(f"vm-{number}")))
    api.on_page(lambda _: query("DELETE FROM reconcile_seen"))
    done = again()
    assert done.outcome == "failed"
    assert len(names(query)) == 5


def test_an_object_that_cannot_be_read_is_left_alone(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    """All else is done; then the run fails, and the log names the object."""
    for name in ("odd", "gone", "poison"):
        teller.tell(api.create(machines.vm(name)))
    api.delete(kubernetes.VMS, "shop", "gone")
    late = api.update(kubernetes.VMS, "shop", "odd", {"spec": {"runStrategy": "Halted"}})
    api.update(kubernetes.VMS, "shop", "odd", {"spec": {"template": {"spec": {"domain": {"cpu": {"cores": -1}}}}}})
    api.update(kubernetes.VMS, "shop", "poison", {"metadata": {"creationTimestamp": "0001-01-01T00:00:00+00:00"}})
    api.create(machines.vm("made"))
    done = again()
    assert (done.outcome, done.seen, counts(done), done.unreadable) == ("failed", 3, (1, 1, 1), 1)
    assert names(query) == ["made", "odd", "poison"]
    assert teller.tell(late) is store.Outcome.STORED
    assert names(query) == ["made", "odd", "poison"]
    assert [record.__dict__["object"] for record in caplog.records if record.levelname == "ERROR"] == ["shop/odd"]


def test_a_value_that_the_database_refuses_takes_no_other_with_it(
    api: api_server.ApiServer, again: Reconcile, query: Query
) -> None:
    """Its page is split until it stands alone."""
    api.seed(machines.vm(f"vm-{number}") for number in range(9))
    query("ALTER TABLE vm_state ADD CHECK (name <> 'vm-4')")
    done = again(page=9)
    assert (done.outcome, done.unreadable, done.missed_adds) == ("failed", 1, 8)
    assert len(names(query)) == 8


# Which cluster, and when


def test_another_cluster_is_refused(api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query) -> None:
    """Its list says nothing about the machines of the first; unless it takes its place."""
    teller.tell(api.create(machines.vm("web")))
    again()
    first = api.uid
    api.update(kubernetes.NAMESPACES, "", "kube-system", {"metadata": {"uid": "another"}})
    api.delete(kubernetes.VMS, "shop", "web")
    api.create(machines.vm("theirs"))
    done = again()
    assert done.outcome == "refused"
    for word in (first, "another", "CLUSTER_NAME", "--accept-cluster"):
        assert word in (done.error or "")
    assert names(query) == ["web"]
    assert counts(again(accept_cluster=True)) == (1, 0, 1)
    assert names(query) == ["theirs"]
    assert query("SELECT uid, cardinality(epochs) FROM clusters") == [("another", 1)]
    assert again().outcome == "clean"


def test_a_cluster_that_counts_from_lower_is_refused_and_then_accepted(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """After a restore from a backup, and old events do not raise what is not there any more."""
    for name in ("kept", "same"):
        teller.tell(api.create(machines.vm(name)))
    saved = api.backup()
    late = [api.update(kubernetes.VMS, "shop", "kept", {"spec": {"runStrategy": "Halted"}})]
    teller.tell(api.create(machines.vm("after")))
    late += [api.update(kubernetes.VMS, "shop", "after", {"spec": {"runStrategy": "Halted"}})]
    late += [api.create(machines.vm("never-told"))]
    again()
    late += [api.update(kubernetes.VMS, "shop", "same", {"spec": {"runStrategy": "Halted"}})]
    sent = datetime.datetime.now(datetime.UTC)
    api.rewind(saved)
    api.create(machines.vm("new"))
    before = everything(query)
    done = again()
    assert done.outcome == "refused"
    assert "--accept-rewind" in (done.error or "")
    assert everything(query)[:5] == before[:5]
    done = again(accept_rewind=True)
    assert (done.outcome, counts(done)) == ("repaired", (1, 2, 2))
    assert difference(api, query) == ({}, {})
    for said in late:
        assert teller.tell(said, sent) in (store.Outcome.LATE, store.Outcome.DUPLICATE)
    assert difference(api, query) == ({}, {})
    assert again().outcome == "clean"
    assert (
        teller.tell(api.update(kubernetes.VMS, "shop", "kept", {"spec": {"runStrategy": "Manual"}}))
        is store.Outcome.STORED
    )
    assert again(accept_rewind=True).outcome == "clean"
    assert query("SELECT cardinality(epochs) FROM clusters") == [(1,)], "there was nothing to accept the second time"


def test_also_an_empty_cluster_counts(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """Its last list had a version, though nothing was stored by it."""
    saved = api.backup()
    web = api.create(machines.vm("web")).object
    api.create(machines.vmi(web))
    for resource in (kubernetes.VMS, kubernetes.VMIS):
        api.delete(resource, "shop", "web")
    again()
    assert query("SELECT count(*) FROM vm_state") == [(0,)]
    api.rewind(saved)
    assert "--accept-rewind" in (again().error or "")


def test_a_restore_that_nobody_noticed_in_time_is_repaired(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """When the cluster has counted past what the ledger knows, the list is right about everything all the same."""
    for name in ("same", "changed", "gone", "back"):
        teller.tell(api.create(machines.vm(name)))
    saved = api.backup()
    teller.tell(api.update(kubernetes.VMS, "shop", "changed", {"spec": {"runStrategy": "Halted"}}))
    teller.tell(api.create(machines.vm("after")))
    teller.tell(api.delete(kubernetes.VMS, "shop", "back"))
    api.rewind(saved)
    for number in range(5):
        api.create(machines.vm(f"new-{number}"))
    assert again().outcome == "repaired"
    assert difference(api, query) == ({}, {})
    assert again().outcome == "clean"


# What events made up

BEYOND = 2**63 - 1


class Liar:
    """POSTs what never happened."""

    def __init__(self, teller: Teller, api: api_server.ApiServer) -> None:
        self.teller = teller
        self.api = api

    def claim(
        self, step: str, found: kubernetes.Object, version: int = BEYOND, time: datetime.datetime | None = None
    ) -> store.Outcome:
        """Store an event about an object with another version."""
        metadata = {"namespace": "shop", "uid": "made-up", **found["metadata"], "resourceVersion": str(version)}
        return self.teller.tell(api_server.WatchEvent(step, {**found, "metadata": metadata}), time)


@pytest.fixture
def liar(teller: Teller, api: api_server.ApiServer) -> Liar:
    """Who may POST, and should not."""
    return Liar(teller, api)


@pytest.mark.parametrize("step", ["add", "update", "delete"])
def test_a_version_that_the_list_cannot_explain_is_corrected(
    step: str, api: api_server.ApiServer, again: Reconcile, teller: Teller, liar: Liar, query: Query
) -> None:
    """At once, and with no option; what the ledger knew before is there again, and the history names the lie."""
    made = api.create(machines.vm("web"))
    teller.tell(made)
    again()
    assert liar.claim(step, machines.vm("web", cores=33)) is store.Outcome.STORED
    done = again()
    assert (done.outcome, done.corrected, counts(done)) == ("repaired", 1, (0, 0, 0))
    assert difference(api, query) == ({}, {})
    assert query("SELECT type, version_epoch, version_number, overtaken FROM vm_history ORDER BY 2, 3") == [
        (f"dev.knative.apiserver.resource.{step}", -1, BEYOND, True),
        (ADD, 0, int(made.object["metadata"]["resourceVersion"]), False),
        ("vmledger.reconcile.correct", 0, api.revision, False),
    ]
    assert query("SELECT outcome, corrected FROM reconcile_runs ORDER BY run DESC LIMIT 1") == [("repaired", 1)]
    assert query("SELECT count(*) FROM vm_changes WHERE changes ? 'cpucores' AND what <> 'appeared'") == [(0,)]
    assert again().outcome == "clean"
    assert (
        teller.tell(api.update(kubernetes.VMS, "shop", "web", {"metadata": {"labels": {"x": "y"}}}))
        is store.Outcome.STORED
    )


def test_a_machine_that_never_was_is_gone_after_the_next_run(
    api: api_server.ApiServer, again: Reconcile, liar: Liar, query: Query
) -> None:
    """And the past does not show it."""
    api.create(machines.vm("web"))
    again()
    liar.claim("add", machines.vm("ghost"))
    before = datetime.datetime.now(datetime.UTC)
    done = again()
    assert (done.outcome, done.corrected, counts(done)) == ("repaired", 1, (0, 0, 0))
    assert names(query) == ["web"]
    assert query("SELECT name FROM virtual_machines_at(%s)", [before]) == [("web",)]
    assert query("SELECT type, deleted_at IS NULL FROM vm_state WHERE name = 'ghost'") == [
        ("vmledger.reconcile.correct", False)
    ]
    assert again().outcome == "clean"


def test_what_really_went_before_a_lie_stays_gone(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, liar: Liar, query: Query
) -> None:
    """The delete that was received is the newest version that is left."""
    teller.tell(api.create(machines.vm("web")))
    teller.tell(api.delete(kubernetes.VMS, "shop", "web"))
    liar.claim("update", machines.vm("web"))
    assert names(query) == ["web"]
    assert again().corrected == 1
    assert query("SELECT type FROM vm_state") == [(DELETE,)]
    assert again().outcome == "clean"


@pytest.mark.parametrize("version", ["above the floor", BEYOND], ids=["plausible", "not plausible"])
def test_machines_that_never_were_do_not_make_a_run_refuse(
    version: int | str, api: api_server.ApiServer, again: Reconcile, liar: Liar, query: Query
) -> None:
    """No complete list ever contained them, so their deletes need no second thought."""
    api.create(machines.vm("web"))
    again()
    floor = api.revision
    api.create(machines.vm("other"))
    for number in range(30):
        liar.claim("add", machines.vm(f"ghost-{number}"), version if isinstance(version, int) else floor + 1)
    assert again(dry_run=True).outcome == "repaired"
    assert again().outcome == "repaired"
    assert names(query) == ["other", "web"]
    assert again().outcome == "clean"


def test_a_first_dry_run_comes_to_what_the_first_run_comes_to(
    api: api_server.ApiServer, again: Reconcile, liar: Liar, query: Query
) -> None:
    """Machines that live by untrue versions alone make neither of them refuse, though there is no list before them."""
    api.create(machines.vm("web"))
    for number in range(30):
        liar.claim("add", machines.vm(f"ghost-{number}"))
    foretold = again(dry_run=True)
    done = again()
    assert (foretold.outcome, foretold.error, foretold.corrected) == ("repaired", None, 30)
    assert (done.outcome, done.error, done.corrected) == ("repaired", None, 30)
    assert names(query) == ["web"]


def test_machines_that_a_list_contained_still_make_a_run_refuse(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, liar: Liar, query: Query
) -> None:
    """Whatever events said of them since, and however many others live by hearsay."""
    for number in range(12):
        api.create(machines.vm(f"vm-{number:02}"))
    again()
    for number in range(12):
        teller.tell(api.update(kubernetes.VMS, "shop", f"vm-{number:02}", {"spec": {"runStrategy": "Halted"}}))
        api.delete(kubernetes.VMS, "shop", f"vm-{number:02}")
    for number in range(100):
        liar.claim("add", machines.vm(f"ghost-{number}"))
    done = again()
    assert done.outcome == "refused"
    assert "12 of 12 virtual machines" in (done.error or "")
    assert again(force=True).outcome == "repaired"
    assert names(query) == []


def test_the_same_lie_may_come_again(
    api: api_server.ApiServer, again: Reconcile, liar: Liar, teller: Teller, query: Query
) -> None:
    """It is refuted each time, and each time it costs freshness until the next run alone."""
    teller.tell(api.create(machines.vm("web")))
    sent = datetime.datetime.now(datetime.UTC)
    for _ in range(3):
        liar.claim("update", machines.vm("web", cores=33), time=sent)
        assert again().corrected == 1
        assert difference(api, query) == ({}, {})
    assert query("SELECT count(*) FROM vm_history WHERE version_epoch = -1") == [(3,)]
    assert again().outcome == "clean"


def test_a_rewind_is_judged_by_lists_alone(
    api: api_server.ApiServer, again: Reconcile, liar: Liar, query: Query
) -> None:
    """A version that an event brought is no sign of one; a list below an earlier list still is."""
    saved = api.backup()
    api.create(machines.vm("web"))
    again()
    liar.claim("update", machines.vm("web"))
    api.rewind(saved)
    done = again()
    assert done.outcome == "refused"
    assert f"its list has {saved.revision}, and an earlier one had" in (done.error or "")
    assert again(accept_rewind=True).outcome == "repaired"
    assert names(query) == []


@pytest.mark.parametrize("ahead", [datetime.timedelta(days=2), datetime.timedelta(days=36500)])
@pytest.mark.parametrize("exists", [True, False])
def test_a_time_far_ahead_freezes_no_machine(
    ahead: datetime.timedelta, exists: bool, api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Of an event without a resource version, which is ordered by that time, and of one with a version."""
    made = api.create(machines.vm("web"))
    teller.flat(UPDATE, "web", NOW + ahead, cpucores="33")
    teller.tell(made, NOW + ahead)
    if not exists:
        api.delete(kubernetes.VMS, "shop", "web")
    again()
    assert difference(api, query) == ({}, {})
    assert again().outcome == "clean"
    event = (
        api.update(kubernetes.VMS, "shop", "web", {"spec": {"runStrategy": "Halted"}})
        if exists
        else api.create(machines.vm("web"))
    )
    assert teller.tell(event) is store.Outcome.STORED
    assert difference(api, query) == ({}, {})


@pytest.mark.parametrize("owner", ["its", "another"])
@pytest.mark.parametrize("step", ["update", "delete"])
def test_an_instance_that_never_ran_so_is_corrected(
    owner: str, step: str, api: api_server.ApiServer, again: Reconcile, liar: Liar, query: Query
) -> None:
    """Of the machine itself, or of one that nobody has heard of; the machine shows what runs."""
    web = api.create(machines.vm("web")).object
    api.create(machines.vmi(web))
    again()
    before = shown(query)
    whose = web if owner == "its" else {**web, "metadata": {**web["metadata"], "uid": "another"}}
    liar.claim(step, machines.vmi(whose, node="node-of-lies"))
    done = again()
    assert (done.outcome, done.corrected, done.instances) == ("repaired", 1, 0)
    assert shown(query) == before
    assert query("SELECT count(*) FROM vm_runtime WHERE deleted_at IS NULL") == [(1,)]
    assert query("SELECT version_number, overtaken FROM vm_runtime_history WHERE version_epoch = -1") == [
        (BEYOND, True)
    ]
    assert again().outcome == "clean"


def test_a_lie_about_another_cluster_is_left_to_that_ones_run(
    api: api_server.ApiServer, again: Reconcile, ledger: store.Store, configuration: settings.Settings, query: Query
) -> None:
    """And does not touch this one's."""
    api.create(machines.vm("web"))
    again()
    found = machines.vm("web")
    found["metadata"] |= {"uid": "u", "resourceVersion": str(BEYOND)}
    ledger.write([vm.change(events.Event({"id": "1", "type": ADD, "time": NOW}, found), cluster_name="west")])
    assert again().outcome == "clean"
    west = dataclasses.replace(configuration, ledger=dataclasses.replace(configuration.ledger, cluster_name="west"))
    assert reconciliation.run(west).corrected == 1
    assert query("SELECT cluster, cpucores FROM virtual_machines ORDER BY 1") == [("east", 2), ("west", 2)]


def test_a_dry_run_shows_what_would_be_corrected(
    api: api_server.ApiServer, again: Reconcile, liar: Liar, query: Query
) -> None:
    """The lie's version, and the list's."""
    api.create(machines.vm("web"))
    again()
    liar.claim("delete", machines.vm("web"))
    liar.claim("add", machines.vm("ghost"))
    before = everything(query)
    out = io.StringIO()
    done = again(reconcile_command.TerminalReport(out), dry_run=True)
    assert (done.outcome, done.corrected, counts(done)) == ("repaired", 2, (0, 0, 0))
    assert [line.split() for line in out.getvalue().splitlines()[1:]] == [
        ["VM", "correct", str(BEYOND), str(api.revision), f"shop/{name}"] for name in ("ghost", "web")
    ]
    assert everything(query) == before
    assert "2 untrue versions would be corrected" in "\n".join(reconcile_command.summary(done))


def test_what_is_told_while_the_list_runs_is_not_refuted(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """It may be newer than the list, and is."""
    api.seed(machines.vm(f"vm-{number}") for number in range(9))
    again()

    def meanwhile(_: kubernetes.Object) -> None:
        teller.tell(api.update(kubernetes.VMS, "shop", "vm-1", {"metadata": {"labels": {"at": str(api.revision)}}}))

    api.on_page(meanwhile)
    assert again().corrected == 0
    assert difference(api, query) == ({}, {})


@pytest.mark.parametrize("first", ["the list", "the event"])
@pytest.mark.parametrize("step", ["add", "update"])
def test_a_version_that_a_list_and_an_event_tell_of_is_one(
    first: str, step: str, api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """Whichever comes first, of machines and of instances; also where a source that starts again announces all."""
    made = api.create(machines.vm("web"))
    ran = api.create(machines.vmi(made.object))
    said = [api_server.WatchEvent(step, each.object) for each in (made, ran)]
    if first == "the list":
        again()
    for each in said:
        teller.tell(each)
    again()
    teller.tell(said[0]._replace(step="add"))
    for history in ("vm_history", "vm_runtime_history"):
        assert query(f"SELECT count(*) FROM {history}") == [(1,)]
    assert again().outcome == "clean"


# Too many deletes


@pytest.mark.parametrize(
    ("lived", "went", "percent", "refused"),
    [
        (40, 10, 20, False),
        (40, 11, 20, True),
        (55, 11, 20, False),
        (12, 12, 100, False),
        (60, 11, 0, True),
        (9, 9, 0, False),
    ],
)
def test_too_many_deletes_are_refused(
    lived: int,
    went: int,
    percent: int,
    refused: bool,
    api: api_server.ApiServer,
    configuration: settings.Settings,
    teller: Teller,
    query: Query,
) -> None:
    """More than 10 and more than the percentage; then nothing is deleted, and with --force everything."""
    made = [api.create(machines.vm(f"vm-{number}")) for number in range(lived)]
    for said in made:
        teller.tell(said)
    for number in range(went):
        api.delete(kubernetes.VMS, "shop", f"vm-{number}")
    limited = dataclasses.replace(configuration, ledger=dataclasses.replace(configuration.ledger, max_deletes=percent))
    done = reconciliation.run(limited, result.Options(in_flight=0))
    assert (done.outcome, done.missed_deletes) == (("refused", 0) if refused else ("repaired", went))
    assert len(names(query)) == lived - done.missed_deletes
    if refused:
        assert f"{went} of {lived} virtual machines" in (done.error or "")
        assert "--force" in (done.error or "")
        assert query("SELECT machines_version FROM clusters") == [(-1,)]
        forced = reconciliation.run(limited, result.Options(force=True, in_flight=0))
        assert (forced.outcome, forced.missed_deletes) == ("repaired", went)


# Running instances


def shown(query: Query) -> Rows:
    """What the view says of what runs."""
    return query("SELECT name, node, ip_addresses, phase, live_vcpus FROM virtual_machines ORDER BY 1")


def test_running_instances_are_reconciled(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """They come, change, and go; and they count apart."""
    web = api.create(machines.vm("web")).object
    api.create(machines.vmi(web, cores=2))
    done = again()
    assert (counts(done), done.instances) == ((1, 0, 0), 1)
    assert shown(query) == [("web", "node-1", ["10.244.1.23"], "Running", 2)]
    api.update(kubernetes.VMIS, "shop", "web", {"status": {"nodeName": "node-2"}})
    done = again()
    assert (done.outcome, counts(done), done.instances) == ("repaired", (0, 0, 0), 1)
    assert shown(query) == [("web", "node-2", ["10.244.1.23"], "Running", 2)]
    late = api.update(kubernetes.VMIS, "shop", "web", {"status": {"nodeName": "node-3"}})
    api.delete(kubernetes.VMIS, "shop", "web")
    assert again().instances == 1
    assert shown(query) == [("web", "node-2", ["10.244.1.23"], "Gone", 2)]
    assert again().outcome == "clean"
    assert late is not None


def test_the_instance_of_a_machine_that_was_made_again_is_another(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """The old one is gone, though one of its name runs."""
    for cores in (1, 2):
        web = api.create(machines.vm("web")).object
        teller.tell(api.create(machines.vmi(web, cores=cores)))
        if cores == 1:
            api.delete(kubernetes.VMIS, "shop", "web")
            api.delete(kubernetes.VMS, "shop", "web")
    assert again().instances == 1
    assert query("SELECT live_vcpus, phase FROM vm_runtime ORDER BY 1") == [(1, "Gone"), (2, "Running")]
    assert query("SELECT live_vcpus, phase FROM virtual_machines") == [(2, "Running")]


def test_a_late_event_cannot_raise_an_instance(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """As for machines."""
    web = api.create(machines.vm("web")).object
    late = api.create(machines.vmi(web))
    api.delete(kubernetes.VMIS, "shop", "web")
    again()
    teller.tell(late)
    assert query("SELECT phase FROM vm_runtime") == [("Gone",)]
    assert again().outcome == "clean"


def test_an_instance_that_cannot_be_read_is_left_alone(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """It runs, whatever else it says."""
    web = api.create(machines.vm("web")).object
    teller.tell(api.create(machines.vmi(web)))
    api.update(kubernetes.VMIS, "shop", "web", {"status": {"currentCPUTopology": {"cores": -4}}})
    assert again().outcome == "failed"
    assert query("SELECT phase FROM vm_runtime") == [("Running",)]


def test_an_instance_that_no_machine_owns_is_none_of_ours(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """It is no row, and does not stand for the one before it that had an owner."""
    web = api.create(machines.vm("web")).object
    teller.tell(api.create(machines.vmi(web)))
    api.delete(kubernetes.VMIS, "shop", "web")
    alone = machines.vmi(web)
    alone["metadata"].pop("ownerReferences")
    api.create(alone)
    assert again().instances == 1
    assert query("SELECT phase FROM vm_runtime") == [("Gone",)]
    assert again().outcome == "clean"


@pytest.mark.parametrize("way", ["forbidden", "absent"])
def test_without_the_right_to_instances_the_machines_are_right(
    way: str, api: api_server.ApiServer, again: Reconcile, query: Query
) -> None:
    """A warning, and the run's row says so."""
    web = api.create(machines.vm("web")).object
    api.create(machines.vmi(web))
    again()
    api.delete(kubernetes.VMIS, "shop", "web")
    if way == "absent":
        api.absent.add("virtualmachineinstances")
    else:
        api.forbidden.add(("list", "virtualmachineinstances"))
    done = again()
    assert done.outcome == "clean"
    assert "running instances were left as they are" in (rows(query)[0][-1] or "")
    assert query("SELECT phase FROM vm_runtime") == [("Running",)]


def test_a_list_of_instances_that_breaks_off_leaves_them(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """None of them is gone for that; the machines were done."""
    for number in range(5):
        owner = api.create(machines.vm(f"vm-{number}")).object
        teller.tell(api.create(machines.vmi(owner)))
    api.expire_after(1, of=kubernetes.VMIS, times=2)
    done = again()
    assert (done.outcome, counts(done)) == ("failed", (5, 0, 0))
    assert query("SELECT DISTINCT phase FROM vm_runtime") == [("Running",)]


# Instancetypes

SIZES = "SELECT name, vcpus, memory_bytes, cpu_source, memory_source FROM virtual_machines ORDER BY 1"
GI = 2**30


def test_a_machine_of_an_instancetype_gets_its_size(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """From its revision; without one, from what expand-spec says; from its running instance where it has one."""
    api.create(machines.revision("kept-1", cpus=3, memory="6Gi"))
    for name in ("kept", "lost", "none", "runs", "own"):
        api.create(machines.vm(name, instancetype=None if name == "own" else "u1.large"))
    api.update(kubernetes.VMS, "shop", "kept", machines.revised("kept-1"))
    api.update(kubernetes.VMS, "shop", "lost", machines.revised("not-there"))
    api.create(machines.vmi(api.get(kubernetes.VMS, "shop", "runs"), cores=7, memory="7Gi"))
    done = again()
    assert query(SIZES) == [
        ("kept", 3, 6 * GI, "instancetype", "instancetype"),
        ("lost", 2, 8 * GI, "instancetype", "instancetype"),
        ("none", 2, 8 * GI, "instancetype", "instancetype"),
        ("own", 2, 4 * GI, "spec", "spec"),
        ("runs", 7, 7 * GI, "instance", "instance"),
    ]
    assert done.sized == 3
    api.calls.clear()
    before = query("SELECT name, updated_at FROM virtual_machines ORDER BY 1")
    assert (again().outcome, again().sized) == ("clean", 0)
    assert [call for call in api.calls if "revisions" in call or "expand" in call] == [], (
        "what is known is not asked for"
    )
    assert query("SELECT name, updated_at FROM virtual_machines ORDER BY 1") == before


def test_a_new_revision_is_looked_up(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """And one that says the same leaves updated_at as it was."""
    api.create(machines.vm("web", instancetype="u1.large"))
    for name, cpus in (("r1", 2), ("r2", 4)):
        api.create(machines.revision(name, cpus=cpus))
        api.update(kubernetes.VMS, "shop", "web", machines.revised(name))
        again()
        assert query(SIZES) == [("web", cpus, 8 * GI, "instancetype", "instancetype")]
    query("UPDATE vm_state SET instancetype_revision = 'r1'")
    before = query("SELECT updated_at FROM virtual_machines")
    again()
    assert query("SELECT instancetype_revision FROM vm_state") == [("r2",)]
    assert query("SELECT updated_at FROM virtual_machines") == before


def test_without_a_revision_a_machine_is_expanded_again_when_it_changes(
    api: api_server.ApiServer, again: Reconcile, query: Query
) -> None:
    """Not in each run."""
    api.create(machines.vm("web", instancetype="u1.large"))
    again()
    api.instancetypes["u1.large"] = (4, "8Gi")
    again()
    assert query("SELECT vcpus FROM virtual_machines") == [(2,)]
    api.update(kubernetes.VMS, "shop", "web", {"metadata": {"labels": {"x": "y"}}})
    again()
    assert query("SELECT vcpus FROM virtual_machines") == [(4,)]


@pytest.mark.parametrize(
    ("patch", "size"),
    [({"spec": {"instancetype": {"name": "u1.huge"}}}, None), ({"status": {"printableStatus": "Stopped"}}, 2)],
    ids=["another instancetype", "another status"],
)
def test_a_machine_that_changes_before_it_is_expanded_keeps_its_own_size(
    patch: dict[str, Any], size: int | None, api: api_server.ApiServer, again: Reconcile, query: Query
) -> None:
    """The API server expands what is there now: the size of another spec is not this row's; the next run asks again."""
    api.instancetypes["u1.huge"] = (64, "512Gi")
    api.create(machines.vm("web", instancetype="u1.large"))
    changes = iter([patch])
    api.on_page(
        lambda page: (
            page["kind"] == "VirtualMachineInstanceList"
            and [api.update(kubernetes.VMS, "shop", "web", change) for change in changes]
        )
    )
    again()
    assert query("SELECT instancetype, vcpus FROM virtual_machines") == [
        ("VirtualMachineClusterInstancetype/u1.large", size)
    ]
    again()
    assert query("SELECT vcpus FROM virtual_machines") == [(size or 64,)]


@pytest.mark.parametrize("way", ["forbidden", "broken", "odd"])
def test_a_size_that_cannot_be_looked_up_is_a_warning(
    way: str, api: api_server.ApiServer, again: Reconcile, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger is as the cluster is; the next run asks again only where the answer may be another."""
    api.create(machines.revision("r1", cpus=4))
    api.create(machines.vm("web", instancetype="u1.large"))
    api.update(kubernetes.VMS, "shop", "web", machines.revised("r1"))
    if way == "forbidden":
        api.forbidden.add(("get", "controllerrevisions"))
    elif way == "broken":
        api.update(kubernetes.CONTROLLER_REVISIONS, "shop", "r1", {"data": {"spec": {"cpu": {"guest": "many"}}}})
    else:
        api.update(kubernetes.VMS, "shop", "web", {"spec": {"instancetype": {"name": "missing"}}})
        api.update(kubernetes.VMS, "shop", "web", {"status": {"instancetypeRef": None}})
        api.absent.add("virtualmachines/expand-spec")
        api.instancetypes["missing"] = (1, "??")
    done = again()
    assert (done.outcome, done.sized) == ("repaired", 0)
    warned = [record.__dict__["action"] for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == ["reconcile.unsized"]
    assert query(SIZES) == [("web", None, None, None, None)]
    api.calls.clear()
    assert again().outcome == "clean"
    asked = [call for call in api.calls if "revisions" in call or "expand" in call]
    assert bool(asked) == (way == "forbidden"), "what was not found is not asked for in every run"
    api.calls.clear()
    api.update(kubernetes.VMS, "shop", "web", {"metadata": {"labels": {"x": "y"}}})
    again()
    asked = [call for call in api.calls if "revisions" in call or "expand" in call]
    assert bool(asked) == (way != "broken"), "a revision does not change; what is expanded may"


def test_sizes_are_not_asked_for_of_an_api_that_is_away(
    api: api_server.ApiServer, again: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question would wait for its end."""
    monkeypatch.setattr(snapshot, "BATCH", 3)
    for number in range(12):
        api.create(machines.vm(f"vm-{number:02}", instancetype="u1.large"))
    api.on_page(lambda page: api.tokens.clear() if page["kind"] == "VirtualMachineInstanceList" else None)
    assert again(page=50).outcome == "repaired"
    assert len([call for call in api.calls if "expand" in call]) == 3


def test_one_size_that_is_not_known_hides_no_other(
    api: api_server.ApiServer, again: Reconcile, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before it."""
    monkeypatch.setattr(snapshot, "BATCH", 1)
    for name in ("a", "b", "c"):
        api.create(machines.revision(name, cpus=4))
        api.create(machines.vm(name, instancetype="u1.large"))
        api.update(kubernetes.VMS, "shop", name, machines.revised(name))
    api.update(kubernetes.CONTROLLER_REVISIONS, "shop", "a", {"data": {"spec": {"cpu": {"guest": "many"}}}})
    assert again().sized == 2
    assert query("SELECT name, vcpus FROM virtual_machines ORDER BY 1") == [("a", None), ("b", 4), ("c", 4)]


# A dry run


def test_a_dry_run_changes_nothing_and_shows_what_would(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """A table of what is missing, with the versions on both sides; and a row about the run."""
    for name in ("told", "changed", "gone"):
        teller.tell(api.create(machines.vm(name)))
    ledger_has = query("SELECT name, resource_version FROM vm_state ORDER BY 1")
    api.update(kubernetes.VMS, "shop", "changed", {"spec": {"runStrategy": "Halted"}})
    made = api.create(machines.vm("made")).object
    api.create(machines.vmi(made))
    api.delete(kubernetes.VMS, "shop", "gone")
    before = everything(query)
    out = io.StringIO()
    done = again(reconcile_command.TerminalReport(out), dry_run=True)
    assert (done.outcome, counts(done), done.instances) == ("repaired", (1, 1, 1), 1)
    assert everything(query) == before
    table = [line.split() for line in out.getvalue().splitlines()[1:]]
    was: dict[str, int] = dict(ledger_has)
    now = {name: api.get(kubernetes.VMS, "shop", name)["metadata"]["resourceVersion"] for name in ("changed", "made")}
    instance_version = api.get(kubernetes.VMIS, "shop", "made")["metadata"]["resourceVersion"]
    assert table == [
        ["VM", "update", str(was["changed"]), now["changed"], "shop/changed"],
        ["VM", "add", "-", now["made"], "shop/made"],
        ["VM", "delete", str(was["gone"]), "-", "shop/gone"],
        ["VMI", "add", "-", instance_version, "shop/made"],
    ]
    assert rows(query) == [("repaired", True, 3, 1, 1, 1, api.revision, None)]
    assert [line.strip() for line in reconcile_command.summary(done)[1:]] == [
        "1 would be added",
        "1 would be updated",
        "1 would be deleted",
        "1 running instances would be added",
    ]


def test_a_dry_run_refuses_what_a_real_one_would(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """And shows what would go."""
    for number in range(12):
        teller.tell(api.create(machines.vm(f"vm-{number:02}")))
    again()
    for number in range(12):
        api.delete(kubernetes.VMS, "shop", f"vm-{number:02}")
    out = io.StringIO()
    done = again(reconcile_command.TerminalReport(out), dry_run=True)
    assert done.outcome == "refused"
    assert out.getvalue().count("VM delete") == 12
    assert len(names(query)) == 12


def test_a_dry_run_of_a_rewind_begins_no_epoch(
    api: api_server.ApiServer, again: Reconcile, teller: Teller, query: Query
) -> None:
    """It shows what accepting it would do."""
    saved = api.backup()
    teller.tell(api.create(machines.vm("after")))
    again()
    api.rewind(saved)
    before = everything(query)
    assert again(dry_run=True).outcome == "refused"
    assert counts(again(dry_run=True, accept_rewind=True)) == (0, 0, 1)
    assert everything(query) == before


# Two at once, and what is not set up


def test_the_role_of_the_function_is_enough(
    api: api_server.ApiServer, configuration: settings.Settings, url: str, query: Query
) -> None:
    """What `migrate` grants with DB_APP_ROLE is all that a reconcile needs."""
    role = f"reconciler_{uuid.uuid4().hex}"
    query(f"CREATE ROLE {role} LOGIN")
    migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_APP_ROLE": role}))
    limited = dataclasses.replace(
        configuration, database=dataclasses.replace(configuration.database, url=url.replace("postgres@", f"{role}@"))
    )
    web = api.create(machines.vm("web", instancetype="u1.large")).object
    api.create(machines.vmi(web))
    api.create(machines.vm("idle", instancetype="u1.large"))
    done = reconciliation.run(limited)
    assert (done.outcome, done.error, counts(done), done.instances, done.sized) == ("repaired", None, (2, 0, 0), 1, 1)
    api.delete(kubernetes.VMIS, "shop", "web")
    api.delete(kubernetes.VMS, "shop", "web")
    assert counts(reconciliation.run(limited, result.Options(in_flight=0))) == (0, 0, 1)
    query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_database_that_is_silent_is_a_failure(
    api: api_server.ApiServer, configuration: settings.Settings, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every wait has an end, also for a lock that somebody holds."""
    monkeypatch.setattr(snapshot, "LOCK_WAITS", (0.1, 0.1))
    api.create(machines.vm("web"))
    with contextlib.closing(psycopg2.connect(configuration.database.url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE reconcile_seen IN ACCESS EXCLUSIVE MODE")
        assert reconciliation.run(configuration).error == "the database was locked by others for too long"
        monkeypatch.setattr(snapshot, "LOCK_WAITS", (60.0,))
        monkeypatch.setattr(snapshot, "STATEMENT_SECONDS", 0.5)
        assert "the database cannot be used now: no answer in time" in (reconciliation.run(configuration).error or "")
    assert [row[0] for row in rows(query)] == ["failed", "failed"]
    assert reconciliation.run(configuration).outcome == "repaired"


def test_what_is_missing_is_looked_up_by_index(
    again: Reconcile, query: Query, configuration: settings.Settings
) -> None:
    """Whatever the statistics say: a join of two tables that look empty would compare each row with each."""
    again()
    known = {"cluster": "east", "epoch": 0, "version": 1, "began": NOW, "batch": 9}
    after = {"namespace": "", "name": "", "owner_uid": ""}
    for name in ("count_missing", kinds.MACHINES.missing, kinds.INSTANCES.missing):
        session = conftest.session(str(configuration.database.url), snapshot.NEEDS)
        with contextlib.closing(session), session.cursor() as cursor:
            cursor.execute(snapshot.SQL.by_name[name].sql)
            cursor.execute("EXPLAIN " + snapshot.SQL.call(name), {**known, **after})
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "SubPlan" in plan
        assert "AND (namespace = s.namespace) AND (name = s.name)" in plan, plan


def test_two_at_once_are_one(api: api_server.ApiServer, again: Reconcile, query: Query) -> None:
    """The second is refused, and the first is not disturbed."""
    api.seed(machines.vm(f"vm-{number}") for number in range(5))
    second: list[result.Run] = []

    def meanwhile(_: kubernetes.Object) -> None:
        if not second:
            second.append(again())

    api.on_page(meanwhile)
    first = again()
    assert (first.outcome, first.error) == ("repaired", None)
    assert second[0].outcome == "refused"
    assert "another reconcile" in (second[0].error or "")
    assert [row[0] for row in rows(query)] == ["repaired", "refused"]


def test_without_a_database_it_is_refused(api: api_server.ApiServer, tmp_path: pathlib.Path) -> None:
    """One sentence; there is nowhere to write a row."""
    done = reconciliation.run(settings.Settings.from_env({"KUBECONFIG": api.kubeconfig(tmp_path)}))
    assert (done.outcome, done.error) == ("refused", "no database is configured: set DB_HOST or DATABASE_URL")


def test_without_kubernetes_it_is_refused(url: str, query: Query) -> None:
    """One sentence, and a row."""
    done = reconciliation.run(settings.Settings.from_env({"DATABASE_URL": url}))
    assert done.outcome == "refused"
    assert "KUBECONFIG" in (done.error or "")
    assert rows(query)[0][0] == "refused"


def test_an_unmigrated_database_is_a_failure(
    api: api_server.ApiServer, new_database: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    """The sentence says what to run; no traceback."""
    environ = {"DATABASE_URL": new_database(), "KUBECONFIG": api.kubeconfig(tmp_path)}
    done = reconciliation.run(settings.Settings.from_env(environ))
    assert done.outcome == "failed"
    assert "python -m function migrate" in (done.error or "")
