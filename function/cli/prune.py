"""``python -m function prune``: its options, and what it prints."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import sys

import click

from function import settings
from function.cli import output
from function.clients import postgres
from function.dead_letters import table
from function.inventory import prune

HELP = """\
It drops versions older than --older-than, except the one that was in force then, and versions older than
--redundant-after that were never in force or repeat the facts of the version before. The newest version of each
machine stays. A machine that is gone for longer than --older-than is forgotten, if a complete list came after that.
It also makes the tables of the months to come, computes the days of fleet_days that are due, and removes dead letters
older than DEAD_LETTERS_DAYS. It can be stopped at any time, and run again.

It makes and drops tables, so it logs in as their owner, the role that ran migrate.

examples:
  python -m function prune --older-than 400d --dry-run   how many would be dropped?
  python -m function prune --older-than 400d             as the CronJob runs it, each day
  python -m function prune --older-than 90d --redundant-after 7d
"""


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
@click.option("--older-than", type=output.Span(), required=True, help="Drop versions older than this: 400d.")
@click.option(
    "--redundant-after",
    type=output.Span(),
    default="30d",
    show_default=True,
    help="Drop redundant versions once they are older than this.",
)
@click.option("--dry-run", is_flag=True, help="Print how many would be dropped; drop nothing.")
def command(older_than: datetime.timedelta, redundant_after: datetime.timedelta, *, dry_run: bool) -> None:
    """Drop old and redundant versions from the history, and machines that are gone for long."""
    configuration = output.configuration()
    with contextlib.closing(output.Bars()) as bars:
        done = prune.run(configuration, older_than, redundant_after, dry_run=dry_run, talk=bars)
    letters = 0 if dry_run else _forget_letters(configuration)
    for line in lines(done, letters, terminal=sys.stdout.isatty()):
        output.say(line)


def _forget_letters(configuration: settings.Settings) -> int:
    """Remove the dead letters that are too old; return how many."""
    part = configuration.dead_letters
    db = postgres.Database(configuration.database.connection(), timeout=configuration.database.timeout)
    with contextlib.closing(db):
        return table.Table(db, most=part.most, days=part.days).forget_old()


def lines(done: prune.Pruned, letters: int, *, terminal: bool) -> list[str]:
    """Return what was dropped, dead letters too: for a person in words, for a program as JSON."""
    if not terminal:
        return [json.dumps({"action": "prune.done", **dataclasses.asdict(done), "dead_letters": letters})]
    verb = "would drop" if done.dry_run else "dropped"
    sentences = [f"{verb} {done.old} old versions, and {done.redundant} that were redundant"]
    if done.dead:
        forget = "would forget" if done.dry_run else "forgot"
        sentences.append(f"{forget} {done.dead} machines and instances that were gone before")
    if done.locked:
        sentences.append(f"left {done.locked} machines to the next run, because another transaction holds their rows")
    if done.days:
        sentences.append(f"computed {done.days} days of fleet_days")
    if done.months:
        sentences.append(f"dropped whole months: {', '.join(done.months)}")
    if letters:
        sentences.append(f"dropped {letters} dead letters that were too old")
    return sentences
