"""The layout ``ledger``: the ledger's own columns, named and ordered as in the view ``virtual_machines``; pure."""

from __future__ import annotations

import msgspec

from function import tables
from function.lists import machine, table

_LABELS = machine.COLUMNS.index("labels")
_ADDRESSES = machine.COLUMNS.index("ip_addresses")


def layout(*, deleted: bool) -> table.Table:
    """Return the layout; ``deleted_at`` is a column only where deleted machines are listed."""
    columns = machine.COLUMNS if deleted else machine.COLUMNS[:-1]

    def cells(one: machine.Machine) -> list[tables.Cell]:
        """Return labels as a JSON object, and addresses joined by a comma."""
        found = list(msgspec.structs.astuple(one))
        labels = bytes(one.labels)
        found[_LABELS] = None if labels == b"null" else labels.decode()
        found[_ADDRESSES] = None if one.ip_addresses is None else ",".join(one.ip_addresses)
        return found[: len(columns)]

    def members(one: machine.Machine) -> dict[str, object]:
        """Return labels as an object, and addresses as an array."""
        return dict(zip(columns, msgspec.structs.astuple(one), strict=False))

    return table.Table(sheet="ledger", columns=columns, cells=cells, members=members, times=machine.TIMES)
