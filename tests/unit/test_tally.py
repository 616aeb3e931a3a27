"""The connections of all workers, in memory that they share."""

from __future__ import annotations

import math
import os

from function.web import tally


def test_what_a_forked_process_says_is_seen_by_the_others() -> None:
    """The numbers are in memory that is shared, and the fewest of them count."""
    numbers = tally.Tally()
    numbers.say(1, 7, now=100.0)
    child = os.fork()
    if not child:
        numbers.say(2, 3, now=100.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert numbers.fewest(100.0) == 3
    numbers.say(2, 9, now=100.0)
    assert numbers.fewest(100.0) == 7


def test_a_worker_that_has_ended_does_not_count() -> None:
    """What it said is forgotten where it says so, and after a while where it cannot, as after a kill."""
    numbers = tally.Tally()
    numbers.say(1, 0, now=100.0)
    numbers.say(2, 5, now=100.0)
    numbers.forget(1)
    assert numbers.fewest(100.0) == 5
    assert numbers.fewest(100.0 + tally.FRESH_SECONDS) == math.inf


def test_any_number_of_workers_has_places() -> None:
    """Workers are numbered on and on, as they are replaced."""
    numbers = tally.Tally()
    numbers.say(10 * tally.PLACES + 1, 4, now=100.0)
    assert numbers.fewest(100.0) == 4
