"""The output that the commands share: progress bars, notes, and help texts that keep their lines."""

from __future__ import annotations

import contextlib
import datetime
import logging
import logging.config
import os
import sys
from typing import Any, TextIO

import click

from function import logs, progress, settings
from function.settings import variables

CLEAR = "\r\x1b[K"
"""Empties the line of the cursor."""
DATABASE_HELP = """\
The database is named by DATABASE_URL, or by DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD.
Anything else is read from libpq's own variables, such as PGSSLMODE.
"""


def configuration() -> settings.Settings:
    """Return the settings of the process's environment; raise :class:`errors.BadSetting`."""
    for sentence in settings.corrections(os.environ):
        click.echo(f"vmledger: warning: {sentence}", err=True)
    return settings.Settings.from_env(os.environ)


def say(line: str) -> None:
    """Write a line to standard output; not click.echo, which writes UTF-8 where the terminal asked for ASCII."""
    sys.stdout.write(line + "\n")


def as_written(text: str) -> str:
    """Return a help text marked so that click keeps its lines, which are tables."""
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in text.strip().split("\n\n"))


class Span(click.ParamType[datetime.timedelta]):
    """A span of time such as 400d; a number without a unit is refused, because it would be seconds."""

    name = "SPAN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.timedelta:
        """Read an option."""
        if isinstance(value, datetime.timedelta):
            return value
        text = str(value).strip()
        if text.isdigit():
            self.fail(f"needs a unit, such as {text}d for days", param, ctx)
        try:
            seconds = variables.duration(text)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if not 0 < seconds <= 100 * 366 * 24 * 3600:
            self.fail("must be between a second and a hundred years, such as 400d", param, ctx)
        return datetime.timedelta(seconds=seconds)


class Text(click.ParamType[str]):
    """A text as the ledger can have it, such as the name of a cluster."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read an argument or an option."""
        try:
            return variables.utf8(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Moment(click.ParamType[datetime.datetime]):
    """A moment: a date, a date and a time (RFC 3339; UTC without an offset), or a span before now, such as 2d."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.datetime:
        """Read an option; the database knows what time it is, so here only the form is judged."""
        text = str(value).strip()
        try:
            if text[-1:].lower() in variables.UNITS and text[:-1].isdigit():
                return datetime.datetime.now(datetime.UTC) - Span().convert(text, param, ctx)
            found = datetime.datetime.fromisoformat(text)
            return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            self.fail("must be a moment such as 2026-11-01, 2026-11-01T03:00Z, or 2d for two days ago", param, ctx)


class _AroundBar(logging.StreamHandler[TextIO]):
    """Writes log lines in the place of the bar, which is drawn again below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.stream.write(CLEAR)
        super().emit(record)


def configure_logs(level: str) -> None:
    """Log to standard error: as JSON from ``level`` on; in a terminal warnings alone, in words, around the bar."""
    terminal = sys.stderr.isatty()
    logging.config.dictConfig(logs.configuration("WARNING" if terminal else level))
    if terminal:
        handler = _AroundBar(sys.stderr)
        handler.setFormatter(logs.TerminalFormatter())
        logging.getLogger().handlers[:] = [handler]


class Bars(progress.Progress):
    """A progress bar for each thing that is counted, and notes; no bar where standard error is not a terminal."""

    def __init__(self, terminal: TextIO | None = None) -> None:
        self._terminal = sys.stderr if terminal is None and sys.stderr.isatty() else terminal
        self._bars = contextlib.ExitStack()
        self._bar: Any = None

    def at(self, what: str, count: int, most: int) -> None:
        """Draw the progress of ``what``."""
        if self._terminal is None:
            return
        if self._bar is None or self._bar.label != what:
            self.close()
            bar = click.progressbar(length=most, label=what, file=self._terminal, show_pos=True)
            self._bar = self._bars.enter_context(bar)
        self._bar.length = most
        self._bar.update(count - self._bar.pos)

    def note(self, sentence: str) -> None:
        """Write a sentence in the place of the bar."""
        self.clear()
        say(sentence)

    def clear(self) -> None:
        """Empty the line of the bar, which is drawn again below the next output."""
        if self._terminal is not None and self._bar is not None:
            self._terminal.write(CLEAR)
            self._terminal.flush()

    def close(self) -> None:
        """Leave the bar as it is, and go to a new line."""
        self._bars.close()
        self._bar = None
