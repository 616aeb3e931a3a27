"""The HTTP client's answers, and its errors: none of the libraries' comes out of it, nor do their words."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator

import h11
import httpcore2
import hypothesis
import pytest
from hypothesis import strategies as st

from function.clients import http


def foreign() -> Iterator[type[Exception]]:
    """Every error that httpcore and h11 define."""
    for module in (httpcore2, h11):
        for _, found in inspect.getmembers(module, inspect.isclass):
            if issubclass(found, Exception):
                yield found


@pytest.mark.parametrize("error", sorted(set(foreign()), key=str), ids=lambda error: error.__name__)
def test_each_foreign_error_becomes_ours(error: type[Exception]) -> None:
    """A new one in a new version is noticed here."""
    assert issubclass(error, http.FOREIGN)
    exc = error.__new__(error)
    exc.args = ("https://user:hunter2@receiver/",)
    assert "hunter2" not in http.why(exc)


def test_a_bug_is_not_trouble_of_a_neighbour() -> None:
    """It is seen as what it is."""
    assert not issubclass(ZeroDivisionError, http.FOREIGN)
    assert not issubclass(TypeError, http.FOREIGN)


def answer(body: bytes = b"{}", **headers: str) -> http.Answer:
    """Return an answer."""
    return http.Answer(200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2", 2.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("2.6", 3.0),
        ("0.1", 1.0),
        ("3.0", 3.0),
        ("7.", 7.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("1,5", None),
        (".5", None),
        ("inf", None),
        ("nan", None),
        ("٣", None),
        ("9" * 5000, None),
        ("soon", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_a_fraction_of_them_or_a_date(said: str, seconds: float | None) -> None:
    """A fraction is rounded up: a receiver that says 2.6 wants nothing before that."""
    assert answer(retry_after=said).retry_after() == seconds


@hypothesis.given(st.text())
def test_any_retry_after_is_a_number_of_seconds_or_none(said: str) -> None:
    """It comes from somebody else."""
    found = answer(retry_after=said).retry_after()
    assert found is None or found >= 0


def test_an_answer_says_its_json() -> None:
    """Whatever JSON there is."""
    assert answer(b'{"a": [1, null]}').json() == {"a": [1, None]}


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b'"\\ud800"', b"[" * 100_000, b"{}{}"])
def test_what_is_not_json_is_no_answer(body: bytes) -> None:
    """In a word of ours."""
    with pytest.raises(http.NoAnswer, match="gave an answer that is not JSON"):
        answer(body).json()


@pytest.mark.parametrize("part", [b"{},", b"[],", b"0,", b'{"":{"":0}},'])
def test_json_of_too_many_values_is_not_built(part: bytes) -> None:
    """Two bytes become a Python object of 64: 24 MiB of {} would be 1.7 GB."""
    assert answer(b"[" + part * 200 + b"0]").json(most_values=1000)
    with pytest.raises(http.NoAnswer, match="gave an answer that is too long"):
        answer(b"[" + part * 1000 + b"0]").json(most_values=1000)
    with pytest.raises(http.NoAnswer, match="gave an answer that is too long"):
        answer(b"[" + part * http.MOST_VALUES + b"0]").json()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


def values(said: object) -> int:
    """Count the values of which JSON is made."""
    inner = list(said.values()) if isinstance(said, dict) else said if isinstance(said, list) else []
    return 1 + sum(map(values, inner))


@hypothesis.given(JSON, st.integers(1, 30))
def test_any_json_that_is_built_has_no_more_values_than_allowed(said: object, most: int) -> None:
    """They are counted before they are built, by the signs in front of them."""
    try:
        found = answer(json.dumps(said).encode()).json(most_values=most)
    except http.NoAnswer:
        return
    assert values(found) <= most


def test_a_body_that_is_not_whole_is_not_read_as_json() -> None:
    """It could be whole JSON by chance."""
    cut = http.Answer(200, {}, b"{}", http.Why.LATE)
    for read in (cut.json, cut.whole):
        with pytest.raises(http.NoAnswer, match="did not answer in time"):
            read()
