"""What the ledger reads of an event's data, and nothing else: to be kept, without cloud-init's secrets; pure.

It is what the EventTransform of ``k8s/components/transform`` keeps of a VirtualMachine, and the same of an instance,
so an event that is trimmed gives the same row as the whole one; tests compare both.
A part that has another form than it should becomes ``true``, which is refused as that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from function import events
from function.inventory.mapping import flat, instance, origin, vm, volume_templates

_SOURCE = "dev.knative.apiserver."

_Form = Any
"""VALUE for a text, number or boolean; a dict of members and their forms; a list with the form of its items."""
VALUE = None


def _values(*names: str) -> dict[str, _Form]:
    return dict.fromkeys(names, VALUE)


_ALL_VALUES: _Form = ...
"""An object with any members, whose values are texts, numbers or booleans."""
_AMOUNTS = {"requests": _values("cpu", "memory"), "limits": _values("cpu", "memory")}
_MATCHER = _values("kind", "name", "revisionName", "inferFromVolume")
_CLAIM = {**_values("storageClassName"), "resources": {"requests": _values("storage")}}
_MANAGERS = [_values(*origin.Entry.__annotations__)]
_CPU = _values("cores", "sockets", "threads")
_MEMORY = {**_values("guest"), "hugepages": _values("pageSize")}
_MACHINE: Mapping[str, _Form] = {
    **_values("apiVersion", "kind"),
    "metadata": {
        **_values(
            "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"
        ),
        "labels": _ALL_VALUES,
        "annotations": _values(*volume_templates.Annotations.__annotations__, *origin.Annotations.__annotations__),
        "managedFields": _MANAGERS,
        "ownerReferences": [_values("kind", "name", "controller")],
    },
    "spec": {
        **_values("runStrategy", "running"),
        "instancetype": _MATCHER,
        "preference": _MATCHER,
        "dataVolumeTemplates": [{"metadata": _values("name"), "spec": {"storage": _CLAIM, "pvc": _CLAIM}}],
        "template": {
            "metadata": {"annotations": _values("vm.kubevirt.io/os")},
            "spec": {
                **_values("architecture", "evictionStrategy", "terminationGracePeriodSeconds"),
                "domain": {
                    "machine": _values("type"),
                    "cpu": _CPU,
                    "memory": _MEMORY,
                    "resources": _AMOUNTS,
                    "devices": {
                        **_values("autoattachPodInterface"),
                        "disks": [_values("name")],
                        "filesystems": [_values("name")],
                        "interfaces": [_values("name", "state")],
                    },
                },
                "networks": [_values("name")],
                "volumes": [{**_values("name"), "memoryDump": {}, "containerPath": {}}],
            },
        },
    },
    "status": _values("printableStatus"),
}
_INSTANCE: Mapping[str, _Form] = {
    **_values("apiVersion", "kind"),
    "metadata": {
        **_values("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"),
        "annotations": _values(*origin.Annotations.__annotations__),
        "managedFields": _MANAGERS,
        "ownerReferences": [_values("apiVersion", "kind", "name", "uid", "controller")],
    },
    "spec": {"domain": {"cpu": _CPU, "memory": _MEMORY, "resources": _AMOUNTS}},
    "status": {
        **_values("nodeName", "phase"),
        "interfaces": [{**_values("ipAddress"), "ipAddresses": [VALUE]}],
        "guestOSInfo": _values("prettyName", "name", "id", "version", "versionId"),
        "currentCPUTopology": _CPU,
        "memory": _values("guestCurrent", "guestAtBoot"),
    },
}
_NAMES = ("apiVersion", *sorted(flat.KNOWN))
"""What is kept of flat data, and of a reference to an object."""
_FORMS = {vm.KIND: _MACHINE, instance.KIND: _INSTANCE}


def data(event: events.Event) -> events.Json | None:
    """Return the data of an event that the inventory reads, trimmed; None where it reads no data of the event."""
    form = _FORMS.get(event.kind or "")
    of_kubevirt = (event.api_version or vm.GROUP).startswith(vm.GROUP)
    if form is None or not of_kubevirt or not event.type.startswith(_SOURCE) or not isinstance(event.data, dict):
        return None
    if flat.holds(event.data) or event.type.startswith(f"{_SOURCE}ref."):
        form = {name: [VALUE] if isinstance(event.data.get(name), list) else VALUE for name in _NAMES}
    return _kept(event.data, form)


def _kept(value: events.Json, form: _Form) -> events.Json:
    """Return of a value what its form has."""
    if isinstance(value, dict):
        if isinstance(form, dict):
            return {key: _kept(value[key], inner) for key, inner in form.items() if key in value}
        if form is _ALL_VALUES:
            return {key: _kept(inner, VALUE) for key, inner in value.items()}
    elif isinstance(value, list) and isinstance(form, list):
        return [_kept(item, form[0]) for item in value]
    if not value or (form is VALUE and not isinstance(value, dict | list)):
        return value
    return True
