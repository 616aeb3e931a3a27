"""``python -m function forget-cluster``: takes a cluster out of the ledger whole.

Objects go a portion at a time, in short transactions, each object together with its history: so writers of other
clusters do not wait, and a run that is stopped leaves no object without a past. The cluster's own rows go last, so that
the health shows it until all is gone.

Rows are deleted that the function's role may not delete, so this runs as the tables' owner, as ``migrate`` does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import pathlib
from collections.abc import Iterator

from function import errors, progress, settings
from function.clients import postgres, postgres_session, statements
from function.inventory import portions, prune
from function.inventory.reconcile import snapshot

QUIET = datetime.timedelta(days=1)
"""How long nothing was stored from a cluster that can be forgotten without force."""

SQL = statements.load(pathlib.Path(__file__).parent / "sql", "forget")
NEEDS = prune.NEEDS
OBJECTS = {"machines": "virtual machines", "instances": "instances"}
"""The kinds of objects, as the statements and as people call them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What a run took out, or in a dry run would take out.

    machines, instances: rows of the states, tombstones too. machine_versions, instance_versions: rows of the histories.
    reconciles: rows of ``reconcile_runs``. others: rows of the other tables.
    """

    cluster: str
    dry_run: bool
    machines: int
    machine_versions: int
    instances: int
    instance_versions: int
    reconciles: int
    others: int


def run(
    configuration: settings.Settings,
    cluster: str,
    *,
    dry_run: bool = False,
    force: bool = False,
    talk: progress.Progress | None = None,
) -> Forgotten:
    """Take the cluster of that name out; return what went.

    force: also one from which something was stored within the last day.
    Raises :class:`errors.VmledgerError` with one sentence.
    """
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    with _connected(configuration, cluster) as cursor:
        counts = _counts(cursor, cluster, force=force or dry_run)
        if not dry_run:
            counts = _forget(cursor, cluster, counts, talk or progress.Progress())
    return Forgotten(cluster=cluster, dry_run=dry_run, **counts)


@contextlib.contextmanager
def _connected(configuration: settings.Settings, cluster: str) -> Iterator[postgres.Cursor]:
    """Yield a cursor of a connection that keeps reconciles of the cluster away."""
    denied = "the database role may not forget a cluster: log in as the owner of the tables, who ran `migrate`"
    with postgres_session.for_command(configuration.database.connection(), NEEDS, denied=denied) as session:
        if not session.alone(snapshot.turn(cluster), seconds=snapshot.ALONE_SECONDS):
            raise errors.Refused(f"a reconcile of the cluster {errors.shown(cluster)} is running: suspend it first")
        try:
            with session.cursor() as cursor:
                yield cursor
        except errors.Locked as exc:
            raise errors.Locked("another session holds a lock on the cluster's rows: run it again later") from exc


def _counts(cursor: postgres.Cursor, cluster: str, *, force: bool) -> dict[str, int]:
    """Return how much there is of the cluster; refuse one that is not there, or not quiet."""
    shown = errors.shown(cluster)
    [(age, *counted)] = SQL.run(cursor, "count_cluster", {"cluster": cluster})
    if not any(counted):
        raise errors.Refused(f"nothing is stored under the name {shown}: look at `python -m function health`")
    if age is not None and age < QUIET and not force:
        raise errors.Refused(
            f"something was stored from the cluster {shown} within the last day: stop what sends it, and see that"
            " CLUSTERS does not name it; or say --force"
        )
    names = ("machines", "machine_versions", "instances", "instance_versions", "reconciles", "others")
    return dict(zip(names, counted, strict=True))


def _forget(cursor: postgres.Cursor, cluster: str, known: dict[str, int], talk: progress.Progress) -> dict[str, int]:
    """Delete all that there is of the cluster; return how much it was."""
    gone = dict.fromkeys(known, 0)
    for kind, noun in OBJECTS.items():
        portion = portions.Portion()
        while _forget_some(cursor, kind, cluster, portion, gone):
            talk.at(noun, gone[kind], max(gone[kind], known[kind]))
    cursor.execute("BEGIN")
    SQL.run(cursor, "lock_days")
    for name in ("machine_versions", "instance_versions", "reconciles", "others"):
        [(count,)] = SQL.run(cursor, f"forget_{name}", {"cluster": cluster})
        gone[name] += count
    cursor.execute("COMMIT")
    return gone


def _forget_some(
    cursor: postgres.Cursor, kind: str, cluster: str, portion: portions.Portion, gone: dict[str, int]
) -> bool:
    """Delete the next objects of the cluster and their histories, in one transaction; return whether there were any."""
    cursor.execute("BEGIN")
    keys = SQL.run(cursor, f"lock_some_{kind}", {"cluster": cluster, "batch": portion.begin()})
    if keys:
        known = {"cluster": cluster, "last": list(keys[-1])}
        [(versions,)] = SQL.run(cursor, f"forget_histories_of_{kind}", known)
        [(objects,)] = SQL.run(cursor, f"forget_{kind}", known)
        gone[f"{kind[:-1]}_versions"] += versions
        gone[kind] += objects
    cursor.execute("COMMIT")
    portion.end()
    return bool(keys)
