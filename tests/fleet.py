"""Rows of the ledger with whatever a test wants in them, written past the function: also what no event could bring."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg2.extras

from tests import conftest

_numbers = itertools.count(1)
FILL = """
INSERT INTO vm_state (
    type, id, kind, name, namespace, time, cpucores, cpusockets, cputhreads, spec_vcpus, memory, spec_memory_bytes,
    storageclass, network, cluster, uid, resource_version, generation, run_strategy, status, os, architecture,
    machine_type, disks, disk_bytes, labels, created_at, version_number, version_time, version_step, shape, digest,
    effective_at, node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at
)
SELECT
    'dev.knative.apiserver.resource.update', gen_random_uuid(), 'VirtualMachine', 'vm-' || n, 'team-' || n %% 200,
    '2026-11-20'::timestamptz + n * interval '1 second', 4, 1, 1, 4, '8Gi', 8589934592, 'ocs-storagecluster-ceph-rbd',
    'default,net/vlan-' || n %% 40, (ARRAY['east', 'west'])[n %% 2 + 1], gen_random_uuid(), 1000000 + n, 3, 'Always',
    'Running', 'rhel9', 'amd64', 'pc-q35-rhel9.4.0', 2, 64424509440,
    jsonb_build_object('app', 'app-' || n %% 500, 'own', 'vm-' || n, 'env', (ARRAY['prod', 'test'])[n %% 2 + 1]),
    '2026-08-20', 1000000 + n, '-infinity', 1, 1, n, '2026-11-20'::timestamptz + n * interval '1 second',
    'worker-' || n %% 60 || '.example.com', ARRAY['10.' || n / 65536 || '.' || n / 256 %% 256 || '.' || n %% 256],
    'Red Hat Enterprise Linux', 'Running', 4, 8589934592, '2026-11-20'::timestamptz + n * interval '1 second'
FROM generate_series(1, %(count)s) AS n
"""
"""Machines of which all is known, each with a label that no other one has."""

MEASURED = r"""
import re, sys
from function.cli import main
code = main.main(sys.argv[1:])
print(int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command, and prints the peak of its memory in bytes as the last line of standard error.

getrusage would count the memory of the process that started it, where that is more.
"""


def fill(url: str, count: int) -> None:
    """Insert many machines."""
    conftest.execute(url, FILL, {"count": count})


def store(url: str, *rows: dict[str, Any]) -> None:
    """Insert rows into ``vm_state``; each is some columns by name, the others have defaults."""
    for row in rows:
        number = next(_numbers)
        columns: dict[str, Any] = {
            "cluster": "east",
            "namespace": "shop",
            "name": f"vm-{number}",
            "kind": "VirtualMachine",
            "type": "dev.knative.apiserver.resource.add",
            "id": str(number),
            "version_number": number,
            "version_time": "-infinity",
            "version_step": 1,
            "shape": 1,
            "digest": number,
            "effective_at": "2026-11-01 00:00:00+00",
            "uid": f"uid-{number}",
            **row,
        }
        values = [psycopg2.extras.Json(each) if isinstance(each, dict) else each for each in columns.values()]
        places = ", ".join(["%s"] * len(values))
        conftest.execute(url, f"INSERT INTO vm_state ({', '.join(columns)}) VALUES ({places})", values)
