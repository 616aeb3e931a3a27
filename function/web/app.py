"""The HTTP edge: one door for events, one for the echo, two for health, and the one table from outcome to status.

The statuses are chosen by what Knative does with them: it retries 404, 408, 409, 429 and 5xx, sends other 3xx and 4xx
to the dead letter sink at once, and takes a 2xx with a body for a failure.
No view parses, decides or stores: those are rooms of their own.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flask
import werkzeug.exceptions

from function import errors, events, measures, settings, tracing, turns
from function.web import budget, cloudevents, event_log, event_measures, intake, routing

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from function.dead_letters import sink
    from function.echo import echo
    from function.web import callers

log = logging.getLogger(__name__)

STATUSES: dict[type[errors.VmledgerError], int] = {
    errors.BadEvent: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.TooLarge: 413,
    errors.TooSlow: 408,
    errors.Refused: 422,
    errors.Unavailable: 503,
}
"""The status of each error, and of what stands below it in the tree."""

BATCH_VALUE_BYTES = 150
"""What a value in a batch's JSON takes of memory, from its Python object to the row that is to be written; measured.

A single event is prepared in one go, and then what it said is gone; a batch lets others run meanwhile.
"""

AT_ONCE_BYTES = 4096
"""Of an event that is printed: to mask so many takes some milliseconds at most."""

Answer = tuple[str, int, dict[str, str]]
Receive = Callable[["WSGIEnvironment"], flask.Response | None]


def create_app(
    configuration: settings.Settings,
    router: routing.Router,
    states: Any,
    *,
    door: intake.Intake,
    refused: Callable[[], None] | None = None,
    dead_letters: Callable[[], sink.Sink] | None = None,
) -> flask.Flask:
    """Build the application over a router; ``states`` returns the state of each dependency, by name.

    door: takes the requests in.
    refused: called for each request that is refused for what it sent; it takes no time and raises nothing.
    dead_letters: returns what keeps those that POST /echo receives.
    """
    app = flask.Flask("function", static_folder=None)
    app.url_map.merge_slashes = False  # a redirect to the path with one slash would end as a dead letter
    printer = _printer(configuration.echo)

    receive = _receiver(router, door, printer if configuration.receiver.debug else None, refused)

    def receive_view() -> flask.Response:
        return receive(flask.request.environ) or _DONE

    for path, view, methods in (
        ("/", receive_view, ["POST"]),
        _echo(configuration.echo, door, printer, dead_letters),
        ("/health/liveness", lambda: _plain("OK"), ["GET"]),
        ("/health/readiness", lambda: _plain(readiness_text(states())), ["GET"]),
    ):
        app.add_url_rule(path, path, view, methods=methods, provide_automatic_options=False)
    app.register_error_handler(werkzeug.exceptions.HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)
    served = tracing.tracer().application(_events_first(receive, app.wsgi_app))
    app.wsgi_app = served  # type: ignore[assignment, method-assign]  # as Flask's documents do
    return app


def _plain(text: str) -> Answer:
    return text, 200, {"Content-Type": "text/plain"}


def _receiver(
    router: routing.Router,
    door: intake.Intake,
    printer: Callable[[], echo.Echo] | None,
    refused: Callable[[], None] | None,
) -> Receive:
    """Return what answers POST /: None where all is done.

    printer: prints each event besides, where there is one.
    """

    def receive(environ: WSGIEnvironment) -> flask.Response | None:
        started = time.perf_counter()
        subjects: Sequence[event_log.Subject] = ()
        try:
            with door.memory.share() as share:
                body = door.body(environ, share)
                with share.turn():
                    batch = _read(environ, body, share, printer() if printer else None)
                    subjects = [event_log.subject(event) for event in turns.shared(batch)]
                    plan = router.prepare(batch)
                    del body, batch  # they take more memory than what is to be done
                outcomes = router.perform(plan)
        except errors.VmledgerError as exc:
            if refused and not isinstance(exc, (errors.Unavailable, errors.NotAdmitted)):
                refused()
            if measures.recorder is not None:
                event_measures.failed(measures.recorder, subjects, status_of(exc), started)
            return failure(exc, started, subjects)
        if measures.recorder is not None:
            event_measures.handled(measures.recorder, subjects, outcomes, started)
        for each, outcome in zip(turns.shared(subjects), outcomes, strict=True):
            # A source may send every Event of a cluster: what is not for us is no news.
            level = logging.DEBUG if outcome == routing.NOT_FOR_US else logging.INFO
            event_log.handled(each, outcome, started, level)
        return None

    return receive


def _events_first(receive: Receive, others: WSGIApplication) -> Any:
    """Return the application with a short cut for events.

    Flask's way through contexts, signals and routing takes longer than storing an event, which needs none of it.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if not path:  # as of http://host, which means the same as http://host/ (RFC 9110, section 4.2.3)
            path = environ["PATH_INFO"] = "/"
        if environ["REQUEST_METHOD"] != "POST" or path != "/":
            return others(environ, start_response)
        try:
            response = receive(environ)
        except Exception as exc:  # what Flask's own handler would take
            response = _bug(exc)
        if response is not None:
            return response(environ, start_response)
        start_response("204 NO CONTENT", [])
        return ()

    return answer


def _printer(part: settings.Echo) -> Callable[[], echo.Echo]:
    @functools.cache
    def printer() -> echo.Echo:
        from function.echo import echo

        return echo.Echo(part)

    return printer


def _echo(
    part: settings.Echo,
    door: intake.Intake,
    printer: Callable[[], echo.Echo],
    dead_letters: Callable[[], sink.Sink] | None,
) -> tuple[str, Any, list[str]]:
    """Return the route of the echo: its path, its view and its methods."""

    def show() -> flask.Response:
        started = time.perf_counter()
        environ = flask.request.environ
        try:
            with door.memory.share() as share:
                body = door.body(environ, share)
                with share.turn():
                    batch = _read(environ, body, share, printer(), dead_letters)
                    subjects = [event_log.subject(event) for event in turns.shared(batch)]
                    del body, batch
        except errors.VmledgerError as exc:
            return failure(exc, started)
        for each in turns.shared(subjects):
            event_log.handled(each, "echoed", started, logging.INFO)
        return _DONE

    def closed() -> flask.Response:
        return _error(404, "the echo is closed here: ECHO=off")

    return ("/echo", show, ["POST"]) if part.open else ("/echo", closed, ["GET", "POST", "PUT", "DELETE"])


def _read(
    environ: Mapping[str, Any],
    body: bytes,
    share: budget.Share,
    printer: echo.Echo | None,
    dead_letters: Callable[[], sink.Sink] | None = None,
) -> Sequence[events.Event]:
    """Return the request's events, printed where there is a printer, as is a body that holds none."""
    is_large = len(body) > AT_ONCE_BYTES
    try:
        if cloudevents.is_batch(environ):
            share.hold(events.values(body) * BATCH_VALUE_BYTES)
        batch = cloudevents.from_wsgi(environ, body, _whole if printer else routing.shape)
    except errors.BadEvent as exc:
        if printer:
            attributes = _attributes(environ)
            line = printer.other(body, attributes, environ.get("CONTENT_TYPE") or "", str(exc), is_large=is_large)
            if dead_letters:
                dead_letters().body(attributes, line)
        raise
    tracing.tracer().events(batch)
    if printer:
        is_large = len(body) > AT_ONCE_BYTES * len(batch)
        printed = [(event, printer.event(event, is_large=is_large)) for event in turns.shared(batch)]
        if dead_letters:
            dead_letters().events(printed)
    return batch


def _attributes(environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes that a request's headers give, even if it is not an event; none where they are broken."""
    try:
        return cloudevents.header_attributes(environ)
    except errors.BadEvent:
        return {}


def refusal(guard: callers.Callers, authorization: str) -> flask.Response | None:
    """Return the answer for a caller that may not send, None for one that may: for a door that reads bodies itself."""
    started = time.perf_counter()
    try:
        guard.check(authorization)
    except errors.VmledgerError as exc:
        return failure(exc, started)
    except Exception as exc:  # what _events_first would take
        return _bug(exc)
    return None


def _whole(_: object) -> None:
    """Let an event's data be read as it is: the echo shows all of it."""


def failure(exc: errors.VmledgerError, started: float, subjects: Sequence[event_log.Subject] = ()) -> flask.Response:
    """Log that a request was refused or put off, and return the answer."""
    status = status_of(exc)
    event_log.failed(subjects, status, str(exc), started)
    return _error(status, str(exc))


def status_of(exc: errors.VmledgerError) -> int:
    """Return the status that answers ``exc``: that of its nearest ancestor in :data:`STATUSES`."""
    return next(STATUSES[kind] for kind in type(exc).__mro__ if kind in STATUSES)


def readiness_text(states: dict[str, str]) -> str:
    """Return the readiness answer: JSON, sent as text/plain because that is all that kn func's middleware can send."""
    return json.dumps(states)


def _empty() -> flask.Response:
    response = flask.Response(status=204)
    del response.headers["Content-Type"]
    return response


_DONE = _empty()
"""The answer to each event that is done: nothing in it differs, and nothing changes it."""


def _error(status: int, sentence: str) -> flask.Response:
    if measures.recorder is not None:
        measures.recorder.add(measures.REQUEST_ERRORS, (str(status),))
    # A 401 says how to do better (RFC 9110, section 15.5.2).
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return flask.Response(json.dumps({"error": sentence}), status, headers, content_type="application/json")


def _http_error(exc: werkzeug.exceptions.HTTPException) -> flask.Response:
    """Answer what Flask refuses by itself: a wrong method, a wrong path."""
    match exc:
        case werkzeug.exceptions.MethodNotAllowed():
            response = _error(
                405, f"send events as POST / (this was {flask.request.method} {errors.shown(flask.request.path)})"
            )
            response.headers["Allow"] = ", ".join(sorted(exc.valid_methods or ()))
        case werkzeug.exceptions.NotFound() if flask.request.method == "POST":
            # Knative would retry a 404, and a wrong path never gets right.
            response = _error(422, f"there is no {errors.shown(flask.request.path)} here: send events as POST /")
        case _:
            response = _error(exc.code or 400, exc.name.lower())
    event_log.failed((), response.status_code, json.loads(response.get_data())["error"])
    return response


def _bug(exc: Exception) -> flask.Response:
    """Answer what nobody expected: our trouble, so the event is sent again, and the traceback goes to the log only."""
    log.error("unexpected error", extra={"action": "request.failed"}, exc_info=exc)
    return _error(503, errors.UNEXPECTED)
