"""``python -m function publish``: its options and exit codes. :mod:`function.publish` does the work."""

from __future__ import annotations

import datetime
import signal
import threading
from typing import Any

import click

from function import errors, measures
from function.cli import output
from function.clients import postgres
from function.metrics import command as command_metrics
from function.publish import position, run, sink

HELP = """\
It sends each change of the ledger to the sink that K_SINK names, as a CloudEvent, once the change is committed: at
least once, and in order for each VM. docs/follow.md says which events there are. It runs until it is stopped (SIGTERM).
How far it is, is kept in the database, so it can be stopped, or killed, at any time; started again it goes on.
Of several at once one works, and the others wait.

exit codes:
  0  it was stopped
  1  a setting is missing or wrong, or the role of the database may not do this

examples:
  python -m function publish                              go on; the first time, with what is committed from now on
  python -m function publish --from beginning             send all changes of the kept history, then go on
  python -m function publish --from 2026-11-01T00:00:00Z  the same of the changes since then
"""
NO_SINK = "K_SINK is not set: it is the URL that the changes are sent to, and a SinkBinding sets it"


class From(click.ParamType[position.Start]):
    """Where to begin: now, beginning, or a time."""

    name = "now|beginning|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> position.Start:
        """Read the option."""
        if isinstance(value, position.Start):
            return value
        if value in ("now", "beginning"):
            return position.Start(since=None if value == "now" else position.SINCE_EVER)
        try:
            at = datetime.datetime.fromisoformat(value)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            self.fail("must be now, beginning, or a time with its zone, such as 2026-11-01T00:00:00Z", param, ctx)
        return position.Start(since=at.isoformat())


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
@click.option(
    "--from", "start", type=From(), help="Where to begin; given again, what was published before counts no more."
)
def command(start: position.Start | None) -> None:
    """Send each change of the ledger to a sink, as a CloudEvent."""
    configuration = output.configuration()
    output.configure_logs(configuration.receiver.log_level)
    part = configuration.publish
    if part.sink is None:
        raise errors.Refused(NO_SINK)
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    publisher = run.Publisher(
        configuration.database.connection(),
        sink.Sink(part, part.sink, stop),
        threads=part.in_flight,
        stop=stop,
        start=start,
    )
    with command_metrics.served(configuration.metrics, measures.Source.PUBLISH):
        publisher.run()
