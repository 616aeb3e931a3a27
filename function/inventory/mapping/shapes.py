"""What is read of an event's data before anything is decided: the parts that a capability looks at; pure.

managedFields, annotations and conditions are most of an object, and making Python objects of them took longer than all
that is done with the rest.
A part may be left out here only where nobody looks at it; a test compares what whole data and its parts give.
"""

from __future__ import annotations

from typing import Any, Required, TypedDict

import msgspec

from function import events
from function.inventory.mapping import volume_templates


class _Metadata(TypedDict, total=False):
    name: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    generation: Any
    labels: Any
    annotations: volume_templates.Annotations | None
    creationTimestamp: Any
    deletionTimestamp: Any


class _Status(TypedDict, total=False):
    printableStatus: Any


class _Machine(TypedDict, total=False):
    apiVersion: Any
    kind: Any
    metadata: Required[_Metadata]
    spec: Any
    status: _Status | None


MACHINE: events.Shape = msgspec.json.Decoder(_Machine)
"""A VirtualMachine. Data without metadata is something else: a reference, flat fields, another event."""
