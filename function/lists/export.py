"""A list, from the ledger to its last byte.

A list in CSV or JSON is written while it is read. A workbook and the groups of an inventory are kept in temporary files
until the last row is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import msgspec

from function import errors, progress, settings, tables
from function.lists import ansible, choice, ledger, machine, membership, rows, rvtools, table

LAYOUTS = ("ledger", "rvtools", "ansible")
FORMATS = ("csv", "json", "xlsx")

Write = Callable[[bytes], object]


def check(layout: str, file_format: str, chosen: choice.Choice) -> None:
    """Raise :class:`errors.Refused` for what makes no sense together."""
    if layout == "ansible" and file_format != "json":
        raise errors.Refused(f"an inventory for Ansible is JSON: it cannot be written as {file_format}")
    if layout == "ansible" and chosen.deleted:
        raise errors.Refused("an inventory for Ansible names machines that can be reached: leave out --deleted")
    if chosen.deleted and chosen.at is not None:
        raise errors.Refused(
            "--at shows the machines that lived at that moment, and --deleted those that are gone now: give one of them"
        )


def run(
    configuration: settings.Settings,
    chosen: choice.Choice,
    *,
    layout: str,
    file_format: str,
    out: IO[bytes],
    talk: progress.Progress | None = None,
) -> None:
    """Write the list of the machines that were chosen to ``out``.

    Raises :class:`errors.VmledgerError` with one sentence, and OSError where ``out`` or a temporary file cannot be
    written; what was written of a list until then is not a list.
    """
    check(layout, file_format, chosen)
    with rows.opened(configuration, chosen, talk or progress.Progress()) as portions:
        if layout == "ansible":
            _write_inventory(portions, out.write)
        elif file_format == "xlsx":
            _write_workbook(portions, layout, out, deleted=chosen.deleted)
        else:
            _write_text(portions, _table(layout, deleted=chosen.deleted), out.write, as_json=file_format == "json")


def host(configuration: settings.Settings, chosen: choice.Choice, name: str) -> dict[str, object]:
    """Return the variables of one host of the inventory; none where there is no such host."""
    key = ansible.key(name)
    if key is None:
        return {}
    with rows.opened(configuration, dataclasses.replace(chosen, key=key), progress.Progress()) as portions:
        return {
            name: value for portion in portions for one in portion for name, value in ansible.variables(one).items()
        }


def _table(layout: str, *, deleted: bool) -> table.Table:
    return rvtools.layout(deleted=deleted) if layout == "rvtools" else ledger.layout(deleted=deleted)


def _write_text(portions: Iterable[rows.Portion], layout: table.Table, write: Write, *, as_json: bool) -> None:
    if as_json:
        array = tables.JsonArray()
        for portion in portions:
            write(array.text(map(layout.members, portion)))
        write(array.end())
        return
    lines = tables.Csv()
    write(lines.text([layout.columns]).encode())
    for portion in portions:
        write(lines.text(map(layout.cells, portion)).encode())


def _write_workbook(portions: Iterable[rows.Portion], layout: str, out: IO[bytes], *, deleted: bool) -> None:
    """Write the layout's sheet, and the ledger's own columns as a second one."""
    from function.lists import xlsx

    sheets = [ledger.layout(deleted=deleted)]
    if layout == "rvtools":
        sheets.insert(0, rvtools.layout(deleted=deleted))
    with xlsx.written(out, sheets) as book:
        for portion in portions:
            book.add(portion)


def _write_inventory(portions: Iterable[rows.Portion], write: Write) -> None:
    """Write ``_meta.hostvars`` while it is read, and the groups after it."""
    encode = msgspec.json.Encoder().encode
    with contextlib.closing(membership.Membership()) as members:
        before = b'{"_meta":{"hostvars":{'
        for portion in portions:
            named = [(ansible.host(one), one) for one in portion]
            write(
                before + b",".join(b"\n" + encode(name) + b":" + encode(ansible.variables(one)) for name, one in named)
            )
            members.add(_pairs(named))
            before = b","
        write((before if before != b"," else b"") + b"}}")
        for name, origin, shared, hosts in members.groups():
            group = ansible.marked(name, origin, shared=shared)
            write(b",\n" + encode(group) + b':{"hosts":')
            _write_names(hosts, write)
            write(b"}")
        write(b"}\n")


def _pairs(named: Iterable[tuple[str, machine.Machine]]) -> Iterator[membership.Pair]:
    return ((group, origin, name) for name, one in named for group, origin in ansible.groups(one))


def _write_names(names: Iterator[str], write: Write) -> None:
    """Write names as a JSON array, some at a time."""
    before = b"["
    while some := list(itertools.islice(names, 1000)):
        write(before + msgspec.json.encode(some)[1:-1])
        before = b","
    write(b"]" if before == b"," else b"[]")
