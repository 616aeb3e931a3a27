"""``python -m function COMMAND``: what a person or a Job runs beside the receiver."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from function import config, errors
from function.scaling import dryrun

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
    webhook = commands.add_parser(
        "render-webhook",
        help="print the request that a Secret would send about a scaling event, without sending it",
        description="Print the request that a Secret would send about a scaling event, with its secrets masked.",
        epilog=dryrun.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    webhook.add_argument("secret", metavar="SECRET.yaml", help="the Secret that the annotation hpa-event would name")
    webhook.add_argument("event", metavar="EVENT.json", nargs="?", help="a CloudEvent about an HPA; else a sample")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    given = parser().parse_args(arguments)
    try:
        settings = config.Settings.from_env(os.environ)
        if given.command == "render-webhook":
            dryrun.run(given.secret, given.event, settings)
            return 0
        from function import migrate

        migrate.run(settings)
    except errors.VmledgerError as exc:
        print(f"vmledger: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
