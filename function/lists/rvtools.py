"""The layout ``rvtools``: the columns of RVTools' sheet vInfo that the ledger can fill, under RVTools' own names; pure.

Programs that read RVTools find a column by its name, and rely on some of them:

- RvToolsMerge demands the 16 of :data:`MANDATORY`
  (https://github.com/sbroenne/RvToolsMerge/blob/main/docs/rvtools-supported-sheets.md);
- kubev2v/migration-planner demands "VM" and "VM ID", passes over a row whose "Template" is true, and reads "Network #n"
  (https://github.com/kubev2v/migration-planner/blob/main/pkg/duckdb_parser/templates/ingest_rvtools.go.tmpl).

The columns stand in RVTools' order. What the ledger was never sent, and what KubeVirt does not have, is empty and never
0: a sum over a column is then a sum over what is known. docs/export.md says where each is from.
"""

from __future__ import annotations

from function import tables
from function.lists import machine, table

MANDATORY = (
    "VM UUID",
    "Template",
    "SRM Placeholder",
    "Powerstate",
    "VM",
    "CPUs",
    "Memory",
    "In Use MiB",
    "OS according to the configuration file",
    "Creation date",
    "NICs",
    "Disks",
    "Provisioned MiB",
    "Datacenter",
    "Cluster",
    "Host",
)
NETWORKS = 8
"""RVTools has the columns Network #1 to Network #8."""
DELETED = "Deleted at"
"""RVTools has no such column: it stands last, and only where deleted machines are listed."""
COLUMNS = (
    "VM",
    "Powerstate",
    "Template",
    "SRM Placeholder",
    "Creation date",
    "CPUs",
    "Memory",
    "NICs",
    "Disks",
    "Total disk capacity MiB",
    "Primary IP Address",
    *(f"Network #{number}" for number in range(1, NETWORKS + 1)),
    "Folder",
    "Provisioned MiB",
    "In Use MiB",
    "Datacenter",
    "Cluster",
    "Host",
    "OS according to the configuration file",
    "OS according to the VMware Tools",
    "VM ID",
    "VM UUID",
)
MIB = 1 << 20

ON, OFF, SUSPENDED = "poweredOn", "poweredOff", "suspended"
_BY_STATUS = {"Running": ON, "Migrating": ON, "Paused": SUSPENDED, "Stopped": OFF}
"""What a printableStatus says by itself; any other leaves it to the phase of the running instance."""
_BY_PHASE = {"Running": ON, "Gone": OFF, "Succeeded": OFF, "Failed": OFF}
_BEFORE_START = frozenset(
    {
        "Provisioning",
        "Starting",
        "CrashLoopBackOff",
        "ErrorUnschedulable",
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrorPvcNotFound",
        "DataVolumeError",
        "WaitingForVolumeBinding",
        "WaitingForReceiver",
        "Pending",
        "Scheduling",
        "Scheduled",
    }
)
"""Statuses and phases of a machine whose guest does not run yet."""


def layout(*, deleted: bool) -> table.Table:
    """Return the layout; :data:`DELETED` is a column only where deleted machines are listed."""
    columns = (*COLUMNS, DELETED) if deleted else COLUMNS

    def cells(one: machine.Machine) -> list[tables.Cell]:
        return [*_cells(one), _time(one.deleted_at)] if deleted else _cells(one)

    return table.Table(
        sheet="vInfo",
        columns=columns,
        cells=cells,
        members=lambda one: dict(zip(columns, cells(one), strict=True)),
        times=frozenset({"Creation date", DELETED}),
    )


def _cells(one: machine.Machine) -> list[tables.Cell]:
    networks = one.network.split(",") if one.network else []
    disk = mib(one.disk_bytes)
    return [
        one.name,
        powerstate(one),
        "False",
        "False",
        _time(one.created_at),
        one.vcpus,
        mib(one.memory_bytes),
        len(networks) or None,
        one.disks,
        disk,
        one.ip_addresses[0] if one.ip_addresses else None,
        *(networks[:NETWORKS] + [None] * (NETWORKS - len(networks))),
        one.namespace,
        disk,
        None,
        None,
        one.cluster,
        one.node,
        one.os,
        one.guest_os,
        f"{one.cluster}/{one.namespace}/{one.name}",
        one.uid,
    ]


def powerstate(one: machine.Machine) -> str | None:
    """Return RVTools' word for whether the guest runs; None where neither status nor phase says.

    The words are those of the vSphere API, VirtualMachinePowerState.
    """
    if one.deleted_at is not None:
        return OFF
    found = _BY_STATUS.get(one.status or "") or _BY_PHASE.get(one.phase or "")
    if found is None and (one.phase in _BEFORE_START or (one.phase is None and one.status in _BEFORE_START)):
        return OFF
    return found


def mib(size: int | None) -> int | None:
    """Return bytes as MiB, the nearest whole number of them."""
    return None if size is None else (size + MIB // 2) // MIB


def _time(text: str | None) -> str | None:
    """Return a time as RVTools writes it, in UTC: 2026/11/27 09:30:00."""
    if text is None:
        return None
    found = table.moment(text)
    return text if found is None else f"{found:%Y/%m/%d %H:%M:%S}"
