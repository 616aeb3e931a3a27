"""``python -m function reconcile``: makes the ledger equal to the cluster, whatever the events left out.

The cluster's list is read page by page, and what differs goes through the same mapping, ordering and transactions as
events do. So nothing that changes while the list runs is set back, and a run may end anywhere and be run again.
What the list lacks is deleted once it was read to its end, never sooner.

Virtual machines come first, then their running instances, then the sizes that only an instancetype says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from function import errors, events, settings
from function.clients import kubernetes, postgres
from function.inventory.mapping import instancetype, versions
from function.inventory.reconcile import kinds, plan, report, result, sizes, snapshot
from function.inventory.storage import store

log = logging.getLogger(__name__)

EXPANDED = "expand-spec@"
"""Stands, with the machine's resource version, for a revision where the machine refers to none."""

Object = kubernetes.Object
Place = tuple[str, str, str]


class Stopped(BaseException):
    """The process was asked to end; says by what."""


class _Rewound(Exception):
    """The list has a lower version than the ledger; says so in a sentence."""


class _Repair(NamedTuple):
    """A change that the ledger needs, the resource version that it has of the object, and when that happened."""

    change: versions.Change
    was: int | None
    when: datetime.datetime | None


def run(
    configuration: settings.Settings,
    options: result.Options | None = None,
    talk: report.Report | None = None,
    *,
    api: kubernetes.Kube | None = None,
) -> result.Run:
    """Reconcile the cluster of the settings; return what became of it, which is stored in ``reconcile_runs`` too.

    api: the door to the cluster, where the caller has one. Trouble of any kind is an outcome and raises nothing.
    """
    options, talk = options or result.Options(), talk or report.Report()
    done = result.Run(cluster=configuration.ledger.cluster_name, dry_run=options.dry_run)
    started = time.monotonic()
    database = configuration.database
    ledger = snapshot.Snapshot(database.connection(), done.cluster) if database.configured else None
    with _ending(done):
        if ledger is None:
            raise errors.Refused(postgres.NOT_CONFIGURED)
        ledger.open()
        if not configuration.kubernetes.configured:
            raise errors.Refused("no Kubernetes API is configured: set KUBECONFIG, or run where Kubernetes sets it")
        with (
            _tables(configuration) as tables,
            contextlib.closing(api or kubernetes.Kube(configuration.kubernetes)) as door,
        ):
            _Reconciliation(
                options=options,
                percent=configuration.ledger.max_deletes,
                ledger=ledger,
                tables=tables,
                api=door,
                done=done,
                talk=talk,
            ).run()
    done.seconds = round(time.monotonic() - started, 3)
    if ledger is not None:
        with contextlib.suppress(Stopped, KeyboardInterrupt):
            _record(ledger, done)
    return done


@contextlib.contextmanager
def _ending(done: result.Run) -> Iterator[None]:
    """Note how the run ends, whatever happens in it."""
    try:
        yield
        done.finish()
    except errors.Refused as exc:
        done.break_off("refused", str(exc))
    except errors.VmledgerError as exc:
        done.break_off("failed", str(exc))
    except (Stopped, KeyboardInterrupt) as exc:
        done.break_off("failed", f"it was stopped by {exc or 'SIGINT'} before it was done")
    except Exception as exc:
        log.exception("the reconcile met something unexpected", extra={"action": "reconcile.bug"})
        done.break_off("failed", f"something unexpected happened ({type(exc).__name__}): the log says more")


@contextlib.contextmanager
def _tables(configuration: settings.Settings) -> Iterator[store.Store]:
    db = postgres.Database(configuration.database.connection(), timeout=configuration.database.timeout)
    try:
        yield store.Store(db)
    finally:
        db.close()


def _record(ledger: snapshot.Snapshot, done: result.Run) -> None:
    try:
        ledger.record(dataclasses.asdict(done))
    except errors.VmledgerError as exc:
        log.warning("the run has no row in reconcile_runs: %s", exc, extra={"action": "reconcile.unrecorded"})
    finally:
        ledger.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reconciliation:
    """One run, whose numbers are counted in ``done`` as they come."""

    options: result.Options
    percent: int
    ledger: snapshot.Snapshot
    tables: store.Store
    api: kubernetes.Kube
    done: result.Run
    talk: report.Report
    shown: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    """Keys of what a dry run has found."""

    def run(self) -> None:
        """Reconcile; raises :class:`errors.VmledgerError` where it cannot go on."""
        if not self.ledger.alone():
            raise errors.Refused(f"another reconcile of {self._name} is running: leave it to that one")
        self.ledger.forget()
        uid = self.api.cluster_uid()
        known = self._identified(uid)
        try:
            moment = self._take(kinds.MACHINES, known, uid)
        except _Rewound as exc:
            known = self._accepted(known, uid, exc)
            moment = self._take(kinds.MACHINES, known, uid)
        self._check_limit(moment)
        self._delete(kinds.MACHINES, moment)
        self._take_instances(dataclasses.replace(known, uid=uid, floor=moment.version), uid)
        if not self.options.dry_run:
            sizes.Lookup(self.api, self.ledger).run(moment, self._sized)
        self.ledger.forget()

    @property
    def _name(self) -> str:
        return f"the cluster {errors.shown(self.done.cluster)}"

    # Which cluster, and which of its timelines

    def _identified(self, uid: str) -> snapshot.Cluster:
        """Return what is known of the cluster; refuse another one than it was so far."""
        known = self.ledger.cluster()
        if known.uid in (None, uid):
            return known
        if self.options.accept_cluster:
            return self._begun(known, uid)
        raise errors.Refused(
            f"this is not {self._name} of the ledger: its namespace kube-system has the uid {errors.shown(known.uid)},"
            f" here {errors.shown(uid)}: set CLUSTER_NAME to a name of its own, or, where this cluster takes the place"
            " of that one, run this once with --accept-cluster"
        )

    def _accepted(self, known: snapshot.Cluster, uid: str, rewound: _Rewound) -> snapshot.Cluster:
        """Return what is known of a cluster that counts from lower again, if that was accepted."""
        if self.options.accept_rewind:
            return self._begun(known, uid)
        raise errors.Refused(f"{rewound}; if it was, run this once with --accept-rewind") from None

    def _begun(self, known: snapshot.Cluster, uid: str) -> snapshot.Cluster:
        """Begin an epoch, in which all resource versions may come again."""
        if self.options.dry_run:
            return dataclasses.replace(known, epoch=known.epoch + 1, floor=-1)
        self.ledger.begin_epoch(uid)
        log.warning("a new epoch of %s begins", self._name, extra={"action": "reconcile.epoch"})
        return self.ledger.cluster()

    # What the list holds

    def _take(self, kind: kinds.Kind[Any], known: snapshot.Cluster, uid: str) -> plan.Moment:
        """Write what the list holds and the ledger does not; return the moment that it shows, once it is whole.

        A list that expires before its end is read once more from its beginning: it shows another moment then, so
        nothing of the first one says what is gone.
        """
        before = dataclasses.replace(self.done)
        try:
            return self._read(kind, known, uid)
        except errors.ListExpired:
            self._say("expired", f"the list of the {kind.noun} expired before its end: it is read again")
        self.ledger.forget(*kind.notes)
        for counted in ("seen", "unreadable", "list_version"):
            setattr(self.done, counted, getattr(before, counted))
        return self._read(kind, known, uid)

    def _read(self, kind: kinds.Kind[Any], known: snapshot.Cluster, uid: str) -> plan.Moment:
        moment: plan.Moment | None = None
        count = 0
        for page in self.api.pages(kind.resource, limit=self.options.page, item=kind.listed):
            if moment is None:
                moment = self._moment(page, known, uid)
                self._refute(kind, moment)
            self._take_page(kind, moment, page.items)
            count += len(page.items)
            self.talk.at(kind.noun, count, count + (page.remaining or 0))
            self._say("page", f"read a page of the {kind.noun}", read=count, remaining=page.remaining or 0)
            del page  # before the next one comes
        if moment is None:
            raise errors.Unavailable(f"the Kubernetes API's list of {kind.resource.plural} has no page")
        self.ledger.check(kind.name)
        return moment

    def _moment(self, page: kubernetes.Page, known: snapshot.Cluster, uid: str) -> plan.Moment:
        """Return the moment of a list by its first page, before anything of it is written."""
        version = page.resource_version
        if version < known.floor:
            raise _Rewound(
                f"the cluster counts resource versions from lower again: its list has {version}, and an earlier one had"
                f" {known.floor}; it may have been restored from a backup"
            )
        if known.uid is None and not self.options.dry_run:
            self.ledger.adopt(uid)
        if self.done.list_version is None:
            self.done.list_version = version
        return plan.Moment(epoch=known.epoch, version=version, began=known.began)

    def _refute(self, kind: kinds.Kind[Any], moment: plan.Moment) -> None:
        """Take back what the list proves to be untrue, before anything is compared with it."""
        for doubtful in self.ledger.doubtful(kind, moment):
            if self.options.dry_run:
                self._show_doubtful(kind, doubtful, moment)
            else:
                self.ledger.refute(kind, doubtful, moment)
                self.done.count("corrected", len(doubtful))
            self._say("refuted", f"some {kind.noun} had versions that never were", count=len(doubtful))

    def _show_doubtful(self, kind: kinds.Kind[Any], doubtful: Sequence[plan.Doubtful], moment: plan.Moment) -> None:
        for each in doubtful:
            key = (self.done.cluster, *each.place)
            if key not in self.shown:
                namespace, name = each.place[:2]
                row = versions.Row(
                    type=plan.CORRECTED, id=plan.event_id(moment), cluster=key[0], namespace=namespace, name=name
                )
                self.talk.difference(f"{kind.short} correct", row, was=each.number, now=moment.version)
                self.shown.add(key)
                self.done.count("corrected")

    def _take_page(self, kind: kinds.Kind[Any], moment: plan.Moment, items: Sequence[Object]) -> None:
        changes: list[versions.Change] = []
        held: list[Place] = []
        revisions: list[Place] = []
        for item in items:
            namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
            attributes = {"id": plan.event_id(moment), "type": plan.UPDATED, "time": moment.began}
            try:
                change = kind.change(events.Event(attributes, item), cluster_name=self.done.cluster)
            except errors.BadEvent as exc:
                self._unreadable(kind, namespace, name, exc)
                held.append((namespace, name, ""))
                continue
            if change is None:
                continue
            changes.append(change)
            held.append((namespace, name, change.key[3] if len(change.key) > 3 else ""))
            if revision := _revision(change.row, item):
                revisions.append((namespace, name, revision))
        self.ledger.note(kind.name, held)
        self.ledger.note(kinds.REVISIONS, revisions)
        self._repair(kind, moment, changes)
        if kind.seen is not None:
            self.done.count(kind.seen, len(items))

    def _repair(self, kind: kinds.Kind[Any], moment: plan.Moment, changes: Sequence[versions.Change]) -> None:
        """Write those of the changes that the ledger lacks; a value that no database holds takes no other with it."""
        if not changes:
            return
        try:
            if not self.options.dry_run:
                self.ledger.take_owners(kind, changes)
            known = self.ledger.compare(kind, changes, moment)
            differing = [(change, known[change.key]) for change in changes if change.key in known]
            decided = [(plan.decide(kind, change, standing, moment), standing) for change, standing in differing]
            repairs = [
                _Repair(made, was.resource_version if was else None, made.row.object_time)
                for made, was in decided
                if made
            ]
            self._store(kind, repairs, moment)
        except errors.BadEvent as exc:
            if len(changes) == 1:
                self._unreadable(kind, changes[0].row.namespace, changes[0].row.name, exc)
                return
            middle = len(changes) // 2
            self._repair(kind, moment, changes[:middle])
            self._repair(kind, moment, changes[middle:])

    def _unreadable(self, kind: kinds.Kind[Any], namespace: str, name: str, exc: errors.BadEvent) -> None:
        self.done.unreadable += 1
        place = f"{namespace}/{name}"
        extra = {"action": "reconcile.unreadable", "object": place, "reason": str(exc)}
        log.error("the %s %s cannot be read", kind.name, place, extra=extra)

    def _store(self, kind: kinds.Kind[Any], repairs: Sequence[_Repair], moment: plan.Moment) -> None:
        """Write, or in a dry run show; count what moved the ledger."""
        for change, was, when in self._written(repairs):
            if change.key in self.shown:  # a dry run writes nothing, so a list that is read again differs again
                continue
            if change.row.type == plan.CORRECTED:  # it was counted when it was refuted
                continue
            step = change.row.type.rpartition(".")[2]
            if self.options.dry_run:
                now = None if change.row.type == plan.DELETED else change.row.resource_version
                self.talk.difference(f"{kind.short} {step}", change.row, was=was, now=now)
                self.shown.add(change.key)
            for field in self._counted(kind, when, moment):
                self.done.count(field.format(step))

    def _counted(self, kind: kinds.Kind[Any], when: datetime.datetime | None, moment: plan.Moment) -> tuple[str, ...]:
        """Return what counts a repair of what happened at that time."""
        return ("in_flight",) if plan.in_flight(when, moment, self.options.in_flight) else kind.missed

    def _written(self, repairs: Sequence[_Repair]) -> Sequence[_Repair]:
        """Write; return those that were news. An event may have been faster."""
        if self.options.dry_run or not repairs:
            return repairs
        outcomes = self.tables.write([repair.change for repair in repairs], listed=True)
        return [each for each, outcome in zip(repairs, outcomes, strict=True) if outcome is store.Outcome.STORED]

    # What it does not hold

    def _check_limit(self, moment: plan.Moment) -> None:
        """Refuse to delete so many that it may be a mistake.

        What they are a part of is counted from the list: of what the ledger had live, anybody can make more or fewer.
        """
        deletes = self.ledger.missing(moment)
        live = deletes + self.done.seen
        if self.options.force or not plan.too_many(deletes, live, self.percent):
            return
        if self.options.dry_run:
            self._delete(kinds.MACHINES, moment)
        raise errors.Refused(
            f"{deletes} of {live} virtual machines in the ledger are not in the cluster any more, more than"
            f" {plan.FEW} and more than the {self.percent} percent of RECONCILE_MAX_DELETES: nothing was deleted;"
            " --dry-run shows which they are, and if they are gone, run this once with --force"
        )

    def _delete(self, kind: kinds.Kind[Any], moment: plan.Moment) -> None:
        """Delete what the list, which is whole, lacks.

        With an object in it that cannot be read, it speaks against no event: that may be about this object.
        """
        if not (self.options.dry_run or self.done.unreadable):
            self.ledger.complete(kind, moment)
        for batch in self.ledger.lost(kind, moment):
            tombstones = [(plan.gone(kind, lost, moment), lost) for lost in batch]
            repairs = [_Repair(made, lost.row.resource_version, lost.stored_at) for made, lost in tombstones]
            self._store(kind, repairs, moment)
            self._say("gone", f"some {kind.noun} are gone", count=len(batch))

    def _take_instances(self, known: snapshot.Cluster, uid: str) -> None:
        """Reconcile the running instances; where they must not be read, the machines are right all the same."""
        try:
            moment = self._take(kinds.INSTANCES, known, uid)
        except _Rewound as exc:
            raise errors.Unavailable(str(exc)) from None
        except errors.Refused as exc:
            self.done.error = f"the running instances were left as they are: {exc}"
            log.warning(self.done.error, extra={"action": "reconcile.no_instances"})
            return
        self._delete(kinds.INSTANCES, moment)

    def _sized(self, count: int) -> None:
        self.done.sized += count
        self.talk.at("sizes", self.done.sized, self.done.sized)

    def _say(self, action: str, sentence: str, **fields: Any) -> None:
        log.info(sentence, extra={"action": f"reconcile.{action}", "cluster": self.done.cluster, **fields})


def _revision(row: versions.Row, item: Object) -> str | None:
    """Return what a machine's size is taken from: the revision that it refers to; None where no instancetype has it."""
    if getattr(row, "instancetype", None) is None:
        return None
    with contextlib.suppress(errors.BadEvent):
        if found := instancetype.revision(item):
            return found.name
    return f"{EXPANDED}{row.resource_version}"
