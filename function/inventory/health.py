"""Whether the ledger still hears its clusters: the view ``ledger_health``, and what is wrong by it.

A ledger that hears nothing looks as one of a cluster in which nothing happens.
So there are two witnesses, the events and the reconciles, and each that is missing for too long is a problem.
How long ago something was is the database's own reckoning: the clock of this process decides nothing.
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
"""How long readiness, which each pod is asked for every few seconds, repeats what it knows."""
CHECK_SECONDS = 0.5
MOST_SENTENCES = 3
"""How many sentences readiness shows; the command shows all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of ``ledger_health``: what is heard of one kind of one cluster, and how its last reconcile went.

    kind: None where dead letters are all that is known under the cluster's name.
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
    """What is wrong, and what is worth a look though it is not; a sentence each."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


SQL = statements.load(pathlib.Path(__file__).parent / "sql", "health")


def read(db: postgres.Database, timeout: float | None = None) -> list[Row]:
    """Return the rows, by cluster and kind; raise what :meth:`database.Database.run` raises."""

    def work(cursor: postgres.Cursor) -> list[Row]:
        names = [field.name for field in dataclasses.fields(Row)]
        return [Row(**dict(zip(names, row, strict=True))) for row in SQL.run(cursor, "read_health")]

    return db.run(work, timeout=timeout)


def judge(
    rows: Sequence[Row], max_silence: int, *, cluster: str | None = None, own: str = settings.DEFAULT_CLUSTER
) -> Verdict:
    """Return what is wrong by the rows; of one cluster only where that is named.

    max_silence: seconds after which silence is a problem; 0 for never.
    own: CLUSTER_NAME; what is wrong with that cluster comes first. Where it is named, it must have been heard of.
    """
    asked = [row for row in rows if cluster in (None, row.cluster)]
    clusters = {
        name: list(group)
        for name, group in itertools.groupby((row for row in asked if row.kind), key=lambda row: row.cluster)
    }
    ordered = sorted(clusters.items(), key=lambda item: item[0] != own)
    problems = [problem for _, kinds in ordered for problem in _problems(kinds, max_silence)]
    if clusters and cluster is None and own not in {settings.DEFAULT_CLUSTER, *clusters}:
        problems.insert(0, f"nothing was ever heard of this cluster, {errors.shown(own)} by CLUSTER_NAME: {_NEITHER}")
    if not clusters:
        whom = "" if cluster is None else f" of cluster {errors.shown(cluster)}"
        problems = [f"nothing was ever heard{whom}: {_NEITHER}"]
    return Verdict(tuple(problems), tuple(_warnings(asked, max_silence)))


def _problems(kinds: Sequence[Row], max_silence: int) -> Iterator[str]:
    """Yield what is wrong with a cluster, given the rows of its kinds."""
    first = kinds[0]
    name = f"cluster {errors.shown(first.cluster)}"
    if first.last_complete_list_at is None:
        yield f"{name} was never reconciled: run `python -m function reconcile`, and then by a schedule"
    elif _exceeds(first.unreconciled, max_silence):
        yield f"the last complete list of {name} is {spoken(first.unreconciled)} old: see that the reconcile still runs"
    if first.last_reconcile_outcome in ("refused", "failed"):
        error = f": {first.last_reconcile_error}" if first.last_reconcile_error else ""
        yield f"the last reconcile of {name} {_BECAME[first.last_reconcile_outcome]}{error}"
    if all(row.last_event_at is None for row in kinds):
        if _exceeds(first.silence, max_silence):
            yield f"{name} has never sent an event in the {spoken(first.silence)} since its first reconcile: {_LOOK}"
        return
    for row in kinds:
        if not _exceeds(row.silence, max_silence):
            continue
        if row.last_event_at is not None:
            yield f"no event about a {row.kind} of {name} has come for {spoken(row.silence)}: {_LOOK}"
        elif row.kind == vm.KIND:
            since = f"in the {spoken(row.silence)} since its first reconcile"
            yield f"{name} has never sent an event about a {row.kind} {since}: {_LOOK}"


_NEITHER = "no event was stored, and no reconcile was run"
_BECAME = {"refused": "was refused", "failed": "failed"}
_LOOK = "look at the source and the Triggers, or raise HEALTH_MAX_SILENCE if its VMs really did not change"


def _warnings(rows: Sequence[Row], max_silence: int) -> Iterator[str]:
    for row in {row.cluster: row for row in rows if row.dead_letters}.values():
        if not _exceeds(row.dead_letter_age, max_silence):
            yield (
                f"{row.dead_letters} requests of cluster {errors.shown(row.cluster)} were refused for good,"
                f" the last one {spoken(row.dead_letter_age)} ago: look at the dead letters"
            )


def _exceeds(age: datetime.timedelta | None, seconds: int) -> bool:
    return age is not None and 0 < seconds < age.total_seconds()


def spoken(age: datetime.timedelta | None) -> str:
    """Return an age as HEALTH_MAX_SILENCE would be written, by its two greatest units: 2d 3h, 15m 20s, 0s."""
    left = 0 if age is None else max(0, int(age.total_seconds()))
    words: list[str] = []
    for unit, seconds in variables.UNITS.items():
        count, left = divmod(left, seconds)
        if count or words:
            words.append(f"{count}{unit}")
    return " ".join(word for word in words[:2] if word[0] != "0") or "0s"


class Watch:
    """The ledger's health as readiness shows it: cheap, never an error, and never for long."""

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
