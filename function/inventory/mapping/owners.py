"""The owner of an object, as its ``metadata.ownerReferences`` name it; pure.

Only a link to what is near hangs on it. So whatever is wrong with a reference, it is passed over, and no event is
refused because of it.
"""

from __future__ import annotations

from typing import Any

from function.inventory.mapping import fields

_LONGEST_KIND = 63
"""Characters of a kind: Kubernetes checks it as a DNS label (apiextensions' ``pkg/apis/apiextensions/validation``)."""
_LONGEST_NAME = 253
"""Characters of a name (apimachinery's ``pkg/util/validation``, DNS1123SubdomainMaxLength)."""


def owner(metadata: fields.Object) -> str | None:
    """Return ``Kind/name`` of what owns an object: its controller, else the first of its owners; None without one.

    The controller is the first reference whose ``controller`` is true, as in apimachinery's
    ``pkg/apis/meta/v1/controller_ref.go``, GetControllerOf; the API server refuses a second one
    (``pkg/api/validation/objectmeta.go``, ValidateOwnerReferences). A VirtualMachinePool is the controller of its VMs
    (KubeVirt ``pkg/virt-controller/watch/pool``).
    """
    references = metadata.get("ownerReferences")
    if not isinstance(references, list):
        return None
    named = [reference for reference in references if isinstance(reference, dict) and _has_names(reference)]
    if not named:
        return None
    chosen = next((reference for reference in named if reference.get("controller") is True), named[0])
    return f"{chosen['kind']}/{chosen['name']}"


def _has_names(reference: fields.Object) -> bool:
    return _fits(reference.get("kind"), _LONGEST_KIND) and _fits(reference.get("name"), _LONGEST_NAME)


def _fits(text: Any, longest: int) -> bool:
    """Whether Kubernetes may have given this name: not empty, not too long, and each character can be printed."""
    return isinstance(text, str) and 0 < len(text) <= longest and text.isprintable()
