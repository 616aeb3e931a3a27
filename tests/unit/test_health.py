"""What is wrong with a ledger, by what is heard of its clusters."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from function import errors, settings
from function.cli import health as cli_health
from function.inventory import health

HOUR = 3600
NOW = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)
VM, VMI = "VirtualMachine", "VirtualMachineInstance"


def ago(**units: float) -> datetime.timedelta:
    """An age."""
    return datetime.timedelta(**units)


def row(cluster: str = "east", kind: str | None = VM, **facts: Any) -> health.Row:
    """A row of a cluster that was heard and compared a minute ago; ``facts`` say otherwise."""
    known: dict[str, Any] = {
        "last_event_at": NOW,
        "silence": ago(minutes=1),
        "last_reconcile_at": NOW,
        "last_reconcile_outcome": "clean",
        "last_complete_list_at": NOW,
        "missed_adds": 0,
        "missed_updates": 0,
        "missed_deletes": 0,
        "unreconciled": ago(minutes=1),
        "oldest_unreconciled": ago(minutes=1),
    }
    return health.Row(cluster=cluster, kind=kind, **{**known, **facts})


NEVER: dict[str, Any] = {
    "last_reconcile_at": None,
    "last_reconcile_outcome": None,
    "last_complete_list_at": None,
    "missed_adds": None,
    "missed_updates": None,
    "missed_deletes": None,
}
MUTE: dict[str, Any] = {"last_event_at": None, "silence": None}


def problems(*rows: health.Row, max_silence: int = HOUR, cluster: str | None = None) -> tuple[str, ...]:
    """The sentences of the verdict."""
    verdict = health.judge(rows, max_silence, cluster=cluster)
    assert verdict.healthy is not bool(verdict.problems)
    return verdict.problems


def test_a_ledger_that_was_heard_and_compared_is_healthy() -> None:
    """Both kinds, or one of them where the other never was."""
    assert problems(row(), row(kind=VMI)) == ()
    assert problems(row(), row(kind=VMI, **MUTE)) == ()


def test_machines_that_were_never_heard_of_are_a_problem_though_instances_are() -> None:
    """The Trigger of one kind may be wrong from the first day."""
    [sentence] = problems(row(last_event_at=None, silence=ago(days=2)), row(kind=VMI))
    assert "has never sent an event about a VirtualMachine in the 2d since its first reconcile" in sentence
    assert problems(row(last_event_at=None, silence=ago(minutes=5)), row(kind=VMI)) == ()


def test_one_s_own_cluster_must_have_been_heard_of_and_comes_first() -> None:
    """Where CLUSTER_NAME names it; a hub that takes the events of others has none."""
    others = [row("east"), row("north", **NEVER)]
    [first, second] = health.judge(others, HOUR, own="south").problems
    assert first.startswith("nothing was ever stored about this cluster, 'south' (CLUSTER_NAME)")
    assert second.startswith("cluster 'north' was never reconciled")
    assert len(health.judge(others, HOUR, own="default").problems) == 1
    assert health.judge(others, HOUR, own="south", cluster="east").healthy
    own = health.judge([*others, row("zeta", **NEVER)], HOUR, own="zeta").problems
    assert [sentence.split()[1] for sentence in own] == ["'zeta'", "'north'"]


def test_a_repaired_ledger_is_true() -> None:
    """What the last reconcile found missing is no longer missing."""
    assert problems(row(last_reconcile_outcome="repaired", missed_adds=7, missed_deletes=1)) == ()


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (NEVER, "cluster 'east' was never reconciled: run `python -m function reconcile`"),
        ({"unreconciled": ago(hours=2, minutes=5)}, "the last complete list of cluster 'east' is 2h 5m old"),
        ({"last_reconcile_outcome": "refused"}, "the last reconcile of cluster 'east' was refused"),
        (
            {"last_reconcile_outcome": "failed", "last_reconcile_error": "no answer"},
            "the last reconcile of cluster 'east' failed: no answer",
        ),
        (
            {"last_event_at": None, "silence": ago(days=2)},
            "cluster 'east' has never sent an event in the 2d since its first reconcile",
        ),
    ],
)
def test_each_problem_is_a_sentence(facts: dict[str, Any], sentence: str) -> None:
    """It says which cluster, what, and for how long; once, though a cluster has two rows."""
    found = problems(row(**facts), row(kind=VMI, **facts))
    assert len(found) == 1
    assert found[0].startswith(sentence)


def test_a_silent_kind_says_which_setting_to_raise() -> None:
    """A cluster in which nothing changes is silent too."""
    [sentence] = problems(row(), row(kind=VMI, silence=ago(hours=3)))
    assert "about a VirtualMachineInstance of cluster 'east' has come for 3h" in sentence
    assert "raise HEALTH_MAX_SILENCE if its VMs really did not change" in sentence


def test_several_problems_are_several_sentences() -> None:
    """Of each cluster its own."""
    found = problems(
        row("a", **{**NEVER, "last_reconcile_outcome": "failed"}),
        row("a", VMI, **{**NEVER, "last_reconcile_outcome": "failed"}),
        row("b", silence=ago(hours=2)),
        row("b", VMI, silence=ago(hours=2)),
        row("c"),
    )
    assert [sentence.partition(":")[0] for sentence in found] == [
        "cluster 'a' was never reconciled",
        "the last reconcile of cluster 'a' failed",
        "no event about a VirtualMachine of cluster 'b' has come for 2h",
        "no event about a VirtualMachineInstance of cluster 'b' has come for 2h",
    ]


def test_zero_is_no_limit() -> None:
    """No age is a problem then; a run that failed, and one that never was, still are."""
    old: dict[str, Any] = {"silence": ago(days=99), "unreconciled": ago(days=99)}
    assert problems(row(**old), max_silence=0) == ()
    assert len(problems(row(**{**old, **NEVER}), max_silence=0)) == 1
    assert len(problems(row(**old, last_reconcile_outcome="failed"), max_silence=0)) == 1


def test_just_the_limit_is_no_silence_yet() -> None:
    """Longer than it is."""
    assert problems(row(silence=ago(hours=1))) == ()
    assert problems(row(silence=ago(hours=1, microseconds=1))) != ()


def test_a_ledger_with_nothing_in_it_is_unhealthy() -> None:
    """Nobody sent anything, or all of it was refused."""
    dead = health.Row(cluster="default", kind=None, dead_letters=3, dead_letter_age=ago(minutes=2))
    for rows in ([], [dead]):
        [sentence] = problems(*rows)
        assert sentence.startswith("nothing was ever stored: ")


def test_dead_letters_alone_make_no_cluster() -> None:
    """A hub that takes the events of others may refuse some under its own name, and has no cluster to reconcile."""
    dead = health.Row(cluster="hub", kind=None, dead_letters=3, dead_letter_age=ago(minutes=2))
    assert problems(row(), dead) == ()


def test_new_dead_letters_are_a_warning() -> None:
    """Once for a cluster; old ones have been seen."""
    fresh: dict[str, Any] = {"dead_letters": 12, "dead_letter_age": ago(minutes=5)}
    verdict = health.judge([row(**fresh), row(kind=VMI, **fresh)], HOUR)
    assert verdict.healthy
    assert verdict.warnings == (
        "12 requests of cluster 'east' were refused for good, the last one 5m ago: check the dead letters",
    )
    assert health.judge([row(dead_letters=12, dead_letter_age=ago(hours=5))], HOUR).warnings == ()


def test_one_cluster_is_judged_alone() -> None:
    """Others may be unhealthy; one that nobody knows is not healthy."""
    rows = [row("a"), row("b", silence=ago(days=1))]
    assert problems(*rows, cluster="a") == ()
    assert len(problems(*rows, cluster="b")) == 1
    [sentence] = problems(*rows, cluster="c")
    assert sentence.startswith("nothing was ever stored about cluster 'c'")


def test_a_name_cannot_write_on_the_terminal() -> None:
    """A cluster is named by whoever sends events."""
    rows = [row("a\x1b[2J", silence=ago(days=1))]
    verdict = health.judge(rows, HOUR)
    for line in [*cli_health.table(rows, verdict), *cli_health.json_lines(rows, verdict)]:
        assert "\x1b" not in line


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (ago(), "0s"),
        (ago(milliseconds=999), "0s"),
        (ago(seconds=-3), "0s"),
        (ago(seconds=59), "59s"),
        (ago(minutes=15), "15m"),
        (ago(minutes=15, seconds=20), "15m 20s"),
        (ago(hours=2, seconds=20), "2h"),
        (ago(days=2, hours=3, minutes=4), "2d 3h"),
        (ago(days=400), "400d"),
    ],
)
def test_an_age_is_spoken_as_the_setting_is_written(age: datetime.timedelta, words: str) -> None:
    """Its two greatest units."""
    assert health.short(age) == words


def test_the_lines_of_json_are_the_rows_and_the_verdict() -> None:
    """Intervals are seconds, times are ISO 8601."""
    rows = [row(), row("b", VMI, **{**MUTE, **NEVER, "unreconciled": None})]
    first, second, last = map(json.loads, cli_health.json_lines(rows, health.judge(rows, HOUR)))
    assert first == {
        "cluster": "east",
        "kind": VM,
        "last_event_at": "2026-11-22T10:00:00+00:00",
        "silence_seconds": 60.0,
        "last_reconcile_at": "2026-11-22T10:00:00+00:00",
        "last_reconcile_outcome": "clean",
        "last_reconcile_error": None,
        "last_complete_list_at": "2026-11-22T10:00:00+00:00",
        "missed_adds": 0,
        "missed_updates": 0,
        "missed_deletes": 0,
        "dead_letters": 0,
        "dead_letter_age_seconds": None,
        "unreconciled_seconds": 60.0,
        "oldest_unreconciled_seconds": 60.0,
    }
    assert first.keys() == second.keys()
    assert last["verdict"] == "unhealthy"
    assert len(last["problems"]) == 1
    assert last["warnings"] == []


def test_the_table_is_for_people() -> None:
    """Aligned columns, ages in words, and the verdict below."""
    rows = [row(missed_adds=2), row("longer-name", VMI, **MUTE)]
    lines = list(cli_health.table(rows, health.judge(rows, HOUR)))
    assert lines[:3] == [
        "CLUSTER      KIND                    LAST EVENT  LAST LIST  IT FOUND  LAST RECONCILE  DEAD LETTERS",
        "east         VirtualMachine          1m ago      1m ago     +2 ~0 -0  clean           0",
        "longer-name  VirtualMachineInstance  never       1m ago     +0 ~0 -0  clean           0",
    ]
    assert lines[-1] == "healthy"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800), ("2D", 172_800), (" 5m ", 300)],
)
def test_a_silence_is_written_with_or_without_a_unit(given: str, seconds: int) -> None:
    """Seconds are meant where none is named."""
    assert settings.Settings.from_env({"HEALTH_MAX_SILENCE": given}).ledger.max_silence == seconds


@pytest.mark.parametrize("given", ["-1", "1.5h", "1w", "h", "1h30m", "soon", "1" * 10, "٣h"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    """With the variable's name, and without the value."""
    with pytest.raises(errors.BadSetting, match=r"^HEALTH_MAX_SILENCE must be a number of seconds, or") as refusal:
        settings.Settings.from_env({"HEALTH_MAX_SILENCE": given})
    assert len(given) < 2 or given not in str(refusal.value)
