"""``python -m function migrate``."""

from __future__ import annotations

import click

from function import migrate
from function.cli import output


@click.command(epilog=output.as_written(output.DATABASE_HELP), short_help="bring the database schema up to date")
def command() -> None:
    """Bring the database schema up to date, from nothing or from any earlier version.

    Safe to run again, and by two at once.

    A table virtual_machines of the published example is kept as virtual_machines_published, and its rows are imported.
    With DB_APP_ROLE set, that role is granted just what the function needs.
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
    said = []
    if done.owner_repaired:
        said.append("gave the tables' owner back the rights that an earlier run with DB_APP_ROLE had taken")
    if done.public_closed:
        said.append("took the rights on the tables from public, by which every role could write them")
    said += [f"applied {name}" for name in done.applied]
    if done.imported is not None:
        said.append(f"imported {done.imported} rows of the published table")
    if done.skipped:
        said.append(f"left out {done.skipped} rows that are not an event about a VM, or hold a value that is none")
    if done.months_left:
        said.append("left the tables of the coming months to the next prune: somebody reads the history now")
    if done.granted:
        said.append("granted DB_APP_ROLE what the function needs")
    if not done.applied and done.imported is None:
        said.append("the schema is up to date")
    return said
