"""``python -m function COMMAND``: what a person or a Job runs beside the receiver."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence

from function import errors, settings
from function.cli import reconcile as reconcile_command
from function.cli import render_webhook
from function.inventory import health
from function.inventory import prune as pruning

PIPE_CLOSED = 128 + signal.SIGPIPE
"""The exit code that a shell shows of a program whose reader went away."""
DATABASE_HELP = """\
The database is named by DATABASE_URL, or by DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD.
What these leave out is read from libpq's own variables, such as PGSSLMODE.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    root = argparse.ArgumentParser(
        prog="python -m function",
        description="vmledger: a ledger of a cluster's virtual machines in Postgres.",
        epilog="The receiver itself is started by gunicorn, as the Procfile says.",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "migrate",
        help="bring the database schema up to date",
        description=(
            "Bring the database schema up to date, from nothing or from any earlier version. Safe to run again, and by"
            " two at once. A table virtual_machines of the published example is kept as virtual_machines_published and"
            " its rows are imported. With DB_APP_ROLE set, that role is granted just what the function needs."
        ),
        epilog=DATABASE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_reconcile(commands)
    _add_health(commands)
    _add_prune(commands)
    webhook = commands.add_parser(
        "render-webhook",
        help="print the request that a Secret would send about a scaling event, without sending it",
        description="Print the request that a Secret would send about a scaling event, with its secrets masked.",
        epilog=render_webhook.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    webhook.add_argument("secret", metavar="SECRET.yaml", help="the Secret that the annotation hpa-event would name")
    webhook.add_argument("event", metavar="EVENT.json", nargs="?", help="a CloudEvent about an HPA; else a sample")
    return root


def _add_reconcile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reconcile = commands.add_parser(
        "reconcile",
        help="make the ledger equal to the cluster",
        description="Make the ledger equal to the cluster, whatever the events left out.",
        epilog=reconcile_command.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reconcile_command.add_options(reconcile)


def _add_health(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    silence = commands.add_parser(
        "health",
        help="say whether the ledger still hears its clusters",
        description="Say whether the ledger still hears its clusters, and what is wrong where it does not.",
        epilog=f"{health.HELP}\n{DATABASE_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    silence.add_argument("--cluster", metavar="NAME", help="look at this cluster only")


def _add_prune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prune = commands.add_parser(
        "prune",
        help="drop what is old from the history, and what says nothing new",
        description="Drop what is old from the history, and what says nothing new; each machine's last state stays.",
        epilog=f"{pruning.HELP}\n{DATABASE_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prune.add_argument(
        "--older-than", type=pruning.span, required=True, metavar="SPAN", help="drop versions older than this: 400d"
    )
    prune.add_argument(
        "--redundant-after",
        type=pruning.span,
        default=pruning.span("30d"),
        metavar="SPAN",
        help="drop versions that say nothing new once they are older than this (30d)",
    )
    prune.add_argument("--dry-run", action="store_true", help="say how much would go; drop nothing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    given = parser().parse_args(arguments)
    try:
        configuration = settings.Settings.from_env(os.environ)
        if given.command == "render-webhook":
            render_webhook.run(given.secret, given.event, configuration)
            return 0
        if given.command == "health":
            return health.run(configuration, sys.stdout, cluster=given.cluster)
        if given.command == "reconcile":
            return reconcile_command.run(configuration, given)
        if given.command == "prune":
            pruning.run(configuration, given.older_than, given.redundant_after, dry_run=given.dry_run, out=sys.stdout)
            return 0
        from function import migrate

        migrate.run(configuration)
    except errors.VmledgerError as exc:
        print(f"vmledger: {exc}", file=sys.stderr)
        return health.UNKNOWN if given.command == "health" else 1
    return 0


def script() -> int:
    """Run as a program: what a terminal cannot show is escaped, and a reader that goes away (``| head``) ends it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
        return PIPE_CLOSED
    return code


if __name__ == "__main__":
    sys.exit(script())
