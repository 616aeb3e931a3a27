"""A real Prometheus, from Debian's package; .ci/run installs it."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.acceptance import processes

SECONDS = 120.0
needed = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed (Debian's package)")


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def values(self, query: str) -> list[float]:
        """Return the values of a query now; raise where it is no query."""
        asked = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{asked}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return [float(each["value"][1]) for each in found]

    def alerts(self) -> set[str]:
        """Return the alerts that are raised now, or wait for their time; raise where a rule cannot be evaluated."""
        with urllib.request.urlopen(f"{self._url}/api/v1/rules", timeout=30) as answer:
            groups: list[dict[str, Any]] = json.load(answer)["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        broken = {rule["name"]: rule["lastError"] for rule in rules if rule["health"] == "err"}
        assert broken == {}
        return {rule["name"] for rule in rules if rule["state"] in ("pending", "firing")}

    def is_ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._url}/-/ready", timeout=30) as answer:
            return bool(answer.status == 200)
        return False


@contextlib.contextmanager
def running(folder: pathlib.Path, ports: Sequence[int], rules: pathlib.Path | None = None) -> Iterator[Prometheus]:
    """Run one that scrapes these ports of this machine, and evaluates the rules of a file, every second."""
    scrape = {"job_name": "vmledger", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
    seconds = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    every = {"global": seconds, "scrape_configs": [scrape], "rule_files": [str(rules)] if rules else []}
    (folder / "prometheus.yml").write_text(json.dumps(every))  # JSON is YAML
    port = processes.free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        started = Prometheus(port)
        end = time.monotonic() + SECONDS
        while not started.is_ready():
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < end, "Prometheus does not answer"
            time.sleep(0.1)
        yield started
    finally:
        process.terminate()
        process.wait()
