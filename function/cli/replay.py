"""``python -m function replay``.

In a terminal: a bar on standard error, and a line for each letter that is refused again; otherwise JSON, a line each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import sys

import click

from function import errors, wiring
from function.cli import output
from function.clients import postgres
from function.dead_letters import replay, table
from function.web import app

STOPPED_EARLY = 5
REFUSED = 4
HELP = """\
The dead letter sink keeps what it receives in the table dead_letters. Each event is handled here as the receiver would
handle it, with the settings of this process: run it where the receiver runs. A letter that was handled is marked and
not sent again, so a replay can be repeated, and stopped, at any time. A duplicate changes nothing.

exit codes:
  0  all of them were handled, or there were none
  4  some were refused again, or cannot be sent again; a line for each says why
  5  it stopped early, because the database or another system cannot be used; run it again

examples:
  python -m function replay --dry-run             which would be sent?
  python -m function replay                       send all that wait
  python -m function replay --since 2h --code 503 only what an outage of the last two hours left
  python -m function replay --id 8c2f1a52-5c6e-4f7a-9d1c-0d6f6a0b7f11
  psql -c 'SELECT last_at, code, sentence, count FROM dead_letters WHERE replayed_at IS NULL'
"""


@click.command(epilog=output.as_written(f"{HELP}\n{output.DATABASE_HELP}"))
@click.option("--since", type=output.Span(), help="Only letters received within this time: 1h, 2d.")
@click.option("--code", "codes", type=click.IntRange(100, 599), multiple=True, help="Only letters with this status.")
@click.option("--id", "event_ids", multiple=True, metavar="ID", help="Only the letter of the event with this id.")
@click.option("--dry-run", is_flag=True, help="Print which would be sent; send nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    since: datetime.timedelta | None,
    codes: tuple[int, ...],
    event_ids: tuple[str, ...],
    *,
    dry_run: bool,
) -> None:
    """Send the kept dead letters again."""
    configuration = output.configuration()
    output.configure_logs(configuration.receiver.log_level)
    report = _Report(terminal=sys.stdout.isatty())
    with contextlib.closing(wiring.Service(configuration)) as service, contextlib.closing(report):
        letters = service.letters()
        if letters is None:
            raise errors.Refused(postgres.NOT_CONFIGURED)
        receiver = None if dry_run else replay.Receiver(service.handle, app.status_of)
        chosen = table.Chosen(since=since, codes=codes, event_ids=event_ids)
        done = replay.run(letters, chosen, receiver, report)
    for line in lines(done, terminal=sys.stdout.isatty()):
        output.say(line)
    if done.error:
        click.echo(f"vmledger: {done.error}", err=True)
    ctx.exit(STOPPED_EARLY if done.error else REFUSED if done.refused or done.unsendable else 0)


class _Report(output.Bars, replay.Report):
    """A line for each letter that is refused again, or that a dry run would send."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._words = terminal

    def found(self, waiting: table.Waiting) -> None:
        """A letter that a dry run would send."""
        self._say("replay.found", waiting, waiting.code, waiting.sentence)

    def refused(self, waiting: table.Waiting, answer: replay.Answer) -> None:
        """A letter that was refused again, or cannot be sent."""
        self._say("replay.refused", waiting, answer.status, answer.sentence)

    def _say(self, action: str, waiting: table.Waiting, status: int | None, sentence: str | None) -> None:
        fields = {
            "at": waiting.last_at.isoformat(timespec="seconds"),
            "status": status,
            "type": waiting.type,
            "id": waiting.event_id,
            "object": _object(waiting),
            "count": waiting.count,
            "sentence": sentence,
        }
        if self._words:
            self.note("  ".join("-" if value is None else str(value) for value in fields.values()))
        else:
            output.say(json.dumps({"action": action, **fields}))


def _object(waiting: table.Waiting) -> str | None:
    """Name the Kubernetes object that the event is about, where its attributes do."""
    attributes = json.loads(waiting.attributes)
    return f"{attributes.get('namespace', '')}/{attributes['name']}" if "name" in attributes else None


def lines(done: replay.Replayed, *, terminal: bool) -> list[str]:
    """Return what was done: for a person in words, for a program as JSON."""
    if not terminal:
        return [json.dumps({"action": "replay.done", **dataclasses.asdict(done)})]
    verb = "would send" if done.dry_run else "sent"
    sentences = [f"{verb} {done.sent} dead letters again"]
    if done.refused:
        sentences.append(f"{done.refused} were refused again, and go on waiting")
    if done.unsendable:
        sentences.append(f"{done.unsendable} cannot be sent again, because not all of them was kept")
    return sentences
