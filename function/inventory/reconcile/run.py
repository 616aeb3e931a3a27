"""``python -m function reconcile``: makes the ledger equal to the cluster, whatever the events left out.

The cluster's list is read page by page, and what differs goes through the same mapping, ordering and transactions as
events do. So nothing that changes while the list runs is set back, and a run may end anywhere and be run again.
What the list lacks is deleted once it was read to its end, never sooner.

In one timeline of the cluster a list says the truth about everything up to its version. Where the ledger claims
something else by a version up to that, the list's word is ordered by the list's version, and outranks it.

Virtual machines come first, then their running instances, then the sizes that only an instancetype says.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from function import errors, events, settings
from function.clients import kubernetes, postgres
from function.inventory.mapping import instancetype, versions
from function.inventory.reconcile import report, snapshot
from function.inventory.storage import store

log = logging.getLogger(__name__)

ADDED = "vmledger.reconcile.add"
UPDATED = "vmledger.reconcile.update"
DELETED = "vmledger.reconcile.delete"
FEW = 10
"""Deletes that need no second thought, however small the fleet is."""
READERS = 8
"""Threads that look up the sizes of instancetypes."""
EXPANDED = "expand-spec@"
"""Stands, with the machine's resource version, for a revision where the machine refers to none."""

Outcome = Literal["clean", "repaired", "refused", "failed"]
Object = kubernetes.Object
Place = tuple[str, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the person who runs it asks for.

    force: delete however many are missing. accept_rewind: the cluster was restored from a backup. accept_cluster:
    another cluster has taken the name. page: objects in a page of the list.
    """

    dry_run: bool = False
    force: bool = False
    accept_rewind: bool = False
    accept_cluster: bool = False
    page: int = 500


@dataclasses.dataclass(kw_only=True)
class Run:
    """What became of a run; the fields before ``instances`` are a row of ``reconcile_runs``.

    seen: virtual machines in the list. missed_*: those that were written, or in a dry run would be. error: why it was
    refused or failed, or what it left undone. instances: running instances that were written. sized: machines whose
    size was looked up. unreadable: objects that can be no rows of the ledger.
    """

    cluster: str
    dry_run: bool = False
    outcome: Outcome = "clean"
    seconds: float = 0.0
    seen: int = 0
    missed_adds: int = 0
    missed_updates: int = 0
    missed_deletes: int = 0
    list_version: int | None = None
    error: str | None = None
    instances: int = 0
    sized: int = 0
    unreadable: int = 0

    def count(self, field: str, more: int = 1) -> None:
        """Add to one of the numbers."""
        setattr(self, field, getattr(self, field) + more)

    def finish(self) -> None:
        """Note that it came to its end.

        Sizes are no repair: no event tells them, so none was missed.
        """
        if self.unreadable:
            self.outcome, self.error = (
                "failed",
                f"{self.unreadable} objects cannot be read: the log says why",
            )
        elif self.missed_adds or self.missed_updates or self.missed_deletes or self.instances:
            self.outcome = "repaired"

    def break_off(self, outcome: Outcome, error: str) -> None:
        """Note that it ended before that."""
        self.outcome, self.error = outcome, error


class Stopped(BaseException):
    """The process was asked to end; says by what."""


class _Rewound(Exception):
    """The list has a lower version than the ledger; says so in a sentence."""


class _Repair(NamedTuple):
    """A change that the ledger needs, and the resource version that it has of the object."""

    change: versions.Change
    was: int | None


def run(
    configuration: settings.Settings,
    options: Options | None = None,
    talk: report.Report | None = None,
    *,
    api: kubernetes.Kube | None = None,
) -> Run:
    """Reconcile the cluster of the settings; return what became of it, which is stored in ``reconcile_runs`` too.

    api: the door to the cluster, where the caller has one. Trouble of any kind is an outcome and raises nothing.
    """
    options, talk = options or Options(), talk or report.Report()
    done = Run(cluster=configuration.ledger.cluster_name, dry_run=options.dry_run)
    started = time.monotonic()
    lists = (
        snapshot.Lists(configuration.database.connection(), configuration.ledger.cluster_name)
        if configuration.database.configured
        else None
    )
    try:
        if lists is None:
            raise errors.Refused(postgres.NOT_CONFIGURED)
        lists.open()
        if not configuration.kubernetes.configured:
            raise errors.Refused("no Kubernetes API is configured: set KUBECONFIG, or run where Kubernetes sets it")
        with (
            _tables(configuration) as tables,
            contextlib.closing(api or kubernetes.Kube(configuration.kubernetes)) as door,
        ):
            _Reconciliation(
                options=options,
                percent=configuration.ledger.max_deletes,
                lists=lists,
                tables=tables,
                api=door,
                done=done,
                talk=talk,
            ).run()
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
    done.seconds = round(time.monotonic() - started, 3)
    if lists is not None:
        with contextlib.suppress(Stopped, KeyboardInterrupt):
            _record(lists, done)
    return done


@contextlib.contextmanager
def _tables(configuration: settings.Settings) -> Iterator[store.Store]:
    db = postgres.Database(configuration.database.connection(), timeout=configuration.database.timeout)
    try:
        yield store.Store(db)
    finally:
        db.close()


def _record(lists: snapshot.Lists, done: Run) -> None:
    try:
        lists.record(dataclasses.asdict(done))
    except errors.VmledgerError as exc:
        log.warning("the run has no row in reconcile_runs: %s", exc, extra={"action": "reconcile.unrecorded"})
    finally:
        lists.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reconciliation:
    """One run, whose numbers are counted in ``done`` as they come."""

    options: Options
    percent: int
    lists: snapshot.Lists
    tables: store.Store
    api: kubernetes.Kube
    done: Run
    talk: report.Report
    shown: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    """Keys of what a dry run has found."""

    def run(self) -> None:
        """Reconcile; raises :class:`errors.VmledgerError` where it cannot go on."""
        if not self.lists.alone():
            raise errors.Refused(f"another reconcile of {self._name} is running: leave it to that one")
        self.lists.forget()
        uid = self.api.cluster_uid()
        known = self._identified(uid)
        try:
            moment = self._take(snapshot.MACHINES, known, uid)
        except _Rewound as exc:
            known = self._accepted(known, uid, exc)
            moment = self._take(snapshot.MACHINES, known, uid)
        self._check_limit(moment, known.live)
        self._delete(snapshot.MACHINES, moment)
        self._take_instances(dataclasses.replace(known, uid=uid, highest=moment.version), uid)
        if not self.options.dry_run:
            self._size(moment)
        self.lists.forget()

    @property
    def _name(self) -> str:
        return f"the cluster {errors.shown(self.done.cluster)}"

    # Which cluster, and which of its timelines

    def _identified(self, uid: str) -> snapshot.Cluster:
        """Return what is known of the cluster; refuse another one than it was so far."""
        known = self.lists.cluster()
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
            return dataclasses.replace(known, epoch=known.epoch + 1, highest=-1)
        self.lists.begin_epoch(uid)
        log.warning("a new epoch of %s begins", self._name, extra={"action": "reconcile.epoch"})
        return self.lists.cluster()

    # What the list holds

    def _take(self, kind: snapshot.Kind[Any], known: snapshot.Cluster, uid: str) -> snapshot.Moment:
        """Write what the list holds and the ledger does not; return the moment that it shows, once it is whole.

        A list that expires before its end is read once more from its beginning: it shows another moment then, so
        nothing of the first one says what is gone.
        """
        before = dataclasses.replace(self.done)
        try:
            return self._read(kind, known, uid)
        except errors.ListExpired:
            self._say("expired", f"the list of the {kind.noun} expired before its end: it is read again")
        self.lists.forget(*kind.notes)
        for counted in ("seen", "unreadable", "list_version"):
            setattr(self.done, counted, getattr(before, counted))
        return self._read(kind, known, uid)

    def _read(self, kind: snapshot.Kind[Any], known: snapshot.Cluster, uid: str) -> snapshot.Moment:
        moment: snapshot.Moment | None = None
        count = 0
        for page in self.api.pages(kind.resource, limit=self.options.page):
            moment = moment or self._moment(page, known, uid)
            self._take_page(kind, moment, page.items)
            count += len(page.items)
            self.talk.at(kind.noun, count, count + (page.remaining or 0))
            self._say("page", f"read a page of the {kind.noun}", read=count, remaining=page.remaining or 0)
            del page  # before the next one comes
        if moment is None:
            raise errors.Unavailable(f"the Kubernetes API's list of {kind.resource.plural} has no page")
        self.lists.check(kind.name)
        return moment

    def _moment(self, page: kubernetes.Page, known: snapshot.Cluster, uid: str) -> snapshot.Moment:
        """Return the moment of a list by its first page, before anything of it is written."""
        version = page.resource_version
        if version < known.highest:
            raise _Rewound(
                f"the cluster counts resource versions from lower again: its list has {version}, and the ledger knows"
                f" {known.highest}; it may have been restored from a backup"
            )
        if known.uid is None and not self.options.dry_run:
            self.lists.adopt(uid)
        if self.done.list_version is None:
            self.done.list_version = version
        return snapshot.Moment(epoch=known.epoch, version=version, began=known.began)

    def _take_page(self, kind: snapshot.Kind[Any], moment: snapshot.Moment, items: Sequence[Object]) -> None:
        changes: list[versions.Change] = []
        held: list[Place] = []
        revisions: list[Place] = []
        for item in items:
            namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
            attributes = {"id": _id(moment), "type": UPDATED, "time": moment.began}
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
        self.lists.note(kind.name, held)
        self.lists.note(snapshot.REVISIONS, revisions)
        self._repair(kind, moment, changes)
        if kind.seen is not None:
            self.done.count(kind.seen, len(items))

    def _repair(self, kind: snapshot.Kind[Any], moment: snapshot.Moment, changes: Sequence[versions.Change]) -> None:
        """Write those of the changes that the ledger lacks; a value that no database holds takes no other with it."""
        if not changes:
            return
        try:
            known = self.lists.compare(kind, changes, moment)
            differing = [(change, known[change.key]) for change in changes if change.key in known]
            decided = [(decide(kind, change, standing, moment), standing) for change, standing in differing]
            repairs = [_Repair(made, was.resource_version if was else None) for made, was in decided if made]
            self._store(kind, repairs)
        except errors.BadEvent as exc:
            if len(changes) == 1:
                self._unreadable(kind, changes[0].row.namespace, changes[0].row.name, exc)
                return
            middle = len(changes) // 2
            self._repair(kind, moment, changes[:middle])
            self._repair(kind, moment, changes[middle:])

    def _unreadable(self, kind: snapshot.Kind[Any], namespace: str, name: str, exc: errors.BadEvent) -> None:
        self.done.unreadable += 1
        place = f"{namespace}/{name}"
        extra = {"action": "reconcile.unreadable", "object": place, "reason": str(exc)}
        log.error("the %s %s cannot be read", kind.name, place, extra=extra)

    def _store(self, kind: snapshot.Kind[Any], repairs: Sequence[_Repair]) -> None:
        """Write, or in a dry run show; count what moved the ledger."""
        for change, was in self._written(kind, repairs):
            if change.key in self.shown:  # a dry run writes nothing, so a list that is read again differs again
                continue
            step = change.row.type.rpartition(".")[2]
            if self.options.dry_run:
                now = None if change.row.type == DELETED else change.row.resource_version
                self.talk.difference(f"{kind.short} {step}", change.row, was=was, now=now)
                self.shown.add(change.key)
            self.done.count(kind.missed.format(step))

    def _written(self, kind: snapshot.Kind[Any], repairs: Sequence[_Repair]) -> Sequence[_Repair]:
        """Write; return those that were news. An event may have been faster."""
        if self.options.dry_run or not repairs:
            return repairs
        outcomes = kind.write(self.tables, [repair.change for repair in repairs], listed=True)
        return [each for each, outcome in zip(repairs, outcomes, strict=True) if outcome is store.Outcome.STORED]

    # What it does not hold

    def _check_limit(self, moment: snapshot.Moment, live: int) -> None:
        """Refuse to delete so many that it may be a mistake."""
        deletes = self.lists.missing(moment)
        if self.options.force or not too_many(deletes, live, self.percent):
            return
        if self.options.dry_run:
            self._delete(snapshot.MACHINES, moment)
        raise errors.Refused(
            f"{deletes} of {live} virtual machines in the ledger are not in the cluster any more, more than {FEW} and"
            f" more than the {self.percent} percent of RECONCILE_MAX_DELETES: nothing was deleted; --dry-run shows"
            " which they are, and if they are gone, run this once with --force"
        )

    def _delete(self, kind: snapshot.Kind[Any], moment: snapshot.Moment) -> None:
        """Delete what the list, which is whole, did not hold.

        With an object in it that cannot be read, it speaks against no event: that may be about this object.
        """
        if not (self.options.dry_run or self.done.unreadable):
            self.lists.complete(kind, moment)
        for batch in self.lists.lost(kind, moment):
            self._store(kind, [_Repair(gone(kind, lost, moment), lost.row.resource_version) for lost in batch])
            self._say("gone", f"some {kind.noun} are gone", count=len(batch))

    def _take_instances(self, known: snapshot.Cluster, uid: str) -> None:
        """Reconcile the running instances; where they must not be read, the machines are right all the same."""
        try:
            moment = self._take(snapshot.INSTANCES, known, uid)
        except _Rewound as exc:
            raise errors.Unavailable(str(exc)) from None
        except errors.Refused as exc:
            self.done.error = f"the running instances were left as they are: {exc}"
            log.warning(self.done.error, extra={"action": "reconcile.no_instances"})
            return
        self._delete(snapshot.INSTANCES, moment)

    # What only an instancetype says

    def _size(self, moment: snapshot.Moment) -> None:
        """Look up the sizes of machines that neither say them nor run; where that fails, the next run tries again."""
        failed: list[str] = []
        with concurrent.futures.ThreadPoolExecutor(READERS, "sizes") as readers:
            for batch in self.lists.unsized(moment):
                try:
                    found = list(readers.map(self._sized, batch))
                    sized = [each for each in found if not isinstance(each, str)]
                    failed += [each for each in found if isinstance(each, str)]
                    if not sized:
                        self.api.cluster_uid()  # it raises where it is not these machines but the API
                except errors.VmledgerError as exc:
                    failed.append(str(exc))
                    break
                self.done.sized += self.lists.size(sized)
                self.talk.at("sizes", self.done.sized, self.done.sized)
        if failed:
            extra = {"action": "reconcile.unsized", "count": len(failed), "reason": failed[0]}
            log.warning("some sizes that only an instancetype says are not known", extra=extra)

    def _sized(self, machine: snapshot.Unsized) -> dict[str, Any] | str:
        """Return a machine with its size, or a sentence why that cannot be known; Refused where nothing can."""
        try:
            found = self._sizes(machine)
        except (errors.Unavailable, errors.BadEvent) as exc:
            return str(exc)
        if found is None:
            return f"the Kubernetes API does not expand {machine.namespace}/{machine.name} as the list had it"
        return {**dataclasses.asdict(machine), **found._asdict()}

    def _sizes(self, machine: snapshot.Unsized) -> instancetype.Sizes | None:
        if kubernetes.NAME.fullmatch(machine.revision):
            kept = self.api.get(kubernetes.CONTROLLER_REVISIONS, namespace=machine.namespace, name=machine.revision)
            if kept is not None:
                return instancetype.sizes(kept)
        expanded = self.api.expand(machine.namespace, machine.name)
        same = expanded is not None and instancetype.is_same(
            expanded, uid=machine.uid, resource_version=machine.resource_version, generation=machine.generation
        )
        return instancetype.expanded(expanded) if expanded is not None and same else None

    def _say(self, action: str, sentence: str, **fields: Any) -> None:
        log.info(sentence, extra={"action": f"reconcile.{action}", "cluster": self.done.cluster, **fields})


def too_many(deletes: int, live: int, percent: int) -> bool:
    """Return whether so many deletes ask for a second thought."""
    return deletes > FEW and deletes * 100 > live * percent


def decide(
    kind: snapshot.Kind[Any], change: versions.Change, known: snapshot.Standing | None, moment: snapshot.Moment
) -> versions.Change | None:
    """Return what to write so that the ledger has the object as the list does; None where it knows of a later change.

    known: how the ledger stands to it, given that it differs.
    """
    if known is None:
        return kind.ordered(msgspec.structs.replace(change.row, type=ADDED))
    if known.recent or (known.epoch, known.version.number) > (moment.epoch, moment.version):
        return None
    row = msgspec.structs.replace(change.row, type=UPDATED if known.lives else ADDED)
    made = kind.ordered(row)
    order, theirs = (moment.epoch, *made.version.order), (known.epoch, *known.version.order)
    if order > theirs or (order == theirs and known.shape < versions.OBJECT):
        return made
    return _outranking(kind, row, theirs, moment)


def gone(kind: snapshot.Kind[Any], lost: snapshot.Lost[Any], moment: snapshot.Moment) -> versions.Change:
    """Return the delete of an object that a complete list did not hold: what was last known, dated by the list."""
    said: dict[str, Any] = {"type": DELETED, "id": _id(moment), "time": moment.began, "deleted_at": moment.began}
    row = msgspec.structs.replace(lost.row, **said, **kind.gone, resource_version=moment.version)
    return _outranking(kind, row, (lost.epoch, *lost.version.order), moment)


def _outranking(
    kind: snapshot.Kind[Any], row: versions.Row, theirs: tuple[Any, ...], moment: snapshot.Moment
) -> versions.Change:
    """Order a row by the list's version, and where the ledger has that one already, by when the list began besides."""
    made = kind.ordered(row, number=moment.version)
    return made if (moment.epoch, *made.version.order) > theirs else _dated(made, moment.began)


def _dated(change: versions.Change, time: datetime.datetime) -> versions.Change:
    """Return the change with a time in its version, which outranks all of the same number that have none."""
    dated = change.version._replace(time=time)
    before, undated, after = change.payload.rpartition(b'"version_time":"-infinity"')
    payload = before + undated.replace(b"-infinity", time.isoformat().encode()) + after
    return dataclasses.replace(change, version=dated, payload=payload)


def _id(moment: snapshot.Moment) -> str:
    return f"reconcile-{moment.version}"


def _revision(row: versions.Row, item: Object) -> str | None:
    """Return what a machine's size is taken from: the revision that it refers to; None where no instancetype has it."""
    if getattr(row, "instancetype", None) is None:
        return None
    with contextlib.suppress(errors.BadEvent):
        if found := instancetype.reference(item):
            return found.name
    return f"{EXPANDED}{row.resource_version}"
