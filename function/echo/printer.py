"""Standard output, shared by the threads and processes of a container: one whole line at a time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator

log = logging.getLogger(__name__)


class Printer:
    """Writes whole lines to standard output.

    A pipe keeps only writes of up to 4096 bytes together (pipe(7), PIPE_BUF), so the processes of one container take
    turns by a lock on this very file, which all of them can read, and the threads of each by a lock of their own.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._file: int | None = None

    def line(self, text: str) -> None:
        """Print a line; what cannot be printed must not fail the event."""
        text += "\n"
        if (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8":
            text = re.sub(r"[^\x00-\x7f]", _escaped, text)
        try:
            with self._turn, self._alone():
                sys.stdout.write(text)
                sys.stdout.flush()
        except (OSError, ValueError) as exc:
            log.warning("the echo cannot print (%s)", type(exc).__name__, extra={"action": "echo.failed"})

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._file is None:
            with contextlib.suppress(OSError):
                self._file = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
        if self._file is None:
            yield
            return
        with contextlib.suppress(OSError):  # a file system without locks: lines may mix, and are printed
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
