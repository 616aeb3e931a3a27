"""What an answer of the Kubernetes API means that is not what was asked for: one of :mod:`errors`, in our words."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from function import errors

if TYPE_CHECKING:
    from function.clients import http


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is read, in the words of a Role: "list" and "virtualmachines"; without a namespace in the whole cluster.

    name: of the object that a 404 must be about; '' for any.
    """

    verb: str
    what: str
    namespace: str | None
    name: str = ""


class NoAnswer(errors.Unavailable):
    """The API gave no usable answer."""


class TooLong(NoAnswer):
    """The API gave an answer that is longer than is read."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the HTTP client's error into ours."""
    from function.clients import http  # not before something is asked

    try:
        yield
    except http.NoAnswer as exc:
        kind = TooLong if exc.why is http.Why.TOO_LONG else NoAnswer
        raise kind(f"the Kubernetes API gives no usable answer now: it {exc}") from None


def is_about(answer: http.Answer, name: str) -> bool:
    """Whether a 404 can be about the object of that name; of a path that is not served it says something else."""
    try:
        with translated():
            if not answer.whole():
                return True
            said = answer.json()
    except NoAnswer:
        return False
    if not isinstance(said, dict) or said.get("kind") != "Status":
        return False
    details = said.get("details")
    return not isinstance(details, dict) or details.get("name") == name


def refusal(answer: http.Answer, reading: Reading) -> errors.VmledgerError:
    """Return the error for an answer that is neither 200 nor 404."""
    verb, what = reading.verb, reading.what
    if answer.status == 403:
        place = f"namespace {reading.namespace}" if reading.namespace else "the whole cluster"
        role = "Role or ClusterRole" if reading.namespace else "ClusterRole"
        return errors.Refused(
            f"the Kubernetes API forbids this function to {verb} {what} in {place}:"
            f" its ServiceAccount needs a {role} with the verb {verb} on {what}"
        )
    if answer.status == 401:
        return errors.Unavailable("the Kubernetes API does not take this function's token (401)")
    return errors.Unavailable(f"the Kubernetes API answered {answer.status} to the reading of {what}")
