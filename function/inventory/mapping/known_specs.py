"""The specs of machines that came before, and what was read of them; a memo, so it is pure.

A machine's status changes often and its spec seldom, and each event brings both. To decode a spec and to read it takes
some 10 microseconds, to find it here 1.5.
Kept are a spec's digest and its :class:`vm_spec.Spec`, never its text: that may hold the passwords of cloud-init.
"""

from __future__ import annotations

import collections
import hashlib
from typing import Any

import msgspec

from function import errors
from function.inventory.mapping import fields, vm_spec

MOST = 2048
"""Specs; about 1 kB each."""
LONGEST = 16_384
"""Bytes of a text that is looked for: what is read of a longer one could be as long."""
_DIGEST_BYTES = 16


class KnownSpecs:
    """What was read of the last specs, by their digests; the one that was not asked for for longest goes first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: collections.OrderedDict[bytes, vm_spec.Spec] = collections.OrderedDict()

    def read(self, text: msgspec.Raw) -> Any:
        """Return what was read of a spec; its JSON where it is wrong, or too long to be kept.

        Raises what msgspec raises where it is not JSON.
        """
        if memoryview(text).nbytes > LONGEST:
            return _decode(text)
        digest = hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
            return known
        spec = _decode(text)
        if not isinstance(spec, dict) or not spec:
            return spec
        try:
            known = vm_spec.read(fields.Node(spec, "spec", fields.Node({})))
        except errors.BadEvent:  # whoever reads the event says so, if it is for us
            return spec
        self._known[digest] = known
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return known


_decode = msgspec.json.Decoder().decode
