"""The kinds of objects that a reconcile compares, and what differs between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from function.clients import kubernetes
from function.inventory.mapping import instance, shapes, versions, vm

AnyRow = TypeVar("AnyRow", bound=versions.Row)

REVISIONS = "ControllerRevision"
"""The kind under which the names of the revisions are noted that instancetypes were taken from."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Kind(Generic[AnyRow]):
    """A kind of object that is reconciled.

    noun: what people call several. listed: the parts of an object in a list that are read. place: the columns that tell
    an object of this kind from others of its cluster. change: an event and ``cluster_name`` to a change, or None for an
    object that the ledger does not keep.
    ordered: a row and ``number`` to a change. gone: what a row says of an object that is gone, beside when.
    compare, missing, complete: the statements of that kind. owners: the statement that adds owners to what was stored
    before they were kept, None where there are none.
    seen, missed: the fields of a run that count what the list contains, if any, and what events missed; {} stands for
    add, update or delete. notes: the kinds under which objects of its list are noted. refuted: the kind under which
    objects are noted of which a version was refuted. doubtful: the statement that finds them. refute: the statements
    that refute, in one transaction, with the locks that writers of this kind take, in their order.
    """

    name: str
    noun: str
    short: str
    resource: kubernetes.Resource
    listed: type[Any]
    place: tuple[str, ...]
    row: type[AnyRow]
    change: Callable[..., versions.Change | None]
    ordered: Callable[..., versions.Change]
    gone: Mapping[str, Any]
    compare: str
    missing: str
    complete: str
    owners: str | None
    seen: str | None
    missed: tuple[str, ...]
    notes: tuple[str, ...]
    refuted: str
    doubtful: str
    refute: tuple[str, ...]


MACHINES = Kind(
    name=vm.KIND,
    noun="virtual machines",
    short="VM",
    resource=kubernetes.VMS,
    listed=shapes.ListedMachine,
    place=("namespace", "name"),
    row=vm.VirtualMachine,
    change=vm.change,
    ordered=vm.ordered,
    gone={},
    compare="compare_machines",
    missing="missing_machines",
    complete="complete_machines",
    owners="take_owners",
    seen="seen",
    missed=("missed_{}s",),
    notes=(vm.KIND, REVISIONS),
    refuted=f"{vm.KIND} refuted",
    doubtful="doubtful_machines",
    refute=("together", "lock_shown", "refute_machines", "restore_machines"),
)
INSTANCES = Kind(
    name=instance.KIND,
    noun="running instances",
    short="VMI",
    resource=kubernetes.VMIS,
    listed=shapes.Instance,
    place=("namespace", "name", "owner_uid"),
    row=instance.Instance,
    change=instance.change,
    ordered=instance.ordered,
    gone={"phase": instance.GONE},
    compare="compare_instances",
    missing="missing_instances",
    complete="complete_instances",
    owners=None,
    seen=None,
    missed=("instances", "instance_{}s"),
    notes=(instance.KIND,),
    refuted=f"{instance.KIND} refuted",
    doubtful="doubtful_instances",
    refute=(
        "together",
        "hold_instances",
        "refute_instances",
        "restore_instances",
        "remember_instances",
        "lock_shown",
        "show_instances",
    ),
)
