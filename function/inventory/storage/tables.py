"""The SQL of a versioned pair of tables: a state with one row for each object, and a history with one for each version.

Everything that reads JSON reads a list of rows, ``$1``, as :mod:`function.inventory.mapping.versions` writes them.
There are two ways to write, and both end with the same tables:

:meth:`Pair.append` is one statement for what nearly always comes: a version above the state's, with a time that is not
below the state's. The history cannot hold it yet, so nothing is looked up there.

:meth:`Pair.merge` is for all else: late versions, versions that are known, other uids, objects that a complete list did
not hold. Its first statements lock the state's row of each object, whether or not they change it, so writers of one
object take turns, and what follows sees all that the writers before have committed.

Rows are locked in the order of their keys, so no two writers can wait for each other.

A version of the history is *overtaken* where a later version counts since no later time: it was never in force. The
times of the others rise with their versions; so whoever looks back needs the last of them, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

VERSION = ("version_epoch", "version_number", "version_time", "version_step")
_ORDER_TYPES = {
    "version_number": "bigint",
    "version_time": "timestamptz",
    "version_step": "smallint",
    "shape": "smallint",
    "digest": "bigint",
}


def columns(names: Sequence[str], prefix: str = "") -> str:
    """Return the names for a statement, each with ``prefix``."""
    return ", ".join(prefix + name for name in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A state and its history.

    types: the row's columns and their SQL types. stored_as: what the state calls a column, where it differs.
    key: what identifies an object. floor: what the columns of ``clusters`` about lists of this kind begin with.
    tombstone: SQL for the columns of an object that a list did not hold, beside its key and what all have.
    lasting: columns that a deleted object keeps as they were last known, with SQL for what a version says of them.
    joined: columns of the state that are taken from elsewhere when an object is new, with their SQL over ``r``.
    same: columns that must be equal for a plain append; if not, :attr:`reset` says what becomes of others.
    """

    state: str
    history: str
    types: Mapping[str, str]
    key: tuple[str, ...]
    floor: str
    tombstone: Mapping[str, str]
    stored_as: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lasting: Mapping[str, str] = dataclasses.field(default_factory=dict)
    joined: Mapping[str, str] = dataclasses.field(default_factory=dict)
    join: str = ""
    same: tuple[str, ...] = ()
    reset: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def given(self) -> list[str]:
        """The columns of the history that a change brings or decides, but its key."""
        return [name for name in (*self.types, *_ORDER_TYPES, "version_epoch", "effective_at") if name not in self.key]

    def _states(self, names: Sequence[str], prefix: str = "") -> str:
        return columns([self.stored_as.get(name, name) for name in names], prefix)

    def _incoming(self) -> str:
        """The changes, with their epoch, since when they count, and whether a complete list speaks against them."""
        types = ", ".join(f"{name} {kind}" for name, kind in {**self.types, **_ORDER_TYPES}.items())
        floor = self.floor
        return f"""
            SELECT r.*, e.version_epoch, e.effective_at, c.{floor}_epoch, c.{floor}_version, c.{floor}_time,
                   c.cluster IS NOT NULL AND CASE WHEN r.version_number < 0 THEN e.effective_at <= c.{floor}_time
                       ELSE (e.version_epoch, r.version_number) <= (c.{floor}_epoch, c.{floor}_version) END AS below
            FROM json_to_recordset($1) AS r ({types})
            LEFT JOIN clusters AS c ON c.cluster = r.cluster
            CROSS JOIN LATERAL (
                SELECT coalesce(r.time, now()) AS effective_at,
                       coalesce(width_bucket(coalesce(r.time, 'infinity'), c.epochs), 0)::smallint AS version_epoch
            ) AS e"""

    def _on(self, left: str, right: str) -> str:
        """The condition that two rows are about the same object."""
        return " AND ".join(f"{left}.{name} = {right}.{name}" for name in self.key)

    def _at(self, known: str, change: str) -> str:
        """The condition that a row of the history is of the same object and version as a change.

        Only the version's own index can serve it: the primary key's would read all that there is of the object.
        """
        found = " AND ".join(f"{known}.{name} = {change}.{name}" for name in ("version_number", "version_time"))
        rest = (*self.key, "version_epoch", "version_step")
        return f"{found} AND ({columns(rest, f'{known}.')}) IS NOT DISTINCT FROM ({columns(rest, f'{change}.')})"

    def append(self) -> str:
        """One statement that writes what is plainly newer; returns the key, number, step and digest of each.

        ``$2``: whether a complete list speaks against what is below its version.
        """
        added = ["", *self.joined]
        same = "".join(f" AND excluded.{name} IS NOT DISTINCT FROM known.{name}" for name in self.same)
        return f"""
            WITH moved AS (
                INSERT INTO {self.state} AS known
                    ({columns(self.key)}, {self._states(self.given)}{", ".join(added)})
                SELECT {columns(self.key, "r.")}, {columns(self.given, "r.")}{", ".join(["", *self.joined.values()])}
                FROM ({self._incoming()}) AS r {self.join}
                WHERE NOT (r.below AND $2)
                ORDER BY {columns(self.key, "r.")}
                ON CONFLICT ({columns(self.key)}) DO UPDATE
                SET ({self._states(self.given)}, updated_at) = ({self._states(self.given, "excluded.")}, now())
                WHERE ({columns(VERSION, "excluded.")}) > ({columns(VERSION, "known.")})
                  AND excluded.effective_at > known.effective_at{same}
                RETURNING *
            )
            INSERT INTO {self.history} ({columns(self.key)}, {columns(self.given)})
            SELECT {columns(self.key)}, {self._states(self.given)} FROM moved
            RETURNING {columns(self.key)}, version_number, version_step, digest"""

    def merge(self) -> list[str]:
        """The statements that write anything, in their order, for one transaction; :meth:`outcomes` is read after them.

        ``$2``: as for :meth:`append`.
        """
        return [
            self._lock(),
            self._raise(),
            self._keep_better(),
            self._record(),
            self._date(),
            self._overtake_others(),
            self._overtake(),
            self._follow(),
            *([self._remember()] if self.lasting else []),
        ]

    def _lock(self) -> str:
        """Lock each object's row, where it has one."""
        return f"""
            SELECT count(*)
            FROM (
                SELECT FROM (SELECT DISTINCT {columns(self.key)} FROM ({self._incoming()}) AS r) AS r
                JOIN {self.state} AS known ON {self._on("known", "r")}
                ORDER BY {columns(self.key, "known.")}
                FOR NO KEY UPDATE OF known
            ) AS locked"""

    def _raise(self) -> str:
        """Raise each object's row to the newest change; what a list did not hold gets a tombstone besides.

        A list speaks against what comes below its version, but for the version of an object that lives: it had that.
        The tombstone goes into the history, with the list's own version; :meth:`_follow` brings it to the state.
        """
        tomb = {
            **{name: f"r.{name}" for name in self.key},
            "type": "'vmledger.reconcile.delete'",
            "id": f"'list-' || r.{self.floor}_version",
            "time": f"r.{self.floor}_time",
            "resource_version": f"r.{self.floor}_version",
            "version_epoch": f"r.{self.floor}_epoch",
            **self._floor("r"),
            "shape": "1",
            "digest": "0",
            "effective_at": f"r.{self.floor}_time",
            "overtaken": "true",
            **self.tombstone,
        }
        resets = [f"{name} = {sql}" for name, sql in self.reset.items()]
        return f"""
            WITH newest AS (
                SELECT DISTINCT ON ({columns(self.key)}) *
                FROM ({self._incoming()}) AS r
                ORDER BY {columns(self.key)}, {", ".join(f"{name} DESC" for name in VERSION)}, {_RANK}
            ), moved AS (
                INSERT INTO {self.state} AS known ({columns(self.key)}, {self._states(self.given)})
                SELECT {columns(self.key)}, {columns(self.given)} FROM newest ORDER BY {columns(self.key)}
                ON CONFLICT ({columns(self.key)}) DO UPDATE
                SET {", ".join([*self._sets("excluded"), *resets])}
                WHERE ({columns(VERSION, "excluded.")}) > ({columns(VERSION, "known.")})
                RETURNING {columns(self.key)}
            )
            INSERT INTO {self.history} ({columns(list(tomb))})
            SELECT {", ".join(tomb.values())} FROM newest AS r JOIN moved ON {self._on("moved", "r")}
            WHERE r.below AND $2
              AND NOT EXISTS (
                  SELECT FROM {self.state} AS s
                  WHERE {self._on("s", "r")} AND s.deleted_at IS NULL AND s.version_number >= 0
                    AND (s.version_epoch, s.version_number) = (r.version_epoch, r.version_number)
              )
            ON CONFLICT DO NOTHING"""

    def _floor(self, change: str) -> dict[str, str]:
        """The version of a complete list, but its epoch, as a change is ordered: by number, or by time."""
        timed = f"{change}.version_number < 0"
        return {
            "version_number": f"CASE WHEN {timed} THEN -1 ELSE {change}.{self.floor}_version END",
            "version_time": f"CASE WHEN {timed} THEN {change}.{self.floor}_time ELSE '-infinity' END",
            "version_step": "2::smallint",
        }

    def _sets(self, source: str) -> list[str]:
        names = [self.stored_as.get(name, name) for name in self.given]
        found = names if source == "excluded" else self.given
        return [*(f"{name} = {source}.{other}" for name, other in zip(names, found, strict=True)), "updated_at = now()"]

    def _kept(self) -> str:
        """The change to keep for each version."""
        return f"""
            SELECT DISTINCT ON ({columns(self.key)}, {columns(VERSION)}) *
            FROM ({self._incoming()}) AS r
            ORDER BY {columns(self.key)}, {columns(VERSION)}, {_RANK}"""

    def _keep_better(self) -> str:
        """Replace what the history holds of a version by what says more of it; but not since when it counts."""
        return f"""
            UPDATE {self.history} AS known
            SET {", ".join(f"{name} = r.{name}" for name in self.given if name != "effective_at")}, recorded_at = now()
            FROM ({self._kept()}) AS r
            WHERE {self._at("known", "r")} AND {_BETTER}"""

    def _record(self) -> str:
        """Put the versions into the history that it does not hold; :meth:`_overtake` says which were in force."""
        return f"""
            INSERT INTO {self.history} ({columns(self.key)}, {columns(self.given)}, overtaken)
            SELECT {columns(self.key)}, {columns(self.given)}, true FROM ({self._kept()}) AS r
            WHERE NOT EXISTS (SELECT FROM {self.history} AS known WHERE {self._at("known", "r")})"""

    def _date(self) -> str:
        """Let each version count since the earliest that anybody said of it.

        What is told again, or read from a list, is told later than it was; it says more all the same.
        """
        return f"""
            UPDATE {self.history} AS known SET effective_at = r.effective_at, overtaken = true
            FROM (
                SELECT {columns((*self.key, *VERSION), "r.")}, min(r.effective_at) AS effective_at
                FROM ({self._incoming()}) AS r
                GROUP BY {columns((*self.key, *VERSION), "r.")}
            ) AS r
            WHERE {self._at("known", "r")} AND r.effective_at < known.effective_at"""

    def _written(self) -> str:
        """The versions of these changes, tombstones too, and since when they count by now."""
        floor = ", ".join((f"i.{self.floor}_epoch", *self._floor("i").values()))
        names = columns((*self.key, *VERSION))
        return f"""
            incoming AS ({self._incoming()}),
            written AS MATERIALIZED (
                SELECT {columns((*self.key, *VERSION), "r.")}, history.effective_at
                FROM (
                    SELECT {names} FROM incoming
                    UNION SELECT {columns(self.key, "i.")}, {floor} FROM incoming AS i WHERE i.below
                ) AS r ({names})
                JOIN {self.history} AS history ON {self._at("history", "r")}
            )"""

    def _overtake_others(self) -> str:
        """Mark the versions that one of these has overtaken.

        What is not marked rises in time and version alike, but for what was just written, which is still marked; so
        they are those from its time on, up to the first of a later version.
        """
        return f"""
            WITH {self._written()}
            UPDATE {self.history} AS known SET overtaken = true
            FROM written AS r
            LEFT JOIN LATERAL (
                SELECT h.effective_at FROM {self.history} AS h
                WHERE {self._on("h", "r")} AND h.effective_at >= r.effective_at AND NOT h.overtaken
                  AND ({columns(VERSION, "h.")}) > ({columns(VERSION, "r.")})
                ORDER BY h.effective_at LIMIT 1
            ) AS later ON true
            WHERE {self._on("known", "r")} AND NOT known.overtaken
              AND known.effective_at >= r.effective_at AND known.effective_at < coalesce(later.effective_at, 'infinity')
              AND ({columns(VERSION, "known.")}) < ({columns(VERSION, "r.")})"""

    def _overtake(self) -> str:
        """Say which of these versions were overtaken: by one that was there before, or by another of them."""
        return f"""
            WITH {self._written()}
            UPDATE {self.history} AS known SET overtaken = r.overtaken
            FROM (
                SELECT r.*, coalesce(before.overtakes, false) OR EXISTS (
                    SELECT FROM written AS o
                    WHERE {self._on("o", "r")} AND o.effective_at <= r.effective_at
                      AND ({columns(VERSION, "o.")}) > ({columns(VERSION, "r.")})
                ) AS overtaken
                FROM written AS r
                LEFT JOIN LATERAL (
                    SELECT ({columns(VERSION, "h.")}) > ({columns(VERSION, "r.")}) AS overtakes
                    FROM {self.history} AS h
                    WHERE {self._on("h", "r")} AND h.effective_at <= r.effective_at AND NOT h.overtaken
                    ORDER BY h.effective_at DESC LIMIT 1
                ) AS before ON true
            ) AS r
            WHERE {self._at("known", "r")} AND known.overtaken <> r.overtaken"""

    def _follow(self) -> str:
        """Bring the state to the newest version that these changes brought to the history, if it is newer or better."""
        resets = [f"{name} = {sql.replace('excluded.', 'newest.')}" for name, sql in self.reset.items()]
        return f"""
            WITH {self._written()}
            UPDATE {self.state} AS known
            SET {", ".join([*self._sets("newest"), *resets])}
            FROM (
                SELECT DISTINCT ON ({columns(self.key, "r.")}) history.*
                FROM written AS r
                JOIN {self.history} AS history ON {self._at("history", "r")}
                ORDER BY {columns(self.key, "r.")}, {", ".join(f"r.{name} DESC" for name in VERSION)}
            ) AS newest
            WHERE {self._on("known", "newest")}
              AND ({columns(VERSION, "newest.")}) >= ({columns(VERSION, "known.")})
              AND ({columns([*VERSION, "id", "digest", "effective_at"], "known.")})
                  IS DISTINCT FROM ({columns([*VERSION, "id", "digest", "effective_at"], "newest.")})"""

    def _remember(self) -> str:
        """Let what is deleted keep what was last known of the same object; a list's tombstone does not say of which.

        The history keeps what each version said; so it does not matter in which order they came.
        """

        def last(name: str, sql: str) -> str:
            return f"""coalesce({sql.format("own")}, (
                SELECT {sql.format("h")} FROM {self.history} AS h
                WHERE {self._on("h", "s")} AND (own.uid IS NULL OR h.uid = own.uid)
                  AND ({columns(VERSION, "h.")}) < ({columns(VERSION, "s.")}) AND {sql.format("h")} IS NOT NULL
                ORDER BY {", ".join(f"h.{name} DESC" for name in VERSION)} LIMIT 1
            ), s.{name}) AS {name}"""

        names = list(self.lasting)
        return f"""
            UPDATE {self.state} AS known
            SET ({columns(names)}) = ROW ({columns(names, "found.")}), updated_at = now()
            FROM (
                SELECT {columns(self.key, "s.")}, {", ".join(last(*item) for item in self.lasting.items())}
                FROM (SELECT DISTINCT {columns(self.key)} FROM ({self._incoming()}) AS r) AS r
                JOIN {self.state} AS s ON {self._on("s", "r")}
                JOIN {self.history} AS own ON {self._at("own", "s")}
                WHERE s.deleted_at IS NOT NULL
            ) AS found
            WHERE {self._on("known", "found")}
              AND ({columns(names, "known.")}) IS DISTINCT FROM ({columns(names, "found.")})"""

    def known(self) -> str:
        """Return, as JSON, what the state holds of an object; ``%(cluster)s`` and so on name it.

        With its version number and since when it counts; of several, the newest.
        """
        held = [f"{self.stored_as.get(name, name)} AS {name}" for name in self.types]
        return f"""
            SELECT (SELECT to_json(held) FROM (SELECT {", ".join(held)}) AS held)::text, version_number, effective_at
            FROM {self.state} WHERE cluster = %(cluster)s AND namespace = %(namespace)s AND name = %(name)s
            ORDER BY {", ".join(f"{name} DESC" for name in VERSION)} LIMIT 1"""

    def outcomes(self) -> str:
        """Return the key, number, step and digest of each change that the history took, and how it stands to the state.

        The last two: whether it is the state's version; whether it has no resource version and the state has.
        """
        return f"""
            SELECT {columns(self.key, "r.")}, r.version_number, r.version_step, r.digest,
                   ({columns(VERSION, "r.")}) = ({columns(VERSION, "state.")}),
                   r.version_number < 0 AND state.version_number >= 0
            FROM ({self._incoming()}) AS r
            CROSS JOIN LATERAL (
                SELECT id, digest, recorded_at FROM {self.history} AS known
                WHERE {self._at("known", "r")} LIMIT 1
            ) AS history
            CROSS JOIN LATERAL (
                SELECT {columns(VERSION)} FROM {self.state} AS known WHERE {self._on("known", "r")} LIMIT 1
            ) AS state
            WHERE (history.id, history.digest, history.recorded_at) = (r.id, r.digest, now())"""


_RANK = "shape DESC, time ASC NULLS LAST, id, digest"
"""Which of two events about the same version is kept: the first."""
_BETTER = """(-r.shape, coalesce(r.time, 'infinity'), r.id, r.digest)
               < (-known.shape, coalesce(known.time, 'infinity'), known.id, known.digest)"""
