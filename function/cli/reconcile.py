"""The command ``python -m function reconcile``: its options, what it says, how it is stopped, its exit codes.

In a terminal: a bar on standard error while it works, and what became of it in words on standard output.
Otherwise: the log's lines as JSON on standard error, of which the last says what became of it, and that as one line of
JSON on standard output. What a dry run found is a table on standard output in both, with the words below it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import click

from function import errors, settings
from function.cli import output
from function.inventory import days
from function.inventory.mapping import versions
from function.inventory.reconcile import report, result
from function.inventory.reconcile import run as reconciliation

log = logging.getLogger(__name__)

EXIT_CODES = {"clean": 0, "repaired": 3, "refused": 4, "failed": 5}
MOST_IN_PAGE = 10_000
HELP = """\
The first run fills the ledger; each later run repairs what no event brought. It lists the cluster's VirtualMachines and
their running instances, writes what differs, and deletes what is in the ledger and not in a list that was read to its
end. It can be run at any time, beside the receiver, and again after any failure.

exit codes:
  0  clean     the ledger was as the cluster is
  3  repaired  something was missing and was written (0 with --repaired-ok, which a CronJob wants)
  4  refused   to go on might destroy something, or the set-up is wrong; nothing was deleted, and the sentence says
               what to do
  5  failed    the API or the database failed, or an object cannot be read; run it again

A dry run exits with the code that a real run would have had. Each run is a row of the table reconcile_runs.

examples:
  python -m function reconcile --dry-run        what would change?
  python -m function reconcile                  change it
  python -m function reconcile --force          yes, so many virtual machines are gone
  python -m function reconcile --accept-rewind  yes, the cluster was restored from a backup
  psql -c 'SELECT * FROM reconcile_runs ORDER BY run DESC LIMIT 10'

The database is named as for migrate, the cluster by KUBECONFIG or by the ServiceAccount of the Pod, and its name in the
ledger by CLUSTER_NAME. It needs list of virtualmachines and virtualmachineinstances, and get of the namespace
kube-system, of controllerrevisions and of virtualmachines/expand-spec.
"""


class PageSize(click.ParamType[int]):
    """How many objects a page of the list holds."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read an option."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_IN_PAGE):
            self.fail(f"must be a whole number from 1 to {MOST_IN_PAGE}", param, ctx)
        return int(text)


class TerminalReport(output.Bars, report.Report):
    """Bars on standard error in a terminal, and what a dry run found as a table on standard output."""

    def __init__(self, out: TextIO | None = None, terminal: TextIO | None = None) -> None:
        super().__init__(terminal)
        self._out = out
        self._head = _HEAD

    def difference(self, what: str, row: versions.Row, *, was: int | None, now: int | None) -> None:
        """Show a line of the table: the resource versions on both sides."""
        if self._out is None:
            return
        self.clear()
        sides = " ".join(f"{'-' if side is None else side:>{_WIDE}}" for side in (was, now))
        try:
            self._out.write(f"{self._head}{what:<10} {sides}  {row.namespace}/{row.name}\n")
            self._out.flush()
        except BrokenPipeError:  # nothing reads the table any more, such as after `| head`
            self._out = None
        self._head = ""


_WIDE = 16
_HEAD = f"{'what':<10} {'in the ledger':>{_WIDE}} {'in the cluster':>{_WIDE}}  namespace/name\n"


@click.command(epilog=output.as_written(HELP))
@click.option("--dry-run", is_flag=True, help="Print what would change as a table; change nothing.")
@click.option("--force", is_flag=True, help="Delete more than RECONCILE_MAX_DELETES percent of the virtual machines.")
@click.option(
    "--accept-rewind",
    is_flag=True,
    help="The cluster was restored from a backup and counts resource versions from lower again.",
)
@click.option("--accept-cluster", is_flag=True, help="Another cluster has this name now.")
@click.option("--repaired-ok", is_flag=True, help="Exit with 0, not 3, when something was repaired.")
@click.option(
    "--page-size", "page", type=PageSize(), default=500, show_default=True, help="Objects in a page of the list."
)
@click.pass_context
def command(ctx: click.Context, /, *, repaired_ok: bool, **options: Any) -> None:
    """Make the ledger equal to the cluster, whichever events were lost."""
    configuration = output.configuration()
    terminal = sys.stderr.isatty()
    output.configure_logs(configuration.receiver.log_level)
    talk = TerminalReport(sys.stdout)
    with _stoppable(reconciliation.Stopped):
        done = reconciliation.run(configuration, result.Options(**options), talk)
        if done.outcome in ("clean", "repaired") and not done.dry_run:
            _fill_days(configuration, talk)
    talk.close()
    _log_outcome(done, terminal=terminal)
    _print(done)
    ctx.exit(0 if repaired_ok and done.outcome == "repaired" else EXIT_CODES[done.outcome])


@contextlib.contextmanager
def _stoppable(stopped: type[BaseException]) -> Iterator[None]:
    """Raise ``stopped`` at the first signal to end; while that is dealt with, which takes seconds, ignore others."""
    names = (signal.SIGTERM, signal.SIGINT)

    def stop(number: int, _frame: object) -> None:
        for each in names:
            signal.signal(each, signal.SIG_IGN)
        raise stopped(signal.Signals(number).name)

    before: dict[signal.Signals, Any] = {each: signal.signal(each, stop) for each in names}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _fill_days(configuration: settings.Settings, talk: report.Report) -> None:
    """Bring fleet_days up to date; where that fails, the ledger is right all the same, and the next run does it."""
    try:
        days.fill(configuration, seconds=days.RECONCILE_SECONDS, talk=talk)
    except errors.VmledgerError as exc:
        log.warning("fleet_days was left to the next run: %s", exc, extra={"action": "reconcile.days_left"})


def _log_outcome(done: result.Run, *, terminal: bool) -> None:
    """Write the outcome of a run to standard error; in a terminal only an error."""
    if not terminal:
        level = logging.ERROR if done.outcome in ("refused", "failed") else logging.INFO
        log.log(level, "the reconcile is done", extra={"action": "reconcile.done", **dataclasses.asdict(done)})
    elif done.error:
        sys.stderr.write(f"vmledger: {done.error}\n")


def _print(done: result.Run) -> None:
    """Write the outcome of a run to standard output: for a person in words, for a program as JSON."""
    words = sys.stdout.isatty() or done.dry_run
    try:
        sys.stdout.write("\n".join(summary(done) if words else [json.dumps(dataclasses.asdict(done))]) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's own last flush does not fail


def summary(done: result.Run) -> list[str]:
    """Return the outcome of a run, in words."""
    version = "" if done.list_version is None else f", list version {done.list_version}"
    first = (
        f"{done.cluster}: {done.outcome}; {done.seen} virtual machines in the cluster{version}, {done.seconds:.1f} s"
    )
    would = "would be " if done.dry_run else ""
    counts = {
        f"{would}added": done.missed_adds,
        f"{would}updated": done.missed_updates,
        f"{would}deleted": done.missed_deletes,
        f"running instances {would}added": done.instance_adds,
        f"running instances {would}updated": done.instance_updates,
        f"running instances {would}deleted": done.instance_deletes,
        f"untrue versions {would}corrected": done.corrected,
        f"on their way, {would}written": done.in_flight,
        "sizes looked up": done.sized,
        "not readable": done.unreadable,
    }
    return [first, *(f"{count:>8} {what}" for what, count in counts.items() if count)]
