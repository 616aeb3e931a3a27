"""Puts the rooms together: settings in, an application out, with what has to be closed at the end."""

from __future__ import annotations

import dataclasses
import logging.config
from collections.abc import Callable, Mapping

import flask

from function import config, logs
from function.clients import kubernetes, postgres
from function.inventory import health
from function.inventory.storage import dead_letters
from function.web import app, routing


@dataclasses.dataclass(frozen=True)
class Service:
    """The application, and what it holds open."""

    settings: config.Settings
    app: flask.Flask
    states: Callable[[], dict[str, str]]
    """Returns the state of each dependency by its name: "ok", or a sentence."""
    close: Callable[[], None]
    """Closes what is open, when nothing is in flight any more."""


def from_env(environ: Mapping[str, str]) -> Service:
    """Build the service; raise :class:`errors.BadSetting` where a variable cannot be used."""
    settings = config.Settings.from_env(environ)
    logging.config.dictConfig(logs.configuration(settings.log_level))
    return build(settings)


def build(settings: config.Settings) -> Service:
    """Build the service from settings."""
    db = postgres.Database(settings.connection(), timeout=settings.db_timeout) if settings.has_database else None
    api = kubernetes.Kube(settings) if settings.has_kubernetes else None

    router = routing.Router(settings, db, api)
    watch = health.Watch(db, settings.health_max_silence, own=settings.cluster_name) if db else None
    refusals = dead_letters.DeadLetters(db, cluster=settings.cluster_name) if db else None

    def ledger_state(database_state: str) -> str:
        if watch is None or refusals is None:
            return "not configured"
        if database_state != "ok":
            return "not known: the database cannot be used now"
        refusals.write()
        return watch.state()

    def states() -> dict[str, str]:
        database_state = db.state() if db else "not configured"
        return {
            "database": database_state,
            "ledger": ledger_state(database_state),
            "kubernetes": api.state() if api else "not configured",
            "operations": router.vsphere.state(),
        }

    def close() -> None:
        router.close()
        if refusals:
            refusals.close()
        if db:
            db.close()
        if api:
            api.close()

    application = app.create_app(settings, router, states, refused=refusals.count if refusals else None)
    application.extensions["vmledger.close"] = close  # gunicorn's worker_exit finds it there
    return Service(settings, application, states, close)
