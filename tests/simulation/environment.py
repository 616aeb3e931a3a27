"""What all histories are played on: the cluster, a Postgres, the receiver, and reconciles in this process."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import psycopg2.extensions
import werkzeug.test

from dev import embedded_postgres
from function import settings, wiring
from function.clients import kubernetes
from function.inventory.reconcile import result
from function.inventory.reconcile import run as reconciling
from tests.simulation import adversary, ledger, model_cluster, pause_points

PAGE = 2
"""Objects in a page, so that a few machines are several pages."""
ATTEMPTS = 3
"""How often an event is sent again that was answered 503, as a Broker would."""
BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


class Environment:
    """One cluster and one ledger, emptied before each history."""

    def __init__(
        self,
        server: embedded_postgres.Postgres,
        api: pause_points.Cluster,
        relay: pause_points.Relay,
        folder: pathlib.Path,
        database: str,
    ) -> None:
        self.server = server
        self.api = api
        self.pause_points = api.pause_points
        self.relay = relay
        self.tables = ledger.Tables(server.url(database=database))
        self._pristine = api.backup()
        (folder / "stopped").mkdir()
        self._plain = _settings(server.url(database=database), api.kubeconfig(folder))
        self._stopped = _settings(relay.url("postgres", database), api.kubeconfig(folder / "stopped", token=api.GATED))
        self._door, self._stopped_door = (
            _Door(self._plain.kubernetes, pause=0),
            _Door(self._stopped.kubernetes, pause=0),
        )
        self.service = wiring.Service(self._plain)
        self._client = self.service.app.test_client()

    def clear(self) -> None:
        """Empty the cluster and the ledger."""
        self.kill()
        self.api.calm()
        self.api.rewind(self._pristine)
        self.api.calls.clear()
        self.tables.empty()

    def send(self, envelopes: Sequence[model_cluster.Envelope], *, structured: bool = False) -> None:
        """Send events, several as a batch; each must be taken."""
        if len(envelopes) > 1:
            self._post(data=json.dumps([each.structured() for each in envelopes]), content_type=BATCH)
        for envelope in envelopes if len(envelopes) == 1 else ():
            if structured:
                self._post(data=json.dumps(envelope.structured()), content_type=STRUCTURED)
            else:
                self._post(**envelope.binary())

    def tell(self, said: Mapping[str, object]) -> None:
        """Send an event of a stranger, which is taken, or refused for what it says."""
        answer = self._client.post("/", data=json.dumps(said), content_type=STRUCTURED)
        assert answer.status_code in (204, 400, 422), answer.get_data(as_text=True)

    def close(self) -> None:
        """Close all doors."""
        self.tables.close()
        self.service.close()
        for door in (self._door, self._stopped_door):
            kubernetes.Kube.close(door)

    def _post(self, **request: object) -> None:
        answers: list[werkzeug.test.TestResponse] = []
        while len(answers) < ATTEMPTS and (not answers or answers[-1].status_code == 503):
            answers.append(self._client.post("/", **request))
        assert answers[-1].status_code == 204, answers[-1].get_data(as_text=True)

    def reconcile(self, **options: bool) -> result.Run:
        """Run a reconcile to its end."""
        done = reconciling.run(self._plain, result.Options(page=PAGE, **options), api=self._door)
        if not self.pause_points.running:
            self._wait()
        return done

    def begin(self, end: Callable[[result.Run], object], **options: bool) -> None:
        """Begin a reconcile that pauses; ``end`` is told what became of it.

        It has its lock: what it does before that concerns nobody.
        """
        self.relay.lose_reply = False  # of a history before, whose reconcile asked for nothing more
        chosen = result.Options(page=PAGE, **options)
        self.pause_points.start(lambda: end(reconciling.run(self._stopped, chosen, api=self._stopped_door)))
        while not self.locked() and self.pause_points.step():
            pass

    def let_end(self) -> None:
        """Let the reconcile that runs beside come to its end."""
        self.pause_points.open()
        self._wait()

    def kill(self) -> None:
        """Kill the reconcile that runs beside, and wait until Postgres knows."""
        self.pause_points.kill()
        self._wait()

    def locked(self) -> bool:
        """Return whether a reconcile holds its lock."""
        return bool(self.tables.query("SELECT pid FROM pg_locks WHERE locktype = 'advisory'"))

    def _wait(self) -> None:
        """Wait until no reconcile holds its lock: Postgres ends a session a moment after the client hung up."""
        end = time.monotonic() + pause_points.SECONDS
        while self.locked():
            assert time.monotonic() < end, "a reconcile ended and has kept its lock"
            time.sleep(0.001)

    def crash(self) -> None:
        """Kill Postgres, and start it again."""
        self.server.kill()
        self.server.start()
        self.tables.close()


@contextlib.contextmanager
def built(server: embedded_postgres.Postgres, folder: pathlib.Path, database: str) -> Iterator[Environment]:
    """Build a environment over a migrated database."""
    api = pause_points.Cluster(pause_points.PausePoints())
    socket = pathlib.Path(psycopg2.extensions.parse_dsn(server.url())["host"], ".s.PGSQL.5432")
    with contextlib.closing(api), pause_points.Relay(socket, api.pause_points).serving() as relay:
        environment = Environment(server, api, relay, folder, database)
        try:
            yield environment
        finally:
            environment.pause_points.kill()
            environment.close()


class _Door(kubernetes.Kube):
    """A door to the API that stays open between reconciles, because it takes longer to open than they do."""

    def close(self) -> None:
        pass


def _settings(url: str, kubeconfig: str) -> settings.Settings:
    return settings.Settings.from_env(
        {
            "DATABASE_URL": url,
            "KUBECONFIG": kubeconfig,
            "CLUSTER_NAME": model_cluster.CLUSTER,
            "CLUSTERS": adversary.OTHER_CLUSTER,
        }
    )
