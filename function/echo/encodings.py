"""Bytes as text, base64 as bytes, and what was packed: what an encoding hides is looked into, within bounds; pure.

A few bytes can unpack to gigabytes, and one encoding can hide in another without end.
So all that one event unpacks draws on one :class:`Budget`, and whoever asks bounds the depth.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import re
import zlib
from collections.abc import Iterator

UNPACKED_BYTES = 2**20
"""Bytes that everything packed in one event may have together, unpacked."""
UNPACKINGS = 1000
"""How often one event is unpacked; each costs a buffer of 40 kB, however little is in it."""

RUN = re.compile(
    r"(?:(?<![A-Za-z0-9+/_\-\\])|(?<=\\[nrt]))[A-Za-z0-9+/_-]{14,}+"
    r"(?:(?:\\[rn]|[\r\n])++[ \t]*+[A-Za-z0-9+/_-]{14,}+)*+"
    r"(?:(?:\\[rn]|[\r\n])++[ \t]*+[A-Za-z0-9+/_-]++(?==|\s*\Z))?={0,2}"
)
"""What may be base64 (RFC 4648, either alphabet, padded or not), in one line or wrapped."""
_BREAK = re.compile(r"(?:\\[rn]|\s)+")
_BEGINNINGS = re.compile(r"H4sI|LS0tLS1CRUdJTi|eyJ|PD94bW|I2Nsb3VkLWNvbmZp")
"""gzip, PEM, a JSON object, XML and cloud-config, in base64: they may follow something that is base64's letters too."""
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_URL_SAFE = str.maketrans("-_", "+/")

_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
"""gzip (RFC 1952) and zlib (RFC 1950)."""
_ELSEWHERE_PACKED = re.compile(
    rb"BZh[1-9]1AY&SY|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|PK\x03\x04|7z\xbc\xaf\x27\x1c|\x04\x22\x4d\x18"
)
"""bzip2, xz, zstandard, zip, 7z and lz4: nothing here looks into them."""
_KEY = re.compile(
    rb"\x30(?:[\x08-\x7f]|\x81[\s\S]|\x82[\s\S]{2})(?:\x02\x01[\x00\x01\x03][\x02\x04\x30]"
    rb"|\x30(?:[\x08-\x7f]|\x81[\s\S])\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05)|openssh-key-v1\x00|\xfe\xed\xfe\xed"
)
"""How a private key begins in DER (RFC 5208, 5915, 5958, 8017), a PKCS#12 file, OpenSSH's own form, and Java's."""


class Unreadable(Exception):
    """What is packed cannot be looked into, or is more than there is budget for."""


class Budget:
    """What one event may still unpack."""

    def __init__(self) -> None:
        self._bytes = UNPACKED_BYTES
        self._times = UNPACKINGS

    def unpacked(self, data: bytes) -> bytes:
        """Return ``data`` unpacked where it is packed, else as it is; raise :class:`Unreadable`.

        Of what was cut off in its middle, that which can be unpacked is returned.
        """
        if _ELSEWHERE_PACKED.match(data):
            raise Unreadable
        pieces = []
        while _PACKED.match(data):  # gzip files may follow one another
            self._times -= 1
            engine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            try:
                pieces.append(engine.decompress(data, max(1, self._bytes)))
            except zlib.error as exc:
                if data[:1] == b"x" and not _begins_packed(data):
                    break  # text that begins as zlib does: "x^2"
                raise Unreadable from exc
            self._bytes -= len(pieces[-1])
            if self._bytes <= 0 or self._times < 0 or engine.unconsumed_tail:
                raise Unreadable
            data = engine.unused_data
        return b"".join([*pieces, data])


def _begins_packed(data: bytes) -> bool:
    with contextlib.suppress(zlib.error):
        return bool(zlib.decompressobj().decompress(data[:64], 1))
    return False


def is_key(data: bytes) -> bool:
    """Whether ``data`` begins as a private key, or as a store of them."""
    return _KEY.match(data) is not None


def readings(data: bytes) -> Iterator[str]:
    """Yield bytes as text, in each way that somebody may read them.

    Zeros are left out, so that UTF-16 without a mark is read too. What is not UTF-8 is left out, for one odd byte in a
    name makes it no other name for a person; then it is replaced, which shows a person where it was.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            yield data.decode(name, "replace")
            break
    text = data.decode("utf-8-sig", "ignore").replace("\0", "")
    yield text
    replaced = data.decode("utf-8-sig", "replace").replace("\0", "")
    if replaced != text:
        yield replaced


def candidates(run: str) -> Iterator[bytes]:
    """Yield what a match of :data:`RUN` is, should it be base64: all of it, then each line that may stand alone."""
    pieces = _BREAK.split(run)
    whole = "".join(pieces)
    yield decode(whole)
    if len(pieces) > 1:
        yield from map(decode, pieces)
    beginning = _BEGINNINGS.search(whole, 1)
    if beginning:
        yield decode(whole[beginning.start() :])


def decode(text: str) -> bytes:
    """Return what base64 says, of either alphabet, padded or not, cut anywhere; nothing where it is not base64."""
    text = text.rstrip("=").translate(_URL_SAFE)
    if len(text) % 4 == 1:
        text = text[:-1]
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    return b""
