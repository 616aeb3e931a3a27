"""The access to Operations: three ways to give it, and one line where it is wrong."""

from __future__ import annotations

import json

import hypothesis
import pytest
from hypothesis import strategies

from function import errors, settings

FULL = {"VROPS_URL": "https://ops.example", "VROPS_USER": "mirror", "VROPS_PASSWORD": "hunter2"}
PUBLISHED = {"vropsFqdn": "ops.example", "vropsUser": "mirror", "vropsPassword": "hunter2"}


def access(environ: dict[str, str]) -> tuple[str, str, str] | None:
    """What the settings come to."""
    found = settings.Settings.from_env(environ).operations.access()
    return (found.url, found.user, found.password) if found else None


def test_nothing_given_turns_it_off() -> None:
    """The other capabilities need no Operations."""
    assert access({}) is None


@pytest.mark.parametrize("environ", [FULL, PUBLISHED, {"VROPS_SECRET": json.dumps(PUBLISHED)}])
def test_each_way_gives_the_same(environ: dict[str, str]) -> None:
    """Three variables, the three published keys, one JSON Secret."""
    assert access(environ) == ("https://ops.example", "mirror", "hunter2")


def test_our_own_variables_win() -> None:
    """Over the published keys, and those over the JSON Secret."""
    secret = {"VROPS_SECRET": json.dumps(dict.fromkeys(PUBLISHED, "c"))}
    assert access({**secret, "vropsUser": "b", "VROPS_PASSWORD": "a"}) == ("https://c", "b", "a")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ops.example", "https://ops.example"),
        ("ops.example:8443", "https://ops.example:8443"),
        ("https://ops.example/", "https://ops.example"),
        ("https://ops.example/suite-api", "https://ops.example"),
        ("https://ops.example/suite-api/api/", "https://ops.example"),
        ("https://proxy.example/ops/suite-api", "https://proxy.example/ops"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_address_is_a_name_or_a_url(given: str, url: str) -> None:
    """With or without the API's path."""
    assert access({**FULL, "VROPS_URL": given}) == (url, "mirror", "hunter2")


@hypothesis.given(strategies.text(strategies.characters(exclude_characters="\x00"), min_size=1))
def test_any_password_is_kept(password: str) -> None:
    """Dollars, backslashes, quotes, blanks at the ends: in a variable and in the JSON Secret.

    A newline at the end of a variable is the work of ``echo`` and is dropped (:func:`variables.without_newline`).
    """
    hypothesis.assume(not password.endswith(("\r", "\n")))
    secret = {"VROPS_SECRET": json.dumps({**PUBLISHED, "vropsPassword": password})}
    for environ in ({**FULL, "VROPS_PASSWORD": password}, secret):
        found = access(environ)
        assert found is not None
        assert found[2] == password


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"VROPS_SECRET": "hunter2"}, "VROPS_SECRET"),
        ({"VROPS_SECRET": '"hunter2"'}, "VROPS_SECRET"),
        ({"VROPS_SECRET": '{"vropsPassword": "hunter2"}'}, "VROPS_SECRET"),
        ({"VROPS_SECRET": json.dumps({**PUBLISHED, "vropsUser": ""})}, "VROPS_SECRET"),
        ({"VROPS_SECRET": json.dumps({**PUBLISHED, "vropsUser": 5})}, "VROPS_SECRET"),
        ({"VROPS_SECRET": json.dumps({**PUBLISHED, "vropsFqdn": "https://hunter2@"})}, "VROPS_SECRET"),
        ({"VROPS_SECRET": "[" * 100_000}, "VROPS_SECRET"),
        ({"VROPS_PASSWORD": "hunter2"}, "VROPS_URL"),
        ({"VROPS_URL": "ops", "VROPS_PASSWORD": "hunter2"}, "VROPS_USER"),
        ({"vropsFqdn": "ops", "vropsUser": "hunter2"}, "VROPS_PASSWORD"),
        ({**FULL, "VROPS_URL": "https://mirror:hunter2@ops"}, "VROPS_URL"),
        ({**FULL, "VROPS_URL": "https://ops?hunter2"}, "VROPS_URL"),
        ({**FULL, "VROPS_URL": "https://ops:hunter2"}, "VROPS_URL"),
        ({**FULL, "VROPS_URL": "ftp://hunter2"}, "VROPS_URL"),
        ({**FULL, "VROPS_URL": "https://hunter2 ops"}, "VROPS_URL"),
        ({**FULL, "VROPS_CA_FILE": "/hunter2"}, "VROPS_CA_FILE"),
        ({**FULL, "VROPS_CA_FILE": __file__}, "VROPS_CA_FILE"),
        ({**FULL, "VROPS_TOKEN_SCHEME": "hunter2\r\nX: y"}, "VROPS_TOKEN_SCHEME"),
        ({**FULL, "VROPS_INSECURE": "hunter2"}, "VROPS_INSECURE"),
        ({**FULL, "VROPS_TIMEOUT": "0"}, "VROPS_TIMEOUT"),
        ({**FULL, "VROPS_TIMEOUT": "nan"}, "VROPS_TIMEOUT"),
        ({**FULL, "VROPS_MAINTENANCE_MINUTES": "-1"}, "VROPS_MAINTENANCE_MINUTES"),
        ({**FULL, "VROPS_UNMARK": "hunter2"}, "VROPS_UNMARK"),
        ({"ECHO": "hunter2"}, "ECHO"),
        ({"ECHO_MAX_BYTES": "0"}, "ECHO_MAX_BYTES"),
        ({"ECHO_SECRETS": "hunter2"}, "ECHO_SECRETS"),
        ({"FUNCTION_DEBUG": "hunter2"}, "FUNCTION_DEBUG"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line(environ: dict[str, str], variable: str) -> None:
    """It names the variable, and holds nothing of the value."""
    with pytest.raises(errors.BadSetting) as caught:
        settings.Settings.from_env(environ)
    assert caught.value.variable == variable
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)


def test_no_password_is_in_what_settings_look_like() -> None:
    """A repr ends in logs."""
    for environ in (FULL, PUBLISHED, {"VROPS_SECRET": json.dumps(PUBLISHED)}):
        configuration = settings.Settings.from_env(environ)
        assert "hunter2" not in f"{configuration!r} {configuration.operations.access()!r}"
