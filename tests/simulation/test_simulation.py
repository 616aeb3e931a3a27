"""Whatever happens to a cluster, and whatever is told of it: after a reconcile the ledger is right.

The cluster is a real HTTP server over a model; the channel is the receiver's own door; the database is a real one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import hypothesis
import pytest

from dev import postgres
from function import config, migrate
from tests.simulation import machine, stage

HISTORIES = {"ci": 50, "nightly": 1000}
STEPS = {"ci": 15, "nightly": 40}


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Stage]:
    """A stage with a Postgres of its own, which may crash; it never loses power, so it need not sync."""
    folder = tmp_path_factory.mktemp("simulation")
    server = postgres.Postgres(folder / "postgres", settings={"fsync": "off"})
    server.start()
    migrate.run(config.Settings.from_env({"DATABASE_URL": server.url()}), io.StringIO())
    with stage.built(server, folder, "postgres") as made:
        yield made
    server.stop()


def test_after_a_reconcile_the_ledger_equals_the_cluster(on: stage.Stage) -> None:
    """And before that it is never ahead of it; over random histories."""
    profile = hypothesis.settings.get_current_profile_name()
    machine.play(on, histories=HISTORIES[profile], steps=STEPS[profile])
