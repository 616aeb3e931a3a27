"""A log line is one line, and no call to log can fail."""

from __future__ import annotations

import ast
import json
import logging
import pathlib

from function import logs

FUNCTION = pathlib.Path(logs.__file__).parent


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
