"""The owner of a VM: a fact like others; what was stored before owners were kept takes it, and nothing else is said."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from function import events, migrate, settings
from function.clients import kubernetes, postgres
from function.inventory.mapping import versions, vm
from function.inventory.reconcile import result
from function.inventory.reconcile import run as reconciliation
from function.inventory.storage import store
from tests import api_server, conftest, machines, publishing
from tests.integration import test_past

Rows = list[tuple[Any, ...]]
Query = Callable[..., Rows]
Make = Callable[..., str]
Reconcile = Callable[..., result.Run]
MIGRATION = "0027.owner"
ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
CHANGES = "SELECT what, changes -> 'owner' FROM vm_changes WHERE name = 'a' ORDER BY changed_at"


def owned(*names: str) -> dict[str, Any]:
    """What the metadata of a VM of these pools says."""
    references = [{"kind": "VirtualMachinePool", "name": name, "uid": name, "controller": True} for name in names]
    return {"ownerReferences": references}


def machine(version: int, *pools: str, step: str = UPDATE, cores: int = 1) -> versions.Change:
    """A version of the VM team/a, of an hour of its own."""
    return test_past.machine(step, version, version, said=owned(*pools), cores=cores)


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The store over a fresh database."""
    return store.Store(db)


@pytest.mark.parametrize("order", [1, -1], ids=["the first first", "the first last"])
def test_each_version_has_its_owner(order: int, tables: store.Store, query: Query) -> None:
    """In the state, in the view, in the past and in the history, in whatever order the events arrive."""
    test_past.write(tables, *[machine(1, "web"), machine(2), machine(3, "db")][::order])
    assert query("SELECT owner FROM virtual_machines") == [("VirtualMachinePool/db",)]
    assert query("SELECT owner FROM vm_state") == [("VirtualMachinePool/db",)]
    owners = ["VirtualMachinePool/web", None, "VirtualMachinePool/db"]
    assert [test_past.at(query, hour, "owner") for hour in (1, 2, 3)] == [[(owner,)] for owner in owners]
    assert query("SELECT owner FROM vm_history ORDER BY version_number") == [(owner,) for owner in owners]


def test_a_change_of_the_owner_is_a_change(tables: store.Store, query: Query) -> None:
    """Adopted, given away, let go; a version with the same owner says nothing."""
    told = [machine(1, step=ADD), machine(2, "web"), machine(3, "db"), machine(4, "db"), machine(5)]
    test_past.write(tables, *told, machine(6, step=DELETE))
    web, db = "VirtualMachinePool/web", "VirtualMachinePool/db"
    assert query(CHANGES) == [
        ("appeared", None),
        ("changed", {"old": None, "new": web}),
        ("changed", {"old": web, "new": db}),
        ("changed", {"old": db, "new": None}),
        ("deleted", None),
    ]


def test_a_flat_event_leaves_the_owner_as_it_was(tables: store.Store, query: Query) -> None:
    """It carries none, so vm_changes tells of none, before and after it."""
    flat = {**test_past.attributes(UPDATE, 2, 2), "name": "a", "namespace": "team", "resourceversion": "2"}
    made = vm.change(events.Event(flat, None), cluster_name="east")
    test_past.write(tables, machine(1, "web", step=ADD), made, machine(3, "web", cores=2))
    web = {"old": None, "new": "VirtualMachinePool/web"}
    assert query(CHANGES) == [("appeared", web), ("changed", None)]


# The upgrade


@pytest.fixture
def api() -> Iterator[api_server.ApiServer]:
    """A cluster with a pool of three VMs, and one VM that is nobody's."""
    with api_server.running() as server:
        for number in range(3):
            made = machines.vm(f"web-{number}")
            made["metadata"] |= owned("web")
            server.create(made)
        server.create(machines.vm("alone"))
        yield server


@pytest.fixture
def reconcile(api: api_server.ApiServer, tmp_path: pathlib.Path) -> Reconcile:
    """Reconcile a ledger with the cluster; all that is found counts as missed, however new it is."""
    access = {"KUBECONFIG": api.kubeconfig(tmp_path), "CLUSTER_NAME": "east"}

    def run(url: str, **options: Any) -> result.Run:
        configuration = settings.Settings.from_env({**access, "DATABASE_URL": url})
        return reconciliation.run(configuration, result.Options(**{"in_flight": 0, **options}), None)

    return run


@pytest.fixture
def old(
    reconcile: Reconcile, url: str, new_database: Make, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The URL of the cluster's ledger, filled before owners were kept, and upgraded since."""
    reconcile(url)
    upgraded = new_database()
    migrate_before(upgraded, MIGRATION, tmp_path, monkeypatch)
    for table in ("clusters", "vm_state", "vm_history"):
        copy(table, source=url, target=upgraded)
    migrate.run(settings.Settings.from_env({"DATABASE_URL": upgraded}))
    return upgraded


def migrate_before(url: str, migration: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring a database up to the migration before one."""
    for name in postgres.migrations():
        if name < migration:
            (folder / f"{name}.sql").symlink_to(postgres.MIGRATIONS / f"{name}.sql")
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "MIGRATIONS", folder)
        migrate.run(settings.Settings.from_env({"DATABASE_URL": url}))


def copy(table: str, *, source: str, target: str) -> None:
    """Copy a table into a schema that may have fewer columns."""
    columns = conftest.execute(
        target,
        "SELECT column_name::text FROM information_schema.columns WHERE table_name = %s AND is_generated = 'NEVER'",
        [table],
    )
    names = ", ".join(name for (name,) in columns)
    [(rows,)] = conftest.execute(source, f"SELECT json_agg(t)::text FROM {table} AS t")
    insert = f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{table}, %s)"
    conftest.execute(target, insert, [rows])


OWNERS = [("alone", None), *((f"web-{number}", "VirtualMachinePool/web") for number in range(3))]
BOTH = """SELECT s.name, s.owner, h.owner FROM vm_state AS s JOIN vm_history AS h USING (cluster, namespace, name)
    ORDER BY 1"""
STORY = "SELECT to_jsonb(c)::text FROM vm_changes AS c ORDER BY name, changed_at, resource_version"


def test_a_reconcile_after_the_upgrade_adds_owners_and_finds_nothing_missed(old: str, reconcile: Reconcile) -> None:
    """The versions are those of the list: nothing is written again, and a dry run finds and writes nothing."""
    assert conftest.execute(old, BOTH) == [(name, None, None) for name, _ in OWNERS]
    for dry_run in (True, False):
        done = reconcile(old, dry_run=dry_run)
        assert (done.outcome, done.missed_updates, done.corrected) == ("clean", 0, 0)
        expected = [(name, None, None) if dry_run else (name, owner, owner) for name, owner in OWNERS]
        assert conftest.execute(old, BOTH) == expected


def test_the_upgrade_and_the_owners_that_are_added_tell_no_change(old: str, reconcile: Reconcile) -> None:
    """What followers were sent stays as it is, and they are sent nothing."""
    reader = publishing.Reader(old)
    before = conftest.execute(old, STORY)
    assert len(reader.read()) == len(before) == 4
    reconcile(old)
    assert conftest.execute(old, STORY) == before
    assert reader.read() == []


@pytest.mark.parametrize("added", [True, False], ids=["added by a reconcile", "not added"])
def test_the_next_event_after_the_upgrade_tells_its_own_changes_alone(
    added: bool, api: api_server.ApiServer, old: str, reconcile: Reconcile
) -> None:
    """A label changed, and the owner was there all along."""
    if added:
        reconcile(old)
    api.update(kubernetes.VMS, "shop", "web-1", {"metadata": {"labels": {"tier": "front"}}})
    assert reconcile(old).missed_updates == 1
    [told] = conftest.execute(old, "SELECT changes FROM vm_changes WHERE what = 'changed'")
    assert list(told[0]) == ["labels"]
    assert conftest.execute(old, "SELECT owner FROM virtual_machines WHERE name = 'web-1'") == [
        ("VirtualMachinePool/web",)
    ]


def test_an_owner_that_was_added_changes_like_any_other(
    api: api_server.ApiServer, old: str, reconcile: Reconcile
) -> None:
    """Let go by its pool after the upgrade."""
    reconcile(old)
    api.update(kubernetes.VMS, "shop", "web-1", {"metadata": {"ownerReferences": None}})
    reconcile(old)
    assert conftest.execute(old, "SELECT changes FROM vm_changes WHERE what = 'changed'") == [
        ({"owner": {"old": "VirtualMachinePool/web", "new": None}},)
    ]


def test_what_is_stored_since_differs_by_its_owner_alone(url: str, reconcile: Reconcile, query: Query) -> None:
    """A ledger that was filled with owners, and in which one was made untrue: the reconcile mends it, and counts it."""
    reconcile(url)
    query("UPDATE vm_state SET owner = NULL WHERE name = 'web-0'")
    query("UPDATE vm_state SET owner = 'VirtualMachinePool/other' WHERE name = 'web-1'")
    assert reconcile(url).missed_updates == 2
    assert query("SELECT name, owner FROM virtual_machines ORDER BY 1") == OWNERS
