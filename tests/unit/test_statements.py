"""Every statement stands whole in a file, within what Citus takes; those of machines and of instances are alike."""

from __future__ import annotations

import pathlib
import re

import pytest

import function
from function.clients import statements

ROOM = pathlib.Path(function.__file__).parent
FOLDERS = sorted(path for path in ROOM.rglob("sql") if path.is_dir())
STATEMENTS = {name: each for folder in FOLDERS for name, each in statements.load(folder).by_name.items()}
MUTABLE = re.compile(r"\b(now|clock_timestamp|statement_timestamp|random|timeofday)\s*\(|\bcurrent_timestamp\b", re.I)
CTE = re.compile(r"(?:\bWITH|\),)\s+(\w+) AS (MATERIALIZED )?\(\s*(?:--[^\n]*\s*)*(\w+)")
"""A query before the statement proper: its name, whether it is materialized, and its first word."""

every = pytest.mark.parametrize("statement", STATEMENTS.values(), ids=list(STATEMENTS))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOM)))
def test_a_file_holds_statements_and_comments_and_nothing_else(folder: pathlib.Path) -> None:
    """No line of it is lost, and no name is used twice in a room."""
    for path in folder.glob("*.sql"):
        text = path.read_text()
        found = [each for each in statements.load(folder).by_name.values() if f"\n{each.sql}\n" in text]
        left = text
        for each in found:
            left = left.replace(f"{each.comment}{each.sql}\n", "")
        assert [line for line in left.splitlines() if line and not line.startswith("--")] == [], path.name
        assert max(map(len, text.splitlines())) <= 120, path.name
        assert len(re.findall(r"^PREPARE ", text, re.MULTILINE)) == sum(each.is_prepared for each in found)


@every
def test_a_statement_has_a_name_a_comment_and_named_parameters(statement: statements.Statement) -> None:
    """As many as PREPARE has types, and all of them are used."""
    assert statement.comment.strip("- \n")
    if not statement.is_prepared:
        assert statement.parameters == ()
        return
    head = re.match(r"PREPARE (\w+)(?: \(([^)]*)\))? AS\n", statement.sql)
    assert head is not None
    assert head[1] == statement.name
    assert len(head[2].split(",") if head[2] else []) == len(statement.parameters)
    numbers = {int(number) for number in re.findall(r"\$(\d+)", statement.sql)}
    assert numbers == set(range(1, len(statement.parameters) + 1))


@every
def test_a_conflict_is_resolved_by_immutable_values(statement: statements.Statement) -> None:
    """Citus: functions in DO UPDATE, in its WHERE and in RETURNING must be IMMUTABLE."""
    for clause in re.findall(r"\bDO UPDATE\b(.*?)(?=\n\)|;)", statement.sql, re.DOTALL):
        assert MUTABLE.search(clause) is None


@every
def test_what_is_inserted_was_materialized_before(statement: statements.Statement) -> None:
    """Citus sends broken SQL for an INSERT ... SELECT that reads tables itself, and ends where its plan is generic."""
    ctes = CTE.findall(statement.sql)
    names = {name for name, _, _ in ctes}
    last = re.split(r"\n\)\n+", statement.sql)[-1] if ctes else statement.sql
    if "INSERT INTO" in statement.sql:
        assert [name for name, kept, word in ctes if not kept and word == "SELECT"] == []
    if re.search(r"(?:^| AS\n)INSERT INTO", last):
        assert set(re.findall(r"\b(?:FROM|JOIN) (\w+)\b(?!\s*\()", last)) <= names


@every
def test_no_statement_is_a_merge(statement: statements.Statement) -> None:
    """Citus refuses it."""
    assert re.search(r"\bMERGE\b", statement.sql) is None


FACTS = {
    "machines": "kind generation cpucores cpusockets cputhreads vcpus spec_vcpus memory memory_bytes spec_memory_bytes"
    " storageclass network instancetype preference run_strategy status os architecture machine_type disks disk_bytes"
    " labels owner created_at",
    "instances": "owner_uid node ip_addresses guest_os phase live_vcpus live_memory_bytes",
}
MACHINES_ALONE = (
    r", i\.node, i\.ip_addresses, i\.guest_os, i\.phase, i\.live_vcpus, i\.live_memory_bytes, i\.\w+(?=\)| FROM)",
    r", instancetype_vcpus = .*? END(?= FROM)",
    r", node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at",
    r" LEFT JOIN vm_runtime AS i ON .*?(?= WHERE)",
    r" LEFT JOIN LATERAL \( SELECT \* FROM vm_runtime AS i .*? LIMIT 1 \) AS i ON true",
    r" AND \(excluded\.uid, excluded\.instancetype\) IS NOT DISTINCT FROM \(s\.uid, s\.instancetype\)",
    r" OR s\.owner IS DISTINCT FROM r\.owner AND .*? OFFSET 0 \)\)",
)
"""What only a machine's state takes along: what its instance says, and what its instancetype says; where either may
change, the change is not appended. Only machines have owners that older versions lack."""
INSTANCES_ALONE = (
    r" CROSS JOIN LATERAL \( SELECT FROM vm_state AS m .*? LIMIT 1 \) AS known",
    r" AND \(r\.deleted_at IS NULL OR .*? IS NOT NULL\)(?= ORDER BY)",
    r" AND NOT EXISTS \( SELECT FROM vm_state AS m .*? OFFSET 0 \)(?= \), versions AS)",
    r" \), shown AS \( UPDATE vm_state AS s .*?(?= \), added AS)",
)
"""What only instances do: their append asks for the machine, leaves out the deletes that do not say all, and writes
into the machine's state; a prune lets none go that a machine shows."""
WORDS = {"vm_runtime_history": "vm_history", "vm_runtime": "vm_state", "instance": "machine"}
TWINS = [name for name in STATEMENTS if name.replace("machine", "instance") in set(STATEMENTS) - {name}]
READ_BY_KEY = {
    *("known_machine", "missing_machines", "doubtful_machines", "forget_machines", "forget_histories_of_machines"),
    "not_free_machines",
}
"""Their keys differ in more than a column: several instances have one name, each is after another, and a writer of an
instance locks its machine besides."""


def shape(name: str, family: str) -> str:
    """A statement without its family's tables, key, facts and layout."""
    sql = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", STATEMENTS[name].sql))
    for pattern in MACHINES_ALONE if family == "machines" else INSTANCES_ALONE:
        sql = re.sub(pattern, "", sql)
    sql = re.sub(r" AND (\w+)\.owner_uid = \w+\.owner_uid", "", sql).replace("seen.kind = ", "")
    for fact in FACTS[family].split():
        sql = re.sub(
            rf"(?:\b(?:\w|excluded)\.)?\b{fact}\b(?: (?:text|integer|bigint|jsonb|timestamptz)(?:\[\])?)?", "", sql
        )
    sql = re.sub(r", \$\d\[4\]", "", sql)
    sql = re.sub(r"'(VirtualMachineInstance|VirtualMachine|Gone|)( refuted)?'|\bNULL\b|COLLATE \"C\"", "", sql)
    for word, other in WORDS.items():
        sql = sql.replace(word, other)
    sql = re.sub(r"[\s,]+", " ", sql)
    return re.sub(r" ?([()]) ?", r"\1", sql)


@pytest.mark.parametrize("name", sorted(set(TWINS) - READ_BY_KEY))
def test_the_statements_of_both_families_are_alike(name: str) -> None:
    """Whoever changes one changes the other: they differ in tables, key and facts, and where it says so here."""
    assert shape(name, "machines") == shape(name.replace("machine", "instance"), "instances")


def test_each_name_is_used_once() -> None:
    """Rooms share a connection, and on a connection there is one statement of a name."""
    names = [name for folder in FOLDERS for name in statements.load(folder).by_name]
    assert len(names) == len(set(names))


def test_both_families_have_the_same_statements() -> None:
    """But for what is asked about machines alone."""
    assert {name for name in STATEMENTS if "machine" in name} - set(TWINS) == {"unsized_machines"}
