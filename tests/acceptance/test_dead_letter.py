"""A dead letter as docs/operations.md replays it: a line of the echo, less one member, is the event again."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.acceptance import processes

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def test_a_dead_letter_is_replayed_from_the_log(
    url: str, tmp_path: pathlib.Path, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    """What the dead letter sink shows is stored when it is sent to vmledger, by the very command of the page."""
    if not shutil.which("jq"):
        pytest.skip("jq is not here: the operations page replays dead letters with it")
    found = re.search(r"jq -c '(select\(\.dead_letter and .*)' \|\n", (ROOT / "docs" / "operations.md").read_text())
    assert found
    sample = json.loads((ROOT / "tests" / "events" / "vm" / "networks.json").read_text())
    dead = {
        "specversion": "1.0",
        "id": "1",
        "source": "https://10.96.0.1:443",
        "type": sample["type"],
        "kind": "VirtualMachine",
        "time": "2026-11-22T10:00:00.832Z",
        "knativeerrordest": "http://vmledger.vmledger.svc.cluster.local",
        "knativeerrorcode": "503",
        "knativeerrordata": base64.b64encode(b'{"error": "the database cannot be used now"}').decode(),
    }
    headers = {f"ce-{name}": value for name, value in dead.items()} | {"Content-Type": "application/json"}
    with processes.gunicorn(tmp_path / "log", {"DATABASE_URL": url}) as service:
        assert service.request("POST", "/echo", json.dumps(sample["object"]), headers)[0] == 204
        assert query("SELECT name FROM virtual_machines") == []
        lines = "\n".join(line for line in service.log().splitlines() if line.startswith("{"))
        [line] = subprocess.run(
            ["jq", "-c", found[1]], input=lines, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        structured = {"Content-Type": "application/cloudevents+json"}
        assert service.request("POST", "/", line, structured)[0] == 204
    assert query("SELECT name, network FROM virtual_machines") == [("wired", sample["row"]["network"])]
