"""The prune: what is kept says the same as before."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import json
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import psycopg2
import pytest

from function import errors, events, settings
from function.clients import postgres
from function.inventory import prune as pruning
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store
from tests import conftest

Query = Callable[..., list[tuple[Any, ...]]]

ADD, UPDATE, DELETE = list(versions.STEPS)[:3]
DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)
TABLES = ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history", "clusters")
FACTS = "cluster, namespace, name, uid, cpucores, vcpus, status, deleted_at"


def machine(kind: str, version: int, days: float, *, name: str = "a", cores: int = 1, **more: Any) -> versions.Change:
    """A change of the VM team/``name``, so many days ago. more: of its metadata."""
    metadata = {"name": name, "namespace": "team", "uid": "u1", "resourceVersion": str(version), **more}
    known = {"id": f"e{version}-{days}", "type": kind, "time": NOW - days * DAY, "specversion": "1.0", "source": "s"}
    spec = {"template": {"spec": {"domain": {"cpu": {"cores": cores}}}}}
    return vm.change(events.Event(known, {"metadata": metadata, "spec": spec}), cluster_name="east")


def prune(url: str, older: float = 100, redundant: float = 30, *, dry_run: bool = False) -> pruning.Pruned:
    """Prune; spans are in days."""
    configuration = settings.Settings.from_env({"DATABASE_URL": url})
    return pruning.run(configuration, older * DAY, redundant * DAY, dry_run=dry_run)


def left(query: Query) -> list[int]:
    """The versions that the history has."""
    return [version for (version,) in query("SELECT version_number FROM vm_history ORDER BY 1")]


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The store over a fresh database."""
    return store.Store(db)


def test_what_is_old_goes_but_for_what_was_in_force(url: str, tables: store.Store, query: Query) -> None:
    """The fleet of each day of the kept span can still be told."""
    given = [(1, 400), (2, 300), (3, 150), (4, 90), (5, 20)]
    tables.write([machine(UPDATE, version, days, cores=version) for version, days in given])
    done = prune(url)
    assert (done.old, done.redundant) == (2, 0)
    assert left(query) == [3, 4, 5]


def test_what_says_nothing_new_goes_earlier(url: str, tables: store.Store, query: Query) -> None:
    """But not the newest version, and nothing that is recent."""
    given = [(1, 90, 1), (2, 80, 1), (3, 70, 2), (4, 60, 2), (5, 50, 1), (6, 20, 1), (7, 10, 1)]
    tables.write([machine(UPDATE, version, days, cores=cores) for version, days, cores in given])
    assert prune(url).redundant == 2
    assert left(query) == [1, 3, 5, 6, 7]


def test_another_owner_is_something_new(url: str, tables: store.Store, query: Query) -> None:
    """Though it is all that differs."""
    given = [(1, 90, "web"), (2, 80, "web"), (3, 70, "db"), (4, 60, "db"), (5, 50, "db")]
    for version, days, pool in given:
        owner = {"kind": "VirtualMachinePool", "name": pool, "uid": pool, "controller": True}
        tables.write([machine(UPDATE, version, days, ownerReferences=[owner])])
    assert prune(url).redundant == 2
    assert left(query) == [1, 3, 5]


@pytest.mark.parametrize("last", [UPDATE, DELETE])
def test_the_last_state_stays_however_old(last: str, url: str, tables: store.Store, query: Query) -> None:
    """Of machines that were deleted too, as long as no complete list speaks for that."""
    tables.write([machine(ADD, 1, 900), machine(last, 2, 800)])
    prune(url)
    assert left(query) == [2]
    assert query("SELECT version_number FROM vm_state") == [(2,)]


def running(kind: str, version: int, days: float, *, name: str = "a") -> versions.Change:
    """A change of the instance of the VM team/``name``, so many days ago."""
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": "u1"}
    metadata = {"name": name, "namespace": "team", "uid": "i1", "resourceVersion": str(version)}
    known = {"id": f"i{version}", "type": kind, "time": NOW - days * DAY, "specversion": "1.0", "source": "s"}
    found = {"metadata": {**metadata, "ownerReferences": [owner]}, "status": {"phase": "Running"}}
    change = instance.change(events.Event(known, found), cluster_name="east")
    assert change is not None
    return change


def complete(query: Query, version: int, days: float) -> None:
    """Let the cluster have complete lists of that version, so many days ago."""
    when = NOW - days * DAY
    query(
        "INSERT INTO clusters (cluster, machines_version, machines_time, instances_version, instances_time)"
        " VALUES ('east', %s, %s, %s, %s)",
        [version, when, version, when],
    )


ENDS = [
    pytest.param([machine(ADD, 1, 900), machine(DELETE, 2, 800)], 50, 1, True, id="gone for long"),
    pytest.param([machine(ADD, 1, 900), machine(DELETE, 2, 80)], 50, 1, False, id="gone for not so long"),
    pytest.param([machine(ADD, 1, 900), machine(UPDATE, 2, 800)], 50, 1, False, id="alive"),
    pytest.param([machine(ADD, 1, 900), machine(DELETE, 60, 800)], 50, 1, False, id="newer than the list"),
    pytest.param([machine(ADD, 1, 900), machine(DELETE, 2, 800)], 50, 850, False, id="later than the list"),
]


@pytest.mark.parametrize(("given", "version", "days", "goes"), ENDS)
def test_what_is_gone_for_long_goes_where_a_list_speaks_for_it(
    given: list[versions.Change], version: int, days: float, *, goes: bool, url: str, tables: store.Store, query: Query
) -> None:
    """With all its versions, and those of its instance; a dry run says how many before."""
    tables.write(given)
    tables.write([running(ADD, 1, 890), running(DELETE, 2, 805)])
    complete(query, version, days)
    dry = prune(url, dry_run=True)
    done = prune(url)
    assert done.dead == (2 if goes else 0)
    assert dry.dead == (1 if goes else 0), "its instance goes once nothing shows it"
    for table in TABLES[:4]:
        assert (query(f"SELECT count(*) FROM {table}") == [(0,)]) is goes, table
    assert prune(url).dead == 0


def test_a_late_event_does_not_raise_what_was_forgotten(url: str, tables: store.Store, query: Query) -> None:
    """It is stored, and the list's tombstone after it; so nobody lives whom the list lacked."""
    tables.write([machine(ADD, 1, 900), machine(DELETE, 9, 800)])
    complete(query, 50, 1)
    assert prune(url).dead == 1
    for late in (machine(UPDATE, 5, 850), machine(ADD, 1, 900)):
        assert tables.write([late]) == [store.Outcome.LATE]
    assert query("SELECT count(*) FROM virtual_machines") == [(0,)]
    assert query("SELECT version_number, deleted_at IS NULL FROM vm_state") == [(50, False)]
    assert tables.write([machine(ADD, 70, 0)]) == [store.Outcome.STORED]
    assert query("SELECT count(*) FROM virtual_machines") == [(1,)]


def test_a_second_run_looks_only_at_what_came_since(url: str, tables: store.Store, query: Query) -> None:
    """And at what is old enough now; once in 30 days it looks at all."""
    prune(url)
    for name, days in (("late", 90), ("quiet", 80), ("aged", 65)):
        tables.write([machine(UPDATE, version, days - version, name=name) for version in (1, 2, 3)])
    query("UPDATE vm_history SET recorded_at = now() - interval '2 days' WHERE name <> 'late'")
    query("UPDATE prune_looked SET redundant = now() - interval '70 days'")
    assert prune(url).redundant == 2
    kept = "SELECT name, count(*) FROM vm_history GROUP BY name ORDER BY 1"
    assert query(kept) == [("aged", 2), ("late", 2), ("quiet", 3)]
    assert query("SELECT * FROM prune_due") == []
    query("UPDATE prune_looked SET whole_at = now() - interval '31 days'")
    assert prune(url).redundant == 1
    assert query(kept) == [("aged", 2), ("late", 2), ("quiet", 2)]


CAME = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 3), st.booleans()), max_size=12)


@hypothesis.given(first=CAME, then=CAME, spans=st.tuples(st.integers(20, 200), st.integers(5, 100)))
def test_a_second_run_leaves_nothing_that_a_whole_one_would_drop(
    first: Any, then: Any, spans: tuple[int, int], url: str, tables: store.Store, query: Query
) -> None:
    """Whatever comes between two runs, in whatever order, and with whatever spans: a dry run looks at all."""
    query(conftest.emptying(*TABLES, "prune_looked", "prune_due"))
    complete(query, 20, 50)
    for came, (older, redundant) in ((first, (120, 30)), (then, spans)):
        for name, version, cores, gone in came:
            kind = DELETE if gone else UPDATE
            tables.write([machine(kind, version, 300 - 7 * version, name=name, cores=cores)])
        query("UPDATE vm_history SET recorded_at = recorded_at - interval '2 hours'")
        prune(url, older, redundant)
        query("UPDATE prune_looked SET looked_at = looked_at - interval '2 hours'")
    left_over = prune(url, *spans, dry_run=True)
    assert (left_over.old, left_over.redundant, left_over.dead) == (0, 0, 0)


def test_a_dry_run_counts_and_drops_nothing(url: str, tables: store.Store, query: Query) -> None:
    """The same numbers as the run that follows."""
    tables.write([machine(UPDATE, version, 380 - 30 * version) for version in range(1, 13)])
    dry = prune(url, dry_run=True)
    assert len(left(query)) == 12
    done = prune(url)
    assert (dry.old, dry.redundant) == (done.old, done.redundant)
    assert dry.old > 0
    assert dry.redundant > 0


def test_whole_months_go_and_leave_a_place_for_what_is_late(url: str, query: Query) -> None:
    """What was kept of them moves to the table before the first month."""
    for part in query("SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'vm_history'::regclass"):
        query(f"DROP TABLE {part[0]}")
    first = (NOW - 400 * DAY).date().replace(day=1)
    query("SELECT ledger_add_month('vm_history', %s) FROM generate_series(1, 14)", [first])
    door = postgres.Database({"dsn": url}, timeout=20)
    tables = store.Store(door)
    tables.write([machine(UPDATE, version, days, cores=version) for version, days in ((1, 380), (2, 350), (3, 1))])
    tables.write([machine(DELETE, 9, 390, name="b")])
    done = prune(url, 200)
    assert 5 <= len(done.months) <= 7
    assert [query("SELECT to_regclass(%s) IS NULL", [name]) for name in done.months] == [[(True,)]] * len(done.months)
    assert left(query) == [2, 3, 9]
    tables.write([machine(UPDATE, 2, 360, name="c"), machine(UPDATE, 4, 0, cores=4)])
    assert left(query) == [2, 2, 3, 4, 9]
    assert prune(url, 200).months == []
    door.close()


def test_months_are_ready_ahead(url: str, query: Query) -> None:
    """By migrate and by prune; both histories."""
    ahead = (NOW.replace(day=1) + 95 * DAY).strftime("%Y_%m")
    for history in ("vm_history", "vm_runtime_history"):
        assert query("SELECT to_regclass(%s) IS NOT NULL", [f"{history}_{ahead}"]) == [(True,)]
    prune(url)
    assert query("SELECT count(*) FROM pg_class WHERE relname ~ '^vm_history_20' AND relkind = 'r'") == [(4,)]


def test_two_do_not_prune_at_once(url: str, db: postgres.Database) -> None:
    """The second is refused with a sentence."""
    db.run(lambda cursor: cursor.execute("SELECT pg_advisory_lock(%s)", [pruning.LOCK_NUMBER]))
    with pytest.raises(errors.Refused, match="another prune"):
        prune(url)


def test_a_machine_that_is_locked_is_left_to_the_next_run(url: str, tables: store.Store, query: Query) -> None:
    """By its state, or by a row of its history; the others are pruned, and their writers do not wait for it."""
    for name in "abcdef":
        tables.write([machine(UPDATE, version, 500 - version, name=name) for version in (1, 2)])
    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM vm_state WHERE name = 'c' FOR UPDATE")
        cursor.execute("SELECT FROM vm_history WHERE name = 'e' AND version_number = 1 FOR UPDATE")
        done = prune(url)
    assert (done.locked, done.old, len(left(query))) == (2, 4, 8)
    done = prune(url)
    assert (done.locked, done.old, len(left(query))) == (0, 2, 6)


def test_a_ledger_that_is_locked_as_a_whole_is_not_pruned(
    url: str, tables: store.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take a wait for each machine."""
    monkeypatch.setattr(pruning, "MOST_LOCKED", 2)
    for name in "abcdef":
        tables.write([machine(UPDATE, 1, 500, name=name)])
    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM vm_state FOR UPDATE")
        with pytest.raises(errors.Locked, match="run it again later"):
            prune(url)


def test_a_version_that_is_on_its_way_is_waited_for(url: str, tables: store.Store, query: Query) -> None:
    """What it makes worth keeping is kept."""
    tables.write([machine(ADD, 1, 60, cores=1), machine(UPDATE, 3, 50, cores=1), machine(UPDATE, 4, 1, cores=4)])
    late = machine(UPDATE, 2, 55, cores=2)
    with contextlib.closing(conftest.session(url)) as writer, concurrent.futures.ThreadPoolExecutor() as pool:
        cursor = writer.cursor()
        merge = store.SQL.ready(cursor, *store.MERGE_MACHINES)
        cursor.execute("BEGIN;" + merge, {"rows": f"[{late.payload.decode()}]", "lists": True})
        pruned = pool.submit(prune, url)
        while query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            assert not pruned.done()
        cursor.execute("COMMIT")
        assert pruned.result(60).redundant == 0
    assert left(query) == [1, 2, 3, 4]


def test_what_was_never_in_force_goes_as_well(url: str, tables: store.Store, query: Query) -> None:
    """A version that a later one had overtaken; whatever else the machine has, such as an event from the future."""
    given = [(1, 90, 1), (2, 70, 2), (3, 80, 3), (4, 60, 3), (5, -9000, 4), (6, 50, 3), (7, 1, 3)]
    tables.write([machine(UPDATE, version, days, cores=cores) for version, days, cores in given])
    assert query("SELECT version_number FROM vm_history WHERE overtaken ORDER BY 1") == [(2,), (5,)]
    assert prune(url).redundant == 3
    assert left(query) == [1, 3, 5, 7]


def test_it_needs_the_owner(url: str, query: Query) -> None:
    """The sentence says who that is."""
    query("CREATE ROLE pruner LOGIN")
    try:
        with pytest.raises(errors.Refused, match="the role that ran `migrate`"):
            prune(url.replace("postgres@", "pruner@") if "postgres@" in url else f"{url}&user=pruner")
    finally:
        query("DROP ROLE pruner")


LIVES = st.lists(
    st.tuples(
        st.sampled_from([ADD, UPDATE, UPDATE, DELETE]), st.integers(1, 40), st.integers(1, 200), st.integers(1, 2)
    ),
    min_size=1,
    max_size=14,
)


@hypothesis.settings(max_examples=hypothesis.settings().max_examples // 3)
@hypothesis.given(
    lives=LIVES, ordered=st.booleans(), older=st.integers(20, 150), moments=st.lists(st.integers(0, 149), min_size=4)
)
def test_the_kept_span_says_the_same_before_and_after(
    lives: list[tuple[str, int, int, int]],
    ordered: bool,
    older: int,
    moments: list[int],
    url: str,
    tables: store.Store,
    query: Query,
) -> None:
    """Whatever the order of times and versions."""
    query(conftest.emptying(*TABLES))
    if ordered:
        days = sorted((day for _, _, day, _ in lives), reverse=True)
        lives = [
            (kind, number, day, cores)
            for number, ((kind, _, _, cores), day) in enumerate(zip(lives, days, strict=True))
        ]
    tables.write([machine(kind, version, day, cores=cores) for kind, version, day, cores in lives])
    asked = [NOW - min(day, older - 0.5) * DAY for day in moments]
    sql = f"""
        SELECT DISTINCT ON (name) {FACTS} FROM vm_history WHERE effective_at <= %s
        ORDER BY name, version_epoch DESC, version_number DESC, version_time DESC, version_step DESC"""
    before = [query(sql, [moment]) for moment in asked]
    prune(url, older, min(older, 15))
    assert [query(sql, [moment]) for moment in asked] == before
    assert query(
        "SELECT count(*) FROM vm_state AS s WHERE NOT EXISTS (SELECT FROM vm_history AS h WHERE h.id = s.id)"
    ) == [(0,)]


def test_the_command_says_what_it_did(
    url: str, tables: store.Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JSON where nobody looks."""
    from function.cli.main import main

    tables.write([machine(ADD, 1, 900), machine(UPDATE, 2, 800)])
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(["prune", "--older-than", "400d"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["old"], said["dry_run"]) == (1, False)
    assert main(["prune", "--older-than", "soon"]) == 2
    assert "90s, 15m, 1h or 2d" in capsys.readouterr().err
    assert main(["prune", "--older-than", "400"]) == 2
    assert "needs a unit, such as 400d" in capsys.readouterr().err
    assert conftest.execute(url, "SELECT count(*) FROM vm_history") == [(1,)]
