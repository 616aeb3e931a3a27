"""Quantities are read exactly as Kubernetes reads them."""

from __future__ import annotations

import fractions

import hypothesis
import pytest
from hypothesis import strategies as st
from lightkube.utils import quantity as lightkube

from function import errors
from function.inventory.mapping import quantity

RIGHT = {
    "8Gi": 8589934592,
    "1536Mi": 1610612736,
    "322122547200m": 322122548,
    "129e6": 129000000,
    "1e9": 1000000000,
    "1E9": 1000000000,
    "1e+3": 1000,
    "15e-1": 2,
    "3G": 3000000000,
    "129M": 129000000,
    "1k": 1000,
    "1Ti": 1099511627776,
    "7Pi": 7881299347898368,
    "1E": 10**18,
    "1Ei": 2**60,
    "1500m": 2,
    "5u": 1,
    "7n": 1,
    "1e-12": 1,
    "128974848": 128974848,
    "+1Gi": 1073741824,
    "00012Gi": 12884901888,
    "5.Gi": 5368709120,
    ".5Gi": 536870912,
    "0.1": 1,
    "0": 0,
    "-1500m": -2,
    "9007199254740993": 9007199254740993,
}


@pytest.mark.parametrize(("text", "amount"), RIGHT.items(), ids=list(RIGHT))
def test_a_quantity_is_its_whole_number_rounded_up(text: str, amount: int) -> None:
    """The values are those of Go's Quantity.Value()."""
    assert quantity.whole(text, "memory") == amount


WRONG = ["", " ", "K", "1K", "1KB", "1MB", "1mi", "1e3Ki", "1Zi", "1 Gi", "1Gi ", "1\n", ".", "+", "Gi", "--1", "1e",
         "٣Gi", "1e99999", "1" * 100, "NaN", "Infinity", "0x10", "1_000"]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """The sentence quotes it and says where it stood."""
    with pytest.raises(errors.BadEvent, match=r"data\.spec\.memory"):
        quantity.whole(text, "data.spec.memory")


@hypothesis.given(
    number=st.integers(0, 10**18),
    places=st.integers(0, 9),
    suffix=st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]),
)
def test_any_quantity_is_exact(number: int, places: int, suffix: str) -> None:
    """No digit is lost: the same as with fractions."""
    powers = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
    scale = fractions.Fraction(10) ** powers[suffix] if suffix in powers else 1024 ** (" KMGTPE".index(suffix[0]))
    exact = fractions.Fraction(number, 10**places) * scale
    text = f"{number // 10**places}.{number % 10**places:0{places}d}{suffix}" if places else f"{number}{suffix}"
    assert quantity.whole(text, "x") == -(-exact.numerator // exact.denominator)


@hypothesis.given(st.text())
def test_any_text_is_a_number_or_a_sentence(text: str) -> None:
    """Nothing else comes out."""
    try:
        assert isinstance(quantity.whole(text, "x"), int)
    except errors.BadEvent as exc:
        assert str(exc).startswith("x ")


@pytest.mark.parametrize("text", ["1E9", "5u", "7n"])
def test_lightkube_refuses_what_kubernetes_allows(text: str) -> None:
    """Why its parse_quantity is not used here."""
    assert quantity.whole(text, "x") > 0
    with pytest.raises(ValueError):
        lightkube.parse_quantity(text)


@pytest.mark.parametrize("text", ["1e3Ki", "1Zi"])
def test_lightkube_accepts_what_kubernetes_refuses(text: str) -> None:
    """The other half of why."""
    assert lightkube.parse_quantity(text)
    with pytest.raises(errors.BadEvent):
        quantity.whole(text, "x")
