"""How spans are sent: by OTLP over HTTP, to a collector that may be away."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk import trace
from opentelemetry.sdk.trace import export

log = logging.getLogger(__name__)

ANSWER_BYTES = 64 * 1024
WARN_AGAIN_SECONDS = 60.0
_WHY: tuple[tuple[type[Exception], str], ...] = (
    (requests.Timeout, "the collector did not answer in time"),
    (requests.exceptions.SSLError, "the collector's certificate cannot be verified"),
    (requests.RequestException, "the collector cannot be reached"),
    (OSError, "a file that OTEL_EXPORTER_OTLP_CERTIFICATE or OTEL_EXPORTER_OTLP_CLIENT_* name cannot be used"),
    (Exception, "the collector cannot be reached"),
)
"""Why a request has no answer; the first that fits counts. The library's own words have the url."""


class Exporter(export.SpanExporter):
    """Sends spans by OTLP over HTTP, and warns at most once a minute where that fails.

    The SDK itself warns for each span and each attempt, with the collector's url, which may hold a secret. Its log is
    off (:func:`function.logs.configuration`).
    """

    def __init__(self, url: str) -> None:
        self._session = _Session()
        self._inner = trace_exporter.OTLPSpanExporter(url, session=self._session)
        self._lost = 0
        self._warn_at = 0.0

    def export(self, spans: Sequence[trace.ReadableSpan]) -> export.SpanExportResult:
        """Send spans; those that cannot be sent are dropped."""
        self._session.why = "they cannot be packed"
        result = self._inner.export(spans)
        if result is export.SpanExportResult.SUCCESS and not self._session.why:
            return result
        self._lost += len(spans)
        now = time.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + WARN_AGAIN_SECONDS
            log.warning(
                "traces cannot be sent: %s", self._session.why, extra={"action": "traces.lost", "spans": self._lost}
            )
            self._lost = 0
        return export.SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Give up what is being sent, and close the connection."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]  # so it is in the SDK


class _Session(requests.Session):
    """What the exporter sends with: it reads no more of an answer than ANSWER_BYTES, and keeps why one is no success.

    why: empty after a success.
    """

    why = ""

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request and read its answer; raise as requests does."""
        try:
            # Without verify, REQUESTS_CA_BUNDLE would win over what OpenTelemetry's variables name.
            response = super().request(*arguments, **{**options, "stream": True, "verify": self.verify})
            response.raw.read(ANSWER_BYTES)
        except Exception as exc:
            self.why = next(why for kind, why in _WHY if isinstance(exc, kind))
            raise
        response.close()
        status = response.status_code
        self.why = "" if 200 <= status < 300 else f"the collector answered {status}"
        return response
