"""What is measured: each metric, declared once, and where its values go.

A place that measures looks whether there is a recorder, and without one does nothing::

    if measures.recorder is not None:
        measures.recorder.add(measures.CALLERS_REFUSED, ("forbidden",))

Only :mod:`function.metrics` provides a recorder, and only where METRICS_PORT is set; nothing here imports a library.
This is a module at the bottom, not an object that the wiring passes on: places are in every layer, from the HTTP edge
to the Kubernetes client, and the values are the process's, as its log is. One more argument for ten constructors would
say nothing else.

Names follow Prometheus' conventions. Labels have few values, all of them ours: nothing that a sender chooses, and never
a VM. The metrics of the ledger have one series for each cluster, :data:`MOST_CLUSTERS` at most.
docs/metrics.md is held to these declarations by a test.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Protocol

MOST_CLUSTERS = 200
"""Clusters that have series; those that were reconciled come first."""


class Kind(enum.Enum):
    """Prometheus' kinds of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(enum.Enum):
    """Where the values of a metric come from; what each heading of docs/metrics.md begins with."""

    RECEIVER = "The receiver"
    """Each worker counts for itself, and the pod shows the sum."""
    POD = "The pod"
    LEDGER = "The ledger"
    """Read from Postgres, so each pod shows the same."""
    PUBLISH = "The command publish"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """A metric; two are the same where they are one object.

    labels: the names of its labels. buckets: the upper bounds of a histogram's.
    series: values of the labels that are there from the start, with 0: an alert on a rise sees the first one.
    """

    name: str
    doc: str
    source: Source = Source.RECEIVER
    kind: Kind = Kind.COUNTER
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    series: Sequence[tuple[str, ...]] = ()


class Recorder(Protocol):
    """Takes values; it raises nothing and waits for nothing. ``labels``: the values of the metric's labels."""

    def add(self, metric: Metric, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add to a counter."""

    def observe(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Add a value to a histogram."""

    def set(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """Set a gauge."""


recorder: Recorder | None = None
"""Where values go; None where nothing is measured."""


def use(chosen: Recorder | None) -> None:
    """Let values go to a recorder from now on."""
    global recorder  # noqa: PLW0603  # the process's, as its log is
    recorder = chosen


# --- what answers mean ------------------------------------------------------------------------------------------------

OK, NOT_FOUND, REFUSED, FAILED = "ok", "not_found", "refused", "failed"


def outcome(status: int | None) -> str:
    """Return what an answer with this status came to; None: there was no answer."""
    if status is None or status >= 500 or status in (408, 429):
        return FAILED
    if status == 404:
        return NOT_FOUND
    return OK if status < 300 else REFUSED


# --- of each process --------------------------------------------------------------------------------------------------

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
_ANSWERS = tuple((word,) for word in (OK, NOT_FOUND, REFUSED, FAILED))

OTHER_TYPE = "other"
"""In place of the type of an event that is not for vmledger, or that could not be read."""

EVENTS = Metric(
    name="vmledger_events_total",
    labels=("type", "outcome"),
    doc="Events of POST /, by their type and what became of them: stored, duplicate, late, ignored and others for 204;"
    " refused for an answer that makes a dead letter, deferred for one that makes Knative send it again.",
)
EVENT_SECONDS = Metric(
    name="vmledger_event_duration_seconds",
    kind=Kind.HISTOGRAM,
    labels=("type",),
    buckets=_SECONDS,
    doc="Time from the start of an event's request to its answer.",
)
REQUEST_ERRORS = Metric(
    name="vmledger_request_errors_total",
    labels=("status",),
    series=tuple((status,) for status in ("400", "401", "403", "408", "413", "422", "503")),
    doc="Requests that were answered with an error, by status.",
)
IN_FLIGHT = Metric(
    name="vmledger_bodies_in_flight",
    kind=Kind.GAUGE,
    doc="Requests that are handled at the moment; sampled once a second.",
)
IN_FLIGHT_BYTES = Metric(
    name="vmledger_bodies_in_flight_bytes",
    kind=Kind.GAUGE,
    doc="Memory that large requests in flight hold of MAX_INFLIGHT_BYTES; sampled once a second.",
)
GROUP_SIZE = Metric(
    name="vmledger_group_commit_size",
    kind=Kind.HISTOGRAM,
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
    doc="Changes that were stored by one group commit.",
)
GROUP_WAIT = Metric(
    name="vmledger_group_commit_wait_seconds",
    kind=Kind.HISTOGRAM,
    buckets=_SECONDS,
    doc="Time that the first request of a group waited for the group's turn.",
)
GROUP_POSTGRES = Metric(
    name="vmledger_group_commit_postgres_seconds",
    kind=Kind.HISTOGRAM,
    buckets=_SECONDS,
    doc="Time that Postgres took for a group, with the wait for the connection.",
)
DEAD_LETTERS = Metric(
    name="vmledger_dead_letters_total",
    labels=("outcome",),
    series=(("kept",), ("left_out",)),
    doc="Dead letters that POST /echo received: kept in the database, or left out and only in the log.",
)
CALLERS_REFUSED = Metric(
    name="vmledger_callers_refused_total",
    labels=("reason",),
    series=(("unauthenticated",), ("forbidden",), ("keys_unavailable",)),
    doc="Requests whose caller was refused: without a good token, of a subject that may not send, or because the"
    " issuer's keys could not be read.",
)
WEBHOOK_DELIVERIES = Metric(
    name="vmledger_webhook_deliveries_total",
    labels=("outcome",),
    series=(("delivered",), ("refused",), ("failed",)),
    doc="Notices sent to webhooks: delivered, refused for good, or failed and sent again later.",
)
WEBHOOK_SECONDS = Metric(
    name="vmledger_webhook_delivery_seconds",
    kind=Kind.HISTOGRAM,
    buckets=_SECONDS,
    doc="Time that a notice took, with all attempts.",
)
OPERATIONS_CALLS = Metric(
    name="vmledger_operations_calls_total",
    labels=("outcome",),
    series=_ANSWERS,
    doc="Calls to vRealize, Aria or VCF Operations: ok, not_found, refused (3xx, 4xx) or failed (5xx, 408, 429, no"
    " answer).",
)
KUBERNETES_CALLS = Metric(
    name="vmledger_kubernetes_calls_total",
    labels=("verb", "outcome"),
    series=tuple((verb, *answer) for verb in ("get", "list") for answer in _ANSWERS),
    doc="Calls to the Kubernetes API, with the outcomes of Operations' calls.",
)
# --- of the pod -------------------------------------------------------------------------------------------------------

BUILD = Metric(
    name="vmledger_build_info",
    source=Source.POD,
    kind=Kind.GAUGE,
    labels=("version",),
    doc="Always 1; its label is vmledger's version.",
)
DATABASE_UP = Metric(
    name="vmledger_database_up",
    source=Source.POD,
    kind=Kind.GAUGE,
    doc="Whether the ledger could be read at the last attempt: 1 or 0. With 0 there are no values of the ledger.",
)

# --- of the ledger, the same in each pod ------------------------------------------------------------------------------

CLUSTERS = Metric(
    name="vmledger_clusters",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    doc=f"Clusters in the ledger; at most {MOST_CLUSTERS} of them have series, those that were reconciled first.",
)
SILENCE = Metric(
    name="vmledger_silence_seconds",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster", "kind"),
    doc="Time since the last event of a kind was stored (docs/health.md).",
)
LIST_AGE = Metric(
    name="vmledger_complete_list_age_seconds",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster",),
    doc="Age of the last complete list.",
)
UNRECONCILED = Metric(
    name="vmledger_unreconciled_seconds",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster",),
    doc="Age of the last complete list; without one, time since the cluster is known.",
)
RECONCILE_TIME = Metric(
    name="vmledger_reconcile_last_run_timestamp_seconds",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster",),
    doc="When the last reconcile began, whatever became of it.",
)
RECONCILE_SUCCESS = Metric(
    name="vmledger_reconcile_last_run_success",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster",),
    doc="Whether the last reconcile read a complete list: 1 or 0.",
)
RECONCILE_MISSED = Metric(
    name="vmledger_reconcile_missed",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster", "change"),
    doc="Drift: changes that the last complete list found missing in the ledger: add, update, delete.",
)
RECONCILE_CORRECTED = Metric(
    name="vmledger_reconcile_corrected",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster",),
    doc="Objects of which the last complete list refuted a version.",
)
REFUSALS = Metric(
    name="vmledger_refusals_total",
    source=Source.LEDGER,
    labels=("cluster",),
    doc="Requests that were refused for good, of all pods ever, by the CLUSTER_NAME of the pod.",
)
LIVE_VMS = Metric(
    name="vmledger_live_vms",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("cluster",),
    doc="VMs that are not deleted, counted once a minute; missing where that takes too long.",
)
HISTORY_ROWS = Metric(
    name="vmledger_history_rows",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("table",),
    doc="Rows of a history, as Postgres estimates them.",
)
HISTORY_BYTES = Metric(
    name="vmledger_history_bytes",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("table",),
    doc="Size of a history on disk, with its indexes.",
)
LETTERS_KEPT = Metric(
    name="vmledger_dead_letters_kept",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    labels=("state",),
    doc="Dead letters in the database: waiting for a replay, or replayed.",
)
PRUNE_TIME = Metric(
    name="vmledger_prune_last_run_timestamp_seconds",
    source=Source.LEDGER,
    kind=Kind.GAUGE,
    doc="When the last prune ended; missing where none did.",
)

# --- of the command publish -------------------------------------------------------------------------------------------

PUBLISH_LAG = Metric(
    name="vmledger_publish_lag_seconds",
    source=Source.PUBLISH,
    kind=Kind.GAUGE,
    doc="Age of the moment up to which all changes were sent; 0 where all are.",
)
PUBLISHED = Metric(
    name="vmledger_published_events_total",
    source=Source.PUBLISH,
    labels=("outcome",),
    series=(("delivered",), ("refused",), ("failed",)),
    doc="Events sent to K_SINK: delivered, refused for good, or failed and sent again.",
)

ALL = tuple(value for value in vars().values() if isinstance(value, Metric))
"""Every metric, in the order of its declaration."""
