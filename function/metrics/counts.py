"""The counts of gunicorn's workers: a folder with files that each worker maps into its memory.

A count is in the file as soon as it is made, so a worker that is killed loses none.
The file of a worker that has died is added to one file of all the dead, so that workers that die again and again fill
neither the folder nor the scrape.
"""

from __future__ import annotations

import os
import pathlib
import stat
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import prometheus_client

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Prometheus' client looks at it when it is imported, and at each new file."""
ADDED_UP = ("counter", "histogram")
"""The kinds whose values outlive a worker; a gauge says what is so now."""
DEAD = 0
"""The process id in the name of the file of the dead."""


def default_folder(port: int) -> pathlib.Path:
    """Return the folder where none is named: this user's, for this port; /dev/shm is memory, and always writable."""
    return pathlib.Path(f"/dev/shm/vmledger-metrics-{os.geteuid()}-{port}")  # noqa: S108  # _check refuses a stranger's


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


def _add(path: pathlib.Path, to: pathlib.Path) -> None:
    from prometheus_client import mmap_dict

    total = mmap_dict.MmapedDict(str(to))
    try:
        for key, value, _, _ in mmap_dict.MmapedDict.read_all_values_from_file(str(path)):
            before, _ = total.read_value(key)
            total.write_value(key, before + value, 0.0)
    finally:
        total.close()
