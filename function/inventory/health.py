"""Whether events and reconciles still arrive: the view ``ledger_health``, and the problems that follow from it.

When events stop arriving, the ledger looks just like that of an idle cluster.
So two things are watched, events and reconciles, and each that is missing for too long is a problem.
Ages come from the database's clock. This process's clock must decide nothing, because Pods' clocks differ.
The word silence is that of docs/concepts.md; the rules are in docs/health.md.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import pathlib
import time
from collections.abc import Iterator, Sequence

from function import errors, settings
from function.clients import postgres, statements
from function.inventory.mapping import vm
from function.settings import variables

KEPT_SECONDS = 15.0
"""How long readiness repeats its last answer: the kubelet asks each Pod for it every few seconds."""
CHECK_SECONDS = 0.5
"""How long the database may take to answer for readiness, which then says that the health is not known."""
MOST_SENTENCES = 3
"""How many sentences readiness shows; the command shows all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of ``ledger_health``: the events about one kind of one cluster, and its last reconcile.

    kind: None where the cluster's name has dead letters and nothing else.
    dead_letter_age: since the last one was counted.
    """

    cluster: str
    kind: str | None
    last_event_at: datetime.datetime | None = None
    silence: datetime.timedelta | None = None
    last_reconcile_at: datetime.datetime | None = None
    last_reconcile_outcome: str | None = None
    last_reconcile_error: str | None = None
    last_complete_list_at: datetime.datetime | None = None
    missed_adds: int | None = None
    missed_updates: int | None = None
    missed_deletes: int | None = None
    dead_letters: int = 0
    dead_letter_age: datetime.timedelta | None = None
    unreconciled: datetime.timedelta | None = None
    oldest_unreconciled: datetime.timedelta | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is wrong (problems), and what may be wrong (warnings); a sentence each."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


SQL = statements.load(pathlib.Path(__file__).parent / "sql", "health")


def read(db: postgres.Database, timeout: float | None = None) -> list[Row]:
    """Return the rows, by cluster and kind; raise what :meth:`postgres.Database.run` raises."""
    return db.run(rows, timeout=timeout)


def rows(cursor: postgres.Cursor) -> list[Row]:
    """Return the rows, read with a cursor."""
    names = [field.name for field in dataclasses.fields(Row)]
    return [Row(**dict(zip(names, row, strict=True))) for row in SQL.run(cursor, "read_health")]


def judge(
    rows: Sequence[Row], max_silence: int, *, cluster: str | None = None, own: str = settings.DEFAULT_CLUSTER
) -> Verdict:
    """Return what is wrong according to the rows; about one cluster only where ``cluster`` names it.

    max_silence: seconds after which silence is a problem; 0 for never.
    own: CLUSTER_NAME; problems of that cluster come first. Where it is set, a cluster of that name must have rows.
    """
    asked = [row for row in rows if cluster in (None, row.cluster)]
    clusters = {
        name: list(group)
        for name, group in itertools.groupby((row for row in asked if row.kind), key=lambda row: row.cluster)
    }
    ordered = sorted(clusters.items(), key=lambda item: item[0] != own)
    problems = [problem for _, kinds in ordered for problem in _problems(kinds, max_silence)]
    if clusters and cluster is None and own not in {settings.DEFAULT_CLUSTER, *clusters}:
        problems.insert(
            0, f"nothing was ever stored about this cluster, {errors.shown(own)} (CLUSTER_NAME): {_NEITHER}"
        )
    if not clusters:
        about = "" if cluster is None else f" about cluster {errors.shown(cluster)}"
        problems = [f"nothing was ever stored{about}: {_NEITHER}"]
    return Verdict(tuple(problems), tuple(_warnings(asked, max_silence)))


def _problems(kinds: Sequence[Row], max_silence: int) -> Iterator[str]:
    """Yield what is wrong with a cluster, given the rows of its kinds."""
    first = kinds[0]
    name = f"cluster {errors.shown(first.cluster)}"
    if first.last_complete_list_at is None:
        yield f"{name} was never reconciled: run `python -m function reconcile` now, and then on a schedule"
    elif _exceeds(first.unreconciled, max_silence):
        age = short(first.unreconciled)
        yield f"the last complete list of {name} is {age} old: check that the reconcile still runs"
    if first.last_reconcile_outcome in ("refused", "failed"):
        error = f": {first.last_reconcile_error}" if first.last_reconcile_error else ""
        yield f"the last reconcile of {name} {_BECAME[first.last_reconcile_outcome]}{error}"
    if all(row.last_event_at is None for row in kinds):
        if _exceeds(first.silence, max_silence):
            yield f"{name} has never sent an event in the {short(first.silence)} since its first reconcile: {_LOOK}"
        return
    for row in kinds:
        if not _exceeds(row.silence, max_silence):
            continue
        if row.last_event_at is not None:
            yield f"no event about a {row.kind} of {name} has come for {short(row.silence)}: {_LOOK}"
        elif row.kind == vm.KIND:
            since = f"in the {short(row.silence)} since its first reconcile"
            yield f"{name} has never sent an event about a {row.kind} {since}: {_LOOK}"


_NEITHER = "no event, and no reconcile"
_BECAME = {"refused": "was refused", "failed": "failed"}
_LOOK = "check the source and the Triggers, or raise HEALTH_MAX_SILENCE if its VMs really did not change"


def _warnings(rows: Sequence[Row], max_silence: int) -> Iterator[str]:
    for row in {row.cluster: row for row in rows if row.dead_letters}.values():
        if not _exceeds(row.dead_letter_age, max_silence):
            yield (
                f"{row.dead_letters} requests of cluster {errors.shown(row.cluster)} were refused for good,"
                f" the last one {short(row.dead_letter_age)} ago: check the dead letters"
            )


def _exceeds(age: datetime.timedelta | None, seconds: int) -> bool:
    return age is not None and 0 < seconds < age.total_seconds()


def short(age: datetime.timedelta | None) -> str:
    """Return an age in its two greatest units, written as HEALTH_MAX_SILENCE is: 2d 3h, 15m 20s, 0s."""
    left = 0 if age is None else max(0, int(age.total_seconds()))
    words: list[str] = []
    for unit, seconds in variables.UNITS.items():
        count, left = divmod(left, seconds)
        if count or words:
            words.append(f"{count}{unit}")
    return " ".join(word for word in words[:2] if word[0] != "0") or "0s"


class Watch:
    """The ledger's health as readiness shows it: one query in 15 seconds, never an error, and never a long wait."""

    def __init__(
        self,
        db: postgres.Database,
        max_silence: int,
        *,
        own: str = settings.DEFAULT_CLUSTER,
        kept: float = KEPT_SECONDS,
    ) -> None:
        self._database = db
        self._max_silence = max_silence
        self._own = own
        self._kept = kept
        self._asked_at = float("-inf")
        self._state = "not asked yet"

    def state(self) -> str:
        """Return "ok", or the sentences that say what is wrong."""
        now = time.monotonic()
        if now - self._asked_at >= self._kept:
            self._asked_at = now
            self._state = self._ask()
        return self._state

    def _ask(self) -> str:
        try:
            verdict = judge(read(self._database, CHECK_SECONDS), self._max_silence, own=self._own)
        except errors.VmledgerError as exc:
            return f"not known: {exc}"
        more = len(verdict.problems) - MOST_SENTENCES
        shown = [*verdict.problems[:MOST_SENTENCES], *([f"and {more} more"] if more > 0 else [])]
        return "; ".join(shown) or "ok"


def ask(configuration: settings.Settings) -> list[Row]:
    """Return the rows; raise :class:`errors.VmledgerError` where they cannot be read."""
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    db = postgres.Database(configuration.database.connection(), timeout=configuration.database.timeout)
    try:
        return read(db)
    finally:
        db.close()
