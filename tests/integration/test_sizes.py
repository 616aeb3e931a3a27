"""The sizes of a VM and where they come from, as the ledger shows them."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable

import psycopg2
import pytest

from function import migrate, settings
from function.page import database
from tests import conftest, page
from tests.integration import test_owner, test_past

Make = Callable[..., str]
MIGRATION = "0028.sizes_in_the_view"
SHOWN = ("name", "vcpus", "memory_bytes", "cpu_source", "memory_source")
VIEW = f"SELECT {', '.join(SHOWN)} FROM virtual_machines ORDER BY name"
FILL = """
INSERT INTO vm_state (cluster, namespace, name, type, id, kind, version_number, version_time, version_step, shape,
    digest, effective_at, spec_vcpus, spec_memory_bytes, live_vcpus, live_memory_bytes, instancetype_vcpus,
    instancetype_memory_bytes, instancetype, phase)
SELECT 'c', 'n', 'vm-' || row_number() OVER (), 't', 'i', 'VirtualMachine', 1, '-infinity', 1, 1, 0, now(), *
FROM unnest('{NULL, 1}'::integer[]) CROSS JOIN unnest('{NULL, 10}'::bigint[]) AS spec
CROSS JOIN unnest('{NULL, 2}'::integer[]) AS live_vcpus CROSS JOIN unnest('{NULL, 20}'::bigint[]) AS live
CROSS JOIN unnest('{NULL, 3}'::integer[]) AS type_vcpus CROSS JOIN unnest('{NULL, 30}'::bigint[]) AS of_type
CROSS JOIN unnest('{NULL, u1.small}'::text[]) AS type CROSS JOIN unnest('{NULL, Running, Gone}'::text[]) AS phase
"""
"""A VM of every constellation of what its spec, its instance and its instancetype say."""


def test_the_upgrade_changes_no_size(
    new_database: Make, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were columns of the state."""
    url = new_database()
    test_owner.migrate_before(url, MIGRATION, tmp_path, monkeypatch)
    conftest.execute(url, FILL)
    shown = conftest.execute(url, VIEW)
    assert len(shown) == 2**7 * 3
    migrate.run(settings.Settings.from_env({"DATABASE_URL": url}))
    assert conftest.execute(url, VIEW) == shown


def test_the_page_of_a_vm_shows_the_sizes_of_the_view(url: str) -> None:
    """It has a statement of its own, because the view has no deleted VMs."""
    conftest.execute(url, FILL)
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        for expected in conftest.execute(url, VIEW):
            place = {"cluster": "c", "namespace": "n", "name": expected[0]}
            [found] = database.dicts(cursor, "vm_now", place)
            assert tuple(found[name] for name in SHOWN) == expected


@pytest.mark.parametrize("instancetype", [None, "u1.small"])
def test_the_past_of_a_vm_shows_the_sizes_of_the_past(instancetype: str | None, url: str) -> None:
    """What runs gives a size to a VM with an instancetype, and to no other."""
    page.store(url, test_past.machine(test_past.ADD, 1, 0), test_past.running(test_past.ADD, 2, 1, "n1"))
    for table, prefix in (("vm_history", ""), ("vm_state", "spec_")):
        none = f"SET {prefix}vcpus = NULL, {prefix}memory_bytes = NULL, instancetype = %s"
        conftest.execute(url, f"UPDATE {table} {none}", [instancetype])
    moment = test_past.START + 2 * test_past.HOUR
    [expected] = conftest.execute(url, f"SELECT {', '.join(SHOWN)} FROM virtual_machines_at(%s)", [moment])
    assert (expected[3] == "instance") is (instancetype is not None)
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        place = {"cluster": "east", "namespace": "team", "name": "a", "moment": moment}
        [found] = database.dicts(cursor, "vm_then", place)
        assert tuple(found[name] for name in SHOWN) == expected
