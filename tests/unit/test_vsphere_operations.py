"""No error of the HTTP library comes out of its door, and none of its words do."""

from __future__ import annotations

import http.client
import inspect
from collections.abc import Iterator

import pytest
import requests.exceptions
import urllib3.exceptions

from function import errors
from function.vsphere import operations


def foreign() -> Iterator[type[Exception]]:
    """Every error that requests, urllib3 and http.client define."""
    for module in (requests.exceptions, urllib3.exceptions, http.client):
        for _, found in inspect.getmembers(module, inspect.isclass):
            if issubclass(found, Exception) and not issubclass(found, Warning) and found.__module__ == module.__name__:
                yield found


@pytest.mark.parametrize(
    "error", sorted(set(foreign()), key=str), ids=lambda error: f"{error.__module__}.{error.__name__}"
)
def test_each_foreign_error_becomes_ours(error: type[Exception]) -> None:
    """A new one in a new version is noticed here."""

    def fail() -> None:
        exc = error.__new__(error)
        exc.args = ("https://user:hunter2@ops/",)
        raise exc

    with pytest.raises(errors.Unavailable) as caught:
        operations._within(1, fail)
    assert "hunter2" not in str(caught.value)


def test_a_bug_is_no_trouble_of_operations() -> None:
    """It is seen as what it is."""
    with pytest.raises(ZeroDivisionError):
        operations._within(1, lambda: 1 // 0)
