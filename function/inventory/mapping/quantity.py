"""Kubernetes quantities, exactly as Go's ``resource.Quantity`` reads them; pure.

No library gives these results: lightkube's ``parse_quantity`` refuses ``1E9``, ``5u`` and ``7n`` and accepts ``1e3Ki``
and ``1Zi`` (a test shows it), the official client's accepts ``1e3Ki`` as well, and both round otherwise.
Source: apimachinery ``pkg/api/resource/quantity.go``, and the pattern that KubeVirt's CRD gives for quantities.
"""

from __future__ import annotations

import decimal
import functools
import re

from function import errors

_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d+))?", re.ASCII)
_POWERS_OF_TEN = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_POWERS_OF_TWO = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_EXACT = decimal.Context(prec=200, rounding=decimal.ROUND_UP)
_LONGEST = 64
"""Characters; longer than any quantity that fits a column, and short enough to be exact in 200 digits."""


def whole(text: str, where: str) -> int:
    """Return the quantity ``text`` as a whole number, rounded up (away from zero) as ``Quantity.Value()`` does.

    Raises :class:`errors.BadEvent` with ``where`` in its sentence when ``text`` is not a quantity.
    """
    amount = parse(text)
    if amount is None:
        raise errors.BadEvent(f"{where} {errors.shown(text)} is not a Kubernetes quantity that the ledger can hold")
    return amount


@functools.lru_cache(maxsize=1024)  # a cluster's VMs have few sizes: 0.04 µs, not 1.2
def parse(text: str) -> int | None:
    """Return the quantity ``text`` as a whole number, rounded up; None where it is not one that the ledger can hold."""
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or len(match[3] or "") > 4:
        return None
    number, suffix, exponent = match.groups()
    value = decimal.Decimal(number)
    if suffix in _POWERS_OF_TWO:
        value = _EXACT.multiply(value, decimal.Decimal(2 ** _POWERS_OF_TWO[suffix]))
    else:
        value = value.scaleb(int(exponent) if exponent else _POWERS_OF_TEN.get(suffix, 0), _EXACT)
    return int(value.to_integral_value(decimal.ROUND_UP)) if value.adjusted() <= 40 else None
