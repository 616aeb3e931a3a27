"""A log line is one line, and no call to log can fail."""

from __future__ import annotations

import ast
import contextlib
import datetime
import json
import logging
import pathlib
import sys
from collections.abc import Iterator

import pytest

from function import logs

NOW = datetime.datetime(2026, 11, 1, 3, tzinfo=datetime.UTC)
FUNCTION = pathlib.Path(logs.__file__).parent


class Told(logs.Line, kw_only=True, omit_defaults=True):
    """A line as that of an event."""

    id: str
    object: str | None = None


@contextlib.contextmanager
def only_handler(handler: logging.Handler) -> Iterator[None]:
    """Let the root logger have this handler alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger(), "handlers", [handler])
        yield


def test_no_line_uses_a_name_that_logging_keeps_for_itself() -> None:
    """Logging raises for such a key in ``extra``, and an event that was stored would be answered with an error."""
    reserved = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
    found = []
    for path in FUNCTION.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "extra":
                keys = {key.value for part in ast.walk(node.value) if isinstance(part, ast.Dict) for key in part.keys
                        if isinstance(key, ast.Constant)}  # fmt: skip
                found += [f"{path.name}:{node.lineno} {key!r}" for key in keys & reserved]
    assert found == []


def test_a_line_is_json_with_its_fields() -> None:
    """Whatever the texts are: newlines, halves of characters, objects."""
    record = logs.Record("x", logging.WARNING, "", 0, "said %s", ("two\nlines",), None)
    record.__dict__ |= {"action": "x.y", "half": "\ud800", "path": pathlib.Path("a"), "nothing": None}
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["message"], told["action"], told["path"]) == ("WARNING", "said two\nlines", "x.y", "a")
    assert "nothing" not in told
    assert "x.y" not in logs.TerminalFormatter().format(record).split("\n")[0]


def test_the_line_of_an_event_is_that_of_a_record_with_the_same_members(capsys: pytest.CaptureFixture[str]) -> None:
    """Encoded in one go, as JSON or in words, whatever the id; a member that is None is left out."""
    told: dict[str, list[object]] = {"json": [], "words": []}
    for id_ in ("1", "two\nlines", "\ud800"):
        line = Told(time=NOW, level="INFO", message="stored", id=id_)
        record = logs.Record("x", logging.INFO, "", 0, "stored", (), None)
        record.__dict__ |= {"id": id_, "object": None, "created": NOW.timestamp()}
        for kind, formatter in (("json", logs.JsonFormatter()), ("words", logs.TerminalFormatter())):
            lines = logs.Lines()
            lines.setFormatter(formatter)
            with only_handler(lines):
                logs.tell(logging.getLogger("x"), logging.INFO, line)
            said = capsys.readouterr().err
            assert said == formatter.format(record) + "\n"
            told[kind].append(json.loads(said)["id"] if kind == "json" else said)
    assert told["json"] == ["1", "two\nlines", "\ud800"]


def test_a_handler_of_somebody_else_gets_the_line_of_an_event() -> None:
    """As a record, with its message; not one whose level is below the handler's."""
    found: list[logging.LogRecord] = []

    class Theirs(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Theirs(logging.INFO)
    with only_handler(handler):
        logs.tell(logging.getLogger("x"), logging.INFO, Told(time=NOW, level="INFO", message="stored", id="1"))
        logs.tell(logging.getLogger("x"), logging.DEBUG, Told(time=NOW, level="DEBUG", message="not for us", id="2"))
    assert [(record.name, record.getMessage()) for record in found] == [("x", "stored")]


def test_lines_that_are_written_together_fit_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Counted in bytes: no other process's line may come in between."""
    written: list[bytes] = []
    lines = logs.Lines()
    lines.later = lambda _: None
    for number in range(100):
        lines.emit(logs.Record("x", logging.INFO, "", 0, "ü" * (number * 7 % 300), (), None))
    lines.emit(logs.Record("x", logging.INFO, "", 0, "x" * logs.PIPE_BYTES, (), None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stderr.buffer, "write", written.append)
        lines.flush()
    *together, alone = written
    assert 1 < len(together) < 100
    assert max(map(len, together)) <= logs.PIPE_BYTES < len(alone)
    assert b"".join(together) == b"".join(b"%s\n" % (b"\xc3\xbc" * (number * 7 % 300)) for number in range(100))
    assert capsys.readouterr().err == ""


def test_a_formatter_of_somebody_else_finds_what_it_names() -> None:
    """Every attribute that ``logging`` documents, so that another handler can be added."""
    record = logs.Record("x", logging.INFO, "", 0, "done", (), None)
    documented = set(logging.makeLogRecord({}).__dict__)
    assert documented - record.__dict__.keys() == set()
    assert logging.Formatter("%(asctime)s %(filename)s:%(lineno)d %(message)s").format(record).endswith(" :0 done")
