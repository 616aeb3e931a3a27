"""An occurrence of scaling, for the tests of what is done with it."""

from __future__ import annotations

import datetime

from function.scaling import occurrences

OCCURRENCE = occurrences.Occurrence(
    cluster="west",
    namespace="shop",
    name="cart",
    uid="0d4f7a52",
    reason="SuccessfulRescale",
    event_type="Normal",
    message="New size: 6; reason: memory resource above target",
    occurred_at=datetime.datetime(2026, 5, 11, 6, 30, 12, tzinfo=datetime.UTC),
    count=3,
    new_size=6,
    direction="up",
)
