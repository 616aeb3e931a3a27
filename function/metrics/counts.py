"""The counts of gunicorn's workers: a folder with files that each worker maps into its memory.

A count is in the file as soon as it is made, so a worker that is killed loses none.
The file of a worker that has died is added to one file of all the dead, so that workers that die again and again fill
neither the folder nor the scrape.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from function import errors, settings

if TYPE_CHECKING:
    import prometheus_client

ADDED_UP = ("counter", "histogram")
"""The kinds whose values outlive a worker; a gauge says what is so now."""
DEAD = 0
"""The process id in the name of the file of the dead."""


class Counts:
    """The folder, made and emptied. Raises OSError where it cannot be used."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        self.folder = folder
        self._lock = threading.Lock()
        self.empty()

    def empty(self) -> None:
        """Remove all counts, and nothing else."""
        for path in self.folder.glob("*.db"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the counts, and the folder if nothing else is in it."""
        with contextlib.suppress(OSError):
            self.empty()
            self.folder.rmdir()

    def collect(self) -> Iterable[prometheus_client.Metric]:
        """Return the sums of all workers, also of those that have died."""
        from prometheus_client import multiprocess

        with self._lock:
            return list(multiprocess.MultiProcessCollector(None, str(self.folder)).collect())

    def bury(self, pid: int) -> None:
        """Add the counts of a worker that has died to those of the dead."""
        from prometheus_client import multiprocess

        with self._lock:
            multiprocess.mark_process_dead(pid, str(self.folder))
            for kind in ADDED_UP:
                path = self.folder / f"{kind}_{pid}.db"
                if path.exists():
                    _add(path, self.folder / f"{kind}_{DEAD}.db")
                    path.unlink()


def opened(part: settings.Metrics) -> Counts:
    """Return the folder that the settings name, or this user's own for the port; raise :class:`errors.BadSetting`."""
    # /dev/shm is memory, and can be written where the root file system cannot; Counts refuses a stranger's folder.
    default = f"/dev/shm/vmledger-metrics-{os.geteuid()}-{part.port}"  # noqa: S108
    try:
        return Counts(pathlib.Path(part.folder or default))
    except OSError as exc:
        raise errors.BadSetting("PROMETHEUS_MULTIPROC_DIR", f"cannot be used: {exc.strerror or exc}") from None


def _add(path: pathlib.Path, to: pathlib.Path) -> None:
    from prometheus_client import mmap_dict

    total = mmap_dict.MmapedDict(str(to))
    try:
        for key, value, _, _ in mmap_dict.MmapedDict.read_all_values_from_file(str(path)):
            before, _ = total.read_value(key)
            total.write_value(key, before + value, 0.0)
    finally:
        total.close()
