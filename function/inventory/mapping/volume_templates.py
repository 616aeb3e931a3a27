"""The volumes that are made for a VirtualMachine: their storage classes, and their size together; pure.

KubeVirt makes DataVolumes from the machine's dataVolumeTemplates.
Harvester makes PersistentVolumeClaims from an annotation, a list of claims as JSON text: Harvester
``pkg/util/constants.go`` (AnnotationVolumeClaimTemplates) and ``pkg/controller/master/virtualmachine``.
The API server accepts any text as an annotation, so a machine is stored even if its annotation is not a list of claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import msgspec

from function.inventory.mapping import fields, quantity

Annotations = TypedDict("Annotations", {"harvesterhci.io/volumeClaimTemplates": Any}, total=False)
"""The annotations of a machine that are read."""

(_CLAIMS,) = Annotations.__annotations__
_LONGEST = 262_144
"""Characters; the API server takes no more than 256 KiB of annotations of one object."""
_CLASS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")

Asked = tuple[str | None, int | None]
"""The storage class and the bytes of one template, each None where the template lacks it."""


def facts(asked: Sequence[Asked]) -> dict[str, str | int | None]:
    """Return the distinct storage classes in the order of the templates, and the bytes that these ask for together.

    The result is empty where there are no templates.
    The bytes are None where one template has no size, such as one that clones a volume and takes its size.
    A size of zero counts as not set: CDI refuses it (``datavolume-validate.go``, validateDataVolumeSpec).
    """
    if not asked:
        return {}
    sizes = [size for _, size in asked if size]
    return {
        "storageclass": fields.joined([storage_class for storage_class, _ in asked]),
        "disk_bytes": sum(sizes) if len(sizes) == len(asked) else None,
    }


def asked(spec: fields.Node) -> Sequence[Asked]:
    """Return what the dataVolumeTemplates of a machine's spec ask for."""
    return [_of_data_volume(template.object("spec")) for template in spec.objects("dataVolumeTemplates")]


def claims(metadata: fields.Node) -> Sequence[Asked]:
    """Return what the claims of Harvester's annotation ask for."""
    if not metadata.items.get("annotations"):
        return ()
    return [*_of_annotation(metadata.object("annotations").items.get(_CLAIMS))]


def _of_data_volume(volume: fields.Node) -> Asked:
    """Read the spec of a DataVolume, which has its claim under one of two names.

    The first that has a class or a size counts: of one that has neither, the EventTransform leaves nothing.
    """
    asked: Asked = (None, None)
    for name in ("storage", "pvc"):
        claim = volume.object(name)
        asked = claim.text("storageClassName"), claim.object("resources").object("requests").amount("storage")
        if asked != (None, None):
            break
    return asked


class _Requests(msgspec.Struct):
    storage: str | int | float | None = None


class _Resources(msgspec.Struct):
    requests: _Requests | None = None


class _Spec(msgspec.Struct):
    storage_class: str | None = msgspec.field(default=None, name="storageClassName")
    resources: _Resources | None = None


class _Claim(msgspec.Struct):
    spec: _Spec | None = None


_decode = msgspec.json.Decoder(list[_Claim]).decode


def _of_annotation(text: object) -> Iterator[Asked]:
    """Read Harvester's annotation; one that cannot be read counts as one volume of unknown class and size."""
    if not text:
        return
    try:
        claims = _decode(text) if isinstance(text, str) and len(text) <= _LONGEST else [_Claim()]
    except (ValueError, RecursionError):
        claims = [_Claim()]
    for claim in claims:
        spec = claim.spec or _Spec()
        requests = (spec.resources or _Resources()).requests or _Requests()
        name = spec.storage_class if _CLASS_NAME.fullmatch(spec.storage_class or "") else None
        yield name, None if requests.storage is None else quantity.parse(str(requests.storage))
