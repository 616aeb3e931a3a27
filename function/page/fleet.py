"""The fleet: the VMs that live, searched, filtered and sorted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from function.page import database, views

PAGE = 50


def answer(request: views.Request) -> Mapping[str, Any]:
    """Return a page of the fleet."""
    asked = {"most": PAGE, "at": request.at}
    return {"rows": request.reader.read(lambda cursor: database.dicts(cursor, "list_fleet", asked))}


VIEW = views.View(name="fleet", rule="/", title="Fleet", answer=answer, names=frozenset({"q"}))
