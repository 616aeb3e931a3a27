"""Whom the page is in Postgres: itself where it is told so, else the function, and never half of each."""

from __future__ import annotations

import pytest

from function import errors, settings

FUNCTION = {"DB_HOST": "db", "DB_PORT": "6000", "DB_NAME": "ledger", "DB_USER": "writer", "DB_PASSWORD": "w"}
URL = {"DATABASE_URL": "postgresql://writer:w@db:6000/ledger?sslmode=require"}


def connection(**environ: str) -> dict[str, object]:
    """What the page connects with."""
    found = settings.Settings.from_env(environ)
    return {key: str(value) for key, value in found.page.connection(found.database).items()}


@pytest.mark.parametrize("base", [FUNCTION, URL], ids=["DB_*", "DATABASE_URL"])
def test_a_role_of_its_own_never_has_the_function_s_password(base: dict[str, str]) -> None:
    """It has its own, or none."""
    own = connection(**base, PAGE_DB_USER="reader", PAGE_DB_PASSWORD="r")
    assert (own["user"], own["password"], own["host"], own["port"], own["dbname"]) == (
        "reader",
        "r",
        "db",
        "6000",
        "ledger",
    )
    assert "password" not in connection(**base, PAGE_DB_USER="reader")


@pytest.mark.parametrize("base", [FUNCTION, URL], ids=["DB_*", "DATABASE_URL"])
def test_a_host_of_its_own_never_has_the_function_s_port(base: dict[str, str]) -> None:
    """A standby may listen elsewhere; libpq's 5432 where nothing is said."""
    own = connection(**base, PAGE_DB_HOST="standby")
    assert (own["host"], own["user"]) == ("standby", "writer")
    assert "port" not in own
    assert connection(**base, PAGE_DB_HOST="standby", PAGE_DB_PORT="6001")["port"] == "6001"


def test_without_settings_of_its_own_it_is_the_function() -> None:
    """Whichever way that is given."""
    assert connection(**URL)["sslmode"] == "require"
    assert connection(**FUNCTION) == {
        "host": "db",
        "port": "6000",
        "dbname": "ledger",
        "user": "writer",
        "password": "w",
    }
    assert not settings.Settings().page.configured(settings.Settings().database)


@pytest.mark.parametrize("value", ["https://ledger", "ledger:8081", "a b", ",", "*", "ledger/x"])
def test_a_host_name_is_a_name_alone(value: str) -> None:
    """No scheme, no port, no pattern."""
    with pytest.raises(errors.BadSetting, match="PAGE_HOSTS must be host names"):
        settings.Settings.from_env({"PAGE_HOSTS": value})


def test_the_address_of_an_ipv6_host_has_brackets() -> None:
    """As gunicorn and URLs want it."""
    assert settings.Page(host="::1", port=9).address == "[::1]:9"
    assert settings.Page().address == "127.0.0.1:8081"
