"""Where placeholders are found, and what replaces them."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function.scaling import placeholders, template
from tests import hpa

VALUES = placeholders.values_of(hpa.OCCURRENCE, target="Deployment/cart")
NOTHING = placeholders.values_of(
    dataclasses.replace(hpa.OCCURRENCE, new_size=None, direction=None, count=None, uid="", reason="", event_type=""),
    target=None,
)
ABSENT = ("new_size", "direction", "count", "hpa_uid", "reason", "type", "target")
"""Placeholders that may have no value."""
names = st.sampled_from(sorted(placeholders.NAMES))
touching = st.from_regex(r"[A-Za-z0-9_]", fullmatch=True)


def message(text: str) -> dict[str, placeholders.Value]:
    """Return the values of an occurrence with this message."""
    return placeholders.values_of(dataclasses.replace(hpa.OCCURRENCE, message=text), target=None)


@pytest.mark.parametrize(
    ("placeholder", "expected"),
    [
        ("message", hpa.OCCURRENCE.message),
        ("time", "2026-05-11T06:30:12Z"),
        ("time_s", 1778481012),
        ("time_ms", 1778481012000),
        ("time_us", 1778481012000000),
        ("time_ns", 1778481012000000000),
        ("time_ms_plus_1", 1778481012001),
        ("namespace", "shop"),
        ("name", "cart"),
        ("cluster", "west"),
        ("reason", "SuccessfulRescale"),
        ("type", "Normal"),
        ("new_size", 6),
        ("direction", "up"),
        ("target", "Deployment/cart"),
        ("count", 3),
        ("hpa_uid", "0d4f7a52"),
        ("occurrence", hpa.OCCURRENCE.key),
    ],
)
def test_each_placeholder_has_its_value(placeholder: str, expected: placeholders.Value) -> None:
    """Alone it is the value, a number where it is one; inside a text, and with the option text, it is text."""
    found = placeholders.filled([f"_{placeholder}_", f"<_{placeholder}_>", f"_{placeholder}:text_"], VALUES)
    assert found == [expected, f"<{expected}>", str(expected)]


def test_every_placeholder_is_tested() -> None:
    """The table above has all of them, and the numbers are those of NUMBERS."""
    assert set(VALUES) == placeholders.NAMES
    assert {name for name, value in VALUES.items() if isinstance(value, int)} == placeholders.NUMBERS


@pytest.mark.parametrize("name", ABSENT)
def test_a_placeholder_without_a_value_is_null_or_nothing(name: str) -> None:
    """Null where it stands alone, nothing inside a text, never null with the option text or or."""
    texts = [f"_{name}_", f"({name}: _{name}_)", f"_{name}:text_", f"_{name}:or=not known_", f"({name}: _{name}:or=?_)"]
    assert placeholders.filled(texts, NOTHING) == [None, f"({name}: )", "", "not known", f"({name}: ?)"]


@pytest.mark.parametrize("name", ABSENT)
def test_a_value_that_exists_is_not_replaced_by_its_option(name: str) -> None:
    """The option or is for nothing alone; a number stays a number beside it."""
    assert placeholders.filled([f"_{name}:or=x_", f"_{name}:or=x:text_"], VALUES) == [VALUES[name], str(VALUES[name])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_new_size:or=0_", 0),
        ("_new_size:or=-1_", -1),
        ("_new_size:or=0:text_", "0"),
        ("_new_size:text:or=0_", "0"),
        ("_new_size:or=_", ""),
        ("_new_size:or=007_", "007"),
        ("_direction:or=0_", "0"),
        ("_direction:or=n/a, or both!_", "n/a, or both!"),
    ],
)
def test_an_own_value_for_nothing_is_a_number_where_the_value_would_be_one(text: str, expected: Any) -> None:
    """So that a receiver that wants a number gets one."""
    assert placeholders.filled(text, NOTHING) == expected


@given(names, st.text("_aZ9", min_size=0, max_size=3), st.text("_aZ9", min_size=0, max_size=3))
def test_nothing_is_replaced_inside_a_longer_word(name: str, before: str, after: str) -> None:
    """Whatever letters, digits and underscores touch it, on one side or on both."""
    word = f"{before}_{name}_{after}"
    expected = str(VALUES[name]) if word == f"_{name}_" else word
    assert placeholders.replaced(word, VALUES) == expected


@pytest.mark.parametrize(
    "text",
    [
        "__name__",
        "___time___",
        "_time_ms_000000",
        "kube_cluster_name",
        "source_type_name",
        "a_name_b",
        "x_message_",
        "_time_zone",
        "2_count_",
        "_name__",
        "_name_name_",
        "_name__old_",
    ],
)
def test_words_of_a_receiver_stay(text: str) -> None:
    """Alone, and in the midst of a text."""
    assert placeholders.filled([text, f"{{{text}=~'x'}}"], VALUES) == [text, f"{{{text}=~'x'}}"]


@given(st.lists(names, min_size=1, max_size=4), st.sampled_from("/ :,;.-+*<>(){}[]|@#\"'\\\n…é日"))
def test_placeholders_may_touch_each_other_and_any_mark(found: list[str], mark: str) -> None:
    """A namespace and a name need nothing between them; a mark or a letter of another script sets apart."""
    run = "".join(f"_{name}_" for name in found)
    expected = "".join(str(VALUES[name]) for name in found)
    assert placeholders.replaced(f"{mark}{run}{mark}", VALUES) == f"{mark}{expected}{mark}"


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_keys_stay(node: Any) -> None:
    """Whatever JSON it is, and wherever in it a placeholder is a key."""
    found = placeholders.filled({"_name_": node, "a _message_ b": {"_time_": "_name_"}}, VALUES)
    assert list(found) == ["_name_", "a _message_ b"]
    assert found["a _message_ b"] == {"_time_": "cart"}
    assert json.dumps(found["_name_"]) == json.dumps(placeholders.filled(node, VALUES))


@given(st.text())
def test_any_message_arrives_as_it_was(text: str) -> None:
    """Whatever it holds: a placeholder in it is not one."""
    for said in (text, f"_name_ {text} _time_"):
        assert placeholders.filled(["_message_", "x _message_ y"], message(said)) == [said, f"x {said} y"]


@given(st.text(min_size=1), st.integers(1, 40))
def test_any_message_can_be_shortened(text: str, most: int) -> None:
    """To so many characters, the last one an ellipsis where something was cut; a short one stays whole."""
    found = placeholders.filled(f"_message:max={most}_", message(text))
    assert found == (text if len(text) <= most else f"{text[: most - 1]}…")
    assert placeholders.replaced(f"[_message:max={most}_]", message(text)) == f"[{found}]"


@given(st.text("a&<>", min_size=1), st.integers(1, 40))
def test_a_shortened_message_has_no_half_of_an_escape(text: str, most: int) -> None:
    """What is counted is what is sent: at Slack, & is five characters."""
    found = placeholders.filled(f"_message:max={most}_", message(text), template.escaped)
    assert len(found) <= most
    kept = html.unescape(found.removesuffix("…"))
    assert text.startswith(kept)
    assert template.escaped(kept) == found.removesuffix("…")
    assert found.endswith("…") or kept == text


@pytest.mark.parametrize(
    "text",
    [
        *("_message:max=0_", "_message:max=_", "_message:max=-1_", "_message:max=1e3_", "_message:max=9999999_"),
        *("_message:_", "_message:txt_", "_message:or_", "_message: text_", "_message:text:_", "_message:or=a:b_"),
    ],
)
def test_an_option_that_does_not_exist_is_said(text: str) -> None:
    """It is no placeholder then, and a person wants to know why."""
    assert placeholders.filled(text, VALUES) == text
    sentence = "_message_ has an option that does not exist: there are text, max=NUMBER and or=TEXT"
    assert sentence in set(placeholders.remarks(text))


@given(st.text(), st.lists(st.sampled_from([":text", ":max=3", ":or=none", ":or=", ":x"])), st.text())
def test_any_text_is_replaced_or_left(before: str, options: list[str], after: str) -> None:
    """And a remark quotes no more of it than a word between blanks or marks."""
    text = f"{before}_count{''.join(options)}_{after}"
    replaced = placeholders.replaced(text, NOTHING)
    assert isinstance(replaced, str)
    for remark in placeholders.remarks(text):
        assert re.fullmatch(r"_[A-Za-z0-9_.-]+_ (is not a placeholder|is part of|has an option).*", remark), remark


# --- what looks like a placeholder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_old_size_", "_time_ms_plus_2_", "_time_zone_", "_Name_", "_NEW_SIZE_", "_newSize_"])
@pytest.mark.parametrize("text", ["{}", "a {} b.", "size={}", "[{}]", "<{}>", "'{}'", "({})!", '"{}"', "a/{}:b"])
def test_an_unknown_placeholder_is_said(name: str, text: str) -> None:
    """Between any marks, and in another spelling."""
    assert list(placeholders.remarks(text.format(name))) == [f"{name} is not a placeholder"]


@pytest.mark.parametrize(
    ("text", "name"),
    [("_time_ms_000000", "time_ms"), ("__name__", "name"), ("_name_x", "name"), ("at _time_s_0, it", "time_s")],
)
def test_a_placeholder_in_a_longer_word_is_said(text: str, name: str) -> None:
    """By its name alone: the rest of the word may be a part of a token."""
    sentence = f"_{name}_ is part of a longer word: no letter, digit or underscore may touch a placeholder"
    assert list(placeholders.remarks(text)) == [sentence]


def test_a_placeholder_in_a_key_is_said() -> None:
    """However deep it is."""
    assert list(placeholders.remarks([{"a": {"_name_": 1}}])) == ["_name_ is in a key, where nothing is replaced"]


@pytest.mark.parametrize(
    "text",
    [
        "R0_abc_def-_ghi_-x",
        "kube_cluster_name:_cluster_",
        "source_type_name",
        "_namespace_/_name_: _message:max=140_ _new_size:or=not known_",
        "snake_case and a _ b",
        "__init",
        "a__b",
        "_",
        "__",
        "___",
    ],
)
def test_what_is_no_look_alike_is_not_said(text: str) -> None:
    """A piece of a token, a word of a receiver, and what is replaced."""
    assert list(placeholders.remarks(text)) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"a": _time_}', '{"a": "_time_ms_"}'),
        ('{"a": _new_size:or=0_, "b": "_time_"}', '{"a": "_new_size:or=0_", "b": "_time_"}'),
        ('{"a": __name__}', '{"a": __name__}'),
        ('{"a": "x \\" _time_"}', '{"a": "x \\" _time_"}'),
    ],
)
def test_a_bare_placeholder_is_quoted(body: str, expected: str) -> None:
    """Outside of strings, where JSON has no text; inside of them nothing changes."""
    assert placeholders.quoted(body) == expected
