"""``/metrics`` of a running receiver: what is counted, who serves it, and what nobody can do to it."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping

from tests.acceptance import processes

SECONDS = 30.0
AWAY = "postgresql://u:hunter2@127.0.0.1:1/x"
ADD = "dev.knative.apiserver.resource.add"


def eventually(holds: Callable[[], bool], sentence: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, sentence
        time.sleep(0.1)


@contextlib.contextmanager
def measured(
    tmp_path: pathlib.Path, environ: Mapping[str, str], *, workers: int = 2
) -> Iterator[tuple[processes.Service, int]]:
    """A receiver that serves metrics, and their port."""
    port = processes.free_port()
    given = {"METRICS_PORT": str(port), "WEB_CONCURRENCY": str(workers), "DB_TIMEOUT": "6", **environ}
    with processes.gunicorn(tmp_path / "log", given) as service:
        yield service, port


def total(values: Mapping[str, float], name: str, *labels: str) -> float:
    """The sum of a metric's series that have these labels, written as ``label="value"``."""
    return sum(
        value
        for series, value in values.items()
        if series.partition("{")[0] == name and all(label in series for label in labels)
    )


def test_events_are_counted_by_type_and_outcome_by_all_workers(tmp_path: pathlib.Path, url: str) -> None:
    """Each answer is in the counts as soon as it is given, whichever worker gave it."""
    with measured(tmp_path, {"DATABASE_URL": url}) as (service, port):
        for number in range(40):
            assert service.send(name=f"vm-{number}", id=str(number)) == 204
        assert service.send(name="vm-1", id="1") == 204
        assert service.post(b"{", ce_specversion="1.0")[0] == 400
        values = service.metrics(port)
        assert values[f'vmledger_events_total{{outcome="stored",type="{ADD}"}}'] == 40
        assert values[f'vmledger_events_total{{outcome="duplicate",type="{ADD}"}}'] == 1
        assert values['vmledger_events_total{outcome="refused",type="other"}'] == 1
        assert values[f'vmledger_event_duration_seconds_count{{type="{ADD}"}}'] == 41
        assert values['vmledger_request_errors_total{status="400"}'] == 1
        assert values['vmledger_request_errors_total{status="503"}'] == 0
        assert values["vmledger_group_commit_size_sum"] == 41
        assert values["vmledger_group_commit_postgres_seconds_count"] > 0
        assert values["vmledger_database_up"] == 1
        assert values['vmledger_live_vms{cluster="default"}'] == 40
        assert values['vmledger_silence_seconds{cluster="default",kind="VirtualMachine"}'] >= 0
