"""Structured logs on standard error: one line an event, as JSON, or readable in a terminal.

A record is logged with ``extra={"action": ..., ...}``; the action is a stable name to search for.
Payloads and secrets are never given to a logger: a raw VirtualMachine holds cloud-init passwords.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

_NOT_FOUND_OUT: Mapping[str, object] = {
    **dict.fromkeys(("pathname", "filename", "module", "funcName"), ""),
    **dict.fromkeys(("thread", "threadName", "process", "processName", "taskName", "exc_text", "stack_info")),
    "lineno": 0,
    "msecs": 0.0,
    "relativeCreated": 0.0,
}


class Record(logging.LogRecord):
    """A log record that does not find out what no line of ours says: the caller's file, the thread, the process.

    It has these attributes all the same, empty, because another handler's formatter may name them.
    fields: what the line says besides, from :func:`tell`; ``extra`` puts it among the record's attributes instead.
    """

    fields: Mapping[str, object] | None = None

    def __init__(
        self, name: str, level: int, _file: str, _line: int, msg: object, args: Any, exc_info: Any, *_: Any, **__: Any
    ) -> None:
        self.__dict__.update(_NOT_FOUND_OUT)
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = msg
        self.args = args[0] if args and len(args) == 1 and isinstance(args[0], dict) and args[0] else args
        self.exc_info = exc_info
        self.created = time.time()


def tell(log: logging.Logger, level: int, message: str, fields: Mapping[str, object]) -> None:
    """Log a message with its fields, as ``extra`` does in twice the time: for the line that each event gets."""
    if log.isEnabledFor(level):
        record = Record(log.name, level, "", 0, message, (), None)
        record.fields = fields
        log.handle(record)


_OWN = frozenset(Record("", 0, "", 0, "", (), None).__dict__) | {
    "fields",
    "message",
    "asctime",
    "color_message",
}
_encode = msgspec.json.Encoder(enc_hook=str).encode
_COLORS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    told = getattr(record, "fields", None)
    if told is None:
        told = {key: value for key, value in record.__dict__.items() if key not in _OWN}
    return {key: value for key, value in told.items() if value is not None}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, the record's own fields, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        line: dict[str, object] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC),
            "level": record.levelname,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return _encode(line).decode()
        except UnicodeEncodeError:  # half a character, which an event's id may hold
            return json.dumps(line, default=str)


class TerminalFormatter(logging.Formatter):
    """The same for a person's eyes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one readable line, and the traceback below it if there is one."""
        clock = datetime.datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        color = _COLORS.get(record.levelname, "")
        fields = _fields(record)
        action = fields.pop("action", None)
        words = [f"{clock} {color}{record.levelname:<7}", record.getMessage()]
        words += [f"\x1b[2m{key}=\x1b[22m{value}" for key, value in fields.items() if key != "id"]
        line = " ".join(words) + "\x1b[0m"
        if record.exc_info:
            line += f"  [{action}]\n" + self.formatException(record.exc_info)
        return line.encode("utf-8", "backslashreplace").decode()


PIPE_BYTES = 4096
"""What one call may write to a pipe so that no other process's lines come in between (PIPE_BUF)."""


class Lines(logging.Handler):
    """Writes each line to standard error, or several at once where :func:`gather` was called."""

    later: Callable[[Callable[[], None]], object] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, or keep it until the end of the turn."""
        try:
            self._lines.append(self.format(record))
            if self.later is None:
                self.flush()
            elif len(self._lines) == 1:
                self.later(self.flush)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write what was kept."""
        lines, self._lines = self._lines, []
        with contextlib.suppress(OSError, ValueError):
            for text in _portions(lines):
                sys.stderr.write(text)
                sys.stderr.flush()


def _portions(lines: Iterable[str]) -> Iterator[str]:
    """Join lines to texts that a pipe takes at once."""
    portion, size = "", 0
    for line in lines:
        length = len(line.encode(errors="replace")) + 1
        if portion and size + length > PIPE_BYTES:
            yield portion
            portion, size = "", 0
        portion += line + "\n"
        size += length
    if portion:
        yield portion


def gather(later: Callable[[Callable[[], None]], object]) -> None:
    """Let lines be written together: ``later`` is told what to call when this turn of the loop is over."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Lines):
            handler.later = later


def configuration(level: str) -> dict[str, object]:
    """Return the logging configuration (``logging.config.dictConfig``) for this process."""
    formatter = TerminalFormatter if sys.stderr.isatty() else JsonFormatter
    logging.raiseExceptions = False  # a closed standard error must not fail an event
    # What no line of ours says need not be found out for each (logging's own advice, "Optimization").
    logging._srcfile = None
    logging.setLogRecordFactory(Record)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"()": Lines, "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "propagate": True},
            "gunicorn.access": {"level": "WARNING", "propagate": True},
            "yoyo": {"level": "WARNING"},
            # These would log urls, and a webhook's url is a secret.
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
        },
    }
