"""What changed, newest first: in the whole fleet or of one VM, and the same as an Atom feed.

A page looks at some versions only: it begins with the newest second and looks further back in growing steps, so it
costs as much in a long history as in a short one. Where a filter passes so little that much would have to be read, the
page ends early, says how far it has looked, and its next page goes on from there.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import flask

from function import errors
from function.page import database, moment, query, story, views

PAGE = 50
BATCH = 60
"""Keys whose changes are made at once: most versions of KubeVirt change nothing."""
FEW = 50
"""VMs of a namespace that is read VM by VM."""
LOOKED = 1000
"""Versions that are compared at once with those before them."""
SECONDS, MOST_SECONDS = 0.03, 0.05
"""After so long, beside the plans, a page looks no further back; the second is for one on which nothing is yet."""
FEED_SECONDS = 0.5
"""The same for a feed: it has no next page, and is asked for every few minutes."""
FIRST_STEP = datetime.timedelta(seconds=1)
GROWTH, STEP_SECONDS, PLAN_SECONDS = 8, 0.02, 0.01
"""By how much a step is longer than the one before it, at most: so that it takes so many seconds beside its plan.

A dozen steps reach back for as long as a history can be, and each is planned. So the plans do not count, and a small
ledger is always looked through.
"""
LONGEST = datetime.timedelta(days=3650)
EARLIEST = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
KINDS = ("appeared", "changed", "started", "moved", "stopped", "deleted", "recreated", "returned")
GONE = frozenset({"deleted", "stopped"})
OF_INSTANCES = frozenset({"started", "moved", "stopped"})
OF_BOTH = frozenset({None, "changed"})
"""Kinds that versions of instances have, and of VMs as well; all others are of VMs."""
FILTERS = ("cluster", "namespace", "name")
LAST = "\U0010ffff"
NAMES = frozenset({*FILTERS, "from", "to", "what", "before"})

COLUMNS = (
    *("changed_at", "cluster", "namespace", "name", "what", "headline", "changes", "changed_by", "type"),
    *("resource_version", "uid"),
)
"""The columns of the list to take away."""

Key = tuple[datetime.datetime, str, str, str]
"""Where a version begins: its time, and the VM."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """Which changes are asked for: from since to until, of a kind, below a key; None where it does not matter."""

    since: datetime.datetime = EARLIEST
    until: datetime.datetime = moment.LATEST
    what: str | None = None
    before: Key | None = None
    cluster: str | None = None
    namespace: str | None = None
    name: str | None = None

    @classmethod
    def parsed(cls, asked: query.Query, at: datetime.datetime | None) -> Asked:
        """Read a query string; raise :class:`errors.BadQuestion`."""
        since, until = (_time(asked, name) for name in ("from", "to"))
        before = asked.one("before")
        return cls(
            since=since or EARLIEST,
            until=min(each for each in (until, at, moment.LATEST) if each is not None),
            what=asked.choice("what", KINDS, "appeared") if asked.one("what") else None,
            before=_key(before) if before else None,
            **{name: asked.one(name) or None for name in FILTERS},
        )

    def parameters(self) -> dict[str, Any]:
        """Return the statements' parameters."""
        return {
            **{name: getattr(self, name) for name in ("until", *FILTERS)},
            "gone": self.what in GONE,
            "machines": self.what not in OF_INSTANCES,
            "instances": self.what in OF_INSTANCES | OF_BOTH,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A page of changes.

    following: the key from which the next page goes on. looked_back: how far was looked, where the page ended before it
    was full.
    """

    rows: list[dict[str, Any]]
    following: Key | None = None
    looked_back: datetime.datetime | None = None


def _time(asked: query.Query, name: str) -> datetime.datetime | None:
    try:
        return moment.parsed(asked.one(name))
    except errors.BadQuestion as exc:
        raise errors.BadQuestion(str(exc).replace("at=", f"{name}=", 1)) from None


def _key(text: str) -> Key:
    """Read a key of a query string; raise :class:`errors.BadQuestion`."""
    try:
        at, *place = json.loads(text)
        found = datetime.datetime.fromisoformat(at).astimezone(datetime.UTC)
        "".join(place).encode()
    except (ValueError, TypeError, OverflowError, RecursionError):
        place = []
    if len(place) != len(FILTERS) or "\x00" in "".join(place):
        raise errors.BadQuestion("before= is made by the page's own links, and this is not one of them")
    return (found, *place)


def written(key: Key) -> str:
    """Return a key as the query string has it."""
    return json.dumps([key[0].isoformat(), *key[1:]], ensure_ascii=False, separators=(",", ":"))


def find(cursor: database.Cursor, asked: Asked, *, seconds: float | None = None) -> Found:
    """Return the next page of changes; seconds: after which it looks no further back, where a page would sooner."""
    rows: list[dict[str, Any]] = []
    keys = _Keys(cursor, asked)
    while len(rows) < PAGE:
        batch = keys.batch()
        began = time.monotonic()
        rows += [row for row in _changes(cursor, batch) if asked.what in (None, row["what"])]
        keys.seconds += time.monotonic() - began
        if keys.upto is None or keys.seconds > max(SECONDS if rows else MOST_SECONDS, seconds or 0.0):
            break
    if len(rows) >= PAGE and (shown := _whole(rows)) < len(rows):
        return Found(rows=rows[:shown], following=_place(rows[shown - 1]))
    return Found(rows=rows, following=keys.upto, looked_back=keys.upto[0] if keys.upto else None)


def _whole(rows: list[dict[str, Any]]) -> int:
    """Return how many rows a page shows: what one VM changed at one time stays together."""
    place = [_place(row) for row in rows]
    count = PAGE
    while count < len(rows) and place[count] == place[count - 1]:
        count += 1
    return count


def _place(row: Mapping[str, Any]) -> Key:
    return row["changed_at"], row["cluster"], row["namespace"], row["name"]


def _changes(cursor: database.Cursor, keys: list[Key]) -> list[dict[str, Any]]:
    """Return what changed at the keys, as it is shown."""
    if not keys:
        return []
    columns = dict(zip(("times", "clusters", "namespaces", "names"), map(list, zip(*keys, strict=True)), strict=True))
    rows = database.dicts(cursor, "changes_of", columns)
    for row in rows:
        row["facts"] = story.facts(row["changes"])
        row["headline"] = story.headline(row["what"], row["facts"])
        place = (*_place(row)[1:], row["changed_at"].isoformat(), row["what"], row["resource_version"])
        row["uuid"] = uuid.uuid5(uuid.NAMESPACE_URL, "vmledger:" + json.dumps(place))
    return rows


class _Keys:
    """The keys of the versions that are asked for, newest first, a batch at a time.

    upto: from where the next batch goes on, None at the end of the history. seconds: how long all of it took, beside
    the plans.
    """

    def __init__(self, cursor: database.Cursor, asked: Asked) -> None:
        self._cursor, self._asked = cursor, asked
        self.seconds = 0.0
        self._step = FIRST_STEP
        self.upto: Key | None = asked.before or (asked.until, LAST, LAST, LAST)
        few = asked.namespace and not asked.name and self._count() <= FEW
        self._statement = "few_keys" if few else "recent_keys"
        if few or asked.name:
            self._step = LONGEST

    def _count(self) -> int:
        known = {"cluster": self._asked.cluster, "namespace": self._asked.namespace, "most": FEW + 1}
        [(count,)] = database.SQL.run(self._cursor, "count_few", known)
        return int(count)

    def batch(self) -> list[Key]:
        """Return the next keys."""
        if self.upto is None:
            return []
        began = time.monotonic()
        since = max(self._asked.since, self._floor(self.upto[0]))
        names = ("upto_time", "upto_cluster", "upto_namespace", "upto_name")
        known = {**self._asked.parameters(), "since": since, "most": BATCH, **dict(zip(names, self.upto, strict=True))}
        known |= {"until": min(self._asked.until, self.upto[0]), "looked": LOOKED}
        found = database.SQL.run(self._cursor, self._statement, known)
        is_full = len(found) == BATCH or bool(found and found[-1][4])
        self._pace(time.monotonic() - began, is_full=is_full)
        if is_full:
            self.upto = found[-1][:4]
        else:
            self.upto = None if since <= max(self._asked.since, EARLIEST) else (since, "", "", "")
        return list(dict.fromkeys(row[:4] for row in found if not row[5]))

    def _pace(self, seconds: float, *, is_full: bool) -> None:
        """Choose the next step by what the one before it took; is_full: it holds more than was read of it."""
        read = max(seconds - PLAN_SECONDS, 0.001)
        self.seconds += read
        if self._step < LONGEST:
            growth = STEP_SECONDS / read
            self._step = max(FIRST_STEP, self._step * min(growth, 1 if is_full else GROWTH))

    def _floor(self, upper: datetime.datetime) -> datetime.datetime:
        """Return from when on the next batch looks: all, once a step is longer than a history can be."""
        upper = min(upper, datetime.datetime.now(datetime.UTC))
        return upper - self._step if self._step < LONGEST else EARLIEST


def answer(request: views.Request) -> Mapping[str, Any]:
    """Return a page of changes, with its filters."""
    asked = Asked.parsed(request.query, request.at)
    found = request.reader.read(lambda cursor: find(cursor, asked))
    following = request.query.but(before=written(found.following)) if found.following else None
    return {"found": found, "following": following, "kinds": KINDS, "filters": FILTERS}


def listing(request: views.Request) -> views.Listing:
    """Return all changes that the filters leave, newest first."""
    return listed(request, Asked.parsed(request.query, request.at))


def listed(request: views.Request, asked: Asked) -> views.Listing:
    """Return all changes that are asked for as a list, as ``vm_changes`` has them and in a sentence."""

    def portions() -> Iterator[list[dict[str, Any]]]:
        following: Key | None = None
        while True:
            found = request.reader.read(functools.partial(find, asked=dataclasses.replace(asked, before=following)))
            yield [{**row, "changes": json.loads(row["changes"])} for row in found.rows]
            if (following := found.following) is None:
                return

    return views.Listing(columns=COLUMNS, portions=portions())


def feed(request: views.Request) -> flask.Response:
    """Return the newest changes of the same filters as an Atom feed."""
    asked = Asked.parsed(request.query, request.at)
    found = request.reader.read(functools.partial(find, asked=asked, seconds=FEED_SECONDS))
    same = request.query.but(before=None)
    variables = {"rows": found.rows, "query": same, "feed": uuid.uuid5(uuid.NAMESPACE_URL, f"vmledger?{same}")}
    text = flask.render_template("changes.xml", **variables)
    return flask.Response(text, content_type="application/atom+xml; charset=utf-8")


VIEW = views.View(name="changes", rule="/changes", title="Changes", answer=answer, names=NAMES, listing=listing)
FEED = views.View(
    name="changes_feed", rule="/changes.atom", title="Changes", answer=feed, names=NAMES - {"before"}, in_menu=False
)
