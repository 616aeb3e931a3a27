"""Random histories: a cluster whose machines live, a channel that loses and delays what is told of it, and reconciles.

A rule is a step of a history; Hypothesis finds the steps, and makes a history that breaks a claim as short as it can.
What it then prints is a program of these rules, and can be kept as a test.

A reconcile runs to its end in one step, or stops before each thing that it asks, while other rules are played.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import functools
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st

from function.clients import kubernetes
from function.inventory.reconcile import plan, result
from tests.simulation import adversary, environment, ledger, model_cluster, past

PATIENCE = 4.0
"""Seconds after which a reconcile that was stopped now and then may fail, because the database seems to be frozen."""
CRASHES = 2
"""In one history: each takes longer than all else in it."""
CROWD = [("mass", f"m-{number:02}") for number in range(12)]
"""More than a reconcile deletes without a second thought."""


class Weather(enum.Enum):
    """What befalls a history as a whole."""

    FAIR = "nothing"
    HONEST = "every event comes at last, and no row is changed by hand"
    STANDING = "as honest, but the source stands still, and sends with late times; the objects carry their own"
    SLOW = "the source's clock is two minutes late"
    FAST = "the source's clock is two minutes ahead"
    RESTORED = "the cluster is restored from backups"
    CRASHING = "Postgres crashes"
    HOSTILE = "somebody POSTs what it likes"

    @property
    def honest(self) -> bool:
        """Whether the ledger knows the past when all has come."""
        return self in (Weather.HONEST, Weather.STANDING)

    @property
    def skew(self) -> datetime.timedelta:
        """How far the source's clock is ahead."""
        return datetime.timedelta(minutes={Weather.SLOW: -2, Weather.FAST: 2}.get(self, 0))


class Fate(enum.Enum):
    """What becomes of the events about a change."""

    TOLD = "delivered at once"
    LATE = "delivered some time, or never before the end"
    LOST = "never sent"
    TWICE = "delivered at once, and sent a second time by an adapter that overlaps, which is delivered late"


class Fault(enum.Enum):
    """What befalls a list."""

    EXPIRED = "410 after some pages"
    FAILING = "503 after some pages, twice"
    DAMAGED = "a page without a version"
    ANOTHER = "another cluster"


class Spoil(enum.Enum):
    """What an older bug, or a person, did to a row."""

    FACTS = "other facts"
    LIVES = "not deleted"
    DEAD = "deleted"
    FORGOTTEN = "nowhere"

    @property
    def columns(self) -> Mapping[str, Any] | None:
        """What is wrong; None where the row is missing."""
        wrong: dict[Spoil, dict[str, object]] = {
            Spoil.FACTS: {"status": "Nonsense", "vcpus": 77},
            Spoil.LIVES: {"deleted_at": None},
            Spoil.DEAD: {"deleted_at": datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)},
        }
        return wrong.get(self)


PLACES = st.sampled_from([(namespace, name) for name in ("a", "b", "c") for namespace in ("blue", "green")])
BRIEF = PLACES | st.sampled_from([("brief", "x"), ("brief", "y"), ("brief", "z")])
ONE = st.integers(0, 5)
"""One of those that there are."""
NODES = st.sampled_from(["node-1", "node-2"])
PHASES = st.sampled_from(["Running", "Scheduling", "Succeeded", "Failed"])
TYPES = st.sampled_from([None, *model_cluster.INSTANCETYPES])
SHAPES = st.sampled_from(model_cluster.Shape)
FATES = st.sampled_from(Fate)
PATCHES = st.sampled_from(
    [
        {"status": {"printableStatus": "Running"}},
        {"status": {"printableStatus": "Stopped"}},
        {"spec": {"runStrategy": "Halted"}},
        {"metadata": {"labels": {"tier": "gold"}}},
        {"metadata": {"labels": {"tier": None}}},
        {"metadata": {"ownerReferences": [{"kind": "VirtualMachinePool", "name": "web", "controller": True}]}},
        {"metadata": {"ownerReferences": None}},
        {"spec": {"template": {"spec": {"domain": {"cpu": {"cores": 6}}}}}},
        {"spec": {"template": {"spec": {"domain": {"memory": {"guest": "16Gi"}}}}}},
    ]
)
Rule = Callable[..., None]


def step(*conditions: Callable[[Any], object], **given: st.SearchStrategy[Any]) -> Callable[[Rule], Any]:
    """Make a rule of a method, played where all conditions hold; after it the claims are checked."""

    def made(method: Rule) -> Any:
        @functools.wraps(method)
        def played(self: History, **drawn: Any) -> None:
            self.changed = True
            method(self, **drawn)
            self.claim()

        return stateful.precondition(lambda self: all(each(self) for each in conditions))(
            stateful.rule(**given)(played)  # type: ignore[call-overload]  # it means targets
        )

    return made


def machines_live(history: History) -> object:
    """Whether there is a virtual machine."""
    return history.cluster.machines()


def instances_run(history: History) -> object:
    """Whether there is a running instance."""
    return history.cluster.instances()


def stopped(history: History) -> bool:
    """Whether a reconcile runs beside, which is stopped now."""
    return history.environment.pause_points.running


def alone(history: History) -> bool:
    """Whether no reconcile runs."""
    return not stopped(history)


class History(stateful.RuleBasedStateMachine):
    """One history; :meth:`teardown` lets everything settle, and then the ledger must equal the cluster."""

    def __init__(self, on: environment.Environment, only: Weather | None = None) -> None:
        super().__init__()
        on.clear()
        self.environment = on
        self.cluster = model_cluster.ModelCluster(on.api)
        self.weather = Weather.FAIR
        self.only = only
        """The weather of every history that begins, if it is not drawn."""
        self.told: dict[str, model_cluster.Envelope] = {}
        """Every event that was sent, by its id."""
        self.pending: list[model_cluster.Envelope] = []
        self.delivered: list[model_cluster.Envelope] = []
        self.changed = False
        """Whether anything happened since a reconcile came to its end."""
        self.rewound = False
        self.epochs: list[datetime.datetime] = []
        """The epochs that the ledger knew when a backup was restored last."""
        self.crashes = 0
        self.blamed = False
        """Whether something was done to the reconcile beside that may make it fail."""
        self.beside: list[result.Run] = []
        """What became of reconciles that ran beside."""
        self.known: frozenset[tuple[str, str]] = frozenset()
        """The rows that are known to be true."""
        self.shown: dict[tuple[str, str, str | None], int] = {}
        """The latest change that each state has shown."""
        self.forgotten: set[model_cluster.Place] = set()
        self.lies_told: list[Mapping[str, Any]] = []
        self.lies: set[str] = set()
        """The ids of events about what never happened."""
        self.spoiled: set[model_cluster.Place] = set()
        self.buried = False
        """Whether a row was called deleted by hand: another event about its very version says that it is not."""

    @stateful.initialize(
        weather=st.sampled_from(Weather), fleet=st.lists(st.tuples(PLACES, TYPES, st.booleans(), FATES), max_size=6)
    )
    def begin_with(self, weather: Weather, fleet: Sequence[tuple[model_cluster.Place, str | None, bool, Fate]]) -> None:
        """Begin with some machines, of which some run."""
        self.weather = self.only or weather
        if self.weather is Weather.STANDING:
            self.cluster.carry_times()
        for where, instancetype, runs, fate in fleet:
            self._tell(self.cluster.create(where, instancetype=instancetype, kept=True), fate)
            if runs:
                self._tell(self.cluster.start(where), fate)
        if self.weather is Weather.HOSTILE:  # until a cluster has a complete list, all its machines are hearsay
            self.environment.reconcile()
        self.claim()

    # The cluster, and what is told of it

    @step(where=PLACES, instancetype=TYPES, kept=st.booleans(), fate=FATES, shape=SHAPES)
    def create(
        self, where: model_cluster.Place, instancetype: str | None, kept: bool, fate: Fate, shape: model_cluster.Shape
    ) -> None:
        """Make a machine, or a new one of a name that is free again."""
        self._tell(self.cluster.create(where, instancetype=instancetype, kept=kept), fate, shape)

    @step(machines_live, one=ONE, patch=PATCHES, fate=FATES, shape=SHAPES)
    def change(self, one: int, patch: model_cluster.Object, fate: Fate, shape: model_cluster.Shape) -> None:
        """Change a machine."""
        self._tell(self.cluster.change(_nth(self.cluster.machines(), one), patch), fate, shape)

    @step(
        machines_live,
        one=ONE,
        name=st.sampled_from(sorted(model_cluster.INSTANCETYPES)),
        kept=st.booleans(),
        fate=FATES,
    )
    def resize(self, one: int, name: str, kept: bool, fate: Fate) -> None:
        """Give a machine another instancetype."""
        self._tell(self.cluster.resize(_nth(self.cluster.machines(), one), name, kept=kept), fate)

    @step(machines_live, one=ONE, announced=st.booleans(), fate=FATES, shape=SHAPES)
    def remove(self, one: int, announced: bool, fate: Fate, shape: model_cluster.Shape) -> None:
        """Delete a machine; what runs of it may run on."""
        self._tell(self.cluster.remove(_nth(self.cluster.machines(), one), announced=announced), fate, shape)

    @step(machines_live, one=ONE, node=st.none() | NODES, phase=PHASES, fate=FATES)
    def start(self, one: int, node: str | None, phase: str, fate: Fate) -> None:
        """Let a machine run."""
        self._tell(self.cluster.start(_nth(self.cluster.machines(), one), node=node, phase=phase, cores=4), fate)

    @step(where=PLACES, fate=FATES)
    def stray(self, where: model_cluster.Place, fate: Fate) -> None:
        """Let an instance run that may be no machine's."""
        self._tell(self.cluster.start(where), fate)

    @step(instances_run, one=ONE, node=NODES, phase=PHASES, octet=st.integers(1, 3), fate=FATES)
    def run(self, one: int, node: str, phase: str, octet: int, fate: Fate) -> None:
        """Let an instance go elsewhere, or get another address."""
        status = {"nodeName": node, "phase": phase, "interfaces": [{"name": "default", "ipAddress": f"10.0.0.{octet}"}]}
        self._tell(self.cluster.run(_nth(self.cluster.instances(), one), {"status": status}), fate)

    @step(instances_run, one=ONE, fate=FATES)
    def end(self, one: int, fate: Fate) -> None:
        """Let an instance go away."""
        self._tell(self.cluster.end(_nth(self.cluster.instances(), one)), fate)

    @step(instances_run, lambda self: not self.weather.honest, one=ONE, fate=FATES)
    def hand_over(self, one: int, fate: Fate) -> None:
        """Let an instance be the machine's of its name, or nobody's, which no event tells."""
        self._tell(self.cluster.hand_over(_nth(self.cluster.instances(), one)), fate)

    @step(lives=st.lists(st.tuples(BRIEF, FATES), min_size=1, max_size=8))
    def churn(self, lives: Sequence[tuple[model_cluster.Place, Fate]]) -> None:
        """Delete machines that are there, and make those that are not."""
        for where, fate in lives:
            there = where in self.cluster.machines()
            made = self.cluster.create(where, instancetype=None, kept=False)
            self._tell(self.cluster.remove(where, announced=False) if there else made, fate)

    @step(machines_live, runs=st.lists(st.tuples(ONE, NODES, FATES), min_size=1, max_size=6))
    def restart(self, runs: Sequence[tuple[int, str, Fate]]) -> None:
        """Let instances go away that are there, and start machines that do not run."""
        for one, node, fate in runs:
            where = _nth(self.cluster.machines(), one)
            there = where in self.cluster.instances()
            self._tell(self.cluster.end(where) if there else self.cluster.start(where, node=node), fate)

    @step(comes=st.booleans(), fate=st.sampled_from([Fate.TOLD, Fate.LATE, Fate.LOST]))
    def crowd(self, comes: bool, fate: Fate) -> None:
        """Let many machines come, or go, at once."""
        for where in CROWD:
            made = self.cluster.create(where, instancetype=None, kept=False)
            self._tell(made if comes else self.cluster.remove(where, announced=False), fate)

    @step(alone, lambda self: self.weather is Weather.RESTORED and self.cluster.backups, back=st.integers(1, 12))
    def restore(self, back: int) -> None:
        """Restore the cluster as it was before the last changes."""
        self.cluster.restore(back)
        self.rewound = True
        self.epochs = self.environment.tables.epochs()

    def _tell(
        self,
        happenings: Iterable[model_cluster.Happening],
        fate: Fate,
        shape: model_cluster.Shape = model_cluster.Shape.WHOLE,
    ) -> None:
        """Send what is told of some changes."""
        if shape is model_cluster.Shape.BARE and self.weather is not Weather.FAIR:
            shape = (
                model_cluster.Shape.FLAT
            )  # what has no version is ordered by time alone, which may be wrong or not enough
        if self.weather is Weather.STANDING and shape is not model_cluster.Shape.TRIMMED:
            shape = model_cluster.Shape.WHOLE  # the others carry no times
        if fate is Fate.LOST and self.weather.honest:
            fate = Fate.LATE
        for happening in happenings:
            sent = [] if fate is Fate.LOST else [self._post(happening, shape, happening.moment)]
            if fate is Fate.TWICE:
                again = model_cluster.Shape.WHOLE if len(self.told) % 2 else shape
                sent.append(self._post(happening, again, self.cluster.tick()))
            self.pending += sent
            if fate in (Fate.TOLD, Fate.TWICE):
                self._deliver(sent[:1])

    def _post(
        self, happening: model_cluster.Happening, shape: model_cluster.Shape, moment: datetime.datetime
    ) -> model_cluster.Envelope:
        """Send an event; its id tells nothing about when, and is the same whenever the history is played again."""
        name = hashlib.sha256(str(len(self.told)).encode()).hexdigest()[:12]
        if self.weather is Weather.STANDING and len(self.told) % 3:
            moment = self.cluster.tick()
        self.told[name] = model_cluster.post(name, happening, shape, moment + self.weather.skew)
        return self.told[name]

    # The channel

    @step(
        lambda self: self.pending,
        numbers=st.lists(st.integers(0, 9), min_size=1, max_size=4),
        structured=st.booleans(),
    )
    def deliver(self, numbers: list[int], structured: bool) -> None:
        """Deliver an event that is late, or several in a batch."""
        chosen = dict.fromkeys(number % len(self.pending) for number in numbers)
        self._deliver([self.pending[number] for number in chosen], structured=structured)

    @step(lambda self: self.delivered, number=st.integers(0, 30))
    def deliver_again(self, number: int) -> None:
        """Deliver an event that was delivered, as a Broker does that did not see the answer."""
        self.environment.send([self.delivered[number % len(self.delivered)]])

    def _deliver(self, envelopes: Sequence[model_cluster.Envelope], *, structured: bool = False) -> None:
        self.environment.send(envelopes, structured=structured)
        self.pending = [envelope for envelope in self.pending if envelope not in envelopes]
        self.delivered += envelopes

    # The adversary

    @step(lambda self: self.weather is Weather.HOSTILE, lie=adversary.lies(PLACES))
    def lie(self, lie: adversary.Lie) -> None:
        """Let an event come about something that never happened."""
        self._lie([lie])

    @step(lambda self: self.weather is Weather.HOSTILE, lie=adversary.lies(st.just(("ghost", "g"))))
    def haunt(self, lie: adversary.Lie) -> None:
        """Let the same come of many machines that never were."""
        self._lie([dataclasses.replace(lie, where=where) for where in adversary.GHOSTS])

    @step(lambda self: self.weather is Weather.HOSTILE and self.lies, number=st.integers(0, 30))
    def lie_again(self, number: int) -> None:
        """Let an untrue event come once more."""
        self.environment.tell(self.lies_told[number % len(self.lies_told)])

    def _lie(self, lies: Sequence[adversary.Lie]) -> None:
        for lie in lies:
            name = hashlib.sha256(f"lie {len(self.lies)}".encode()).hexdigest()[:12]
            self.lies.add(name)
            self.lies_told.append(lie.told(name, self.cluster))
            self.environment.tell(self.lies_told[-1])

    # Reconciles

    @step(alone, lambda self: self.changed, dry=st.booleans())
    def reconcile(self, dry: bool) -> None:
        """Reconcile, which may be refused; ``dry``: see before that what it would do, and that it does."""
        self._tell_of_the_dead()
        before, gone, listed = self.environment.tables.all(), self._gone(), self._listed()
        few = _few(len(listed - self.spoiled), len(self.cluster.machines()))
        said = self.environment.reconcile(dry_run=True) if dry else None
        assert not dry or self.environment.tables.all() == before, "a dry run has written something"
        done = self.environment.reconcile()
        if done.outcome == "refused":
            assert said is None or said.outcome == "refused", said
            assert self.rewound or len(gone) > plan.FEW, done
        else:
            assert self.rewound or few, f"{listed} were deleted"
            assert done.outcome in ("clean", "repaired"), done
            assert said is None or _numbers(done) == _numbers(said), f"the dry run said {said}, and then came {done}"
            ledger.equal(self.environment.tables, self.cluster)
            self.changed = False

    def _tell_of_the_dead(self) -> None:
        """Where the cluster's clock stands hours ago, let the events of deletes arrive before a list is read.

        A list dates what is gone by the database's clock: what is made anew in that cluster would seem older than that.
        """
        if self.weather is Weather.STANDING:
            self._deliver([each for each in self.pending if each.happening.step == "delete"])

    def _gone(self) -> set[model_cluster.Place]:
        """Return the machines that live in the ledger and lived in the cluster, and do not any more."""
        live = self.environment.tables.live().keys() - self.cluster.machines().keys()
        return {where for where in live if any(self.cluster.happened(kubernetes.VMS, where))}

    def _listed(self) -> set[model_cluster.Place]:
        """Return those of them that the last complete list contained."""
        floor = self.environment.tables.floor()
        return {where for where in self._gone() if floor >= 0 and not self.cluster.absent(kubernetes.VMS, where, floor)}

    @step(
        alone,
        lambda self: self.changed,
        fault=st.sampled_from(Fault),
        after=st.integers(0, 3),
        of=st.sampled_from([kubernetes.VMS, kubernetes.VMIS]),
    )
    def reconcile_in_vain(self, fault: Fault, after: int, of: kubernetes.Resource) -> None:
        """Let a list fail, unless it ends before that."""
        self._tell_of_the_dead()
        known = self.environment.tables.query("SELECT uid FROM clusters WHERE uid IS NOT NULL")
        before = self.environment.tables.all()
        if fault is Fault.ANOTHER and not known:
            return
        with self._befallen(fault, after, of):
            done = self.environment.reconcile()
        if fault is Fault.ANOTHER:
            assert (done.outcome, self.environment.tables.all()) == ("refused", before), (
                "it took another cluster for its own"
            )
        if done.outcome in ("clean", "repaired"):
            ledger.equal(self.environment.tables, self.cluster)

    @step(alone, lambda self: not self.weather.honest, force=st.booleans(), accept_rewind=st.booleans())
    def begin(self, force: bool, accept_rewind: bool) -> None:
        """Begin a reconcile beside; what changes while it lists counts from when it began, which is not honest."""
        self.blamed = False
        self.environment.begin(self.beside.append, force=force, accept_rewind=accept_rewind)

    @step(stopped, steps=st.integers(1, 25))
    def go_on(self, steps: int) -> None:
        """Let it make some steps."""
        for _ in range(steps):
            if not self.environment.pause_points.step():
                break

    @step(stopped)
    def let_end(self) -> None:
        """Let it come to its end."""
        self.environment.let_end()

    @step(stopped, reply=st.booleans())
    def interrupt(self, reply: bool) -> None:
        """Kill it; or only let it lose the answer to a statement that was executed."""
        self.blamed = True
        if reply:
            self.environment.relay.lose_reply = True
            self.environment.pause_points.step()
        else:
            self.environment.kill()

    # The database

    @step(lambda self: not self.weather.honest, where=PLACES, how=st.sampled_from(Spoil))
    def spoil(self, where: model_cluster.Place, how: Spoil) -> None:
        """Let a row be wrong."""
        self.environment.tables.spoil(where, how.columns)
        self.spoiled.add(where)
        self.buried = self.buried or how is Spoil.DEAD
        if how is Spoil.FORGOTTEN:
            gone = (kubernetes.VMS, where)
            self.delivered = [each for each in self.delivered if gone != each.happening.key]
            self.shown.pop((*where, None), None)
            self.forgotten.add(where)

    @step(lambda self: self.weather is Weather.CRASHING and self.crashes < CRASHES)
    def crash(self) -> None:
        """Let Postgres crash."""
        self.crashes += 1
        self.blamed = True
        self.environment.crash()

    @step(alone, lambda self: not self.weather.honest, again=st.lists(st.integers(0, 30), max_size=4))
    def forget(self, again: list[int]) -> None:
        """Let a prune forget what is gone, and let events about it come again: they raise nobody."""
        gone = self.environment.tables.forget()
        about = [each for each in self.delivered if _object(each) in gone]
        self.delivered = [each for each in self.delivered if _object(each) not in gone]
        for namespace, name, *owner in gone:
            self.shown.pop((namespace, name, owner[0] if owner else None), None)
            self.forgotten.add((namespace, name))
        there = self.cluster.machines().keys() | self.environment.tables.live().keys()
        for number in again if about else ():
            self.environment.send([about[number % len(about)]])
        raised = self.environment.tables.live().keys() - there
        assert not raised, f"raised from the dead: {raised}"

    # The claims

    def claim(self) -> None:
        """Assert what must be true at any time."""
        for run in self.beside:
            assert "unexpected" not in str(run.error), run
            assert run.outcome != "failed" or self.blamed or run.seconds > PATIENCE, run
        self.beside.clear()
        tables = self.environment.tables
        rows = tables.all()
        if rows != self.known:
            states = ledger.was_true(
                tables, rows - self.known, self.told, self.cluster, lies=self.lies, strict=self._strict
            )
            ledger.consistent(tables)
            self.known = rows
            self._never_back(states)

    def _strict(self, where: model_cluster.Place) -> bool:
        """Whether a list's version tells what it held, and the ledger knows what it was told of that."""
        return not self.rewound and not self.lies and where not in self.forgotten

    def _never_back(self, states: Sequence[ledger.Row]) -> None:
        """A state never shows an earlier change than it did; unless the cluster itself went back."""
        for row in states if not self.lies else ():
            key = (row["namespace"], row["name"], row.get("owner_uid"))
            now = ledger.shown(row, self.told)
            if row["id"] != ledger.SPOILED and self._strict(key[:2]):
                assert now >= self.shown.get(key, now), f"set back, from {self.shown[key]}: {row}"
                self.shown[key] = now

    def teardown(self) -> None:
        """Settle, unless the history is broken already."""
        if sys.exception() is None:
            self.settle()

    def settle(self) -> None:
        """Let what runs end, reconcile, and let all arrive that was on its way: the ledger equals the cluster."""
        self.environment.let_end()
        self.claim()
        self._reconcile_at_last()
        for envelope in sorted(self.pending, key=lambda envelope: envelope.id):
            self._deliver([envelope])
        self.claim()
        if self.buried or (self.rewound and self.environment.tables.epochs() == self.epochs):
            self._reconcile_at_last()  # nobody noticed, and then late events from before may say what was
        ledger.equal(self.environment.tables, self.cluster)
        ledger.kept(self.environment.tables, self.delivered)
        past.as_histories_say(self.environment.tables)
        past.as_changes_say(self.environment.tables)
        if self.weather.honest:
            past.as_it_was(self.environment.tables, self.cluster)
        again = self.environment.reconcile()
        assert again.outcome == "clean", again
        ledger.equal(self.environment.tables, self.cluster)

    def _reconcile_at_last(self) -> None:
        """Reconcile; a person is needed where a backup was restored, or many machines are gone that were there."""
        many = len(self._gone()) > plan.FEW
        done = self.environment.reconcile(force=many, accept_rewind=self.rewound)
        assert done.outcome in ("clean", "repaired"), done
        ledger.equal(self.environment.tables, self.cluster)

    @contextlib.contextmanager
    def _befallen(self, fault: Fault, after: int, of: kubernetes.Resource) -> Iterator[None]:
        api = self.environment.api
        uid = api.uid
        match fault:
            case Fault.EXPIRED:
                api.expire_after(after, of=of)
            case Fault.FAILING:
                api.fail_after(after, 503, times=2, of=of, retry_after=0)
            case Fault.DAMAGED:
                api.spoil_after(after, lambda page: page["metadata"].pop("resourceVersion"), of=of)
            case Fault.ANOTHER:
                api.update(kubernetes.NAMESPACES, "", "kube-system", {"metadata": {"uid": "another"}})
        yield
        api.calm()
        api.update(kubernetes.NAMESPACES, "", "kube-system", {"metadata": {"uid": uid}})


def _object(envelope: model_cluster.Envelope) -> tuple[str, ...]:
    """Return which object an event is about, as :meth:`ledger.Tables.forget` names it."""
    resource, where = envelope.happening.key
    return where if resource is kubernetes.VMS else (*where, str(model_cluster.owner_of(envelope.happening.object)))


def _few(deletes: int, there: int) -> bool:
    """Whether so many deletes need no second thought, beside so many machines that are there."""
    return not plan.too_many(deletes, deletes + there, 20)


def _nth(places: Mapping[model_cluster.Place, object], number: int) -> model_cluster.Place:
    return sorted(places)[number % len(places)]


def _numbers(done: result.Run) -> tuple[Any, ...]:
    return (
        done.outcome,
        done.seen,
        done.missed_adds,
        done.missed_updates,
        done.missed_deletes,
        done.corrected,
        done.instances,
    )


def play(on: environment.Environment, *, histories: int, steps: int, anew: bool, only: Weather | None = None) -> None:
    """Play random histories; ``anew``: others each time, else always the same; ``only``: all in this weather."""
    stateful.run_state_machine_as_test(
        lambda: History(on, only),  # type: ignore[arg-type]  # as Hypothesis documents
        settings=hypothesis.settings(max_examples=histories, stateful_step_count=steps, derandomize=not anew),
    )
