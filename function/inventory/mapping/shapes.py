"""What is read of an event's data before anything is decided: the parts that a capability looks at; pure.

managedFields, annotations and conditions are most of an object, and making Python objects of them took longer than all
that is done with the rest.
A part may be left out here only where nobody looks at it; a test compares what whole data and its parts give.
"""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from function import events


class _Metadata(TypedDict, total=False):
    name: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    generation: Any
    labels: Any
    creationTimestamp: Any
    deletionTimestamp: Any


class _Status(TypedDict, total=False):
    printableStatus: Any


class _Flat(TypedDict, total=False):
    name: Any
    namespace: Any
    uid: Any
    resourceversion: Any
    generation: Any
    cpucores: Any
    cpusockets: Any
    cputhreads: Any
    memory: Any
    storageclass: Any
    network: Any
    instancetype: Any


class _Machine(_Flat, total=False):
    apiVersion: Any
    kind: Any
    metadata: _Metadata | None
    spec: Any
    status: _Status | None


MACHINE: events.Shape = msgspec.json.Decoder(_Machine)
"""A VirtualMachine, a reference to one, or the published example's flat fields as data."""
