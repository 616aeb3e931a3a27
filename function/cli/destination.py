"""Where a command writes what it makes: standard output, or a file that is whole or absent."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from function import errors

STDOUT = "-"
STOPS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Yield what to write to: a file of that path, or standard output for ``-``.

    A file is written beside its place and moved there at the end, so a failure leaves what was there before.
    What is not a regular file, such as a pipe, is written as it stands.
    Raises :class:`errors.Refused` where a file cannot be written; OSError where standard output cannot.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        return
    try:
        with _opened(path) as out:
            yield out
            out.flush()
    except OSError as exc:
        raise errors.Refused(f"{path} cannot be written: {exc.strerror or type(exc).__name__}") from exc


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    place = pathlib.Path(path).resolve()  # a link stays a link
    if place.exists() and not place.is_file():
        with place.open("wb") as out:
            yield out
        return
    # A stop that comes between the making of the file and the try would leave it behind; so it waits.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    beside = None
    try:
        part = tempfile.NamedTemporaryFile(dir=place.parent, prefix=".vmledger-", suffix=".part", delete=False)  # noqa: SIM115
        beside = pathlib.Path(part.name)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with part:
            yield part
            part.flush()
            os.fsync(part.fileno())
            _take_mode(beside, place)
            beside.replace(place)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if beside is not None:
            beside.unlink(missing_ok=True)


def _take_mode(beside: pathlib.Path, place: pathlib.Path) -> None:
    """Give a temporary file, which only its owner may read, the mode of the file it replaces, or that of a new one."""
    if place.exists():
        shutil.copymode(place, beside)
        return
    mask = os.umask(0)
    os.umask(mask)
    beside.chmod(0o666 & ~mask)
