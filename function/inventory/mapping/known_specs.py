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

MOST = 4 * 2**20
"""Bytes of texts of which something is kept: some 2,000 specs."""
LONGEST = 16_384
"""Bytes of a text that is looked for."""
BESIDES = 1024
"""Bytes that a text counts more than it has: what is kept of a short one takes as many."""
_DIGEST_BYTES = 16


class KnownSpecs:
    """What was read of the last specs, by their digests; the one that was not asked for for longest goes first.

    most: bytes of their texts.
    """

    def __init__(self, most: int = MOST) -> None:
        self._room = most
        self._known: collections.OrderedDict[bytes, tuple[vm_spec.Spec, int]] = collections.OrderedDict()

    def read(self, text: msgspec.Raw) -> Any:
        """Return what was read of a spec; its JSON where it is wrong, or too long to be kept.

        Raises what msgspec raises where it is not JSON.
        """
        size = memoryview(text).nbytes
        if size > LONGEST:
            return _decode(text)
        digest = hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
            return known[0]
        spec = _decode(text)
        if not isinstance(spec, dict) or not spec:
            return spec
        try:
            read = vm_spec.read(fields.Node(spec, "spec", fields.Node({})))
        except errors.BadEvent:  # whoever reads the event says so, if it is for us
            return spec
        self._keep(digest, read, size + BESIDES)
        return read

    def _keep(self, digest: bytes, read: vm_spec.Spec, size: int) -> None:
        self._known[digest] = read, size
        self._room -= size
        while self._room < 0:
            _, (_, freed) = self._known.popitem(last=False)
            self._room += freed


_decode = msgspec.json.Decoder().decode
