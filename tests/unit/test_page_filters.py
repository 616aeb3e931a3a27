"""What a query string asks for: any text is a filter or one sentence, and the statements of past and present agree."""

from __future__ import annotations

import json
import pathlib
import re
import urllib.parse

import hypothesis
import hypothesis.strategies as st
import pytest

import function.page
from function import errors
from function.clients import statements
from function.page import filters, moment, query

SQL = statements.load(pathlib.Path(function.page.__file__).parent / "sql")
WORDS = st.sampled_from([*sorted(filters.NAMES), "at", "columns", "x"])


def read(text: str) -> None:
    """Read all that the fleet reads."""
    found = asked(text)
    filters.Filter.parsed(found)
    filters.Order.parsed(found)


def asked(text: str) -> query.Query:
    """The query of a query string."""
    return query.Query.parsed(text)


@hypothesis.given(st.lists(st.tuples(WORDS, st.text(max_size=40)), max_size=8))
def test_any_words_are_a_filter_and_an_order_or_a_sentence(pairs: list[tuple[str, str]]) -> None:
    """Nothing else is raised, and what comes out fits the statements' types."""
    try:
        found = asked(urllib.parse.urlencode(pairs, errors="surrogatepass"))
        parameters = {**filters.Filter.parsed(found).parameters(), **filters.Order.parsed(found).parameters()}
        moment.parsed(found.one("at"))
    except errors.BadQuestion as exc:
        assert "\n" not in str(exc)
        return
    json.dumps(parameters).encode()
    assert set(parameters) | {"at", "most"} == set(SQL.by_name["list_fleet"].parameters)


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes_are_a_query_or_a_sentence(raw: bytes) -> None:
    """As a WSGI server gives them: latin-1."""
    try:
        found = asked(raw.decode("latin-1"))
    except errors.BadQuestion:
        return
    assert query.Query.parsed(str(found)).pairs == found.pairs


@hypothesis.given(
    st.tuples(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), *[st.text(min_size=1, max_size=20)] * 3)
)
def test_any_key_is_read_as_it_was_written(key: filters.Key) -> None:
    """So the next page begins where this one ends; Postgres has no NUL."""
    hypothesis.assume("\x00" not in "".join(map(str, key)))
    assert filters.key(filters.written(key)) == key


@pytest.mark.parametrize(
    "text",
    ["x", "[]", '["",true,"a","b","c"]', '["",0,"a","b"]', '["\\u0000",0,"a","b","c"]', '["\\ud800",0,"","",""]'],
)
def test_a_key_that_the_page_did_not_make_is_refused(text: str) -> None:
    """With a sentence, not with an error of the database."""
    with pytest.raises(errors.BadQuestion, match="made by the page's own links"):
        filters.key(text)


def test_the_search_has_words_fields_and_labels() -> None:
    """A prefix that is not known is part of a word, because addresses have colons."""
    found = filters.Search.parsed("Web_1 ns:shop node:n-1 ip:10.2 label:app=web label:tier fe80::1").parameters()
    assert found == {
        "words": ["%web\\_1%", "%fe80::1%"],
        "name_words": None,
        "namespace_words": ["%shop%"],
        "node_words": ["%n-1%"],
        "address_words": ["%10.2%"],
        "labels": ['{"app": "web"}'],
        "label_keys": ["tier"],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("q=" + "+a" * 30, "more than 10 words"),
        ("q=a&q=b", "q= is given twice"),
        ("sort=colour", "sort= must be one of cluster, namespace"),
        ("after=x&before=y", "cannot both be given"),
        ("&".join(["cluster=a"] * 61), "asks for too much at once"),
        ("&".join(f"cluster={number}" for number in range(21)), "more than 20 times"),
        ("q=" + "a" * 301, "300 characters at most"),
        ("q=%00", "NUL"),
        ("q=%ff", "not UTF-8"),
        ("q=" + "a" * 4000, "too long"),
    ],
)
def test_too_much_is_a_sentence(text: str, sentence: str) -> None:
    """Each limit says what it is."""
    with pytest.raises(errors.BadQuestion, match=sentence):
        read(text)


ENDS = ("last_cluster", "last_namespace", "last_name")
"""What only the past is asked: the last VM of a stretch."""


def without_its_end(sql: str) -> str:
    """A statement without the end of a stretch, and without the place and the type of its last parameter."""
    sql = re.sub(r"END AND CASE\n +WHEN asked.last_name.*?\n    END\n", "END\n", sql, flags=re.DOTALL)
    sql = re.sub(r",\s+\$\d+ AS last_cluster, \$\d+ AS last_namespace, \$\d+ AS last_name", "", sql)
    return re.sub(r"(?:text, )+integer\n\)|LIMIT \$\d+", "", sql)


@pytest.mark.parametrize("name", ["list_fleet", "count_fleet"])
def test_the_past_is_asked_as_the_present_is(name: str) -> None:
    """The statements differ in their name and in what they read; the past is read in stretches besides."""
    past = name.replace("_fleet", "_past_fleet")
    expected = SQL.by_name[name].sql.replace(name, past)
    expected = expected.replace(
        "CROSS JOIN virtual_machines AS v", "CROSS JOIN LATERAL virtual_machines_at(asked.at) AS v"
    ).replace("FROM virtual_machines AS v", "FROM virtual_machines_at(asked.at) AS v")
    assert without_its_end(SQL.by_name[past].sql) == without_its_end(expected)
    assert [each for each in SQL.by_name[past].parameters if each not in ENDS] == [*SQL.by_name[name].parameters]
    assert re.search(r"\bOFFSET\b", expected) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-27T09:30", "2026-11-27T09:30:00+00:00"),
        ("2026-11-27T09:30:05Z", "2026-11-27T09:30:05+00:00"),
        ("2026-11-27T09:30+02:00", "2026-11-27T07:30:00+00:00"),
        ("2026-11-27", "2026-11-27T00:00:00+00:00"),
    ],
)
def test_a_moment_without_a_zone_is_utc(text: str, expected: str) -> None:
    """As the field sends it, and as people write it."""
    found = moment.parsed(text)
    assert found is not None
    assert found.isoformat() == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "12"])
def test_another_moment_is_a_sentence(text: str) -> None:
    """What cannot be read, or is beyond what a clock says."""
    with pytest.raises(errors.BadQuestion, match="at= must be a date and a time in UTC"):
        moment.parsed(text)
