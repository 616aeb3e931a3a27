"""``python -m bench.instructions``: how many instructions of a pod's worker an event takes; five minutes.

Seconds differ with what else a machine does. Instructions do not, so they tell two versions of the code apart on a
machine that is never quiet. It needs valgrind, under which a worker runs some fifty times slower.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from bench import contest, database, instances, load, report, requests, servers
from bench.progress import Progress

JSON = pathlib.Path(__file__).parent / "results" / "instructions.json"
CONNECTIONS = 32
"""Requests at once, which share their commits."""
WARM, MEASURED = 160, 640
"""Requests: the first ones load and prepare what is used, and are not counted."""
START_SECONDS = 300
TOOL = ("valgrind", "--tool=callgrind", "--trace-children=yes")
LINES = 3200
_COUNTED = re.compile(r"^summary: (\d+)", re.MULTILINE)
_COLLECTED = re.compile(r"^==\d+== Collected : (\d+)", re.MULTILINE)
BARE = "a flat event, bare Flask under our worker"
LINE = "the line of the log that each event gets"


def main() -> int:
    """Count, print, save."""
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    arguments = parser.parse_args()
    if shutil.which(TOOL[0]) is None:
        raise SystemExit("valgrind is missing: apt install valgrind")
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder:
        found = _count(pathlib.Path(folder), progress)
    progress.say()
    text = [f"{'instructions of the worker':56}{'thousands':>10}"]
    text += [f"{name:56}{count / 1000:10.1f}" for name, count in found.items()]
    print("\n".join(text))
    report.save({"text": text, "figures": {}, "instructions": found}, arguments.json, ())
    return 0


def _count(folder: pathlib.Path, progress: Progress) -> dict[str, float]:
    flat = requests.flat(contest.MACHINES)
    kinds = {
        "a flat event": flat,
        "a whole object of 4 kB with a spec that is new": requests.objects(contest.MACHINES),
        "the same with a spec that is known": requests.objects(WARM, prefix="known"),
        "an event of an instance, 4 kB": instances.updates(contest.MACHINES),
        "an event that is not for us": requests.others(),
    }
    with database.running(folder, progress) as server:
        found = _counted(servers.vmledger(server.url()), kinds, folder / "ours", progress)
    bare = _counted(servers.bare(), {BARE: flat}, folder / "bare", progress)
    progress.say(f"counting: {LINE}")
    return {**found, **bare, LINE: (_lines(LINES) - _lines(0)) / LINES}


def _counted(
    command: servers.Command, kinds: Mapping[str, load.Render], folder: pathlib.Path, progress: Progress
) -> dict[str, float]:
    """Return how many instructions the one worker of a server takes for an event of each kind."""
    folder.mkdir()
    words = [*TOOL, f"--callgrind-out-file={folder}/%p", sys.executable, *command.words, "--timeout", "0"]
    found, number = {}, 0
    one = servers.Command(words, {**command.environ, "WEB_CONCURRENCY": "1"})
    with servers.served(one, seconds=START_SECONDS) as server:
        [worker] = server.children()
        for name, render in kinds.items():
            progress.say(f"counting: {name}")
            number = _send(server.port, render, range(number, number + WARM))
            _control("--zero", worker)
            number = _send(server.port, render, range(number, number + MEASURED))
            _control("--dump", worker)
            newest = max(folder.glob(f"{worker}.*"), key=os.path.getmtime)
            [count] = _COUNTED.findall(newest.read_text())
            found[name] = int(count) / MEASURED
    return found


def _lines(count: int) -> int:
    """Return the instructions of a process that writes so many lines of the log."""
    command = [*TOOL, "--callgrind-out-file=/dev/null", sys.executable, "-m", "bench.log_line", str(count)]
    done = subprocess.run(command, check=True, cwd=servers.ROOT, capture_output=True, text=True)
    return int(_COLLECTED.findall(done.stderr)[-1])


def _send(port: int, render: load.Render, numbers: range) -> int:
    """Send requests, so many at once; return the number of the next."""
    with contextlib.closing(load.Together(port, CONNECTIONS)) as together:
        for first in numbers[::CONNECTIONS]:
            statuses = together.send([render(number) for number in range(first, first + CONNECTIONS)])
            if any(status >= 300 for status in statuses):
                raise SystemExit(f"not every event was acknowledged: {statuses}")
    return numbers.stop


def _control(what: str, pid: int) -> None:
    subprocess.run(["callgrind_control", what, str(pid)], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
