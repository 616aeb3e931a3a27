"""``python -m function migrate``: what it prints."""

from __future__ import annotations

import click

from function import migrate
from function.cli import output


@click.command(epilog=output.as_written(output.DATABASE_HELP), short_help="bring the database schema up to date")
def command() -> None:
    """Bring the database schema up to date, from nothing or from any earlier version.

    It can be run again, and by two at once: the second waits.

    A table virtual_machines of the published example is kept as virtual_machines_published, and its rows are imported.
    With DB_APP_ROLE set, that role is granted just what the function needs; with DB_READ_ROLE, what the page reads.
    """
    bars = output.Bars()
    try:
        done = migrate.run(output.configuration(), bars)
    finally:
        bars.close()
    for line in lines(done):
        output.say(line)


def lines(done: migrate.Migrated) -> list[str]:
    """Return what was done, in words."""
    sentences = []
    if done.owner_repaired:
        sentences.append("gave the tables' owner back the rights that an earlier run with DB_APP_ROLE had taken")
    if done.public_closed:
        sentences.append("took the rights on the tables from public, which let every role write them")
    sentences += [f"applied {name}" for name in done.applied]
    if done.imported is not None:
        sentences.append(f"imported {done.imported} rows of the published table")
    if done.skipped:
        sentences.append(
            f"left out {done.skipped} rows that do not record an event about a VM, or hold an impossible value"
        )
    if done.months_left:
        sentences.append(
            "left the tables of the coming months to the next prune, because the history is being read now"
        )
    whose = {"DB_APP_ROLE": "what the function needs", "DB_READ_ROLE": "what the page reads"}
    sentences += [f"granted {variable} {whose[variable]}" for variable in done.granted]
    if done.days.filled:
        sentences.append(f"computed {done.days.filled} days of fleet_days from the history")
    if done.days.left:
        sentences.append(f"left {done.days.left} days of fleet_days to the next reconciles and prunes")
    if not done.applied and done.imported is None:
        sentences.append("the schema is up to date")
    return sentences
