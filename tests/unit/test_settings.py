"""The settings mean what they say, and refuse the rest without showing it."""

from __future__ import annotations

import dataclasses

import pytest

from function import errors, settings


def test_an_empty_environment_gives_the_defaults() -> None:
    """Unset and empty are the same."""
    defaults = settings.Settings()
    assert settings.Settings.from_env({}) == defaults
    assert settings.Settings.from_env({"PORT": "", "DB_HOST": "", "LOG_LEVEL": ""}) == defaults
    assert (defaults.receiver.port, defaults.ledger.cluster_name, defaults.receiver.max_event_bytes) == (
        8080,
        "default",
        2 * 2**20,
    )
    assert not defaults.database.configured


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "eighty-secret"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "٨٠"),
        ("PORT", "9" * 5000),
        ("MAX_EVENT_BYTES", "-1"),
        ("MAX_EVENT_BYTES", "2Mi"),
        ("LOG_LEVEL", "loud"),
        ("DB_PORT", "postgres"),
        ("DB_TIMEOUT", "1e3"),
        ("CLUSTER_NAME", "x" * 254),
        ("DATABASE_URL", "postgresql://user:hunter2@[host/x"),
        ("DATABASE_URL", "mysql://user:hunter2@host/x"),
        ("DATABASE_URL", "postgresql://user:pa:hunter2/w@host/x"),
        ("CLUSTER_NAME", "half \ud800 a character"),
        ("CLUSTERS", "east," + "x" * 254),
    ],
)
def test_a_bad_value_is_named_by_its_variable_and_not_shown(variable: str, value: str) -> None:
    """One line, for the log of a pod that does not start."""
    with pytest.raises(errors.BadSetting) as refusal:
        settings.Settings.from_env({variable: value})
    sentence = str(refusal.value)
    assert sentence.startswith(variable)
    assert "\n" not in sentence
    assert value not in sentence
    assert "hunter2" not in sentence
    assert refusal.value.variable == variable


def test_the_database_is_named_as_in_the_published_example() -> None:
    """DB_* become libpq's keywords."""
    environ = {"DB_HOST": "h", "DB_PORT": "6432", "DB_NAME": "n", "DB_USER": "u", "DB_PASSWORD": "p @:/'\\"}
    configuration = settings.Settings.from_env(environ)
    assert configuration.database.configured
    assert configuration.database.connection() == {
        "host": "h",
        "port": 6432,
        "dbname": "n",
        "user": "u",
        "password": "p @:/'\\",
    }


def test_a_port_counts_without_a_host() -> None:
    """Libpq may know the host by itself."""
    assert settings.Settings.from_env({"PGHOST": "h", "DB_PORT": "6432"}).database.connection() == {"port": 6432}


def test_the_url_wins() -> None:
    """DATABASE_URL over DB_*."""
    configuration = settings.Settings.from_env({"DATABASE_URL": "postgresql://u@h/n", "DB_HOST": "other"})
    assert configuration.database.connection() == {"dsn": "postgresql://u@h/n"}


@pytest.mark.parametrize(
    ("listed", "taken", "refused"),
    [
        ("", ["here"], ["east", "default", "", "*"]),
        ("east, west", ["here", "east", "west"], ["north", "east, west", "*"]),
        ("*", ["here", "east", "any other"], []),
        ("east,*", ["here", "east", "any other"], []),
    ],
)
def test_events_may_name_our_cluster_and_those_that_are_listed(
    listed: str, taken: list[str], refused: list[str]
) -> None:
    """None besides CLUSTER_NAME by default; the sentence names the setting."""
    part = settings.Settings.from_env({"CLUSTER_NAME": "here", "CLUSTERS": listed}).ledger
    for name in taken:
        part.admit(name)
    for name in refused:
        with pytest.raises(errors.Refused, match="CLUSTERS") as refusal:
            part.admit(name)
        assert errors.shown(name) in str(refusal.value)


def test_libpq_may_name_the_server() -> None:
    """PGHOST and PGSERVICE turn the database on, and libpq reads them itself."""
    configuration = settings.Settings.from_env({"PGHOST": "h"})
    assert configuration.database.configured
    assert configuration.database.connection() == {}


def test_secrets_do_not_show_in_a_settings_text() -> None:
    """A settings object may end up in a log."""
    shown = repr(settings.Settings.from_env({"DB_PASSWORD": "hunter2", "DATABASE_URL": "postgresql://u:hunter2@h/n"}))
    assert "hunter2" not in shown


def test_each_setting_has_a_variable_and_a_sentence() -> None:
    """The declarations are the documentation's source."""
    for part in vars(settings.Settings()).values():
        for field in dataclasses.fields(part):
            if field.name != "libpq":
                assert field.metadata["variable"]
                assert field.metadata["doc"].endswith(".")
    variables = [field.metadata["variable"] for _, field in settings.Settings.declared()]
    assert len(set(variables)) == len(variables) > 40
