"""Whether the ledger still hears its clusters: the view ``ledger_health``, and what is wrong by it.

A ledger that hears nothing looks as one of a cluster in which nothing happens.
So there are two witnesses, the events and the reconciles, and each that is missing for too long is a problem.
How long ago something was is the database's own reckoning: the clock of this process decides nothing.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from function import errors, settings
from function.clients import postgres
from function.inventory.mapping import vm
from function.settings import variables

HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 2
"""The command's exit codes; UNKNOWN is for an error of :func:`run`."""
KEPT_SECONDS = 15.0
"""How long readiness, which each pod is asked for every few seconds, repeats what it knows."""
CHECK_SECONDS = 0.5
MOST_SENTENCES = 3
"""How many sentences readiness shows; the command shows all."""

HELP = """\
exit codes:
  0  healthy
  1  unhealthy, for one of these reasons, and a sentence says which:
       a cluster was never reconciled
       its last complete list is older than HEALTH_MAX_SILENCE
       its last reconcile was refused, or failed
       a kind that was heard before has been silent for longer than HEALTH_MAX_SILENCE
       a cluster was reconciled for longer than that, and never sent an event, or none about a VirtualMachine
       nothing was ever heard, or nothing of the cluster that CLUSTER_NAME names
  2  not known: no database is configured, or it is away

HEALTH_MAX_SILENCE is 1h by default; write seconds, or 90s, 15m, 1h, 2d. With 0 no age is a problem.
What the last complete list found is repaired, so it is shown (+adds ~updates -deletes) and is no problem.
In a terminal a table; otherwise lines of JSON, one for each cluster and kind, and a last one with the verdict.

examples:
  python -m function health
  python -m function health | jq -r 'select(.verdict) | .problems[]'
  HEALTH_MAX_SILENCE=12h python -m function health --cluster east
"""


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


_COLUMNS = ", ".join(field.name for field in dataclasses.fields(Row)).replace(
    "dead_letter_age", "now() - last_dead_letter_at"
)
READ = f"SELECT {_COLUMNS} FROM ledger_health ORDER BY cluster, kind"  # noqa: S608  # the names are those above


def read(db: postgres.Database, timeout: float | None = None) -> list[Row]:
    """Return the rows, by cluster and kind; raise what :meth:`database.Database.run` raises."""

    def work(cursor: postgres.Cursor) -> list[Row]:
        cursor.execute(READ)
        names = [field.name for field in dataclasses.fields(Row)]
        return [Row(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]

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


def run(configuration: settings.Settings, out: TextIO, *, cluster: str | None = None) -> int:
    """Say on ``out`` how healthy the ledger is; return the exit code.

    Raises :class:`errors.VmledgerError` where that cannot be known.
    """
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    db = postgres.Database(configuration.database.connection(), timeout=configuration.database.timeout)
    try:
        rows = read(db)
    finally:
        db.close()
    verdict = judge(rows, configuration.ledger.max_silence, cluster=cluster, own=configuration.ledger.cluster_name)
    shown = [row for row in rows if cluster in (None, row.cluster)]
    for line in table(shown, verdict) if out.isatty() else json_lines(shown, verdict):
        out.write(line + "\n")
    return HEALTHY if verdict.healthy else UNHEALTHY


def json_lines(rows: Sequence[Row], verdict: Verdict) -> Iterator[str]:
    """Yield a line of JSON for each row, and the verdict; what is an interval in SQL is a number of seconds here."""
    for row in rows:
        members = dataclasses.asdict(row)
        for name in _INTERVALS:
            age = members.pop(name)
            members[f"{name}_seconds"] = None if age is None else age.total_seconds()
        yield json.dumps(members, default=datetime.datetime.isoformat)
    word = "healthy" if verdict.healthy else "unhealthy"
    yield json.dumps({"verdict": word, "problems": verdict.problems, "warnings": verdict.warnings})


_INTERVALS = ("silence", "dead_letter_age", "unreconciled", "oldest_unreconciled")
_HEADINGS = ("CLUSTER", "KIND", "LAST EVENT", "LAST LIST", "IT FOUND", "LAST RECONCILE", "DEAD LETTERS")


def table(rows: Sequence[Row], verdict: Verdict) -> Iterator[str]:
    """Yield the lines of a table for people, and the verdict below it."""
    cells = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    yield ""
    yield from (f"unhealthy: {problem}" for problem in verdict.problems)
    yield from (f"warning: {warning}" for warning in verdict.warnings)
    if verdict.healthy:
        yield "healthy"


def _cells(row: Row) -> tuple[str, ...]:
    found = (row.missed_adds, row.missed_updates, row.missed_deletes)
    return (
        row.cluster if row.cluster.isprintable() else errors.shown(row.cluster),
        row.kind or "-",
        f"{spoken(row.silence)} ago" if row.last_event_at else "never",
        f"{spoken(row.unreconciled)} ago" if row.last_complete_list_at else "never",
        "+{} ~{} -{}".format(*found) if row.last_complete_list_at else "-",
        row.last_reconcile_outcome or "never",
        str(row.dead_letters),
    )
