"""What a reconcile decides, and what it says."""

from __future__ import annotations

import dataclasses
import datetime
import io
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from function import errors, events, settings
from function.cli import main, reconcile
from function.cli import reconcile as reconcile_command
from function.inventory.mapping import instance, versions, vm
from function.inventory.reconcile import kinds, plan, result
from tests import machines

NOW = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)
MOMENT = plan.Moment(epoch=1, version=100, began=NOW)
LISTED = 50


def listed(number: int = LISTED) -> versions.Change:
    """A machine of the list, as it was mapped."""
    item = machines.vm("web")
    item["metadata"]["resourceVersion"] = str(number)
    attributes = {"id": "reconcile-100", "type": plan.UPDATED, "time": NOW}
    return vm.change(events.Event(attributes, item), cluster_name="east")


def standing(number: int = 40, step: int = versions.UPDATE, **known: Any) -> plan.Standing:
    """How the ledger stands to it."""
    found: dict[str, Any] = {"lives": True, "epoch": 1, "shape": versions.OBJECT, "recent": False, **known}
    version = versions.Version(number, known.pop("time", None), step)
    found.pop("time", None)
    return plan.Standing(version=version, resource_version=number, **found)


def decided(known: plan.Standing | None) -> versions.Change | None:
    """What is to be written."""
    return plan.decide(kinds.MACHINES, listed(), known, MOMENT)


def payload(change: versions.Change) -> dict[str, Any]:
    """What the store sends."""
    said: dict[str, Any] = msgspec.json.decode(change.payload)
    return said


def test_what_the_ledger_does_not_know_is_added() -> None:
    """By its own version."""
    change = decided(None)
    assert change is not None
    assert (change.row.type, change.version) == (plan.ADDED, versions.Version(LISTED, None, versions.UPDATE))


@pytest.mark.parametrize(
    ("known", "number", "dated", "kind"),
    [
        (standing(40), 50, False, plan.UPDATED),
        (standing(40, lives=False), 50, False, plan.ADDED),
        (standing(-1, time=NOW), 50, False, plan.UPDATED),
        (standing(500, epoch=0), 50, False, plan.UPDATED),
        (standing(50, versions.ADD), 50, False, plan.UPDATED),
        (standing(50, shape=versions.FLAT), 50, False, plan.UPDATED),
        (standing(50), 100, False, plan.UPDATED),
        (standing(50, versions.DELETE, lives=False), 100, False, plan.ADDED),
        (standing(70), 100, False, plan.UPDATED),
        (standing(100), 100, True, plan.UPDATED),
        (standing(100, versions.DELETE, lives=False), 100, True, plan.ADDED),
    ],
)
def test_what_the_ledger_has_otherwise_is_outranked(known: plan.Standing, number: int, dated: bool, kind: str) -> None:
    """By the machine's own version where that is enough, else by the list's, else by that and its time."""
    change = decided(known)
    assert change is not None
    assert change.row.type == kind
    assert change.version == versions.Version(number, NOW if dated else None, versions.UPDATE)
    said = payload(change)
    assert (said["version_number"], said["resource_version"]) == (number, LISTED)
    assert said["version_time"] == ("2026-11-22T10:00:00+00:00" if dated else "-infinity")


@pytest.mark.parametrize(
    "known", [standing(101), standing(101, versions.DELETE, lives=False), standing(-1, recent=True)]
)
def test_what_came_after_the_list_is_left_alone(known: plan.Standing) -> None:
    """The list is older."""
    assert decided(known) is None


@hypothesis.given(
    epoch=st.integers(0, 1),
    number=st.integers(-1, 103),
    step=st.sampled_from([versions.ADD, versions.UPDATE, versions.DELETE]),
    shape=st.sampled_from([versions.FLAT, versions.OBJECT]),
    time=st.none() | st.integers(-3, -1).map(lambda hours: NOW + datetime.timedelta(hours=hours)),
)
def test_what_is_written_is_kept(
    epoch: int, number: int, step: int, shape: int, time: datetime.datetime | None
) -> None:
    """Whatever the ledger has: it is newer, or it is the same version and says more; or the ledger's is from later."""
    known = standing(number, step, epoch=epoch, shape=shape, time=time)
    change = decided(known)
    theirs = (epoch, *known.version.order)
    if change is None:
        assert (epoch, number) > (1, 100)
        return
    ours = (1, *change.version.order)
    assert ours > theirs or (ours == theirs and shape == versions.FLAT)
    assert change.version.number <= 100


def test_a_delete_says_what_was_last_known() -> None:
    """Dated by the list; an instance is gone."""
    row = listed().row
    change = plan.gone(kinds.MACHINES, plan.Lost(row, 1, versions.Version(50, None, 1)), MOMENT)
    assert isinstance(change.row, vm.VirtualMachine)
    assert change.version == versions.Version(100, None, versions.DELETE)
    assert (change.row.resource_version, change.row.time, change.row.deleted_at) == (100, NOW, NOW)
    assert change.row.labels == {"app": "web"}
    ran = instance.Instance(
        type="x", id="x", name="web", namespace="shop", cluster="east", owner_uid="u", phase="Failed"
    )
    change = plan.gone(
        kinds.INSTANCES, plan.Lost(ran, 1, versions.Version(100, NOW - datetime.timedelta(1), 1)), MOMENT
    )
    assert isinstance(change.row, instance.Instance)
    assert (change.row.phase, change.key) == ("Gone", ("east", "shop", "web", "u"))
    assert change.version == versions.Version(100, NOW, versions.DELETE)


@pytest.mark.parametrize(
    ("deletes", "live", "percent", "too_many"),
    [(10, 10, 0, False), (11, 11, 100, False), (11, 54, 20, True), (11, 55, 20, False), (11, 10**6, 0, True)],
)
def test_few_deletes_and_a_small_share_are_no_mistake(deletes: int, live: int, percent: int, too_many: bool) -> None:
    """It takes both, more than 10 and more than the share."""
    assert plan.too_many(deletes, live, percent) is too_many


# What it says


@pytest.mark.parametrize(
    ("done", "outcome"),
    [
        ({}, "clean"),
        ({"sized": 3}, "clean"),
        ({"missed_adds": 1}, "repaired"),
        ({"missed_updates": 1}, "repaired"),
        ({"missed_deletes": 1}, "repaired"),
        ({"instances": 1}, "repaired"),
        ({"missed_adds": 1, "unreadable": 1}, "failed"),
    ],
)
def test_a_run_comes_to_an_outcome(done: dict[str, Any], outcome: str) -> None:
    """Looked-up sizes are no repair."""
    run = result.Run(cluster="east", **done)
    run.finish()
    assert run.outcome == outcome
    assert reconcile.EXIT_CODES[run.outcome] == {"clean": 0, "repaired": 3, "failed": 5}[outcome]


def test_a_summary_is_in_words() -> None:
    """What did not happen is not said."""
    run = result.Run(cluster="east", outcome="repaired", seen=12, missed_adds=2, list_version=7, seconds=1.25)
    assert reconcile.summary(run) == [
        "east: repaired; 12 virtual machines in the cluster, list version 7, 1.2 s",
        "       2 added",
    ]
    assert reconcile.summary(dataclasses.replace(run, dry_run=True))[1] == "       2 would be added"


def test_the_table_has_one_head() -> None:
    """And a line for each difference, with the names last, because they may be long."""
    out = io.StringIO()
    talk = reconcile_command.TerminalReport(out)
    row = listed().row
    talk.difference("VM add", row, was=None, now=7)
    talk.difference("VM delete", row, was=5, now=None)
    assert out.getvalue().splitlines() == [
        "what          in the ledger   in the cluster  namespace/name",
        "VM add                    -                7  shop/web",
        "VM delete                 5                -  shop/web",
    ]


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "10001", "9" * 5000, "1.5"])
def test_a_page_has_a_sensible_size(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the command line says what is wrong."""
    assert main.main(["reconcile", "--page-size", text]) == 2
    assert "must be a whole number from 1 to 10000" in capsys.readouterr().err


def test_the_help_names_each_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """With the outcome that it stands for."""
    assert main.main(["reconcile", "--help"]) == 0
    said = capsys.readouterr().out
    for outcome, code in reconcile.EXIT_CODES.items():
        assert f"  {code}  {outcome}" in said


@pytest.mark.parametrize("value", ["-1", "101", "20%", "many"])
def test_the_share_of_deletes_is_a_percentage(value: str) -> None:
    """0 to 100."""
    with pytest.raises(errors.BadSetting, match="RECONCILE_MAX_DELETES"):
        settings.Settings.from_env({"RECONCILE_MAX_DELETES": value})
