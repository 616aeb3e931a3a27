"""The ledger's tables in pairs: a state with one row for each object, and a history with one for each version."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

VERSION = ("version_epoch", "version_number", "version_time", "version_step")


def columns(names: Sequence[str], prefix: str = "") -> str:
    """Return the names for a statement, each with ``prefix``."""
    return ", ".join(prefix + name for name in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A state and its history.

    key: what identifies an object. facts: what the history has of a version that an object says of itself.
    """

    state: str
    history: str
    key: tuple[str, ...]
    facts: tuple[str, ...]
