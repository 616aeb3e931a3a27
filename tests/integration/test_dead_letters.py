"""Dead letters are kept in Postgres as the sink receives them, and a replay gives what the event would have given."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2.extensions
import pytest

from dev import embedded_postgres
from function import errors, events, migrate, settings, wiring
from function.cli import main, output
from function.clients import postgres
from function.dead_letters import keeper, letter, replay, table
from function.echo import echo
from function.inventory.mapping import trimmed
from function.web import app
from tests import conftest, dead_letters

Query = Callable[..., list[tuple[Any, ...]]]
KEPT = "SELECT code, sentence, destination, event_id, form, count FROM dead_letters ORDER BY number"
ROW = "SELECT name, vcpus, memory_bytes, network, labels, resource_version, time FROM virtual_machines ORDER BY name"


@contextlib.contextmanager
def service(url: str | None, **environ: str) -> Iterator[wiring.Service]:
    """The function over a database."""
    given = {**environ, **({"DATABASE_URL": url} if url else {})}
    with contextlib.closing(wiring.Service(settings.Settings.from_env(given))) as opened:
        yield opened


def post(opened: wiring.Service, data: Any, given: dict[str, str], *, path: str = "/echo", **options: str) -> int:
    """Send an event in binary mode; return the status."""
    body, headers = dead_letters.request(data, given, **options)
    return opened.app.test_client().post(path, data=body, headers=headers).status_code


def replayed(url: str, *arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command; return its exit code and its lines."""
    monkeypatch.setattr(output, "configure_logs", lambda _: None)  # it is for the whole process, which is pytest's
    monkeypatch.setenv("DATABASE_URL", url)
    capsys.readouterr()
    code = main.main(["replay", *arguments])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def query(url: str) -> Query:
    """Run SQL on a connection of its own: a database that goes away here takes all that there are."""
    return functools.partial(conftest.execute, url)


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command ``replay`` over the test's database."""
    return lambda *arguments: replayed(url, *arguments, capsys=capsys, monkeypatch=monkeypatch)


@pytest.mark.parametrize("default_broker", [True, False])
def test_a_dead_letter_is_kept_with_why_it_is_one(url: str, query: Query, *, default_broker: bool) -> None:
    """Of the default Broker, and of a channel or Kafka's: who refused it, with which status and sentence."""
    given = {**dead_letters.attributes(), **dead_letters.failure(default_broker=default_broker)}
    with service(url) as opened:
        assert post(opened, dead_letters.sample("networks"), given) == 204
    assert query(KEPT) == [
        (503, dead_letters.AWAY, dead_letters.RECEIVER, dead_letters.attributes()["id"], "trimmed", 1)
    ]
    [(attributes,)] = query("SELECT attributes FROM dead_letters")
    assert attributes == dead_letters.attributes(datacontenttype="application/json")


def test_what_is_no_dead_letter_is_not_kept(url: str, query: Query) -> None:
    """The echo of a Broker's events, and what arrives at the receiver while it is debugged."""
    with service(url, FUNCTION_DEBUG="true") as opened:
        assert post(opened, dead_letters.sample("networks"), dead_letters.attributes()) == 204
        given = {**dead_letters.attributes(), **dead_letters.failure()}
        assert post(opened, dead_letters.sample("networks"), given, path="/") == 204
    assert query(KEPT) == []


def test_an_answer_that_was_too_long_to_be_wrapped_is_kept_too(url: str, query: Query) -> None:
    """Of such a dead letter, the default Broker's count of hops is all that makes it one."""
    with service(url) as opened:
        given = {**dead_letters.attributes(), "knativebrokerttl": "254"}
        assert post(opened, dead_letters.sample("networks"), given) == 204
    assert [row[:3] for row in query(KEPT)] == [(None, None, None)]


@pytest.mark.parametrize(("folder", "kind"), [("vm", "VirtualMachine"), ("vmi", "VirtualMachineInstance")])
def test_a_replay_stores_the_row_that_the_event_would_have_stored(
    folder: str, kind: str, new_database: Callable[..., str], template: str, run_on: Callable[..., Any]
) -> None:
    """For each sample: what is kept is trimmed, and the ledger is the same."""
    names = sorted(path.stem for path in (dead_letters.SAMPLES / folder).glob("*.json"))
    straight, kept = new_database(template), new_database(template)
    with service(straight) as direct, service(kept) as sink:
        for number, name in enumerate(names):
            given = dead_letters.attributes(number, kind)
            data = dead_letters.sample(name, folder)
            direct_status = post(direct, data, given, path="/")
            assert post(sink, data, {**given, **dead_letters.failure()}) == 204, name
            assert direct_status in (204, 400)
    run_on(kept)
    tables = ("vm_state", "vm_history") if folder == "vm" else ("vm_runtime", "vm_runtime_history")
    for name in tables:
        assert rows(kept, name) == rows(straight, name)


def rows(url: str, name: str) -> list[Any]:
    """The rows of a table, without when they were written."""
    written = ["updated_at", "recorded_at", "recorded_xid", "known_at"]
    found = conftest.execute(url, f"SELECT to_jsonb(t) - %s::text[] FROM {name} AS t", [written])
    return sorted((row[0] for row in found), key=lambda row: json.dumps(row, sort_keys=True))


@pytest.fixture
def run_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command ``replay`` over any database."""
    return lambda url, *arguments: replayed(url, *arguments, capsys=capsys, monkeypatch=monkeypatch)


def test_no_secret_of_a_machine_is_kept(url: str, query: Query) -> None:
    """cloud-init's data, last-applied-configuration, and all other annotations stay behind."""
    machine = dead_letters.sample("storage")
    machine["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "S3CRET", "a": "S3CRET"}
    machine["spec"]["template"]["spec"]["volumes"].append({"name": "x", "cloudInitNoCloud": {"userData": "S3CRET"}})
    with service(url, ECHO_SECRETS="show") as opened:
        post(opened, machine, {**dead_letters.attributes(mytoken="S3CRET"), **dead_letters.failure()})
    [(text,)] = query("SELECT dead_letters::text FROM dead_letters")
    assert "S3CRET" not in text


def test_what_the_ledger_does_not_read_is_kept_masked_and_cut(url: str, query: Query) -> None:
    """Other events whole, without their secrets; what is longer than ECHO_MAX_BYTES cannot be replayed."""
    kinds = {"kind": "Event", "apiversion": "v1"}
    with service(url, ECHO_MAX_BYTES="1000", ECHO_SECRETS="show") as opened:
        for number, data in enumerate([{"message": "password=S3CRET", "n": 1}, {"message": "x" * 2000}, "a\0b", None]):
            post(opened, data, {**dead_letters.attributes(number, **kinds), **dead_letters.failure()})
        given = {**dead_letters.attributes(4, **kinds), **dead_letters.failure()}
        post(opened, b"\x00\xff", given, content_type="image/png")
    assert query("SELECT form, data::text, data_base64 FROM dead_letters ORDER BY number") == [
        ("masked", '{"message":"password=***","n":1}', None),
        ("cut", json.dumps('{"message":"' + "x" * 988), None),
        ("masked", '"a\\u0000b"', None),
        ("masked", None, None),
        ("masked", None, "AP8="),
    ]


def test_an_event_whose_data_is_broken_is_kept(url: str, query: Query) -> None:
    """It is refused as ever, and whoever looks for it finds it."""
    with service(url) as opened:
        given = {**dead_letters.attributes(), **dead_letters.failure(400, "the data is not JSON")}
        assert post(opened, b'{"password": "S3CRET"', given) == 400
    assert query("SELECT form, sentence, data FROM dead_letters") == [
        ("broken", "the data is not JSON", '{"password": ***')
    ]


def test_the_same_event_is_one_row_with_a_count(url: str, query: Query) -> None:
    """Sent again by the Broker, in one batch and in several; the newest failure counts, and it waits again."""
    with service(url) as opened:
        for code in (503, 422):
            given = {**dead_letters.attributes(), **dead_letters.failure(code, f"said {code}")}
            post(opened, dead_letters.sample("networks"), given)
            if code == 503:
                conftest.execute(url, "UPDATE dead_letters SET replayed_at = now()")
        batch = [{**dead_letters.attributes(), **dead_letters.failure(500, "said 500"), "data": {}}] * 3
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        assert opened.app.test_client().post("/echo", data=json.dumps(batch), headers=headers).status_code == 204
    assert query("SELECT count, code, sentence, replayed_at FROM dead_letters") == [(5, 500, "said 500", None)]


def some(number: int, *, delivery: str = "") -> letter.Letter:
    """A letter like many, received now."""
    at = datetime.datetime.now(datetime.UTC)
    return letter.Letter(
        key=f"key-{number}",
        first_at=at,
        last_at=at,
        delivery=delivery or f"delivery-{number}",
        destination=None,
        code=503,
        sentence=None,
        event_id=str(number),
        source="here",
        type="a.test",
        attributes=json.dumps({"specversion": "1.0", "id": str(number), "source": "here", "type": "a.test"}),
        data=None,
        data_base64=None,
        form=letter.Form.MASKED,
    )


def test_a_delivery_that_is_written_twice_is_counted_once(db: postgres.Database, query: Query) -> None:
    """Nobody knows of a broken connection whether its transaction was committed, so it is repeated."""
    letters = table.Table(db, most=10, days=30)
    for delivery in ("one", "one", "two"):
        letters.keep([some(1, delivery=delivery)], timeout=10)
    assert query("SELECT count FROM dead_letters") == [(2,)]


def test_the_oldest_letters_go_where_there_are_too_many(db: postgres.Database, query: Query) -> None:
    """DEAD_LETTERS_MAX; one that came again is not old."""
    letters = table.Table(db, most=3, days=30)
    for number in (1, 2, 3):
        letters.keep([some(number)], timeout=10)
    letters.keep([some(1, delivery="again")], timeout=10)
    letters.keep([some(4), some(5)], timeout=10)
    assert query("SELECT event_id FROM dead_letters ORDER BY event_id") == [("1",), ("4",), ("5",)]


def test_old_letters_go(
    db: postgres.Database,
    url: str,
    query: Query,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DEAD_LETTERS_DAYS since they came last; when another one comes, and each night by prune."""
    letters = table.Table(db, most=10, days=30)
    letters.keep([some(number) for number in range(4)], timeout=10)
    conftest.execute(url, "UPDATE dead_letters SET last_at = now() - interval '31 days' WHERE event_id IN ('1', '2')")
    letters.keep([some(4)], timeout=10)
    assert query("SELECT event_id FROM dead_letters ORDER BY event_id") == [("0",), ("3",), ("4",)]
    conftest.execute(url, "UPDATE dead_letters SET last_at = now() - interval '31 days' WHERE event_id = '3'")
    monkeypatch.setenv("DATABASE_URL", url)
    for arguments, dropped in ((["--dry-run"], 0), ([], 1)):
        assert main.main(["prune", "--older-than", "400d", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["dead_letters"] == dropped
    assert query("SELECT event_id FROM dead_letters ORDER BY event_id") == [("0",), ("4",)]


def test_every_form_of_text_can_be_kept(db: postgres.Database, query: Query) -> None:
    """Zeros, halves of characters, quotes and backslashes: nothing of an event keeps it out of the table."""
    printer = echo.Echo(settings.Echo())
    odd = "a\0b\ud800 'c' \\ \"d\" {e} ü 😀"
    event = events.Event(
        {"id": odd, "source": odd, "type": odd, "knativeerrordata": odd, "x": odd}, {odd: [odd, 1e999]}
    )
    kept = letter.of_event(event, printer.event(event), trimmed.data, 1000)
    assert kept is not None
    table.Table(db, most=10, days=30).keep([kept], timeout=10)
    assert query("SELECT count FROM dead_letters") == [(1,)]


@contextlib.contextmanager
def away(server: embedded_postgres.Postgres, url: str) -> Iterator[None]:
    """The database takes no connection, and has none."""
    name = psycopg2.extensions.parse_dsn(url)["dbname"]
    conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    conftest.execute(server.url(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    try:
        yield
    finally:
        conftest.execute(server.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def wait_for(query: Query, sql: str, expected: list[tuple[Any, ...]]) -> None:
    """Wait until a query gives what is expected."""
    end = time.monotonic() + 60
    while query(sql) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert query(sql) == expected


def test_dead_letters_of_an_outage_are_kept_when_it_is_over(
    server: embedded_postgres.Postgres, url: str, query: Query, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is when most of them come: each is printed and answered at once, and written later."""
    with service(url) as opened:
        with away(server, url):
            for number in range(30):
                given = {**dead_letters.attributes(number), **dead_letters.failure()}
                assert post(opened, dead_letters.sample("minimal"), given) == 204
            assert len(capsys.readouterr().out.splitlines()) == 30
        wait_for(query, "SELECT count(*), sum(count) FROM dead_letters", [(30, 30)])


def test_a_database_that_does_not_answer_keeps_nobody_waiting(url: str, query: Query) -> None:
    """The table is locked for as long as this test likes: the sink answers meanwhile, and writes afterwards."""
    with service(url) as opened, contextlib.closing(conftest.session(url)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE")
        for number in range(3):
            given = {**dead_letters.attributes(number), **dead_letters.failure()}
            assert post(opened, dead_letters.sample("minimal"), given) == 204
        cursor.execute("COMMIT")
        wait_for(query, "SELECT count(*) FROM dead_letters", [(3,)])


def test_what_waits_is_written_at_the_end(server: embedded_postgres.Postgres, url: str, query: Query) -> None:
    """A pod that is stopped leaves nothing behind that it can still write."""
    with service(url) as opened, away(server, url):
        post(opened, dead_letters.sample("minimal"), {**dead_letters.attributes(), **dead_letters.failure()})
    assert query("SELECT count(*) FROM dead_letters") == [(1,)]


def test_what_cannot_be_written_at_the_end_is_in_the_log(
    server: embedded_postgres.Postgres,
    url: str,
    query: Query,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is lost that was not lost before: the line is there, and a warning says how many are missing."""
    with away(server, url):
        with service(url) as opened:
            post(opened, dead_letters.sample("minimal"), {**dead_letters.attributes(), **dead_letters.failure()})
        assert json.loads(capsys.readouterr().out)["dead_letter"]["code"] == 503
        assert "1 dead letters are only in the log of the echo" in caplog.text
    assert query("SELECT count(*) FROM dead_letters") == [(0,)]


def test_the_oldest_are_left_out_where_too_many_wait(
    server: embedded_postgres.Postgres, url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory has an end; the newest are kept, and the log has all."""
    monkeypatch.setattr(keeper, "MOST_LETTERS", 5)
    db = postgres.Database({"dsn": url}, timeout=5)
    kept_by = keeper.Keeper(table.Table(db, most=100, days=30))
    with contextlib.closing(db):
        with away(server, url):
            for number in range(12):
                kept_by.keep([some(number)])
        kept_by.close()
    assert query("SELECT event_id::int FROM dead_letters ORDER BY 1") == [(number,) for number in range(7, 12)]


def test_one_that_can_never_be_a_row_does_not_keep_the_others_out(url: str, query: Query) -> None:
    """Written together they fail, so they are written one by one."""
    db = postgres.Database({"dsn": url}, timeout=5)
    kept_by = keeper.Keeper(table.Table(db, most=100, days=30))
    with contextlib.closing(db):
        kept_by.keep([some(1), dataclasses.replace(some(2), attributes="not JSON"), some(3)])
        kept_by.keep([some(4)])
        kept_by.close()
    assert query("SELECT event_id FROM dead_letters ORDER BY 1") == [("1",), ("3",), ("4",)]


def test_no_dead_letter_is_kept_where_none_is_wanted(url: str, query: Query) -> None:
    """DEAD_LETTERS_MAX of 0, and no database at all: the echo prints as ever."""
    given = {**dead_letters.attributes(), **dead_letters.failure()}
    with service(url, DEAD_LETTERS_MAX="0") as opened:
        assert post(opened, dead_letters.sample("minimal"), given) == 204
    with service(None) as opened:
        assert post(opened, dead_letters.sample("minimal"), given) == 204
    assert query(KEPT) == []


def fill(url: str, *codes: int) -> None:
    """Keep a letter for each code: of a machine that can be stored, for 400 of one that never can."""
    with service(url) as opened:
        for number, code in enumerate(codes, start=1):
            machine = dead_letters.sample("minimal")
            machine["metadata"]["name"] = f"vm-{number}"
            if code == 400:
                machine["spec"]["template"]["spec"]["domain"]["cpu"] = {"cores": -1}
            given = {**dead_letters.attributes(number), **dead_letters.failure(code, f"said {code}")}
            assert post(opened, machine, given) == 204


NAMES = "SELECT name FROM virtual_machines ORDER BY name"
WAITING = "SELECT number::int FROM dead_letters WHERE replayed_at IS NULL ORDER BY number"


def test_a_replay_marks_what_is_handled_and_says_what_is_refused_again(
    url: str, query: Query, run: Callable[..., Any]
) -> None:
    """A line for each that is refused, and the exit code says that there were some; the others are done."""
    fill(url, 503, 400, 503)
    code, [refused, done] = run()
    assert code == 4
    assert {name: refused[name] for name in ("action", "status", "id", "sentence")} == {
        "action": "replay.refused",
        "status": 400,
        "id": dead_letters.attributes(2)["id"],
        "sentence": "data.spec.template.spec.domain.cpu has a negative count",
    }
    assert done == {"action": "replay.done", "dry_run": False, "sent": 2, "refused": 1, "unsendable": 0, "error": None}
    assert (query(NAMES), query(WAITING)) == ([("vm-1",), ("vm-3",)], [(2,)])


def test_replaying_twice_changes_nothing(url: str, query: Query, run: Callable[..., Any]) -> None:
    """What was handled is not sent again; and where it were, the ledger knows it already."""
    fill(url, 503, 503)
    assert run()[0] == 0
    before = query("SELECT * FROM vm_state ORDER BY name"), query("SELECT * FROM vm_history ORDER BY name")
    assert run() == (
        0,
        [{"action": "replay.done", "dry_run": False, "sent": 0, "refused": 0, "unsendable": 0, "error": None}],
    )
    query("UPDATE dead_letters SET replayed_at = NULL")
    assert run()[1][-1]["sent"] == 2
    after = query("SELECT * FROM vm_state ORDER BY name"), query("SELECT * FROM vm_history ORDER BY name")
    assert after == before


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ((), [1, 2, 3, 4]),
        (("--code", "503"), [1, 3]),
        (("--code", "500", "--code", "422"), [2, 4]),
        (("--id", dead_letters.attributes(2)["id"], "--id", dead_letters.attributes(3)["id"]), [2, 3]),
        (("--since", "1h"), [3, 4]),
        (("--since", "1h", "--code", "503"), [3]),
        (("--id", "nobody"), []),
    ],
)
def test_a_replay_sends_what_is_chosen(
    url: str, query: Query, run: Callable[..., Any], arguments: tuple[str, ...], sent: list[int]
) -> None:
    """By status, by event, by age; all that is given must fit."""
    fill(url, 503, 422, 503, 500)
    query("UPDATE dead_letters SET last_at = now() - interval '90 minutes' WHERE number < 3")
    code, lines = run("--dry-run", *arguments)
    assert (code, [line["object"] for line in lines[:-1]]) == (0, [None] * len(sent))
    assert (lines[-1]["dry_run"], lines[-1]["sent"]) == (True, len(sent))
    assert query(NAMES) == []
    assert run(*arguments)[0] == 0
    assert query(NAMES) == [(f"vm-{number}",) for number in sent]
    assert query(WAITING) == [(number,) for number in range(1, 5) if number not in sent]


@pytest.mark.parametrize("arguments", [("--since", "5"), ("--since", "long"), ("--code", "abc"), ("--code", "7")])
def test_an_option_that_cannot_be_meant_is_refused(run: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    """Exit code 2, as of every command."""
    assert run(*arguments) == (2, [])


def test_a_replay_sends_in_the_order_of_arrival(db: postgres.Database) -> None:
    """Through all pages; one that came again keeps its place."""
    letters = table.Table(db, most=1000, days=30)
    for number in range(70):
        letters.keep([some(number)], timeout=10)
    letters.keep([some(3, delivery="again")], timeout=10)
    seen: list[str] = []
    receiver = replay.Receiver(lambda document: seen.append(json.loads(document)["id"]), lambda _: 0)
    done = replay.run(letters, table.Chosen(), receiver, replay.Report())
    assert (done.sent, seen) == (70, [str(number) for number in range(70)])


def test_a_letter_that_is_not_whole_is_named_and_stays(url: str, query: Query, run: Callable[..., Any]) -> None:
    """What was cut or is not an event cannot be sent; whoever reads the line looks for it in the log."""
    with service(url, ECHO_MAX_BYTES="10") as opened:
        post(opened, {"a": "x" * 100}, {**dead_letters.attributes(1, kind="Event"), **dead_letters.failure()})
        post(opened, b"{", {**dead_letters.attributes(2), **dead_letters.failure(400)})
    code, lines = run()
    assert (code, [line["status"] for line in lines[:-1]], lines[-1]["unsendable"]) == (4, [None, None], 2)
    assert query(WAITING) == [(1,), (2,)]


def test_a_replay_breaks_off_where_the_database_is_away(
    server: embedded_postgres.Postgres, url: str, run: Callable[..., Any]
) -> None:
    """Exit code 5 and one sentence: run it again."""
    fill(url, 503)
    with away(server, url):
        code, [done] = run()
    assert (code, done["sent"]) == (5, 0)
    assert done["error"].startswith("the database cannot be used now")
    assert run()[0] == 0


def test_a_replay_breaks_off_where_a_neighbour_is_away(db: postgres.Database, query: Query) -> None:
    """After five in a row; one that is refused for good does not count."""
    letters = table.Table(db, most=100, days=30)
    letters.keep([some(number) for number in range(20)], timeout=10)

    def handle(document: bytes) -> None:
        if int(json.loads(document)["id"]) == 2:
            raise errors.Refused("never here")
        raise errors.Unavailable("not now")

    done = replay.run(letters, table.Chosen(), replay.Receiver(handle, app.status_of), replay.Report())
    assert (done.sent, done.refused, done.error) == (0, 8, "5 in a row could not be handled now: not now")
    assert query("SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL") == [(20,)]


def test_an_error_of_ours_with_one_letter_does_not_stop_the_others(db: postgres.Database) -> None:
    """It is in the log with its traceback, and the letter waits."""
    letters = table.Table(db, most=100, days=30)
    letters.keep([some(number) for number in range(3)], timeout=10)

    def handle(document: bytes) -> None:
        if b'"1"' in document:
            raise ZeroDivisionError

    done = replay.run(letters, table.Chosen(), replay.Receiver(handle, app.status_of), replay.Report())
    assert (done.sent, done.refused, done.error) == (2, 1, None)


def test_a_replay_without_a_database_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, exit code 1."""
    monkeypatch.setattr(output, "configure_logs", lambda _: None)
    for name in ("DATABASE_URL", "DB_HOST", "PGHOST"):
        monkeypatch.delenv(name, raising=False)
    assert main.main(["replay"]) == 1
    assert capsys.readouterr().err == f"vmledger: {postgres.NOT_CONFIGURED}\n"


def test_the_functions_role_may_keep_and_replay(server: embedded_postgres.Postgres, url: str, query: Query) -> None:
    """With what migrate grants it, and no more."""
    query("CREATE ROLE sink_of_letters LOGIN")
    try:
        migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_APP_ROLE": "sink_of_letters"}))
        name = psycopg2.extensions.parse_dsn(url)["dbname"]
        as_role = server.url(user="sink_of_letters", database=name)
        fill(as_role, 503)
        db = postgres.Database({"dsn": as_role}, timeout=5)
        with contextlib.closing(db):
            receiver = replay.Receiver(lambda _: None, app.status_of)
            done = replay.run(table.Table(db, most=1, days=1), table.Chosen(), receiver, replay.Report())
            assert (done.sent, done.error) == (1, None)
            with pytest.raises(errors.DatabaseUnavailable, match="may not"):
                db.run(lambda cursor: cursor.execute("TRUNCATE dead_letters"))
    finally:
        query("DROP OWNED BY sink_of_letters; DROP ROLE sink_of_letters")


def test_a_person_reads_words(url: str) -> None:
    """In a terminal: a bar, a line for each that is refused again, and what was done."""
    fill(url, 503, 400)
    master, terminal = pty.openpty()
    environ = {**os.environ, "DATABASE_URL": url, "TERM": "xterm", "COLUMNS": "200"}
    command = [sys.executable, "-m", "function", "replay"]
    with subprocess.Popen(command, env=environ, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        said = b""
        with contextlib.suppress(OSError):  # what a terminal says when nobody writes to it any more
            while data := os.read(master, 65536):
                said += data
    os.close(master)
    assert process.returncode == 4
    assert "dead letters" in said.decode()
    assert "data.spec.template.spec.domain.cpu has a negative count" in said.decode()
    assert "sent 1 dead letters again" in said.decode()
    assert "1 were refused again, and go on waiting" in said.decode()
