"""A virtual machine as a list has it: a row of the ledger, as Postgres writes it in JSON; pure.

Times stay texts, because most of them are only copied: ISO 8601 in UTC, such as 2026-11-27T09:30:00+00:00.
"""

from __future__ import annotations

import msgspec


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the view ``virtual_machines``, in its order; deleted_at is NULL there, and set for a deleted machine.

    What the ledger was never sent is None. labels: as JSON, because most lists only copy it.
    """

    type: str
    id: str
    kind: str
    name: str
    namespace: str
    time: str | None = None
    cpucores: int | None = None
    cpusockets: int | None = None
    memory: str | None = None
    storageclass: str | None = None
    network: str | None = None
    cluster: str
    uid: str | None = None
    resource_version: int | None = None
    generation: int | None = None
    cputhreads: int | None = None
    vcpus: int | None = None
    memory_bytes: int | None = None
    instancetype: str | None = None
    preference: str | None = None
    run_strategy: str | None = None
    status: str | None = None
    os: str | None = None
    architecture: str | None = None
    machine_type: str | None = None
    disks: int | None = None
    disk_bytes: int | None = None
    labels: msgspec.Raw = msgspec.Raw(b"null")
    created_at: str | None = None
    updated_at: str | None = None
    node: str | None = None
    ip_addresses: list[str] | None = None
    guest_os: str | None = None
    phase: str | None = None
    live_vcpus: int | None = None
    live_memory_bytes: int | None = None
    runtime_seen_at: str | None = None
    cpu_source: str | None = None
    memory_source: str | None = None
    owner: str | None = None
    deleted_at: str | None = None


decoder = msgspec.json.Decoder(Machine)
COLUMNS: tuple[str, ...] = Machine.__struct_fields__
TIMES = frozenset({"time", "created_at", "updated_at", "runtime_seen_at", "deleted_at"})


def label_values(one: Machine) -> dict[str, str]:
    """Return the labels; a value that is not a text, which no cluster has, is left out."""
    found = msgspec.json.decode(one.labels)
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}
