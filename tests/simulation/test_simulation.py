"""Whatever happens to a cluster, and whatever is told of it: after a reconcile the ledger is right.

The cluster is a real HTTP server over a model; the channel is the receiver's own door; the database is a real one.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import hypothesis
import pytest

from dev import embedded_postgres
from function import migrate, settings
from function.clients import kubernetes
from tests.simulation import environment, rules
from tests.simulation.model_cluster import Shape
from tests.simulation.rules import Fate, Spoil, Weather

HISTORIES = {"nightly": 1000}
FEWEST = 50
STEPS = 40
WEB = ("blue", "web")


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[environment.Environment]:
    """An environment with a Postgres of its own, which may crash; it never loses power, so it need not sync."""
    folder: pathlib.Path = tmp_path_factory.mktemp("simulation")
    server = embedded_postgres.Postgres(folder / "postgres", settings={"fsync": "off"})
    server.start()
    migrate.run(settings.Settings.from_env({"DATABASE_URL": server.url()}))
    with environment.built(server, folder, "postgres") as made:
        yield made
    server.stop()


@pytest.fixture
def history(on: environment.Environment) -> rules.History:
    """A history that nothing has happened in yet."""
    return rules.History(on)


def create(history: rules.History, fate: Fate = Fate.TOLD, instancetype: str | None = None) -> None:
    """Make the machine blue/web."""
    history.create(where=WEB, instancetype=instancetype, kept=False, fate=fate, shape=Shape.WHOLE)


def test_after_a_reconcile_the_ledger_equals_the_cluster(on: environment.Environment) -> None:
    """And before that it is never ahead of it; over random histories.

    Each night plays others. A change is played the same ones, so that it is refused for what it changed.
    """
    profile = hypothesis.settings.get_current_profile_name()
    rules.play(on, histories=HISTORIES.get(profile, FEWEST), steps=STEPS, anew=profile in HISTORIES)


def test_after_a_reconcile_no_lie_is_left(on: environment.Environment) -> None:
    """Whatever somebody POSTs between the events, with no --accept-...; over random histories, as above."""
    profile = hypothesis.settings.get_current_profile_name()
    rules.play(
        on,
        histories=HISTORIES.get(profile, FEWEST),
        steps=STEPS,
        anew=profile in HISTORIES,
        only=rules.Weather.HOSTILE,
    )


def test_a_source_that_stands_still_leaves_no_trace_in_the_past(on: environment.Environment) -> None:
    """Where the objects carry their times, whatever their events say; over random histories, as above."""
    profile = hypothesis.settings.get_current_profile_name()
    rules.play(
        on,
        histories=HISTORIES.get(profile, FEWEST),
        steps=STEPS,
        anew=profile in HISTORIES,
        only=rules.Weather.STANDING,
    )


def test_a_late_event_does_not_raise_what_no_list_held(history: rules.History) -> None:
    """Of a machine of which nothing else was ever heard."""
    create(history, Fate.LATE)
    history.remove(one=0, announced=False, fate=Fate.LOST, shape=Shape.WHOLE)
    history.settle()


def test_a_late_event_does_not_raise_what_a_prune_forgot(history: rules.History) -> None:
    """The last complete list says that it is gone, as its tombstone said before."""
    create(history)
    history.start(one=0, node="node-1", phase="Running", fate=Fate.TOLD)
    history.change(one=0, patch={"spec": {"runStrategy": "Halted"}}, fate=Fate.LATE, shape=Shape.WHOLE)
    history.end(one=0, fate=Fate.TOLD)
    history.remove(one=0, announced=False, fate=Fate.TOLD, shape=Shape.WHOLE)
    history.forget(again=[])
    assert history.environment.tables.query("SELECT name FROM vm_state") != [], "no list has said so yet"
    history.reconcile(dry=False)
    history.forget(again=[0, 1, 2, 3])
    history.settle()
    history.forget(again=[])
    for table in ("vm_state", "vm_history", "vm_runtime", "vm_runtime_history"):
        assert history.environment.tables.query(f"SELECT * FROM {table}") == []


def test_late_events_from_before_a_restore_do_not_return(history: rules.History) -> None:
    """Once it was accepted that the cluster was restored; their versions are higher than all that it has now."""
    history.begin_with(weather=Weather.RESTORED, fleet=[])
    create(history)
    for status in ("Stopped", "Running"):
        history.change(one=0, patch={"status": {"printableStatus": status}}, fate=Fate.TOLD, shape=Shape.WHOLE)
    history.change(one=0, patch={"spec": {"runStrategy": "Halted"}}, fate=Fate.LATE, shape=Shape.WHOLE)
    history.reconcile(dry=False)
    history.restore(back=3)
    history.settle()
    assert len(history.environment.tables.epochs()) == 1


def test_what_changes_while_a_list_runs_is_not_set_back(history: rules.History) -> None:
    """Whether the event has a version or only a time."""
    create(history)
    history.begin(force=False, accept_rewind=False)
    for shape in (Shape.WHOLE, Shape.BARE):
        while not any("virtualmachines?" in call for call in history.environment.api.calls):
            history.go_on(steps=1)
        history.change(one=0, patch={"metadata": {"labels": {"seen": shape.name}}}, fate=Fate.TOLD, shape=shape)
    history.create(where=("blue", "new"), instancetype=None, kept=False, fate=Fate.TOLD, shape=Shape.BARE)
    history.let_end()
    assert set(history.environment.tables.live()) == {WEB, ("blue", "new")}
    history.settle()


def test_a_crash_of_the_database_midway_deletes_nobody(history: rules.History) -> None:
    """What the run had noted of the list is gone with the crash."""
    history.begin_with(weather=Weather.CRASHING, fleet=[])
    create(history)
    history.begin(force=True, accept_rewind=False)
    history.go_on(steps=12)
    history.crash()
    history.let_end()
    history.settle()


def test_a_lost_answer_is_no_lost_row(history: rules.History) -> None:
    """The statement was executed, and the reconcile does not know."""
    create(history, Fate.LOST)
    history.begin(force=False, accept_rewind=False)
    while history.environment.pause_points.running:
        history.interrupt(reply=True)
    history.settle()


@pytest.mark.parametrize("how", Spoil)
def test_a_wrong_row_is_put_right(how: Spoil, history: rules.History) -> None:
    """Whatever is wrong with it, and though its version is the cluster's."""
    create(history, instancetype="u1.small")
    history.spoil(where=WEB, how=how)
    history.settle()


@pytest.mark.parametrize("of", [kubernetes.VMS, kubernetes.VMIS], ids=["machines", "instances"])
@pytest.mark.parametrize("fault", rules.Fault)
def test_a_list_that_fails_midway_deletes_nobody(
    fault: rules.Fault, of: kubernetes.Resource, history: rules.History
) -> None:
    """And nothing that it would have deleted is missed by the next."""
    history.crowd(comes=True, fate=Fate.TOLD)
    history.start(one=0, node="node-1", phase="Running", fate=Fate.TOLD)
    history.reconcile(dry=False)
    history.remove(one=0, announced=True, fate=Fate.LOST, shape=Shape.WHOLE)
    history.reconcile_in_vain(fault=fault, after=0, of=of)
    history.settle()
