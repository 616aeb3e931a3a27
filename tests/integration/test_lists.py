"""Lists of a real ledger, read back by the programs that people open them with."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import openpyxl
import pytest
from openpyxl.utils import escape

from function import errors, progress, settings, tables
from function.lists import choice, export, ledger, rows, rvtools
from tests import conftest, fleet

Query = Callable[..., list[tuple[Any, ...]]]
Row = dict[str, Any]

FULL: Row = {
    "name": "db-1",
    "cpucores": 4,
    "spec_vcpus": 4,
    "spec_memory_bytes": 8 << 30,
    "memory": "8Gi",
    "network": "default,net/a",
    "status": "Running",
    "os": "rhel9",
    "disks": 2,
    "disk_bytes": 60 << 30,
    "labels": {"app": "web", "env": "prod"},
    "created_at": "2026-10-01 09:30:00+00",
    "node": "worker-1",
    "ip_addresses": ["10.0.0.1", "fe80::1"],
    "guest_os": "Fedora Linux 41",
    "phase": "Running",
    "resource_version": 123456789,
}
HOSTILE = [
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    '"quoted", with commas',
    "a\nb\r\nc\rd",
    "<r><t>xml</t></r>",
    "_x0041_",
    "🦊 Łódź 日本",
    "a;=cmd();",
    "\t=1",
    " lead and trail ",
    "<script>alert(1)</script>",
    "{{ lookup('pipe', 'id') }}",
    "\x01\x1f",
]
ANSIBLE = pathlib.Path(sys.executable).parent / "ansible-inventory"

ansible_inventory = pytest.mark.skipif(
    not ANSIBLE.exists(), reason="needs ansible-inventory, of the package ansible-core"
)


def listed(url: str, layout: str = "ledger", file_format: str = "csv", **chosen: Any) -> bytes:
    """The bytes of a list."""
    out = io.BytesIO()
    configuration = settings.Settings.from_env({"DATABASE_URL": url})
    export.run(configuration, choice.Choice(**chosen), layout=layout, file_format=file_format, out=out)
    return out.getvalue()


def as_csv(url: str, layout: str = "ledger", **chosen: Any) -> list[dict[str, str]]:
    """The rows of a list in CSV."""
    return list(csv.DictReader(io.StringIO(listed(url, layout, **chosen).decode(), newline="")))


def as_json(url: str, layout: str = "ledger", **chosen: Any) -> list[Row]:
    """The objects of a list in JSON."""
    found: list[Row] = json.loads(listed(url, layout, "json", **chosen))
    return found


def as_sheets(url: str, layout: str, **chosen: Any) -> dict[str, list[tuple[Any, ...]]]:
    """The cells of each sheet of a workbook."""
    book = openpyxl.load_workbook(io.BytesIO(listed(url, layout, "xlsx", **chosen)))
    return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book}


def names(found: list[Any]) -> list[str]:
    """The names of the machines of a list."""
    return [row["name"] for row in found]


def test_the_ledgers_columns_are_those_of_the_view(url: str, query: Query) -> None:
    """All of them, in their order; deleted_at follows where it was asked for."""
    query_columns = query(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'virtual_machines'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert list(ledger.layout(deleted=False).columns) == [name for (name,) in query_columns]
    assert listed(url).decode() == ",".join(name for (name,) in query_columns) + "\n"


def test_a_row_is_what_the_view_shows(url: str, query: Query) -> None:
    """Each column, as Postgres itself writes it in JSON; in CSV the same texts."""
    fleet.store(url, FULL)
    [(row,)] = query("SET LOCAL TimeZone = 'UTC'; SELECT to_json(m) FROM virtual_machines AS m")
    assert as_json(url) == [row]
    [cells] = as_csv(url)
    assert json.loads(cells.pop("labels")) == row.pop("labels")
    assert cells.pop("ip_addresses").split(",") == row.pop("ip_addresses")
    assert cells == {name: "" if value is None else str(value) for name, value in row.items()}


def test_rvtools_rows_are_the_same_in_each_format(url: str) -> None:
    """In the workbook numbers are numbers, times are times and what is not known is an empty cell."""
    fleet.store(url, FULL, {"name": "unknown", "uid": None})
    [full, unknown] = as_csv(url, "rvtools")
    assert (full["VM"], full["Powerstate"], full["Memory"], full["CPUs"]) == ("db-1", "poweredOn", "8192", "4")
    assert (full["Creation date"], full["Host"], full["Datacenter"]) == ("2026/10/01 09:30:00", "worker-1", "")
    assert [name for name, cell in unknown.items() if cell == "0"] == []
    assert (unknown["VM UUID"], unknown["VM ID"]) == ("", "east/shop/unknown")
    sheets = as_sheets(url, "rvtools")
    assert list(sheets) == ["vInfo", "ledger"]
    heading, row, empty = sheets["vInfo"]
    assert heading == rvtools.COLUMNS
    cells = dict(zip(heading, row, strict=True))
    assert cells.pop("Creation date") == datetime.datetime(2026, 10, 1, 9, 30)  # noqa: DTZ001  # a sheet has no zones
    assert {name: "" if cell is None else str(cell) for name, cell in cells.items()} == {
        name: cell for name, cell in full.items() if name != "Creation date"
    }
    assert dict(zip(heading, empty, strict=True))["Memory"] is None
    assert sheets["ledger"][0] == ledger.layout(deleted=False).columns
    assert [each["Memory"] for each in as_json(url, "rvtools")] == [8192, None]


def test_the_filters_hold_together(url: str) -> None:
    """One of the clusters, one of the namespaces, and all of the labels."""
    fleet.store(url, FULL, {**FULL, "namespace": "other"}, {**FULL, "cluster": "west"}, {"name": "plain"})
    assert len(as_csv(url)) == 4
    assert names(as_csv(url, clusters=("east",))) == ["db-1", "db-1", "plain"]
    assert len(as_csv(url, clusters=("east", "west"), labels={"app": "web"})) == 3
    assert len(as_csv(url, namespaces=("shop",), labels={"app": "web", "env": "prod"})) == 2
    assert as_csv(url, labels={"app": "we"}) == []
    assert as_csv(url, clusters=("' OR true --",)) == []


def test_deleted_machines_are_listed_where_they_are_asked_for(url: str) -> None:
    """With the time at which they were deleted."""
    fleet.store(url, {"name": "a"}, {"name": "b", "deleted_at": "2026-11-20 10:00:00+00"})
    assert names(as_csv(url)) == ["a"]
    assert [row["deleted_at"] for row in as_csv(url, deleted=True)] == ["", "2026-11-20T10:00:00+00:00"]
    assert [row["deleted_at"] for row in as_json(url, deleted=True)] == [None, "2026-11-20T10:00:00+00:00"]
    assert [row["Deleted at"] for row in as_csv(url, "rvtools", deleted=True)] == ["", "2026/11/20 10:00:00"]


def test_the_past_is_as_the_function_for_it_says(url: str, query: Query) -> None:
    """A machine that came later is not there; a moment to come is refused."""
    fleet.store(url, {"name": "a"}, {"name": "b", "effective_at": "2026-11-20 00:00:00+00"})
    at = datetime.datetime(2026, 11, 10, tzinfo=datetime.UTC)
    assert names(as_csv(url, at=at)) == ["a"]
    assert [name for (name,) in query("SELECT name FROM virtual_machines_at(%s)", [at])] == ["a"]
    assert names(as_json(url, "ledger", at=at, clusters=("east",))) == ["a"]
    with pytest.raises(errors.Refused, match="still to come"):
        listed(url, at=datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC))


@pytest.mark.parametrize(
    ("layout", "file_format", "chosen"),
    [("ansible", "csv", {}), ("ansible", "xlsx", {}), ("ansible", "json", {"deleted": True})],
)
def test_what_makes_no_sense_together_is_refused(layout: str, file_format: str, chosen: Row) -> None:
    """Before anything is asked of a database."""
    with pytest.raises(errors.Refused, match="Ansible"):
        listed("postgresql://nowhere.invalid/x", layout, file_format, **chosen)
    with pytest.raises(errors.Refused, match="give one of them"):
        listed("postgresql://nowhere.invalid/x", deleted=True, at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))


def test_without_a_database_a_sentence_says_so() -> None:
    """No setting names one, or none is there."""
    with pytest.raises(errors.Refused, match="no database is configured"):
        export.run(
            settings.Settings.from_env({}), choice.Choice(), layout="ledger", file_format="csv", out=io.BytesIO()
        )
    with pytest.raises(errors.DatabaseUnavailable, match="no socket"):
        listed("postgresql:///x?host=/nowhere")


def test_an_empty_ledger_gives_an_empty_list(url: str) -> None:
    """In each shape it is still one that programs read."""
    assert as_json(url) == []
    assert as_sheets(url, "rvtools")["vInfo"] == [rvtools.COLUMNS]
    assert json.loads(listed(url, "ansible", "json")) == {"_meta": {"hostvars": {}}}


def test_a_list_shows_one_moment(url: str, query: Query) -> None:
    """What is stored while it is read is not in it, in none of its portions."""
    fleet.store(url, {"name": "m-0000"})
    query(
        "INSERT INTO vm_state (cluster, namespace, name, type, id, kind, version_number, version_time, version_step,"
        " shape, digest, effective_at)"
        " SELECT cluster, namespace, 'm-' || lpad(n::text, 4, '0'), type, id, kind, version_number, version_time,"
        " version_step, shape, digest, effective_at FROM vm_state, generate_series(1, 2499) AS n"
    )
    configuration = settings.Settings.from_env({"DATABASE_URL": url})
    with rows.opened(configuration, choice.Choice(), progress.Progress()) as portions:
        found = next(portions)
        query("DELETE FROM vm_state WHERE name > 'm-2000'")
        fleet.store(url, {"name": "z"})
        found += [one for portion in portions for one in portion]
    assert [one.name for one in found] == [f"m-{number:04}" for number in range(2500)]
    assert len(as_csv(url)) == 2002


def test_the_progress_is_told_and_ends(url: str) -> None:
    """How many of about how many, as the planner estimates it; at the end just as many as there were."""

    class Told(progress.Progress):
        def __init__(self) -> None:
            self.seen: list[tuple[str, int, int]] = []

        def at(self, what: str, count: int, most: int) -> None:
            self.seen.append((what, count, most))

    fleet.store(url, {"name": "a"}, {"name": "b", "deleted_at": "now"})
    conftest.execute(url, "ANALYZE vm_state")
    talk = Told()
    configuration = settings.Settings.from_env({"DATABASE_URL": url})
    export.run(configuration, choice.Choice(), layout="ledger", file_format="csv", out=io.BytesIO(), talk=talk)
    assert talk.seen == [("virtual machines", 1, 2), ("virtual machines", 1, 1)]


def test_a_role_that_only_reads_is_enough(url: str, query: Query) -> None:
    """With SELECT on the states and the histories; without it a sentence says which role to use."""
    role = f"reader_{url.rpartition('test_')[2].partition('?')[0]}"
    query(f"CREATE ROLE {role} LOGIN")
    fleet.store(url, {"name": "a"})
    try:
        as_reader = url.replace("postgres@", f"{role}@")
        with pytest.raises(errors.Refused, match="may not read the ledger"):
            listed(as_reader)
        query(
            f"GRANT SELECT ON virtual_machines, vm_state, vm_history, vm_runtime_history TO {role};"
            f" GRANT EXECUTE ON FUNCTION virtual_machines_at(timestamptz) TO {role}"
        )
        at = datetime.datetime(2026, 11, 10, tzinfo=datetime.UTC)
        assert [len(as_csv(as_reader, **chosen)) for chosen in ({}, {"deleted": True}, {"at": at})] == [1, 1, 1]
    finally:
        query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_hostile_texts_come_back_as_they_were(url: str) -> None:
    """From each format, but for the mark before what a spreadsheet runs."""
    fleet.store(url, *({"name": f"{number:02}", "guest_os": text} for number, text in enumerate(HOSTILE)))
    assert [row["guest_os"] for row in as_json(url)] == HOSTILE
    assert [row["guest_os"].removeprefix(tables.MARK) for row in as_csv(url)] == HOSTILE
    column = rvtools.COLUMNS.index("OS according to the VMware Tools")
    cells = [row[column] for row in as_sheets(url, "rvtools")["vInfo"][1:]]
    assert [escape.unescape(cell).removeprefix(tables.MARK) for cell in cells] == HOSTILE


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=10)


@hypothesis.given(texts, texts, st.dictionaries(texts, texts, max_size=2), st.integers(0, 2**63 - 1))
def test_any_row_is_read_back_as_it_was_stored(
    url: str, name: str, system: str, labels: dict[str, str], size: int
) -> None:
    """From CSV, JSON and a workbook: any name, label and size."""
    conftest.execute(url, conftest.emptying("vm_state"))
    fleet.store(url, {"name": name, "guest_os": system, "labels": labels, "disk_bytes": size})

    def marked(text: str) -> str:
        return tables.MARK + text if text[:1] in tables.RUNS else text

    [row] = as_csv(url)
    assert (row["name"], row["guest_os"], row["disk_bytes"]) == (marked(name), marked(system), str(size))
    assert json.loads(row["labels"]) == labels
    [found] = as_json(url)
    assert (found["name"], found["guest_os"], found["labels"], found["disk_bytes"]) == (name, system, labels, size)
    heading, cells = as_sheets(url, "ledger")["ledger"]
    sheet = dict(zip(heading, cells, strict=True))
    assert int(sheet["disk_bytes"]) == size
    assert json.loads(sheet["labels"]) == labels


def test_a_text_that_is_longer_than_a_cell_is_cut(url: str) -> None:
    """In a workbook alone, where a longer one would make Excel refuse the file."""
    fleet.store(url, {"name": "a", "guest_os": "x" * 40_000})
    heading, cells = as_sheets(url, "ledger")["ledger"]
    text = dict(zip(heading, cells, strict=True))["guest_os"]
    assert (len(text), text[-1]) == (32_767, "…")


@pytest.fixture
def script(url: str, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The inventory script of docs/export.md, for the test's database."""
    root = pathlib.Path(__file__).parents[2]
    page = (root / "docs" / "export.md").read_text()
    text = page.split("<!-- example: inventory -->\n```sh\n")[1].split("```")[0]
    command = f"env PYTHONPATH={root} DATABASE_URL='{url}' {sys.executable} -m function"
    file = tmp_path / "vmledger"
    file.write_text(text.replace("python -m function", command))
    file.chmod(0o755)
    yield file
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(tmp_path / ".ansible")


def inventory(script: pathlib.Path, *arguments: str) -> Any:
    """What ansible-inventory makes of the script; it must have nothing to warn of."""
    home = {"HOME": str(script.parent), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    command = [str(ANSIBLE), "-i", str(script), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=home, cwd=script.parent
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@ansible_inventory
def test_ansible_reads_the_inventory(url: str, script: pathlib.Path) -> None:
    """Groups and variables, by the script as the documents show it."""
    fleet.store(url, FULL, {"name": "db-1", "namespace": "team-a", "guest_os": "{{ 1 + 1 }}", "labels": {"app": "a-b"}})
    fleet.store(url, {"name": "c", "labels": {"app": "a.b", "__ansible_vault": "x"}})
    found = inventory(script, "--list")
    assert found["_meta"]["hostvars"]["db-1.shop.east"]["ansible_host"] == "10.0.0.1"
    assert found["_meta"]["hostvars"]["db-1.shop.east"]["vm_labels"] == {"app": "web", "env": "prod"}
    assert found["cluster_east"]["hosts"] == ["c.shop.east", "db-1.shop.east", "db-1.team-a.east"]
    assert found["namespace_team_a"]["hosts"] == ["db-1.team-a.east"]
    assert found["os_Fedora_Linux_41"]["hosts"] == ["db-1.shop.east"]
    assert found["label_app_web"]["hosts"] == found["label_env_prod"]["hosts"] == ["db-1.shop.east"]
    assert len([name for name in found if name.startswith("label_app_a_b_")]) == 2
    assert inventory(script, "--host", "db-1.shop.east")["vm_vcpus"] == 4


@ansible_inventory
def test_ansible_evaluates_no_text_of_the_ledger(url: str, script: pathlib.Path) -> None:
    """A guest's administrator chooses the name of its system, and Ansible would run what a template says."""
    fleet.store(url, {"name": "a", "guest_os": "{{ 40 + 2 }}", "labels": {"app": "{{ 40 + 2 }}"}})
    command = [str(ANSIBLE.with_name("ansible")), "all", "-i", str(script), "-c", "local", "-m", "debug"]
    done = subprocess.run(
        [*command, "-a", '{"msg": "{{ vm_guest_os }} {{ vm_labels.app }}"}'],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"HOME": str(script.parent), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    assert '"msg": "{{ 40 + 2 }} {{ 40 + 2 }}"' in done.stdout


def test_one_host_is_what_the_whole_inventory_says_of_it(url: str, script: pathlib.Path) -> None:
    """--host and --list, as Ansible calls a script; of a name that is not there nothing is known."""
    fleet.store(url, FULL, {"name": "a.b", "namespace": "x y", "cluster": "c.d"})

    def answer(*arguments: str) -> Any:
        done = subprocess.run([script, *arguments], capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    hosts = answer("--list")["_meta"]["hostvars"]
    assert list(hosts) == ["a%2Eb.x%20y.c.d", "db-1.shop.east"]
    for name, variables in hosts.items():
        assert answer("--host", name) == variables
    assert answer("--host", "none.shop.east") == answer("--host", "x") == {}
