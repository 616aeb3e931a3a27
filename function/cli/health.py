"""``python -m function health``: its output and exit codes. :mod:`function.inventory.health` finds the problems."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from collections.abc import Iterator, Sequence

import click

from function import errors
from function.cli import main, output
from function.inventory import health

HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 2
"""The exit codes; UNKNOWN is for an error."""


class Unknown(main.Failed):
    """The health of the ledger cannot be determined."""

    exit_code = UNKNOWN


HELP = """\
exit codes:
  0  healthy
  1  unhealthy, for one of these reasons; a sentence says which:
       a cluster was never reconciled
       its last complete list is older than HEALTH_MAX_SILENCE
       its last reconcile was refused, or failed
       no event about a kind has arrived for longer than HEALTH_MAX_SILENCE, and some had before
       a cluster was first reconciled longer ago than that, and no event about a VirtualMachine ever arrived
       nothing was ever stored, or nothing about the cluster that CLUSTER_NAME names
  2  not known: no database is configured, or it cannot be used

HEALTH_MAX_SILENCE is 1h by default; write seconds, or 90s, 15m, 1h, 2d. With 0 no age is a problem.
What the last complete list found is repaired, so it is shown (+adds ~updates -deletes) and does not count as a problem.
In a terminal it prints a table; otherwise a line of JSON for each cluster and kind, and a last one with the verdict.

examples:
  python -m function health
  python -m function health | jq -r 'select(.verdict) | .problems[]'
  HEALTH_MAX_SILENCE=12h python -m function health --cluster east
"""


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
@click.option("--cluster", metavar="NAME", help="Check this cluster only.")
@click.pass_context
def command(ctx: click.Context, cluster: str | None) -> None:
    """Check that events and reconciles still arrive from the clusters, and name each problem."""
    try:
        configuration = output.configuration()
        rows = health.ask(configuration)
    except errors.VmledgerError as exc:
        raise Unknown(str(exc)) from exc
    own = configuration.ledger
    verdict = health.judge(rows, own.max_silence, cluster=cluster, own=own.cluster_name)
    shown = [row for row in rows if cluster in (None, row.cluster)]
    for line in table(shown, verdict) if sys.stdout.isatty() else json_lines(shown, verdict):
        output.say(line)
    ctx.exit(HEALTHY if verdict.healthy else UNHEALTHY)


def json_lines(rows: Sequence[health.Row], verdict: health.Verdict) -> Iterator[str]:
    """Yield a line of JSON for each row, and the verdict; an interval becomes a number of seconds."""
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


def table(rows: Sequence[health.Row], verdict: health.Verdict) -> Iterator[str]:
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


def _cells(row: health.Row) -> tuple[str, ...]:
    found = (row.missed_adds, row.missed_updates, row.missed_deletes)
    return (
        row.cluster if row.cluster.isprintable() else errors.shown(row.cluster),
        row.kind or "-",
        f"{health.short(row.silence)} ago" if row.last_event_at else "never",
        f"{health.short(row.unreconciled)} ago" if row.last_complete_list_at else "never",
        "+{} ~{} -{}".format(*found) if row.last_complete_list_at else "-",
        row.last_reconcile_outcome or "never",
        str(row.dead_letters),
    )
