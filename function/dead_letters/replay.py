"""Sends the dead letters that are kept again: each is handled as if it had been sent to the receiver.

That is safe at any time: what is known already changes nothing, and what is older fills the history only.
A letter whose event was handled is marked and not sent again, unless it comes once more.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from function import errors, progress
from function.dead_letters import table

log = logging.getLogger(__name__)

WHAT = "dead letters"
MOST_IN_A_ROW = 5
"""After so many that could not be handled because a neighbour is away, the run breaks off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one letter: whether it was handled, and otherwise the status and the sentence of the refusal."""

    handled: bool
    status: int | None
    sentence: str


@dataclasses.dataclass(kw_only=True)
class Replayed:
    """What a run did; in a dry run, what it would send.

    sent: letters that were handled. refused: that were refused again. unsendable: that are not whole events.
    error: why the run broke off, None where it came to its end.
    """

    dry_run: bool
    sent: int = 0
    refused: int = 0
    unsendable: int = 0
    error: str | None = None


class Report(progress.Progress):
    """Is given each letter that a person should read about; the command line overrides it."""

    def found(self, waiting: table.Waiting) -> None:
        """A letter that a dry run would send."""

    def refused(self, waiting: table.Waiting, answer: Answer) -> None:
        """A letter that was refused again, or cannot be sent."""


HANDLED = Answer(handled=True, status=204, sentence="")
UNSENDABLE = Answer(handled=False, status=None, sentence="cannot be sent again: not all of it was kept")
_AWAY = 503


@dataclasses.dataclass(frozen=True)
class Receiver:
    """Who handles events.

    handle: one in the JSON format; it raises what the receiver would answer. status_of: the status of that answer.
    """

    handle: Callable[[bytes], None]
    status_of: Callable[[errors.VmledgerError], int]

    def answer(self, waiting: table.Waiting) -> Answer:
        """Return what becomes of a letter; raise where the database is away, for then it cannot be marked either."""
        try:
            self.handle(waiting.document)
        except errors.Locked as exc:
            return Answer(handled=False, status=self.status_of(exc), sentence=str(exc))
        except (errors.DatabaseUnavailable, errors.SchemaOutdated):
            raise
        except errors.VmledgerError as exc:
            return Answer(handled=False, status=self.status_of(exc), sentence=str(exc))
        except Exception as exc:  # one letter must not keep the others from being sent
            log.error(errors.UNEXPECTED, extra={"action": "replay.failed"}, exc_info=exc)  # noqa: TRY400  # as the edge
            return Answer(handled=False, status=503, sentence=errors.UNEXPECTED)
        return HANDLED


def run(letters: table.Table, chosen: table.Chosen, receiver: Receiver | None, report: Report) -> Replayed:
    """Replay what was chosen, in the order in which it was received first; without a receiver, say what that would be.

    It raises nothing: what breaks it off is in the result.
    """
    done = Replayed(dry_run=receiver is None)
    in_a_row = 0
    try:
        total = letters.count(chosen)
        for number, waiting in enumerate(letters.waiting(chosen), start=1):
            answer = _answer(waiting, receiver)
            if answer is HANDLED and receiver:
                letters.mark(waiting)
            _count(done, waiting, answer, report)
            report.at(WHAT, number, max(total, number))
            in_a_row = in_a_row + 1 if answer.status == _AWAY else 0
            if in_a_row == MOST_IN_A_ROW:
                done.error = f"{in_a_row} in a row could not be handled now: {answer.sentence}"
                break
    except errors.VmledgerError as exc:
        done.error = str(exc)
    return done


def _answer(waiting: table.Waiting, receiver: Receiver | None) -> Answer:
    if not waiting.form.can_be_sent:
        return UNSENDABLE
    return receiver.answer(waiting) if receiver else HANDLED


def _count(done: Replayed, waiting: table.Waiting, answer: Answer, report: Report) -> None:
    if answer is HANDLED:
        done.sent += 1
        if done.dry_run:
            report.found(waiting)
    elif answer is UNSENDABLE:
        done.unsendable += 1
        report.refused(waiting, answer)
    else:
        done.refused += 1
        report.refused(waiting, answer)
