"""``python -m bench.reconcile``: how long the reconcile of a large cluster takes, and how much memory.

The cluster is the tests' API server, in a process of its own: a real HTTP server that pages as the real one does.
The command runs as the CronJob runs it, and the ledger is compared with the cluster after each run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import connection

import psycopg2

from bench import bars, cost, database, report, servers
from bench.progress import Progress
from dev import embedded_postgres
from function.clients import kubernetes
from tests import api_server, machines

JSON = pathlib.Path(__file__).parent / "results" / "reconcile.json"
MACHINES = 10_000
SIZE = 6000
"""Bytes of each VM."""
NAMESPACES = 20
STOPPED = 5
"""Each fifth VM is stopped; the others have an instance, which says where they run."""
SIZED = 7
"""Each seventh VM has its CPUs and memory from an instancetype."""
DRIFT = {"updated": 300, "deleted": 100, "created": 100}
"""What happens while no event arrives, 5 % in all."""
REPAIRED, CLEAN = 3, 0
"""The command's exit codes."""

BARS = (
    bars.Bar("seconds", "the first reconcile of 10,000 VMs", 60, unit=" s"),
    bars.Bar("memory", "the most memory of a reconcile", 200, unit=" MB"),
    bars.Bar("cpu", "CPU seconds of a clean one, pod and Postgres, of 10,000", 2.5, 1.5),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run of the command took, and what it wrote; memory in MB; pod, postgres: seconds of CPU."""

    seconds: float
    memory: float
    pod: float
    postgres: float
    missed_adds: int
    missed_updates: int
    missed_deletes: int


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="python -m bench.reconcile", description="Measure the reconcile of many VMs.")
    parser.add_argument("--machines", type=int, default=MACHINES, help=f"how many ({MACHINES:,})")
    parser.add_argument("--json", type=pathlib.Path, default=JSON, help="the file for the figures")
    arguments = parser.parse_args()
    progress = Progress()
    with (
        tempfile.TemporaryDirectory(prefix="vmledger-bench-") as folder,
        database.running(pathlib.Path(folder), progress) as server,
    ):
        runs = _measure(server, pathlib.Path(folder), arguments.machines, progress)
    progress.say()
    tens = arguments.machines / MACHINES
    figures = {
        "seconds": runs["first"].seconds / tens,
        "memory": max(run.memory for run in runs.values()),
        "cpu": (runs["second"].pod + runs["second"].postgres) / tens,
    }
    text = [*bars.table(figures, BARS), "", *_lines(runs, arguments.machines)]
    print("\n".join(text))
    kept = {"text": text, "figures": figures, "runs": {name: dataclasses.asdict(run) for name, run in runs.items()}}
    report.save(kept, arguments.json, BARS)
    return 0


def _measure(
    server: embedded_postgres.Postgres, folder: pathlib.Path, count: int, progress: Progress
) -> dict[str, Run]:
    progress.say(f"making a cluster of {count:,} VMs")
    url = server.url()
    with _cluster(folder, count) as (kubeconfig, cluster):
        environ = {**os.environ, "DATABASE_URL": url, "KUBECONFIG": kubeconfig}
        runs = {}
        for name, exit_code in {"first": REPAIRED, "second": CLEAN, "after 5 % drift": REPAIRED}.items():
            if "drift" in name:
                cluster.send("drift")
                cluster.recv()
            progress.say(f"reconcile: {name}")
            runs[name] = _run(environ, exit_code, server)
            cluster.send("versions")
            _compare(url, cluster.recv())
    return runs


def _run(environ: dict[str, str], expected: int, server: embedded_postgres.Postgres) -> Run:
    """Run the command; return what it took."""
    url = server.url()
    before = cost.read(server.pid, server.pid, url)
    with tempfile.TemporaryFile("w+") as log:
        began = time.perf_counter()
        command = [sys.executable, "-m", "function", "reconcile"]
        process = subprocess.Popen(command, env=environ, cwd=servers.ROOT, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != expected:
            log.seek(0)
            raise SystemExit(f"the exit code was {process.returncode}, not {expected}; its log:\n{log.read()[-3000:]}")
    postgres = cost.read(server.pid, server.pid, url).postgres - before.postgres
    with contextlib.closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
        cursor.execute(
            "SELECT missed_adds, missed_updates, missed_deletes FROM reconcile_runs ORDER BY started_at DESC LIMIT 1"
        )
        missed = cursor.fetchone() or (0, 0, 0)
    return Run(seconds, usage.ru_maxrss * 1024 / 1e6, usage.ru_utime + usage.ru_stime, postgres, *missed)


def _compare(url: str, versions: dict[tuple[str, str], int]) -> None:
    """Raise where the ledger differs from the cluster, or lacks a size of a VM."""
    with contextlib.closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT namespace, name, resource_version FROM virtual_machines")
        if {(namespace, name): version for namespace, name, version in cursor.fetchall()} != versions:
            raise SystemExit("the ledger is not as the cluster")
        cursor.execute("SELECT count(*) FROM virtual_machines WHERE vcpus IS NULL OR memory_bytes IS NULL")
        if cursor.fetchone() != (0,):
            raise SystemExit("the ledger does not know the size of each VM")


@contextlib.contextmanager
def _cluster(folder: pathlib.Path, count: int) -> Iterator[tuple[str, connection.Connection]]:
    """Run the API server in a process of its own; yield its kubeconfig and a pipe that takes commands."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_serve, args=(theirs, folder, count), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv(), ours
    finally:
        process.terminate()
        process.join()


def _serve(pipe: connection.Connection, folder: pathlib.Path, count: int) -> None:
    with api_server.running() as api:
        for number in range(count):
            _create(api, number)
        pipe.send(api.kubeconfig(folder))
        while True:
            if pipe.recv() == "drift":
                _drift(api, count)
                pipe.send(None)
            else:
                found = api.objects(kubernetes.VMS)
                pipe.send({place: int(each["metadata"]["resourceVersion"]) for place, each in found.items()})


def _place(number: int) -> tuple[str, str]:
    return f"team-{number % NAMESPACES:02}", f"vm-{number:05}"


def _create(api: api_server.ApiServer, number: int) -> None:
    """Put a VM, with what belongs to it: its instance if it runs, what is kept of its instancetype if it has one."""
    namespace, name = _place(number)
    runs, is_sized = number % STOPPED > 0, number % SIZED == 0
    cores, memory = 1 + number % 8, f"{1 + number % 16}Gi"
    machine = machines.vm(
        name,
        namespace,
        cores=cores,
        memory=memory,
        status="Running" if runs else "Stopped",
        run_strategy="Always" if runs else "Halted",
        instancetype="u1.large" if is_sized else None,
        size=SIZE,
    )
    if is_sized:
        revision = f"{name}-u1.large"
        api.create(machines.revision(revision, namespace, cpus=cores, memory=memory))
        machine["status"] |= machines.revised(revision)["status"]
    made = api.create(machine)
    if runs:
        api.create(machines.vmi(made.object, node=f"node-{number % 50}", cores=cores, memory=memory))


def _drift(api: api_server.ApiServer, count: int) -> None:
    """Change the cluster without a word."""
    for number in range(DRIFT["updated"]):
        api.update(kubernetes.VMS, *_place(number), {"metadata": {"labels": {"drifted": "true"}}})
    for number in range(DRIFT["updated"], DRIFT["updated"] + DRIFT["deleted"]):
        api.delete(kubernetes.VMS, *_place(number))
        if number % STOPPED:
            api.delete(kubernetes.VMIS, *_place(number))
    for number in range(count, count + DRIFT["created"]):
        _create(api, number)


def _lines(runs: dict[str, Run], count: int) -> list[str]:
    title = f"{count:,} VMs of {SIZE / 1000:g} kB, {count - count // STOPPED:,} running"
    lines = [f"{title:38}{'seconds':>9}{'pod CPU':>9}{'Postgres':>10}{'MB':>6}{'adds':>8}{'updates':>9}{'deletes':>9}"]
    for name, run in runs.items():
        missed = f"{run.missed_adds:8}{run.missed_updates:9}{run.missed_deletes:9}"
        lines.append(f"{name:38}{run.seconds:9.1f}{run.pod:9.1f}{run.postgres:10.1f}{run.memory:6.0f}{missed}")
    return [*lines, "", "the ledger was as the cluster after each run"]


if __name__ == "__main__":
    sys.exit(main())
