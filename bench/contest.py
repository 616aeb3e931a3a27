"""The contestants: each a kind of request that is sent to a server, and the table that must have its events."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import psycopg2
import psycopg2.extensions

from bench import fleet, instances, load, mix, published, requests, servers
from tests import token_issuer

MACHINES = 1000
LEAST_TABLE = "CREATE TABLE IF NOT EXISTS least (id text)"
"""Of :mod:`bench.least`, whose workers start at once."""


@dataclasses.dataclass(frozen=True)
class Postgres:
    """The server's parent process, and the URLs of its databases: of few VMs, and of very many, if there is one."""

    pid: int
    url: str
    large: str | None


@dataclasses.dataclass
class Contestant:
    """A kind of request and a server; ``stored`` is the database and the table where the events must be, if any.

    leaves_a_row: whether the n-th request is stored under its own id; by default each is.
    """

    server: servers.Server
    render: load.Render
    stored: tuple[str, str] | None = None
    leaves_a_row: Callable[[int], bool] | None = None
    sent: list[range] = dataclasses.field(default_factory=list)
    """The numbers of the requests that were answered with 2xx."""

    @property
    def events(self) -> int:
        """How many were sent that leave a row."""
        if self.leaves_a_row is None:
            return sum(map(len, self.sent))
        return sum(map(self.leaves_a_row, itertools.chain(*self.sent)))

    def found(self) -> int:
        """Look for each event in the table; return how many are there, each counted once."""
        if self.stored is None:
            return 0
        url, table = self.stored
        with query(url) as cursor:
            cursor.execute("CREATE TEMP TABLE sent (id text PRIMARY KEY)")
            for numbers in self.sent:
                cursor.execute(
                    "INSERT INTO sent SELECT %s || number FROM generate_series(%s, %s) AS number",
                    [requests.identifier(""), numbers.start, numbers.stop - 1],
                )
            cursor.execute(f"ANALYZE sent; SELECT count(DISTINCT id) FROM sent JOIN {table} USING (id)")
            [count] = cursor.fetchone() or [0]
        return int(count)


def enter(stack: contextlib.ExitStack, database: Postgres) -> dict[str, Contestant]:
    """Start all servers; those whose ratio is asked for are loaded one after the other, so their order matters."""
    url, large = database.url, database.large
    with query(url) as cursor:
        cursor.execute(published.TABLE)
        cursor.execute(LEAST_TABLE)
    bare = stack.enter_context(servers.served(servers.bare()))
    stock = stack.enter_context(servers.served(servers.stock()))
    ours = stack.enter_context(servers.served(servers.vmledger(url)))
    web = stack.enter_context(token_issuer.served(pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))))
    web.signer.rotate(token_issuer.rsa_key())
    verified = stack.enter_context(servers.served(servers.vmledger(url, **_variables(web))))
    way = stack.enter_context(servers.served(servers.published(url)))
    flat, objects, others = requests.flat(MACHINES), requests.objects(MACHINES), requests.others()
    found = {"bare": Contestant(bare, flat), "flat": Contestant(ours, flat, (url, "vm_history"))}
    found["stock"] = Contestant(stock, flat)
    found["least"] = Contestant(stack.enter_context(servers.served(servers.least(url))), flat, (url, "least"))
    shown = requests.shown(flat, web.signer.token())
    found["shown"] = Contestant(ours, shown, (url, "vm_history"))
    found["callers"] = Contestant(verified, shown, (url, "vm_history"))
    if large is not None:
        pod = stack.enter_context(servers.served(servers.vmledger(large)))
        found["fleet"] = Contestant(pod, requests.flat(fleet.MACHINES), (large, "vm_history"))
    return found | {
        "objects": Contestant(ours, objects, (url, "vm_history")),
        **_lives(ours, url),
        "published": Contestant(way, flat, (url, "published")),
        "others": Contestant(ours, others),
        "bare others": Contestant(bare, others),
    }


def _lives(ours: servers.Server, url: str) -> dict[str, Contestant]:
    """Return what a cluster sends besides: events of instances, late ones, and a mix; their machines are known."""
    first = (
        requests.objects(MACHINES),
        requests.objects(MACHINES, prefix="mix"),
        requests.flat(MACHINES, prefix="late"),
    )
    for number in range(MACHINES):
        for render in first:
            load.send(ours.port, render(number))
    both = "(SELECT id FROM vm_history UNION ALL SELECT id FROM vm_runtime_history) AS stored"
    return {
        "instances": Contestant(ours, instances.updates(MACHINES), (url, "vm_runtime_history")),
        "mix": Contestant(ours, mix.mixed(MACHINES), (url, both), mix.leaves_a_row),
        "late": Contestant(ours, mix.late(MACHINES), (url, "vm_history")),
    }


def _variables(web: token_issuer.Web) -> dict[str, str]:
    """The settings of a receiver that verifies its callers."""
    return {
        "OIDC_AUDIENCE": token_issuer.AUDIENCE,
        "OIDC_ISSUER": web.url,
        "OIDC_CA_FILE": web.ca_file,
        "OIDC_SUBJECTS": token_issuer.TRIGGER,
    }


@contextlib.contextmanager
def query(url: str) -> Iterator[psycopg2.extensions.cursor]:
    """Run some SQL in a transaction on a connection of its own."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
