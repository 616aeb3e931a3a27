"""``python -m function forget-cluster``."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from function.cli import output
from function.inventory import forget

HELP = """\
It deletes all rows of the cluster, and nothing brings them back: virtual machines, instances, both histories,
reconciles, and the rows that the health reads. It deletes in portions, so that other clusters' events do not wait. A
run that is stopped can be run again. Stop the cluster's source and its reconcile first, and remove its name from
CLUSTERS: a later event would begin it anew.

It deletes what the function may not delete, so it logs in as the tables' owner, the role that ran migrate.

exit codes:
  0  the cluster was removed, or --dry-run counted its rows
  1  refused or failed, and a sentence says why: nothing is stored under the name, something was stored from it within
     the last day, a reconcile of it is running, or the database cannot be used or refuses the role
  2  an argument is wrong

examples:
  python -m function forget-cluster east --dry-run   how many rows does it have?
  python -m function forget-cluster east
  python -m function forget-cluster east --force     though something was stored from it within the last day
"""


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
@click.argument("cluster", type=output.Text())
@click.option("--dry-run", is_flag=True, help="Print how many rows would be deleted; delete nothing.")
@click.option("--force", is_flag=True, help="Also where something was stored from it within the last day.")
def command(cluster: str, *, dry_run: bool, force: bool) -> None:
    """Remove a cluster and all its rows from the ledger."""
    bars = output.Bars()
    try:
        done = forget.run(output.configuration(), cluster, dry_run=dry_run, force=force, talk=bars)
    finally:
        bars.close()
    output.say(line(done, terminal=sys.stdout.isatty()))


def line(done: forget.Forgotten, *, terminal: bool) -> str:
    """Return what was taken out: for a person in words, for a program as JSON."""
    if not terminal:
        return json.dumps({"action": "forget.done", **dataclasses.asdict(done)})
    verb = "would take" if done.dry_run else "took"
    return (
        f"{verb} out {done.machines} virtual machines with {done.machine_versions} versions, {done.instances} instances"
        f" with {done.instance_versions} versions, {done.reconciles} reconciles and {done.others} other rows"
    )
