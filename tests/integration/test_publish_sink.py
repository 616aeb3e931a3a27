"""The changes reach the sink: whatever it answers, one `publish` at a time, across stops, and across a restore."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from dev import embedded_postgres
from function import errors, migrate, settings
from function.clients import postgres
from function.inventory.storage import store
from tests import conftest, publishing
from tests.integration import test_past

Query = Callable[..., list[tuple[Any, ...]]]
ADD, UPDATE = test_past.ADD, test_past.UPDATE
machine, write = test_past.machine, test_past.write


@pytest.fixture
def tables(db: postgres.Database) -> store.Store:
    """The ledger's tables."""
    return store.Store(db)


def until(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + publishing.SECONDS
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def several(tables: store.Store, count: int, first: int = 10) -> None:
    """Store so many changes of the VM a."""
    for number in range(first, first + count):
        write(tables, machine(UPDATE, number, number, cores=number))


def cores(events: list[publishing.Received]) -> list[int]:
    """What the changes of the VM say, each id once."""
    once = {event.id: event.data["changes"]["vcpus"]["new"] for event in events}
    return list(once.values())


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503, None])
def test_what_may_be_taken_later_is_sent_again(status: int | None, url: str, tables: store.Store) -> None:
    """As Knative does; the VM's next change waits for it."""
    with publishing.sinking(lambda _event, times: (status, {}) if times < 2 else publishing.TAKEN) as sink:
        with publishing.publishing(url, sink.url, publishing.NOW):
            several(tables, 2)
            sink.wait(2)
        assert [each.status for each in sink.received] == [status, status, 204] * 2
        assert cores(sink.taken()) == [10, 11]


def test_retry_after_is_waited_for(url: str, tables: store.Store) -> None:
    """Where it asks for more than would be waited."""
    moments: list[float] = []

    def answer(_event: publishing.Json, times: int) -> publishing.Answer:
        moments.append(time.monotonic())
        return (429, {"Retry-After": "2"}) if times == 0 else publishing.TAKEN

    with publishing.sinking(answer) as sink, publishing.publishing(url, sink.url, publishing.NOW):
        several(tables, 1)
        sink.wait(1)
    assert moments[1] - moments[0] >= 2


@pytest.mark.parametrize("status", [302, 400, 413, 422])
def test_what_is_refused_for_good_is_logged_and_passed_over(
    status: int, url: str, tables: store.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the event, and nothing of its data."""
    with publishing.sinking(lambda event, _: publishing.TAKEN if "T11" in event["time"] else (status, {})) as sink:
        with publishing.publishing(url, sink.url, publishing.NOW):
            several(tables, 2)
            sink.wait(1)
        assert [each.status for each in sink.received] == [status, 204]
    [record] = [each for each in caplog.records if getattr(each, "action", "") == "publish.refused"]
    assert f"answered {status}" in record.getMessage()
    assert record.__dict__["event"]["subject"] == "team/a"
    assert "vcpus" not in str(record.__dict__)


def test_one_vm_that_is_refused_for_now_holds_up_no_other_of_the_portion(url: str, tables: store.Store) -> None:
    """The others' changes go on; the position waits."""
    allowed = False
    with (
        publishing.sinking(
            lambda event, _: publishing.TAKEN if allowed or event["subject"] != "team/a" else (503, {})
        ) as sink,
        publishing.publishing(url, sink.url, publishing.NOW),
    ):
        write(tables, *(machine(ADD, 10, 0, name=name) for name in "abc"))
        sink.wait(2)
        assert {each.attributes["subject"] for each in sink.taken()} == {"team/b", "team/c"}
        allowed = True
        sink.wait(3)


def test_it_goes_on_after_a_stop_in_the_middle(url: str, tables: store.Store, query: Query) -> None:
    """With what the sink had not taken, and no change is missed."""
    several(tables, 12)
    with publishing.sinking(lambda _event, _: publishing.TAKEN if len(sink.received) < 5 else (503, {})) as sink:
        with publishing.publishing(url, sink.url, publishing.BEGINNING, batch=3):
            until(lambda: len(sink.received) > 5)
        assert query("SELECT told IS NULL, target IS NULL FROM publish_position") == [(True, False)]
        several(tables, 3, first=30)
        sink.answer = lambda _event, _times: publishing.TAKEN
        with publishing.publishing(url, sink.url):
            until(lambda: len({each.id for each in sink.taken()}) == 15)
    assert cores(sink.taken()) == [*range(10, 22), *range(30, 33)]


def test_what_is_sent_again_after_a_stop_is_not_mixed_with_what_came_late(url: str, tables: store.Store) -> None:
    """The sink has taken a newer change of the VM, so the late one is a correction, though no position is past it."""
    with publishing.sinking(lambda event, _: (503, {}) if event["subject"] == "team/a" else publishing.TAKEN) as sink:
        with publishing.publishing(url, sink.url, publishing.NOW):
            write(tables, *(machine(ADD, 10, 0, name=name) for name in "ab"), machine(UPDATE, 30, 3, name="b", cores=8))
            until(lambda: len(sink.taken()) == 2 and len(sink.received) > 2)
        write(tables, machine(UPDATE, 20, 2, name="b", cores=4))
        sink.answer = lambda _event, _times: publishing.TAKEN
        with publishing.publishing(url, sink.url):
            until(lambda: any(each.data["resource_version"] == 20 for each in sink.taken()))
    first = {each.id: each for each in sink.taken() if each.data["name"] == "b"}.values()
    assert [(each.data["resource_version"], each.what) for each in first] == [
        (10, "appeared"),
        (30, "changed"),
        (20, "corrected"),
    ]


def test_a_position_that_is_set_anew_sends_the_same_ids(url: str, tables: store.Store) -> None:
    """--from on a later start; and without it nothing is sent twice."""
    several(tables, 4)
    with publishing.sinking() as sink:
        with publishing.publishing(url, sink.url, publishing.BEGINNING):
            sink.wait(4)
        with publishing.publishing(url, sink.url):
            several(tables, 1, first=20)
            sink.wait(5)
        with publishing.publishing(url, sink.url, publishing.BEGINNING):
            sink.wait(10)
        sent = [each.id for each in sink.taken()]
    assert sent[:5] == sent[5:]
    assert len(set(sent)) == 5


def test_of_two_one_works_and_the_other_goes_on_after_it(
    url: str, tables: store.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent by both."""
    caplog.set_level("INFO")
    with publishing.sinking() as sink, contextlib.ExitStack() as second:
        with publishing.publishing(url, sink.url, publishing.NOW):
            until(lambda: any(getattr(each, "action", "") == "publish.began" for each in caplog.records))
            second.enter_context(publishing.publishing(url, sink.url))
            until(lambda: any(getattr(each, "action", "") == "publish.waiting" for each in caplog.records))
            several(tables, 3)
            sink.wait(3)
        several(tables, 3, first=20)
        sink.wait(6)
    assert cores(sink.received) == [10, 11, 12, 20, 21, 22]
    assert len(sink.received) == 6


def test_the_function_s_role_is_enough(url: str, tables: store.Store) -> None:
    """It needs no right that the receiver's role has not; without any it ends with a sentence."""
    role = f"app_{time.time_ns()}"
    conftest.execute(url, f"CREATE ROLE {role} LOGIN")
    try:
        its_url = url.replace("postgres@", f"{role}@")
        with publishing.sinking() as sink:
            with pytest.raises(errors.Refused), publishing.publishing(its_url, sink.url) as thread:
                until(lambda: not thread.is_alive())
            migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_APP_ROLE": role}))
            with publishing.publishing(its_url, sink.url, publishing.NOW):
                several(tables, 2)
                sink.wait(2)
    finally:
        conftest.execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_restore_into_another_postgres_cluster_misses_nothing(
    url: str, tables: store.Store, server: embedded_postgres.Postgres, tmp_path: pathlib.Path
) -> None:
    """What had not been sent at the dump, and what was recorded since; and ids that meet old ones send nothing."""
    name = url.rpartition("/")[2].partition("?")[0]
    several(tables, 3)
    with publishing.sinking() as sink:
        with publishing.publishing(url, sink.url, publishing.BEGINNING):
            sink.wait(3)
        several(tables, 2, first=20)
        dump = subprocess.run([server.binaries / "pg_dump", url], capture_output=True, check=True).stdout
        other = embedded_postgres.Postgres(tmp_path / "other")
        other.start()
        try:
            conftest.execute(other.url(), f"CREATE DATABASE {name}")
            restored = other.url(database=name)
            subprocess.run([server.binaries / "psql", restored, "-q"], input=dump, capture_output=True, check=True)
            for column, table in (("recorded_at", "vm_history"), ("told_at", "publish_position")):
                conftest.execute(restored, f"UPDATE {table} SET {column} = {column} - interval '1 hour'")
            with contextlib.closing(postgres.Database({"dsn": restored}, timeout=10)) as there:
                its_tables = store.Store(there)
                several(its_tables, 2, first=30)
                with publishing.publishing(restored, sink.url):
                    until(lambda: len({each.id for each in sink.taken()}) == 7)
                    several(its_tables, 2, first=40)
                    until(lambda: len({each.id for each in sink.taken()}) == 9)
                count = len(sink.received)
                meet = "DO $$ BEGIN FOR n IN 1..3000 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$"
                conftest.execute(restored, meet)
                with publishing.publishing(restored, sink.url):
                    several(its_tables, 1, first=50)
                    until(lambda: len({each.id for each in sink.taken()}) == 10)
                assert len(sink.received) == count + 1
        finally:
            other.stop()
    assert sorted(set(cores(sink.taken()))) == [10, 11, 12, 20, 21, 30, 31, 40, 41, 50]
    assert {each.what for each in sink.taken()} == {"appeared", "changed"}


def test_what_is_sent_is_what_the_document_shows(url: str, tables: store.Store) -> None:
    """The example of docs/follow.md has the members that an event has."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "follow.md").read_text()
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    with publishing.sinking() as sink, publishing.publishing(url, sink.url, publishing.NOW):
        several(tables, 1)
        [event] = sink.wait(1)
    assert event.data.keys() == shown.keys()
