"""The page's HTTP edge: a route for each view, the headers that keep a browser safe, and errors as pages.

Nothing but GET and HEAD is answered, no cookie is set or read, and only the host names of PAGE_HOSTS are answered for:
so another site cannot make a browser read the page for it.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

import flask
import werkzeug.exceptions

import function
from function import errors, settings
from function.page import (
    capacity,
    changes,
    counts,
    database,
    fleet,
    freshness,
    health,
    machine,
    moment,
    query,
    takeaway,
    usage,
    views,
    wording,
)

log = logging.getLogger(__name__)

VIEWS: tuple[views.View, ...] = (fleet.VIEW, changes.VIEW, capacity.VIEW, usage.VIEW, health.VIEW, machine.VIEW)
"""In the order of the menu."""
FEEDS: tuple[views.View, ...] = (changes.FEED,)
"""What is asked for like a view, and is no page."""
METHODS = ("GET", "HEAD")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
STATIC_CACHE = "private, max-age=3600"
"""For the style sheet and the script, whose addresses have the version in them."""
STATUSES: dict[type[errors.VmledgerError], int] = {errors.BadQuestion: 400, errors.Unavailable: 503}
NOT_THERE = "there is nothing under this address in the ledger"
ONLY_READ = "the page only answers GET and HEAD: nothing can be changed here"
OTHER_HOST = "the page does not answer for this host name: PAGE_HOSTS lists those that it answers for"
RETRY_SECONDS = "5"


def create_app(configuration: settings.Settings) -> flask.Flask:
    """Build the page; its first request connects to the database."""
    app = flask.Flask("function.page")
    app.url_map.merge_slashes = False  # a name may have two
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    wording.register(app.jinja_env)
    reader = database.Reader(configuration.page.connection(configuration.database))
    app.extensions["vmledger.close"] = reader.close
    app.context_processor(_of_every_page)
    app.before_request(functools.partial(_admit, frozenset(configuration.page.hosts)))
    places = threading.BoundedSemaphore(takeaway.AT_ONCE)
    shared = _Shared(configuration, reader, freshness.Freshness(reader, configuration.ledger), counts.Kept(), places)
    for view in (*VIEWS, *FEEDS):
        answer = functools.partial(_show, view, shared)
        app.add_url_rule(view.rule, view.name, answer, methods=METHODS, provide_automatic_options=False)
        for form in takeaway.FORMS if view.listing is not None else ():
            take = functools.partial(_take, view, shared, form)
            rule, name = view.rule_of(form), f"{view.name}_{form}"
            app.add_url_rule(rule, name, take, methods=METHODS, provide_automatic_options=False)
    app.add_url_rule("/health/liveness", "liveness", _alive, methods=METHODS, provide_automatic_options=False)
    app.register_error_handler(errors.VmledgerError, _failed)
    app.register_error_handler(werkzeug.exceptions.HTTPException, _refused)
    app.register_error_handler(Exception, _bug)
    app.after_request(_secured)
    return app


@dataclasses.dataclass(frozen=True)
class _Shared:
    """What a worker's requests share."""

    configuration: settings.Settings
    reader: database.Reader
    fresh: freshness.Freshness
    kept: counts.Kept
    places: threading.BoundedSemaphore
    """For lists that are being sent."""


def from_environ() -> flask.Flask:
    """Build the page from the process's environment; gunicorn calls this in each worker."""
    return create_app(settings.Settings.from_env(os.environ))


def _of_every_page() -> dict[str, object]:
    menu = [view for view in VIEWS if view.in_menu]
    return {
        "menu": menu,
        "machine_url": _machine_url,
        "list_url": _list_url,
        "version": function.__version__,
        "query": query.Query(),
        "at": None,
        "fresh": None,
    }


def _machine_url(row: Mapping[str, Any], at: datetime.datetime | None) -> str:
    """Return the address of a VM's page."""
    names = {name: row[name] for name in ("cluster", "namespace", "name")}
    return flask.url_for("machine", **names, at=wording.machine_time(at) or None)


def _list_url(view: views.View, form: str, path: Mapping[str, str]) -> str:
    """Return the address of a view's list, without its filters."""
    return flask.url_for(f"{view.name}_{form}", **dict[str, Any](path))


def _admit(hosts: frozenset[str]) -> tuple[str, int] | None:
    """Refuse another method and another host."""
    if flask.request.method not in METHODS:
        return _error(405, ONLY_READ)
    host = flask.request.headers.get("Host", "").lower()
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return None if name in hosts else _error(400, OTHER_HOST)


def _show(view: views.View, shared: _Shared, **path: str) -> tuple[str, int] | flask.Response:
    """Answer with a view."""
    request = _request(view, shared, path)
    asked, at = request.query, request.at
    found = view.answer(request)
    if found is None:
        return _error(404, NOT_THERE)
    if isinstance(found, flask.Response):
        return found
    variables = {"view": view, "query": asked, "at": at, "path": path, "fresh": shared.fresh.now(), **found}
    return flask.render_template(f"{view.name}.html", **variables), 200


def _take(view: views.View, shared: _Shared, form: str, **path: str) -> flask.typing.ResponseReturnValue:
    """Answer with the list of a view."""
    request = _request(view, shared, path)
    if view.listing is None:
        return _error(404, NOT_THERE)
    if "name" in path:  # a name may end like a list: who has it whole comes first
        whole = {**path, "name": f"{path['name']}.{form}"}
        if view.listing(dataclasses.replace(request, path=whole)) is not None:
            return _show(view, shared, **whole)
    found = view.listing(request)
    return _error(404, NOT_THERE) if found is None else takeaway.response(view.name, found, form, shared.places)


def _request(view: views.View, shared: _Shared, path: Mapping[str, str]) -> views.Request:
    """Read what is asked of a view; raise :class:`errors.BadQuestion`."""
    asked = query.Query.parsed(flask.request.query_string.decode("latin-1"))
    asked.check(view.names | ({"at"} if view.has_past else frozenset()))
    at = moment.parsed(asked.one("at"))
    return views.Request(
        query=asked, path=path, at=at, reader=shared.reader, kept=shared.kept, configuration=shared.configuration
    )


def _alive() -> flask.Response:
    return flask.Response("OK", content_type="text/plain")


def _error(status: int, sentence: str) -> tuple[str, int]:
    return flask.render_template("error.html", status=status, sentence=sentence), status


def _failed(exc: errors.VmledgerError) -> tuple[str, int]:
    """Answer an error of the tree with its sentence."""
    status = next((STATUSES[kind] for kind in type(exc).__mro__ if kind in STATUSES), 503)
    log.log(
        logging.WARNING if status >= 500 else logging.INFO,
        str(exc),
        extra={"action": "page.failed", "status": status},
    )
    return _error(status, str(exc))


def _refused(exc: werkzeug.exceptions.HTTPException) -> tuple[str, int]:
    """Answer what Flask refuses by itself, such as an address that no view has."""
    status = exc.code or 400
    return _error(status, NOT_THERE if status == 404 else exc.name.lower())


def _bug(exc: Exception) -> tuple[str, int]:
    log.error("unexpected error", extra={"action": "page.failed"}, exc_info=exc)
    return _error(500, errors.UNEXPECTED)


def _secured(response: flask.Response) -> flask.Response:
    """Add the headers of every answer."""
    response.headers.update(HEADERS)
    if flask.request.endpoint == "static" and response.status_code < 400:
        response.headers["Cache-Control"] = STATIC_CACHE
    if response.status_code == 405:
        response.headers["Allow"] = ", ".join(METHODS)
    if response.status_code == 503:
        response.headers["Retry-After"] = RETRY_SECONDS
    return response
