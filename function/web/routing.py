"""Which event goes to which capability.

The first look-up is the event's type, the second the kind that it is about; both are dictionaries, because a source
may send every event of a cluster here and most are not for us.
A request is handled in two steps: every event of it is prepared, which decides and refuses; only then anything acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from function import errors, events, turns
from function.inventory.mapping import instance, shapes, vm
from function.vsphere import producers
from function.web import cloudevents

NOT_FOR_US = "ignored"


class Capability(Protocol):
    """What each capability offers."""

    def prepare(self, event: events.Event) -> Any | None:
        """Decide what to do about the event, without doing it; None for nothing; raise to refuse the request."""

    def perform(self, prepared: Sequence[Any]) -> Sequence[str]:
        """Do it; return what became of each in a word, or raise where any of it was not done."""


KINDS = {
    "Event": "scaling",
    "VirtualMachine": "inventory",
    "VirtualMachineInstance": "inventory",
}
"""Kubernetes objects by their kind, whatever their API group; the capability checks that."""

NAMED = dict.fromkeys(producers.ROUTER_TYPES, "vsphere")
"""CloudEvents whose type alone says which capability decides about them."""

PREFIXES = {producers.SOURCE_PREFIX: "vsphere"}
"""The same, by what the type begins with."""

TYPES = {
    f"dev.knative.apiserver.{mode}.{verb}": KINDS
    for mode in ("resource", "ref")
    for verb in ("add", "update", "delete")
}
"""CloudEvents by their type: which table decides next."""


SHAPES: Mapping[str, events.Shape] = {vm.KIND: shapes.MACHINE, instance.KIND: shapes.INSTANCE}
"""Of the objects of these kinds only what is looked at is read."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done for the events of a request: by capability, each event's position and what was prepared."""

    events: int
    work: Mapping[str, Sequence[tuple[int, Any]]]


def shape(attributes: Mapping[str, Any]) -> events.Shape | None:
    """Return what is to be read of an event's data, by its attributes alone: nothing where it is not for us."""
    if attributes.get("type", "") in TYPES:
        kind = attributes.get("kind", "")
        return SHAPES.get(kind) if not kind or kind in KINDS else cloudevents.UNREAD
    return None if _by_type(attributes.get("type", "")) else cloudevents.UNREAD


class Router:
    """Gives each event to the capability that it is for; capabilities: by the names in the tables above."""

    def __init__(self, capabilities: Mapping[str, Capability]) -> None:
        self._capabilities = capabilities

    def handle(self, batch: Sequence[events.Event]) -> list[str]:
        """Return what became of each event, in a word; raise as :meth:`prepare` and :meth:`perform` do."""
        return self.perform(self.prepare(batch))

    def prepare(self, batch: Sequence[events.Event]) -> Plan:
        """Return what is to be done for some events.

        Raises the error of the first event that cannot be handled, with its place where there are several.
        """
        work: dict[str, list[tuple[int, Any]]] = {}
        for position, event in enumerate(turns.shared(batch)):
            try:
                inner = cloudevents.unwrapped(event)
                name = _capability(inner)
                prepared = self._capabilities[name].prepare(inner) if name else None
            except errors.VmledgerError as exc:
                if len(batch) == 1:
                    raise
                raise type(exc)(f"event {position} of the batch (id {errors.shown(event.id)}): {exc}") from exc
            if name and prepared is not None:
                work.setdefault(name, []).append((position, prepared))
        return Plan(len(batch), work)

    def perform(self, plan: Plan) -> list[str]:
        """Do it; return what became of each event, in a word.

        Raises where any of it was not done; then, but for what a capability had done before another one failed, nothing
        of it is.
        """
        outcomes = [NOT_FOR_US] * plan.events
        for name, items in plan.work.items():
            done = self._capabilities[name].perform([prepared for _, prepared in items])
            for (position, _), outcome in zip(items, done, strict=True):
                outcomes[position] = outcome
        return outcomes


def _capability(event: events.Event) -> str | None:
    table = TYPES.get(event.type)
    return _by_type(event.type) if table is None else table.get(event.kind or "")


def _by_type(kind: str) -> str | None:
    prefixed = (name for prefix, name in PREFIXES.items() if kind.startswith(prefix))
    return NAMED.get(kind) or next(prefixed, None)
