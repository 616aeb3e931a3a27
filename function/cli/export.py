"""``python -m function export``: its options, and where the list goes."""

from __future__ import annotations

import contextlib
import datetime
import json
import pathlib
import signal
import sys
from typing import Any

import click

from function import errors, progress
from function.cli import destination, output
from function.lists import choice, export

HELP = """\
It reads one moment of the ledger in a transaction that writes nothing, so it can run at any time, as a role that may
only read. A list of any length needs the same memory.

layouts:
  ledger   the columns of the view virtual_machines
  rvtools  the columns of RVTools' sheet vInfo; with xlsx also a sheet of the ledger's columns
  ansible  an inventory: groups by cluster, namespace, guest OS and label; with --list and --host an inventory script

A cell of csv that a spreadsheet would run gets ' before it. A file is written beside its place and moved there at the
end. docs/export.md says what each column is.

exit codes:
  0    the list was written
  1    it was not, and a sentence says why; -o leaves what was there before
  2    an argument is wrong
  141  nobody read the rest, such as after | head

examples:
  python -m function export > fleet.csv
  python -m function export -o fleet.xlsx --layout rvtools
  python -m function export --at 2026-11-01 --cluster east --format json | jq length
  python -m function export --label app=web --label env=prod
  python -m function export --layout ansible --list
"""


class Label(click.ParamType[tuple[str, str]]):
    """A label, as KEY=VALUE."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Read an option."""
        name, equals, found = output.Text().convert(value, param, ctx).partition("=")
        if not (name and equals):
            self.fail("must be a label's key and value, such as app=web", param, ctx)
        return name, found


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(export.FORMATS),
    help="By default what the file's name says, else csv, or json for an inventory.",
)
@click.option("--layout", type=click.Choice(export.LAYOUTS), default="ledger", show_default=True)
@click.option("--at", type=output.Moment(), help="As they were then: 2026-11-01, 2026-11-01T03:00Z, or 2d ago as 2d.")
@click.option("--cluster", "clusters", type=output.Text(), multiple=True, help="Only of this cluster, or of several.")
@click.option("--namespace", "namespaces", type=output.Text(), multiple=True, help="Only of this namespace.")
@click.option("--label", "labels", type=Label(), multiple=True, help="Only with this label, or with all of several.")
@click.option("--deleted", is_flag=True, help="The deleted ones too, with deleted_at.")
@click.option(
    "-o", "--output", "path", default=destination.STDOUT, metavar="FILE", help="By default - (standard output)."
)
@click.option("--list", "whole", is_flag=True, help="As Ansible asks an inventory script: all of the inventory.")
@click.option("--host", metavar="NAME", help="As Ansible asks an inventory script: the variables of one host.")
def command(
    *,
    file_format: str | None,
    layout: str,
    at: datetime.datetime | None,
    clusters: tuple[str, ...],
    namespaces: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    deleted: bool,
    path: str,
    whole: bool,
    host: str | None,
) -> None:
    """Write the virtual machines as a list: CSV, JSON, a workbook, or an inventory for Ansible."""
    if (whole or host is not None) and layout != "ansible":
        raise errors.Refused("--list and --host are for --layout ansible")
    chosen = choice.Choice(at=at, deleted=deleted, clusters=clusters, namespaces=namespaces, labels=_each_once(labels))
    shape = file_format or _format(layout, path)
    export.check(layout, shape, chosen)
    if host is not None:
        output.say(json.dumps(export.host(output.configuration(), chosen, host)))
        return
    terminal = path == destination.STDOUT and sys.stdout.isatty()
    if terminal and shape == "xlsx":
        raise errors.Refused("a workbook is not for a terminal: name a file with -o, or send it through a pipe")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that no half file stays
    with contextlib.closing(output.Bars()) as bars, destination.opened(path) as out:
        talk = progress.Progress() if terminal else bars
        export.run(output.configuration(), chosen, layout=layout, file_format=shape, out=out, talk=talk)


def _format(layout: str, path: str) -> str:
    """Return the format that nobody named: as the file's name says, else the layout's usual one."""
    ending = pathlib.PurePath(path).suffix.removeprefix(".").lower()
    if ending in export.FORMATS:
        return ending
    return "json" if layout == "ansible" else "csv"


def _each_once(labels: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the labels; refuse one that is to have two values."""
    found = dict(labels)
    for name, value in labels:
        if found[name] != value:
            raise errors.Refused(f"no machine has two values of the label {errors.shown(name)}")
    return found
