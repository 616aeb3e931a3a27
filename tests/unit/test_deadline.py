"""The deadline of a call, and the resolver that keeps it."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from function.clients import deadline, resolver


def test_without_a_deadline_there_is_no_end() -> None:
    """Unless the caller names one."""
    assert deadline.left() == math.inf
    assert deadline.left(3) == 3


def test_a_block_inside_another_can_only_end_sooner() -> None:
    """And what was before holds again after it, also after an error."""
    with deadline.within(100):
        assert 90 < deadline.left() <= 100
        assert deadline.left(3) == 3
        with deadline.within(1000):
            assert deadline.left() <= 100
        with pytest.raises(ZeroDivisionError), deadline.within(10):
            _ = 1 // 0
        assert deadline.left() > 90
    assert deadline.left() == math.inf


def test_what_is_over_has_nothing_left() -> None:
    """0, and never less."""
    with deadline.until(time.monotonic() - 5):
        assert (deadline.left(), deadline.left(3)) == (0, 0)


def test_each_thread_has_its_own_deadline() -> None:
    """One that is started meanwhile has none."""
    found: list[float] = []
    with deadline.within(100):
        thread = threading.Thread(target=lambda: found.append(deadline.left()))
        thread.start()
        thread.join()
    assert found == [math.inf]


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent
from function.clients import deadline
def call(seconds):
    with deadline.within(seconds):
        gevent.sleep(0.01)
        return round(deadline.left() / 100)
print([each.get() for each in [gevent.spawn(call, seconds) for seconds in (100, 200, 300)]])
"""


def test_each_greenlet_has_its_own_deadline() -> None:
    """As gunicorn serves the function."""
    done = subprocess.run([sys.executable, "-c", GREENLETS], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[1, 2, 3]\n", done.stderr


def entries(*addresses: str) -> list[Any]:
    """Return what the system's resolver answers."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.9", "::1", "fd00::1"])
def test_an_address_is_its_own(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert resolver.addresses(address) == [address]


def test_each_address_of_a_name_is_returned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the resolver's order."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries("10.0.0.2", "10.0.0.1", "10.0.0.2"))
    assert resolver.addresses("many.example") == ["10.0.0.2", "10.0.0.1"]


def test_a_name_has_no_more_addresses_than_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns it may give it thousands."""
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: entries(*(f"10.0.{n // 256}.{n % 256}" for n in range(4000)))
    )
    assert len(resolver.addresses("many.example")) == resolver.MOST


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "", "a..b", "\x00"])
def test_a_name_without_addresses_is_unresolved(host: str) -> None:
    """Also one that no resolver can be asked for."""
    with deadline.within(20), pytest.raises(resolver.Unresolved):
        resolver.addresses(host)


def test_a_resolver_that_does_not_answer_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the call is over."""
    answered = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        answered.wait(60)
        return entries("127.0.0.1")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with deadline.within(0.2), pytest.raises(resolver.Unresolved):
        resolver.addresses("slow.example")
    assert time.monotonic() - began < 30
    answered.set()


STRANGERS = """
import _socket, sys, time
blocking, real = time.sleep, _socket.getaddrinfo
def looked_up(host, *rest, **more):
    if "hangs" in str(host):
        blocking(5)
        raise _socket.gaierror("nobody answered")
    return real(host, *rest, **more)
_socket.getaddrinfo = looked_up
from gevent import monkey
monkey.patch_all()
import gevent
from function.clients import deadline, resolver
few = resolver.Few()
def stranger(number):
    with deadline.within(1):
        try:
            few.addresses(f"hangs-{number}.example")
        except resolver.Unresolved:
            return 1
started = [gevent.spawn(stranger, number) for number in range(40)]
gevent.sleep(0.1)
with deadline.within(4):
    print("127.0.0.1" in resolver.addresses("localhost"), sum(each.get() for each in started))
"""


def test_names_of_strangers_that_are_never_answered_leave_others_resolvable() -> None:
    """As gunicorn serves the function: all look-ups share ten native threads, which the database's need too."""
    command = [sys.executable, "-c", STRANGERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "True 40\n", done.stderr


def test_a_look_up_that_was_left_behind_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the system's resolver has answered; then the next may begin."""
    answered, begun = threading.Event(), list[str]()

    def hang(host: str, *_: Any, **__: Any) -> list[Any]:
        begun.append(host)
        answered.wait(60)
        return entries("10.0.0.1")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    few = resolver.Few(2)
    for name in ("a", "b", "c"):
        with deadline.within(0.1), pytest.raises(resolver.Unresolved):
            few.addresses(name)
    assert begun == ["a", "b"]
    assert few.addresses("127.0.0.1") == ["127.0.0.1"]
    answered.set()
    with deadline.within(30):
        assert few.addresses("d") == ["10.0.0.1"]
