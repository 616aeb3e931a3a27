"""What a list reads of Postgres: one transaction that sees one moment and writes nothing, and a cursor in it.

So the rows of all portions agree with each other, whatever is stored meanwhile, and no role needs more than to read.
While the list is written the transaction stays open; it ends with the last portion, not with the last byte.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from function import errors, progress, settings
from function.clients import postgres, postgres_session, statements
from function.lists import choice, machine

SQL = statements.load(pathlib.Path(__file__).parent / "sql")
NEEDS = postgres_session.Needs(
    statement=600,
    lock=4,
    idle=600,  # somebody reads the list in a pager
    planner={"max_parallel_workers_per_gather": "0"},  # a second process that computes takes the receiver's core
)
DENIED = "the database role may not read the ledger: log in as one that may, such as that of DB_APP_ROLE"
FUTURE = "that moment is still to come: a list can show the present or the past"
NOUN = "virtual machines"

Portion = list[machine.Machine]


@contextlib.contextmanager
def opened(
    configuration: settings.Settings, chosen: choice.Choice, talk: progress.Progress
) -> Iterator[Iterator[Portion]]:
    """Yield the machines that were chosen, in portions, by cluster, namespace and name.

    Raises :class:`errors.Refused` for a moment that is still to come, and :class:`errors.DatabaseUnavailable`.
    """
    if not configuration.database.configured:
        raise errors.Refused(postgres.NOT_CONFIGURED)
    with (
        postgres_session.for_command(configuration.database.connection(), NEEDS, denied=DENIED) as session,
        session.cursor() as cursor,
    ):
        cursor.execute("BEGIN")
        SQL.run(cursor, "one_moment")
        if chosen.at is not None and SQL.run(cursor, "is_past", {"at": chosen.at}) != [(True,)]:
            raise errors.Refused(FUTURE)
        yield _portions(cursor, chosen, talk)


def _portions(cursor: postgres.Cursor, chosen: choice.Choice, talk: progress.Progress) -> Iterator[Portion]:
    [(most,)] = SQL.run(cursor, "about_listed")
    SQL.run(cursor, "choose", {"choice": chosen.as_json()})
    SQL.run(cursor, "open_list")
    count = 0
    while texts := SQL.run(cursor, "fetch_some"):
        yield [machine.decoder.decode(text) for (text,) in texts]
        count += len(texts)
        talk.at(NOUN, count, max(count, most))
    talk.at(NOUN, count, count)
    cursor.execute("COMMIT")
