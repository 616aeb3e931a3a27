"""``python -m function page``: checks what it can, and becomes gunicorn."""

from __future__ import annotations

import os
import socket
import sys

import click

from function import errors, settings
from function.cli import output
from function.clients import postgres

HELP = """\
It serves http://PAGE_HOST:PAGE_PORT/ (127.0.0.1:8081) until SIGTERM or Ctrl-C, for the host names in PAGE_HOSTS.
It only reads. PAGE_DB_USER and PAGE_DB_PASSWORD name a role that may only read; `migrate` grants it what it needs where
DB_READ_ROLE names it. Put a proxy before it that knows who may look: it asks nobody who they are (docs/page.md).

exit codes:
  0  it was stopped
  1  it did not start, and a sentence says why: no database is configured, or something else listens on its port

examples:
  python -m function page
  PAGE_PORT=9000 PAGE_HOSTS=ledger.example.org python -m function page
"""


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
def command() -> None:
    """Serve the page over the ledger to browsers."""
    configuration = output.configuration()
    if not configuration.page.configured(configuration.database):
        raise errors.Refused(postgres.NOT_CONFIGURED)
    _check_address(configuration.page)
    sys.stdout.flush()
    # In this process's place, so that signals reach gunicorn.
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--config", "python:function.page.server"])  # noqa: S606


def _check_address(page: settings.Page) -> None:
    """Raise where nothing can listen on the address; gunicorn would try for seconds, and end with a traceback."""
    family = socket.AF_INET6 if ":" in page.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((page.host, page.port))
        except OSError:
            raise errors.Refused(
                f"cannot listen on {page.address}: something else listens there (choose another PAGE_PORT), or it is"
                " not an address of this machine (PAGE_HOST)"
            ) from None
