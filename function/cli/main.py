"""``python -m function COMMAND``, or ``vmledger COMMAND``: what a person or a Job runs beside the receiver.

Each command is a module of this package with a ``command``. It is imported only when it is used, because a command that
reads the database does not need the client of Kubernetes, which takes 0.2 seconds to import.
An error of the tree ends a command with one line on standard error and exit code 1.
"""

from __future__ import annotations

import importlib
import io
import os
import pathlib
import signal
import sys
from collections.abc import Sequence

import click

import function
from function import errors

PIPE_CLOSED = 128 + signal.SIGPIPE
"""The exit code that a shell shows for a program whose output is no longer read."""
COMMANDS = {
    "migrate": "bring the database schema up to date",
    "reconcile": "make the ledger equal to the cluster",
    "export": "write the virtual machines as a list: CSV, JSON, a workbook, an Ansible inventory",
    "health": "check that events and reconciles still arrive, and name each problem",
    "page": "serve the page over the ledger to browsers",
    "replay": "send the kept dead letters again",
    "publish": "send each change of the ledger to a sink, as a CloudEvent",
    "prune": "drop old and redundant versions from the history",
    "forget-cluster": "remove a cluster and all its rows from the ledger",
    "render-webhook": "print the request that a Secret would send about a scaling event, without sending it",
}
"""Each command, with the line that ``--help`` shows; in the order of first use."""


class Failed(click.ClickException):
    """The command ends with one sentence and exit code 1."""

    def show(self, file: object = None) -> None:  # noqa: ARG002  # click's own signature
        """Write it to standard error."""
        click.echo(f"vmledger: {self.message}", err=True)


class Program(click.Group):
    """Finds the commands by their modules, and turns errors of the tree into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's own signature
        """Return the names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        """Return a command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module("function.cli." + cmd_name.replace("-", "_"))
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # as above
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; a reader that goes away (``| head``) ends it quietly."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except errors.VmledgerError as exc:
            raise Failed(str(exc)) from exc
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
            ctx.exit(PIPE_CLOSED)
        return done


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="The receiver itself is started by gunicorn, as the Procfile says.",
)
@click.version_option(version=function.__version__, prog_name="vmledger", message="%(prog)s %(version)s")
def program() -> None:
    """Keep a ledger of a cluster's virtual machines in Postgres."""


def main(arguments: Sequence[str] | None = None, *, name: str = "python -m function") -> int:
    """Run a command; return the exit code."""
    try:
        program.main(None if arguments is None else list(arguments), prog_name=name)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(bool(exc.code))
    except OSError as exc:  # of the output alone: each client turns its own into errors of the tree
        _no_output(exc)
        return 1


def _no_output(reason: OSError) -> None:
    """Say that the output cannot be written, such as to a disk that is full."""
    click.echo(f"vmledger: cannot write the output: {reason.strerror}", err=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends


def script() -> None:
    """Run as a program, whatever its name; what a terminal cannot show is escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    module = pathlib.Path(sys.argv[0]).name == "__main__.py"
    sys.exit(main(name="python -m function" if module else "vmledger"))
