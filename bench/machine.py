"""What it was measured on."""

from __future__ import annotations

import os
import pathlib
import platform

import psutil
import psycopg2

SETTINGS = ["server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers"]


def describe(url: str) -> dict[str, object]:
    """Return the machine, and the settings of Postgres that make it durable."""
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, current_setting(name) FROM unnest(%s) AS name", [SETTINGS])
        settings = dict(cursor.fetchall())
    connection.close()
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "postgres": {name: settings[name] for name in SETTINGS},
    }


def _processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
