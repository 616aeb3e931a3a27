"""The two memories of what was told, by the same claims."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import datetime
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function import errors, migrate, settings
from function.clients import postgres
from function.scaling import claims, occurrences, rate
from tests import conftest, hpa

OCCURRENCE = dataclasses.replace(hpa.OCCURRENCE, reason="FailedRescale", direction=None)
LEASE = 0.4
Make = Callable[..., claims.Notices]
Query = Callable[..., list[tuple[Any, ...]]]


def occurrence(number: int, **more: Any) -> occurrences.Occurrence:
    """Return one of many occurrences of the same topic."""
    at = OCCURRENCE.occurred_at + datetime.timedelta(seconds=number)
    return dataclasses.replace(OCCURRENCE, occurred_at=at, **more)


@pytest.fixture(params=["table", "memory"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make a memory that is empty."""
    if request.param == "memory":
        yield lambda kept=60.0, lease=LEASE: claims.Memory(kept=kept, lease=lease)
        return
    db: postgres.Database = request.getfixturevalue("db")
    yield lambda kept=60.0, lease=LEASE: claims.Table(db, kept=kept, lease=lease)


def answer(memory: claims.Notices, number: int = 0, throttle: int = 0, **more: Any) -> claims.Answer:
    """Claim an occurrence; return the answer alone."""
    return memory.claim(occurrence(number, **more), throttle=throttle).answer


def test_what_was_told_is_a_duplicate(make: Make) -> None:
    """Claimed, then marked, then never again."""
    memory = make()
    memory.mark(memory.claim(occurrence(0), throttle=0))
    assert [answer(memory), answer(memory, throttle=600), answer(memory, 1)] == [
        claims.Answer.DUPLICATE,
        claims.Answer.DUPLICATE,
        claims.Answer.CLAIMED,
    ]


def test_what_is_being_told_is_in_flight(make: Make) -> None:
    """Neither free nor done, until it is marked or given back."""
    memory = make()
    claim = memory.claim(occurrence(0), throttle=0)
    assert answer(memory) is claims.Answer.IN_FLIGHT
    memory.release(claim)
    assert answer(memory) is claims.Answer.CLAIMED


def test_a_claim_that_died_is_free_again(make: Make) -> None:
    """After its lease; who held it can no longer give back what another holds now, and may still mark it."""
    memory = make()
    dead = memory.claim(occurrence(0), throttle=0)
    time.sleep(LEASE + 0.1)
    assert answer(memory) is claims.Answer.CLAIMED
    memory.release(dead)
    assert answer(memory) is claims.Answer.IN_FLIGHT
    memory.mark(dead)
    assert answer(memory) is claims.Answer.DUPLICATE


def test_a_lease_is_a_minute() -> None:
    """As the issue says."""
    assert claims.LEASE_SECONDS == 60


def test_a_throttle_counts_from_what_was_told(make: Make) -> None:
    """Another occurrence of the topic is throttled, for good; another reason, HPA and cluster are not."""
    memory = make()
    memory.mark(memory.claim(occurrence(0), throttle=1))
    assert answer(memory, 1, 1) is claims.Answer.THROTTLED
    assert answer(memory, 2, 1, reason="FailedGetScale") is claims.Answer.CLAIMED
    assert answer(memory, 3, 1, uid="another") is claims.Answer.CLAIMED
    assert answer(memory, 4, 1, cluster="another") is claims.Answer.CLAIMED
    time.sleep(1.1)
    assert answer(memory, 1, 1) is claims.Answer.DUPLICATE
    assert answer(memory, 5, 1) is claims.Answer.CLAIMED


def test_what_is_being_told_throttles_nobody_for_good(make: Make) -> None:
    """It may yet fail: another occurrence of the topic waits for it."""
    memory = make()
    claim = memory.claim(occurrence(0), throttle=600)
    assert answer(memory, 1, 600) is claims.Answer.IN_FLIGHT
    memory.release(claim)
    assert answer(memory, 1, 600) is claims.Answer.CLAIMED


def test_a_memory_does_not_grow_for_ever() -> None:
    """The oldest is forgotten where there are too many, or it is too old."""
    memory = claims.Memory(kept=60, most=100)
    for number in range(1000):
        memory.mark(memory.claim(occurrence(number, reason=str(number)), throttle=5))
    assert max(len(memory._known), len(memory._delivered), len(memory._sending)) <= 101
    assert answer(memory, 999, reason="999") is claims.Answer.DUPLICATE
    old = claims.Memory(kept=0.05)
    old.mark(old.claim(occurrence(0), throttle=0))
    time.sleep(0.1)
    old.claim(occurrence(1), throttle=0)
    assert len(old._known) == 1


def test_the_table_does_not_grow_for_ever(db: postgres.Database, query: Query) -> None:
    """Each claim removes some rows that are of no use any more."""
    old = claims.Table(db, kept=0.1)
    for number in range(3):
        old.mark(old.claim(occurrence(number), throttle=0))
    time.sleep(0.2)
    claims.Table(db, kept=60).claim(occurrence(9), throttle=0)
    assert query("SELECT count(*) FROM scaling_notices") == [(1,)]


def test_a_notice_is_kept_as_long_as_its_event_could_come(db: postgres.Database, query: Query) -> None:
    """HPA_MAX_AGE, the throttle and a margin; and at least for a day, for the rate."""
    claims.Table(db, kept=claims.kept_seconds(200_000)).claim(occurrence(0), throttle=600)
    [(seconds,)] = query("SELECT extract(epoch FROM expires_at - claimed_at)::float FROM scaling_notices")
    assert seconds == pytest.approx(200_000 + 600 + claims.MARGIN_SECONDS, abs=1)
    assert claims.kept_seconds(3600) == claims.RATE_SECONDS
    assert claims.kept_seconds(0) == claims.NO_LIMIT_SECONDS


# --- the rate -------------------------------------------------------------------------------------------------------


def now(seconds: float, **more: Any) -> occurrences.Occurrence:
    """Return an occurrence that happened so many seconds from now."""
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return dataclasses.replace(OCCURRENCE, occurred_at=at, **more)


def outcomes(
    memory: claims.Notices, tried: list[occurrences.Occurrence], throttle: int = 0
) -> collections.Counter[str]:
    """Claim each occurrence, and mark it where it may be sent; return how often each answer was given."""
    found: collections.Counter[str] = collections.Counter()
    for one in tried:
        claim = memory.claim(one, throttle=throttle)
        found[claim.answer.value] += 1
        if claim.answer is claims.Answer.CLAIMED:
            memory.mark(claim)
    return found


FORGED: dict[str, Callable[[int], dict[str, Any]]] = {
    "messages": lambda number: {"message": f"New size: {number}"},
    "uids": lambda number: {"uid": str(number)},
    "clusters": lambda number: {"cluster": str(number)},
    "reasons": lambda number: {"reason": str(number)},
    "seconds": lambda number: {"seconds": -number},
    "years ago": lambda number: {"seconds": -1e6 * (number + 1)},
    "years ahead": lambda number: {"seconds": 1e6 * (number + 1)},
    "both": lambda number: {"seconds": 1e6 * (number - 60.5)},
}


@pytest.mark.parametrize("forged", FORGED)
def test_of_many_forged_at_once_25_are_let_through(forged: str, make: Make) -> None:
    """Whatever makes them different: what the rate is counted by is the HPA that they are looked up at."""
    tried = [now(**{"seconds": 0.0, **FORGED[forged](number)}) for number in range(120)]
    assert outcomes(make(), tried) == {"claimed": 25, "implausible": 95}


def test_another_hpa_has_a_rate_of_its_own(make: Make) -> None:
    """By namespace and name."""
    memory = make()
    for place in ({}, {"name": "other"}, {"namespace": "other"}):
        tried = [now(0, message=str(number), **place) for number in range(26)]
        assert outcomes(memory, tried) == {"claimed": 25, "implausible": 1}


def test_the_rate_is_that_of_the_occurrences_times(make: Make) -> None:
    """Those that arrive late count by when they happened, in whatever order they come."""
    memory, start = make(), now(-3000).occurred_at.replace(microsecond=0)

    def since(seconds: float, message: str = "x") -> occurrences.Occurrence:
        at = start + datetime.timedelta(seconds=seconds)
        return dataclasses.replace(OCCURRENCE, occurred_at=at, message=message)

    assert outcomes(memory, [since(900)]) == {"claimed": 1}
    assert outcomes(memory, [since(0, str(number)) for number in range(25)]) == {"claimed": 25}
    answers = [memory.claim(since(seconds, "y"), throttle=0).answer.value for seconds in (0, 299, 300, 301, 600, 901)]
    assert answers == ["implausible", "implausible", "claimed", "implausible", "claimed", "implausible"]


def test_what_is_throttled_or_fails_counts_and_comes_again(make: Make) -> None:
    """An occurrence keeps its place in the rate, so a retry is never above it, and neither way buys more."""
    memory = make()
    tried = [now(0, message=str(number)) for number in range(30)]
    assert outcomes(memory, tried[:10], throttle=600) == {"claimed": 1, "throttled": 9}
    for one in tried[10:25]:
        memory.release(memory.claim(one, throttle=0))
    assert outcomes(memory, tried[25:]) == {"implausible": 5}
    assert outcomes(memory, tried[10:25]) == {"claimed": 15}
    assert outcomes(memory, tried[:25]) == {"duplicate": 25}


def test_what_is_above_the_rate_is_counted_and_warned_of_once(make: Make) -> None:
    """For each HPA; nothing else of it is kept."""
    memory = make()
    for name in ("cart", "other"):
        found = [memory.claim(now(0, message=str(number), name=name), throttle=0) for number in range(40)]
        assert [claim.excess for claim in found[25:]] == list(range(1, 16))
        assert [claim.warn for claim in found] == [*[False] * 25, True, *[False] * 14]


def test_a_warning_comes_again_after_an_hour(db: postgres.Database, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table, and in the memory of a process."""
    table, memory = claims.Table(db, kept=60), claims.Memory(kept=60)
    for one in (table, memory):
        outcomes(one, [now(0, message=str(number)) for number in range(26)])
    conftest.execute(url, "UPDATE scaling_excess SET warned_at = warned_at - interval '61 minutes'")
    monkeypatch.setattr(claims, "QUIET_SECONDS", 0.0)
    time.sleep(0.01)
    assert memory.claim(now(0), throttle=0).warn
    monkeypatch.undo()
    assert [table.claim(now(0), throttle=0).warn for _ in range(2)] == [True, False]


@given(
    seconds=st.lists(st.integers(-69, 0).map(lambda step: step * 50 - 25 if step else 1000), max_size=60),
    burst=st.integers(1, 3),
)
def test_the_table_and_the_memory_have_the_rate_of_the_pure_function(
    seconds: list[int], burst: int, db: postgres.Database
) -> None:
    """Whatever the times and their order; no two are so near to the rate's limit that the time of this test counts."""
    base = now(0).occurred_at
    name = uuid.uuid4().hex
    tried = [
        dataclasses.replace(
            OCCURRENCE, occurred_at=base + datetime.timedelta(seconds=one), name=name, message=str(number)
        )
        for number, one in enumerate(seconds)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate, "BURST", burst)
        expected, counted = [], list[datetime.datetime]()
        for one in tried:
            at = rate.counted_at(one.occurred_at, base + datetime.timedelta(seconds=1))
            fits = rate.fits(counted, at)
            expected.append("claimed" if fits else "implausible")
            counted += [at] * fits
        for memory in (claims.Table(db, kept=60), claims.Memory(kept=60)):
            assert [memory.claim(one, throttle=0).answer.value for one in tried] == expected


def test_many_at_once_over_many_connections_are_one_rate(url: str) -> None:
    """As pods have them: 25 of 200 are let through, the rest is counted, and one of all warns."""
    doors = [postgres.Database({"dsn": url}, timeout=30) for _ in range(8)]
    tables = [claims.Table(door, kept=60) for door in doors]
    tried = [now(0, message=str(number), uid=str(number)) for number in range(200)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: tables[one[0] % 8].claim(one[1], throttle=0), enumerate(tried)))
    assert collections.Counter(claim.answer.value for claim in found) == {"claimed": 25, "implausible": 175}
    assert sum(claim.warn for claim in found) == 1
    assert conftest.execute(url, "SELECT namespace, name, occurrences FROM scaling_excess") == [("shop", "cart", 175)]
    assert conftest.execute(url, "SELECT count(*) FROM scaling_notices") == [(25,)]
    for door in doors:
        door.close()


def test_rows_of_before_the_rate_do_not_count(db: postgres.Database, url: str) -> None:
    """A pod of an older version may still write some while a newer one runs."""
    conftest.execute(
        url,
        "INSERT INTO scaling_notices (occurrence, topic, state, claim, claimed_at, expires_at)"
        " SELECT n, 'x', 'notified', '', now(), now() + interval '1 hour' FROM generate_series(1, 100) AS n",
    )
    tried = [now(0, message=str(number)) for number in range(26)]
    assert outcomes(claims.Table(db, kept=60), tried) == {"claimed": 25, "implausible": 1}


def test_one_of_many_at_once_is_let_through(url: str) -> None:
    """Over many connections, for one occurrence and, under a throttle, for one topic."""
    doors = [postgres.Database({"dsn": url}, timeout=10) for _ in range(8)]
    tables = [claims.Table(door, kept=60) for door in doors]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for throttle, numbers in ((0, [0] * 40), (600, list(range(1, 41)))):
            work = [(tables[position % 8], occurrence(number)) for position, number in enumerate(numbers)]
            made = list(pool.map(lambda one: one[0].claim(one[1], throttle=one[2]), [(*one, throttle) for one in work]))
            assert sorted(claim.answer.value for claim in made) == ["claimed"] + ["in flight"] * 39
            for claim in made:
                if claim.answer is claims.Answer.CLAIMED:
                    tables[0].release(claim)
    for door in doors:
        door.close()


def test_claiming_twice_by_the_same_number_is_one_claim(db: postgres.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction whose end nobody saw is run again, and finds its own claim."""
    run = db.run

    def twice(work: Callable[..., Any], **more: Any) -> Any:
        run(work, **more)
        return run(work, **more)

    monkeypatch.setattr(db, "run", twice)
    table = claims.Table(db, kept=60)
    claim = table.claim(occurrence(0), throttle=600)
    assert claim.answer is claims.Answer.CLAIMED
    table.mark(claim)
    throttled = table.claim(occurrence(1), throttle=600)
    assert throttled.answer is claims.Answer.THROTTLED
    table.release(throttled)
    assert answer(table, 1, 600) is claims.Answer.DUPLICATE


@pytest.mark.parametrize("limit", [10**11, 0])
def test_any_setting_fits_the_table(limit: int, db: postgres.Database) -> None:
    """The largest age and throttle that the settings take."""
    configuration = settings.Settings.from_env({"HPA_MAX_AGE": str(limit), "HPA_THROTTLE": str(10**9)})
    table = claims.Table(db, kept=claims.kept_seconds(configuration.scaling.max_age))
    assert answer(table, throttle=configuration.scaling.throttle or 0) is claims.Answer.CLAIMED


def test_a_database_that_is_away_is_unavailable() -> None:
    """Nothing is sent that cannot be claimed."""
    door = postgres.Database({"host": "127.0.0.1", "port": 1, "dbname": "x"}, timeout=2)
    with pytest.raises(errors.Unavailable):
        claims.Table(door, kept=60).claim(occurrence(0), throttle=0)
    door.close()


def test_the_applications_role_may_do_what_the_table_needs(new_database: Callable[..., str]) -> None:
    """By the grants of `migrate`, with nothing else granted to it."""
    url = new_database()
    role = "scaling_app"
    conftest.execute(url, f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN")
    migrate.run(settings.Settings.from_env({"DATABASE_URL": url, "DB_APP_ROLE": role}))
    door = postgres.Database({"dsn": url, "user": role}, timeout=5)
    table = claims.Table(door, kept=60)
    claim = table.claim(occurrence(0), throttle=600)
    table.release(claim)
    table.mark(table.claim(occurrence(0), throttle=600))
    assert answer(table) is claims.Answer.DUPLICATE
    door.close()
    conftest.execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")
