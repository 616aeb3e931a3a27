"""The pages of a list of the Kubernetes API: whether each is what it should be, and where the list must end; pure.

Objects that a list lacks are deleted from the ledger. So a list with anything odd in it is refused, before any of the
page is used.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from function import errors

if TYPE_CHECKING:
    from function.clients import kubernetes

Object = dict[str, Any]
"""A Kubernetes object as JSON says it."""

LAST_VERSION = 2**62
"""The least version that is not plausible: etcd counts writes in an int64, and other stores nanoseconds since 1970.

Neither reaches the upper half of an int64 in this century, and a version from there would outrank all later ones.
"""
MOST_OBJECTS = 250_000
"""In a list: more than etcd holds with ease; to find repeated ones, their names are kept, 125 bytes each."""
SPARSE = 50
"""A page before the last with fewer objects is sparse, unless fewer were asked for."""
MOST_SPARSE = 100
"""Sparse pages in a list; the API fills its pages where no selector is given."""
LONGEST_SECONDS = 3600.0
"""For a list; the API server expires its resource version after five to ten minutes."""


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a list; every page of one list has its ``resource_version``.

    Each item has metadata with a name and, where its kind has one, a namespace.
    ``remaining`` is how many objects come after it, where the API says so: an estimate.
    Objects of built-in kinds, unlike KubeVirt's, lack apiVersion and kind in a list.
    """

    items: list[Object]
    resource_version: int
    remaining: int | None


@functools.cache
def decoder(item: Any) -> msgspec.json.Decoder[Any]:
    """Return what reads of a page what :func:`read` looks at, and of each object the parts that its type has."""
    parts = {"kind": Any, "metadata": Any, "items": list[item]}
    return msgspec.json.Decoder(TypedDict("Parts", parts, total=False))  # type: ignore[operator]  # made at run time


def read(resource: kubernetes.Resource, answer: Any) -> tuple[Page, str]:
    """Return the page that an answer says, and the token of the next one, '' after the last.

    Raises :class:`errors.Unavailable` for what is not a page of this resource.
    """
    if not isinstance(answer, dict) or answer.get("kind") != f"{resource.kind}List":
        raise damaged(resource, f"is not a {resource.kind}List")
    metadata, items = answer.get("metadata"), answer.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise damaged(resource, "has no items that are objects")
    if not isinstance(metadata, dict):
        raise damaged(resource, "has no metadata")
    for item in items:
        _check(resource, item)
    following, remaining = metadata.get("continue") or "", metadata.get("remainingItemCount")
    if not isinstance(following, str):
        raise damaged(resource, "has a continue token that is not text")
    if not isinstance(remaining, int):
        remaining = None
    if remaining and not following:
        raise damaged(resource, f"ends with {remaining} objects missing")
    return Page(items, _version(resource, metadata), remaining), following


def _version(resource: kubernetes.Resource, metadata: Object) -> int:
    version = metadata.get("resourceVersion")
    if not (isinstance(version, str) and re.fullmatch(r"[1-9][0-9]{0,18}", version) and int(version) < LAST_VERSION):
        raise damaged(resource, "has no resourceVersion that is a number of a plausible size")
    return int(version)


def _check(resource: kubernetes.Resource, item: Object) -> None:
    """Raise for an item that is not an object of the resource; a built-in kind is named once, by the list."""
    group, _, version = str(item.get("apiVersion", resource.api_version)).rpartition("/")
    if not version or (group, item.get("kind", resource.kind)) != (resource.group, resource.kind):
        raise damaged(resource, "holds an object of another kind")
    metadata = item.get("metadata")
    place = [metadata.get("name"), metadata.get("namespace")] if isinstance(metadata, dict) else []
    needed = place if resource.namespaced else place[:1]
    if not needed or not all(isinstance(part, str) and part and {"/", "\x00"}.isdisjoint(part) for part in needed):
        raise damaged(resource, "holds an object without a name")


class Progress:
    """How far a list was read; one for each list.

    limit: how many objects a page is asked for with. decoder: reads of each object what its type has.
    """

    def __init__(self, resource: kubernetes.Resource, limit: int, item: Any = Any) -> None:
        self.limit = limit
        self.decoder = decoder(item)
        self._resource = resource
        self._version: int | None = None
        self._token = ""
        self._seen: set[str] = set()
        self._sparse = 0
        self._end = time.monotonic() + LONGEST_SECONDS

    def add(self, page: Page, following: str) -> None:
        """Count a page, and the token of the one that follows it.

        Raises :class:`errors.Unavailable` where it belongs to another list, and where the list does not come to an end.
        """
        if self._version not in (None, page.resource_version):
            raise damaged(self._resource, "changed its resourceVersion from one page to the next")
        if following and following == self._token:
            raise damaged(self._resource, "does not go on")
        self._version, self._token = page.resource_version, following
        self._sparse += len(page.items) < min(self.limit, SPARSE)
        count = len(self._seen) + len(page.items)
        self._seen.update(f"{item['metadata'].get('namespace')}/{item['metadata']['name']}" for item in page.items)
        if len(self._seen) != count:
            raise damaged(self._resource, "holds an object twice")
        if count > MOST_OBJECTS or self._sparse > MOST_SPARSE or time.monotonic() > self._end:
            raise damaged(self._resource, "does not come to an end")


def damaged(resource: kubernetes.Resource, problem: str) -> errors.Unavailable:
    """Return the error for a list of which something is odd."""
    return errors.Unavailable(f"the Kubernetes API's list of {resource.plural} {problem}")
