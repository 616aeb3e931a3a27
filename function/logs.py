"""Structured logs on standard error: one line for each event, as JSON, or in words in a terminal.

A record is logged with ``extra={"action": ..., ...}``; the action is a stable name to search for.
Payloads and secrets must never be given to a logger: a raw VirtualMachine holds cloud-init passwords.

Every event gets a line, so its cost counts: with ``extra`` it takes three times what :func:`tell` takes.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import datetime
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec

_LEFT_EMPTY: Mapping[str, object] = {
    **dict.fromkeys(("pathname", "filename", "module", "funcName"), ""),
    **dict.fromkeys(("thread", "threadName", "process", "processName", "taskName", "exc_text", "stack_info")),
    "lineno": 0,
    "msecs": 0.0,
    "relativeCreated": 0.0,
}


class Record(logging.LogRecord):
    """A log record without what no line of ours shows: the caller's file, the thread, the process.

    To look these up takes most of a record's 3.0 microseconds; without them it takes 0.7.
    It has the attributes all the same, empty, because the formatter of another handler may name them.
    line: the whole line, from :func:`tell`; ``extra`` puts its members among the record's attributes instead.
    """

    line: Line | None = None

    def __init__(
        self, name: str, level: int, _file: str, _line: int, msg: object, args: Any, exc_info: Any, *_: Any, **__: Any
    ) -> None:
        self.__dict__.update(_LEFT_EMPTY)
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = msg
        self.args = args[0] if args and len(args) == 1 and isinstance(args[0], dict) and args[0] else args
        self.exc_info = exc_info
        self.created = time.time()


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line whose members are known before: what the log says of each event is one of these, with members of its own.

    A member that is None is left out.
    """

    time: datetime.datetime
    level: str
    message: str


_OWN = frozenset(Record("", 0, "", 0, "", (), None).__dict__) | {
    "line",
    "beside",
    "message",
    "asctime",
    "color_message",
}
_encode = msgspec.json.Encoder(enc_hook=str).encode
_COLORS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    further = getattr(record, "beside", {})
    line = getattr(record, "line", None)
    if line is not None:
        return _present(msgspec.structs.asdict(line), Line.__struct_fields__) | further
    return _present(record.__dict__, _OWN) | further


def _present(fields: Mapping[str, object], without: Container[str] = ()) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value is not None and key not in without}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, the record's own fields, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        if (known := getattr(record, "line", None)) is not None and not getattr(record, "beside", None):
            return self.encoded(known).decode()
        line: dict[str, object] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC),
            "level": record.levelname,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return self.encoded(line).decode()

    def encoded(self, line: Line | Mapping[str, object]) -> bytes:
        """Return a line as JSON, in UTF-8."""
        try:
            return _encode(line)
        except UnicodeEncodeError:  # half a character, which an event's id may hold
            members = _present(msgspec.structs.asdict(line)) if isinstance(line, Line) else line
            return json.dumps(members, default=str).encode()


class TerminalFormatter(logging.Formatter):
    """One line of words, for a person at a terminal."""

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
"""A write of up to so many bytes to a pipe is not mixed with those of other processes (PIPE_BUF)."""


class Lines(logging.Handler):
    """Writes each line to standard error, or several with one system call where :func:`gather` was called."""

    later: Callable[[Callable[[], None]], object] | None = None
    beside: Callable[[], Mapping[str, object]] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._lines: collections.deque[bytes] = collections.deque()
        self._is_due = False
        """Whether :meth:`flush` will be called, and has not begun: it takes whatever is added before it begins."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, or keep it until the end of the turn."""
        try:
            if self.beside is not None:
                record.__dict__["beside"] = self.beside()
            self._add(self.format(record).encode())
        except Exception:
            self.handleError(record)

    def tell(self, line: Line) -> bool:
        """Write a line that is known whole, if this handler writes JSON and adds nothing; return whether it does."""
        formatter = self.formatter
        if self.beside is not None or not isinstance(formatter, JsonFormatter):
            return False
        self._add(formatter.encoded(line))
        return True

    def _add(self, line: bytes) -> None:
        """Write a line, or keep it until the end of the turn; by any thread, and without a lock, which costs more."""
        self._lines.append(line)
        if self._is_due:
            return
        if self.later is None:
            self.flush()
        else:
            self._is_due = True
            self.later(self.flush)

    def flush(self) -> None:
        """Write what was kept."""
        self._is_due = False
        lines = []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        with contextlib.suppress(OSError, ValueError):
            for portion in _portions(lines):
                sys.stderr.buffer.write(portion)
                sys.stderr.buffer.flush()


def _portions(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Join lines into portions of PIPE_BYTES at most."""
    ends = list(itertools.accumulate([len(line) + 1 for line in lines]))
    first = written = 0
    while first < len(lines):
        beyond = max(first + 1, bisect.bisect_right(ends, written + PIPE_BYTES))
        yield b"\n".join(lines[first:beyond]) + b"\n"
        first, written = beyond, ends[beyond - 1]


def tell(log: logging.Logger, level: int, line: Line) -> None:
    """Log a line that is known whole, in a third of the time that ``extra`` takes: for the one that each event gets.

    It goes to the handlers of the root logger, as all of ours do: the loggers between have none.
    """
    record = None
    for handler in logging.root.handlers:
        if level >= handler.level and not (isinstance(handler, Lines) and handler.tell(line)):
            if record is None:
                record = Record(log.name, level, "", 0, line.message, (), None)
                record.line, record.created = line, line.time.timestamp()
            handler.handle(record)


def gather(later: Callable[[Callable[[], None]], object]) -> None:
    """Write the lines of one turn of the event loop together: ``later`` is given what to call at its end."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Lines):
            handler.later = later


def accompany(beside: Callable[[], Mapping[str, object]]) -> None:
    """Add to each line the fields that ``beside`` returns when it is logged."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Lines):
            handler.beside = beside


def configuration(level: str) -> dict[str, object]:
    """Return the logging configuration (``logging.config.dictConfig``) for this process."""
    formatter = TerminalFormatter if sys.stderr.isatty() else JsonFormatter
    logging.raiseExceptions = False  # a closed standard error must not fail an event
    # The caller's frame is then not searched for (logging's own advice, "Optimization").
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
            "urllib3": {"level": "ERROR"},
            "opentelemetry": {"level": "CRITICAL"},  # function/clients/telemetry.py says what is to be said
        },
    }
