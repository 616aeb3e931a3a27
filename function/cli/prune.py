"""``python -m function prune``."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from typing import Any

import click

from function.cli import output
from function.inventory import prune
from function.settings import variables

HELP = """\
What goes: versions older than --older-than, but for the one that was in force then; and, once older than
--redundant-after, versions that say nothing new. Each machine's newest version stays, of deleted machines too.
It also makes the tables of the months to come. It can be stopped at any time, and run again.

It makes and drops tables, so it logs in as their owner, the role that ran migrate.

examples:
  python -m function prune --older-than 400d --dry-run   how much would go?
  python -m function prune --older-than 400d             as the CronJob runs it, each day
  python -m function prune --older-than 90d --redundant-after 7d
"""


class Span(click.ParamType[datetime.timedelta]):
    """A span of time such as 400d; a number without a unit would be seconds, which nobody means."""

    name = "SPAN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.timedelta:
        """Read an option."""
        if isinstance(value, datetime.timedelta):
            return value
        text = str(value).strip()
        if text.isdigit():
            self.fail(f"needs a unit, such as {text}d for days", param, ctx)
        try:
            seconds = variables.duration(text)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if not 0 < seconds <= 100 * 366 * 24 * 3600:
            self.fail("must be between a second and a hundred years, such as 400d", param, ctx)
        return datetime.timedelta(seconds=seconds)


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
@click.option("--older-than", type=Span(), required=True, help="Drop versions older than this: 400d.")
@click.option(
    "--redundant-after",
    type=Span(),
    default="30d",
    show_default=True,
    help="Drop versions that say nothing new once they are older than this.",
)
@click.option("--dry-run", is_flag=True, help="Say how much would go; drop nothing.")
def command(older_than: datetime.timedelta, redundant_after: datetime.timedelta, *, dry_run: bool) -> None:
    """Drop what is old from the history, and what says nothing new; each machine's last state stays."""
    bars = output.Bars()
    try:
        done = prune.run(output.configuration(), older_than, redundant_after, dry_run=dry_run, talk=bars)
    finally:
        bars.close()
    for line in lines(done, terminal=sys.stdout.isatty()):
        output.say(line)


def lines(done: prune.Pruned, *, terminal: bool) -> list[str]:
    """Return what was dropped: for a person in words, for a program as JSON."""
    if not terminal:
        return [json.dumps({"action": "prune.done", **dataclasses.asdict(done)})]
    verb = "would drop" if done.dry_run else "dropped"
    said = [f"{verb} {done.old} old versions, and {done.redundant} that said nothing new"]
    return [*said, f"dropped whole months: {', '.join(done.months)}"] if done.months else said
