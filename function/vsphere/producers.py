"""The types of the events that vCenter's two producers send; pure, and all that a start must know of vSphere."""

from __future__ import annotations

ROUTER_TYPES = tuple(f"com.vmware.event.router/{kind}" for kind in ("event", "eventex", "extendedevent"))
"""Types of the VMware Event Router; the event's name is in the subject."""
SOURCE_PREFIX = "com.vmware.vsphere."
"""What types of the VSphereSource begin with; the event's name follows, and since v0.27 a version such as .v0."""
