"""The errors that vmledger raises, as one tree.

The error of a library is translated where the library is called, so no other module catches one.

::

    VmledgerError
    ├── BadSetting           the start stops with one line that names the variable
    ├── BadEvent             can never be stored: not a CloudEvent, broken JSON, an impossible value
    │   └── TooLarge         larger than MAX_EVENT_BYTES
    ├── NotAdmitted          the caller may not send here, whatever it sends
    │   ├── Unauthenticated  it has no token, or not a valid one
    │   └── Forbidden        its token is valid, and its subject may not send
    ├── BadQuestion          the address of a page asks for something that cannot be answered as it is written
    ├── Refused              a CloudEvent that can never be handled *here*, as this function is set up
    └── Unavailable          something that is needed fails now; the same event may succeed later
        ├── TooSlow          the request did not arrive whole in time
        ├── DatabaseUnavailable
        │   └── Locked       another transaction holds a lock on what the event changes
        ├── ListExpired      a list of the Kubernetes API expired before it was read to its end
        └── SchemaOutdated   the database lacks migrations that this version needs

The message of each is one sentence for the person who reads the dead letter.
It may quote what the event said, shortened, but never a secret, SQL or a driver's words.
Which HTTP status an error gets is decided in one place, :mod:`function.web.app`.
"""

from __future__ import annotations

UNEXPECTED = "an unexpected error of vmledger; its log says more"
"""The answer to the sender for an error that is not in the tree; the traceback is in the log."""


class VmledgerError(Exception):
    """The root: every error that vmledger raises on purpose."""


class BadSetting(VmledgerError):
    """A variable of the environment has a value that cannot be used."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}")
        self.variable = variable


class BadEvent(VmledgerError):
    """The request holds something that can never be stored, however often it is sent."""


class TooLarge(BadEvent):
    """The request is larger than this function reads."""


class NotAdmitted(VmledgerError):
    """The caller may not send here; nothing of what it sent was read."""


class Unauthenticated(NotAdmitted):
    """The caller has no token, or not one that proves who it is."""


class Forbidden(NotAdmitted):
    """The caller has proved who it is, and may not send."""


class BadQuestion(VmledgerError):
    """The address of a page asks for something that cannot be answered as it is written."""


class Refused(VmledgerError):
    """The CloudEvent is sound, but this function can never handle it as it is set up."""


class Unavailable(VmledgerError):
    """Something that is needed does not answer now; the event should be sent again."""


class TooSlow(Unavailable):
    """The request did not arrive whole in time; it may when it is sent again."""


class DatabaseUnavailable(Unavailable):
    """Postgres cannot be reached, does not answer in time, or refuses the login."""


class Locked(DatabaseUnavailable):
    """Another transaction holds a lock on what the event changes, and did not end in time."""


class ListExpired(Unavailable):
    """A list of the Kubernetes API expired midway (410); what was read of it is not a whole list."""


class SchemaOutdated(Unavailable):
    """The database lacks migrations that this version needs."""


def shown(value: object, limit: int = 60) -> str:
    """Return ``value`` for use in a sentence: quoted, on one line, at most ``limit`` characters."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 2] + "…" + text[-1]
