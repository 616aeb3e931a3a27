"""Values as people read them: sizes, numbers, times, and which mark a status has; for the templates."""

from __future__ import annotations

import datetime
import decimal
import re

import jinja2

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
UNKNOWN = "–"
"""What the ledger does not know is not 0."""
GOOD = frozenset({"Running", "Succeeded", "Ready"})
BAD = frozenset(
    {
        *("CrashLoopBackOff", "ErrorUnschedulable", "ErrImagePull", "ImagePullBackOff", "ErrorPvcNotFound"),
        *("DataVolumeError", "Failed", "Unknown", "ErrorUnknown"),
    }
)
RESTING = frozenset({"Stopped", "Paused", "Gone", "Halted"})


def register(environment: jinja2.Environment) -> None:
    """Make the filters known to the templates."""
    environment.undefined = jinja2.StrictUndefined
    environment.filters.update(
        size=size,
        number=number,
        hours=hours,
        time=time,
        machine_time=machine_time,
        known=known,
        mark=mark,
        ago=ago,
        xml=xml,
    )


def known(value: object) -> object:
    """Return the value, or a dash where it is unknown or empty."""
    return UNKNOWN if value is None or value in ("", []) else value


def number(value: int | float | None) -> str:
    """Return a number with a thin space between thousands."""
    return UNKNOWN if value is None else f"{value:,}".replace(",", "\u202f")


def hours(value: decimal.Decimal | None) -> str:
    """Return an amount of hours with one digit after the point."""
    return UNKNOWN if value is None else f"{value:,.1f}".replace(",", "\u202f")


def size(value: int | None) -> str:
    """Return a number of bytes in the unit that leaves at most four digits before the point."""
    if value is None:
        return UNKNOWN
    amount = float(value)
    unit = 0
    while abs(amount) >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    text = f"{amount:.1f}".removesuffix(".0") if amount < 100 else f"{amount:.0f}"
    return f"{text}\u00a0{UNITS[unit]}"


def time(value: datetime.datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return UNKNOWN if value is None else f"{value.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S}"


def machine_time(value: datetime.datetime | None) -> str:
    """Return a time for the attribute ``datetime``."""
    return "" if value is None else value.astimezone(datetime.UTC).replace(tzinfo=None).isoformat() + "Z"


def ago(value: datetime.timedelta | None) -> str:
    """Return an age in its greatest unit."""
    if value is None:
        return UNKNOWN
    seconds = max(0, int(value.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}\u00a0{unit} ago"
    return f"{seconds}\u00a0s ago"


def xml(value: object) -> str:
    """Return a text without the characters that no XML document may have."""
    return _NOT_XML.sub(" ", str(value))


def mark(status: str | None) -> str:
    """Return the class of a status's mark, whose shape differs as well as its colour."""
    if status in GOOD:
        return "good"
    if status in BAD or (status or "").startswith("Err"):
        return "bad"
    return "resting" if status in RESTING else "busy" if status else "unknown"
