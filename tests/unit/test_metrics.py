"""What is measured, how a process records it, and how it is shown."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import hypothesis
import hypothesis.strategies as some
import prometheus_client
import prometheus_client.parser
import pytest
from prometheus_client import exposition

from function import errors, measures, settings
from function.clients import postgres_errors
from function.metrics import command, counts, ledger, page, pod, readings, recorder
from function.web import event_log, event_measures, routing
from tests.acceptance import processes

RECEIVER = measures.Source.RECEIVER
EVENT = ("dev.knative.apiserver.resource.add", "stored")


@pytest.fixture
def kept(tmp_path: pathlib.Path) -> counts.Counts:
    """An empty folder of counts."""
    return counts.Counts(tmp_path / "counts")


@pytest.fixture(autouse=True)
def nothing_is_measured_afterwards() -> Iterator[None]:
    """The recorder is the process's."""
    yield
    measures.use(None)


def shown(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The values of a page, by name and labels, as Prometheus' own parser reads them."""
    families = prometheus_client.parser.text_string_to_metric_families(text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(text: str, name: str, **labels: str) -> float | None:
    """A value of a page."""
    return shown(text).get((name, frozenset(labels.items())))


def test_metrics_are_named_as_prometheus_asks() -> None:
    """Its conventions: the application first, base units, _total for counters and for nothing else."""
    assert len({metric.name for metric in measures.ALL}) == len(measures.ALL)
    for metric in measures.ALL:
        assert re.fullmatch(r"vmledger_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is measures.Kind.COUNTER)
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mib|percent)\b", metric.name)
        assert bool(metric.buckets) == (metric.kind is measures.Kind.HISTOGRAM)
        assert list(metric.buckets) == sorted(metric.buckets)
        assert not {"vm", "name", "uid", "id", "instance", "job", "namespace", "pod"} & set(metric.labels)
        assert all(len(labels) == len(metric.labels) for labels in metric.series)


def test_values_of_several_processes_are_added_up(kept: counts.Counts) -> None:
    """Counters, histograms and gauges; Prometheus' client reads what the recorder wrote."""
    for pid in (7, 8):
        each = recorder.Recorder(kept.folder, pid, RECEIVER)
        each.add(measures.EVENTS, EVENT, 2)
        each.add(measures.EVENTS, EVENT)
        each.observe(measures.GROUP_SIZE, 5)
        each.observe(measures.GROUP_SIZE, 6)
        each.observe(measures.GROUP_SIZE, 9999)
        each.set(measures.IN_FLIGHT, 1)
        each.set(measures.IN_FLIGHT, pid)
    text = pod.Pod(kept, version="1").render().decode()
    assert value(text, "vmledger_events_total", type=EVENT[0], outcome=EVENT[1]) == 6
    assert value(text, "vmledger_group_commit_size_sum") == 2 * (5 + 6 + 9999)
    assert value(text, "vmledger_group_commit_size_count") == 6
    assert value(text, "vmledger_group_commit_size_bucket", le="5.0") == 2
    assert value(text, "vmledger_group_commit_size_bucket", le="10.0") == 4
    assert value(text, "vmledger_group_commit_size_bucket", le="+Inf") == 6
    assert value(text, "vmledger_bodies_in_flight") == 15
    assert value(text, "vmledger_build_info", version="1") == 1


def test_every_metric_is_there_from_the_start(kept: counts.Counts) -> None:
    """What has no label, or declares its series, is 0 before anything happens: an alert on a rise sees the first."""
    recorder.Recorder(kept.folder, 7, RECEIVER)
    text = pod.Pod(kept).render().decode()
    for metric in measures.ALL:
        if metric.source is RECEIVER:
            name = f"{metric.name}_count" if metric.kind is measures.Kind.HISTOGRAM else metric.name
            for labels in metric.series or ([()] if not metric.labels else []):
                assert value(text, name, **dict(zip(metric.labels, labels, strict=True))) == 0, name
        assert metric.source is RECEIVER or metric.name not in text


def test_the_dead_are_added_up_and_their_files_go(kept: counts.Counts) -> None:
    """A gauge says what is so now, so that of a dead process goes."""
    for pid in (7, 8, 9):
        each = recorder.Recorder(kept.folder, pid, RECEIVER)
        each.add(measures.EVENTS, EVENT)
        each.observe(measures.GROUP_SIZE, pid)
        each.set(measures.IN_FLIGHT, 1)
        kept.bury(pid)
    assert {path.name for path in kept.folder.iterdir()} == {"counter_0.db", "histogram_0.db"}
    text = pod.Pod(kept).render().decode()
    assert value(text, "vmledger_events_total", type=EVENT[0], outcome=EVENT[1]) == 3
    assert value(text, "vmledger_group_commit_size_sum") == 24
    assert value(text, "vmledger_group_commit_size_bucket", le="10.0") == 3
    kept.bury(4711)
    kept.remove()
    assert not kept.folder.exists()


def test_threads_that_record_at_once_lose_nothing(kept: counts.Counts) -> None:
    """Nor does one of them make a series that another one makes."""
    shared = recorder.Shared(kept.folder, 7, measures.Source.PUBLISH)

    def record() -> None:
        for number in range(5000):
            shared.add(measures.PUBLISHED, ("delivered",))
            shared.add(measures.EVENTS, (str(number % 50), "stored"))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = pod.Pod(kept).render().decode()
    assert value(text, "vmledger_published_events_total", outcome="delivered") == 20_000
    assert sum(number for (name, _), number in shown(text).items() if name == "vmledger_events_total") == 20_000
    assert text.count("vmledger_events_total{") == 50


def test_what_has_no_room_is_left_out(kept: counts.Counts) -> None:
    """A file has an end; the series that were there first are still counted."""
    each = recorder.Recorder(kept.folder, 7, RECEIVER)
    for number in range(5000):
        each.add(measures.EVENTS, ("x" * 20, str(number)))
    each.add(measures.EVENTS, ("x" * 20, "0"))
    text = pod.Pod(kept).render().decode()
    assert value(text, "vmledger_events_total", type="x" * 20, outcome="0") == 2
    assert 1000 < text.count("vmledger_events_total{") < 5000


def test_a_folder_of_somebody_else_is_refused(tmp_path: pathlib.Path) -> None:
    """A file, or a link that could lead anywhere; the sentence names the variable."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(errors.BadSetting, match="PROMETHEUS_MULTIPROC_DIR"):
            counts.opened(settings.Metrics(port=1, folder=str(tmp_path / name)))


@hypothesis.given(some.text())
def test_any_type_of_a_sender_is_one_of_a_few(kind: str) -> None:
    """So nobody can make a series."""
    known = {*routing.TYPES, *routing.NAMED, *(f"{prefix}*" for prefix in routing.PREFIXES), "other"}
    for given in (kind, f"com.vmware.vsphere.{kind}", f"dev.knative.apiserver.resource.{kind}"):
        assert event_measures.type_of(event_log.Subject(given, "1", None)) in known


# --- the page ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(render: str = "vmledger_x 1\n", *, fails: bool = False) -> Iterator[int]:
    """A page; yields its port."""
    port = processes.free_port()

    def rendered() -> bytes:
        if fails:
            raise ValueError(render)
        return render.encode()

    started = page.Page(page.listening(port), rendered)
    started.start()
    yield port
    started.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/metrics", 200, b"vmledger_x 1\n"),
        ("GET", "/metrics?name[]=x", 200, b"vmledger_x 1\n"),
        ("HEAD", "/metrics", 200, b""),
        ("POST", "/metrics", 405, b""),
        ("DELETE", "/metrics", 405, b""),
        ("GET", "/", 404, b""),
        ("GET", "/metrics/", 404, b""),
        ("POST", "/", 404, b""),
    ],
)
def test_the_page_answers_get_and_head_alone(method: str, path: str, status: int, body: bytes) -> None:
    """Each with its length, and the end of the connection."""
    with served() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, body)
        assert answer.getheader("Connection") == "close"
        assert answer.getheader("Allow") == ("GET, HEAD" if status == 405 else None)
        connection.close()


@pytest.mark.parametrize("request_bytes", [b"nonsense\r\n\r\n", b"GET /metrics\r\n\r\n", b"\x00\xff\r\n\r\n"])
def test_what_is_not_http_is_400(request_bytes: bytes) -> None:
    """And the next one is served."""
    with served() as port:
        service = processes.Service(None, port, pathlib.Path())  # type: ignore[arg-type]  # its raw request alone
        assert service.raw("", request_bytes).startswith(b"HTTP/1.1 400 ")
        assert service.metrics(port) == {"vmledger_x": 1}


def test_a_request_that_is_too_long_gets_no_answer() -> None:
    """Its connection ends."""
    with served() as port:
        service = processes.Service(None, port, pathlib.Path())  # type: ignore[arg-type]  # its raw request alone
        with contextlib.suppress(OSError):
            assert service.raw("", b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20_000) == b""
        assert service.metrics(port) == {"vmledger_x": 1}


def test_a_page_that_fails_is_500(caplog: pytest.LogCaptureFixture) -> None:
    """The reason is in the log alone."""
    with served("a secret", fails=True) as port:
        with pytest.raises(urllib.error.HTTPError, match="500") as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30)
        assert caught.value.read() == b""
        caught.value.close()
    assert "the metrics cannot be shown" in caplog.text


def test_a_command_serves_its_own_values(tmp_path: pathlib.Path) -> None:
    """While the block runs; and afterwards the port is free and nothing is left."""
    port = processes.free_port()
    part = settings.Metrics(port=port, folder=str(tmp_path / "counts"))
    service = processes.Service(None, port, pathlib.Path())  # type: ignore[arg-type]  # its metrics alone
    for lag in (12.5, 0.0):
        with command.served(part, measures.Source.PUBLISH):
            assert measures.recorder is not None
            measures.recorder.set(measures.PUBLISH_LAG, lag)
            measures.recorder.add(measures.PUBLISHED, ("delivered",))
            values = service.metrics(port)
        assert values["vmledger_publish_lag_seconds"] == lag
        assert values['vmledger_published_events_total{outcome="delivered"}'] == 1
        assert values['vmledger_published_events_total{outcome="refused"}'] == 0
        assert not [name for name in values if name.startswith("vmledger_group")]
        assert measures.recorder is None
    assert not (tmp_path / "counts").exists()
    with command.served(settings.Metrics(), measures.Source.PUBLISH):
        assert measures.recorder is None


# --- the readings of the ledger ---------------------------------------------------------------------------------------

UP = [ledger.Sample(measures.DATABASE_UP, (), 1), ledger.Sample(measures.REFUSALS, ("east",), 3)]


def test_the_ledger_is_read_seldom() -> None:
    """Scrapes that follow each other get the same reading."""
    read: list[int] = []
    kept = readings.Readings(lambda: read.append(1) or UP, kept=3600)  # type: ignore[func-returns-value]
    assert [list(kept.samples()) for _ in range(5)] == [UP] * 5
    assert len(read) == 1


def test_a_reading_that_hangs_keeps_no_scrape() -> None:
    """The database counts as away until the reading ends; no second one is begun meanwhile."""
    goes_on, begun = threading.Event(), []

    def read() -> list[ledger.Sample]:
        begun.append(1)
        goes_on.wait(60)
        return UP

    kept = readings.Readings(read, kept=0, wait=0.05)
    for _ in range(3):
        assert list(kept.samples()) == list(readings.AWAY)
    assert len(begun) == 1
    goes_on.set()
    end = time.monotonic() + 30
    while list(kept.samples()) != UP:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("exc", [errors.DatabaseUnavailable("it is away"), postgres_errors.Conflict(), ValueError("x")])
def test_a_reading_that_fails_says_that_the_database_is_away(exc: Exception) -> None:
    """Whatever it fails with."""

    def read() -> list[ledger.Sample]:
        raise exc

    assert list(readings.Readings(read).samples()) == list(readings.AWAY)


def test_samples_are_shown_by_metric() -> None:
    """A counter keeps its name; a label may hold any text."""

    class Some:
        def collect(self) -> list[prometheus_client.Metric]:
            return readings.families([*UP, ledger.Sample(measures.REFUSALS, ('we"st\n\\',), 4)])

    registry = prometheus_client.CollectorRegistry()
    registry.register(Some())
    text = exposition.generate_latest(registry).decode()
    assert value(text, "vmledger_refusals_total", cluster="east") == 3
    assert value(text, "vmledger_refusals_total", cluster='we"st\n\\') == 4
    assert value(text, "vmledger_database_up") == 1
