"""Puts the rooms together: settings in, an application out, with what has to be closed at the end."""

from __future__ import annotations

import dataclasses
import logging.config
from collections.abc import Callable, Mapping

import flask

from function import app, config, database, kube, logs, routes
from function.inventory import health, heard


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
    db = database.Database(settings.connection(), timeout=settings.db_timeout) if settings.has_database else None
    api = kube.Kube(settings) if settings.has_kubernetes else None

    router = routes.Router(settings, db, api)
    watch = health.Watch(db, settings.health_max_silence, own=settings.cluster_name) if db else None
    dead_letters = heard.DeadLetters(db, cluster=settings.cluster_name) if db else None

    def ledger_state(database_state: str) -> str:
        if watch is None or dead_letters is None:
            return "not configured"
        if database_state != "ok":
            return "not known: the database cannot be used now"
        dead_letters.write()
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
        if dead_letters:
            dead_letters.close()
        if db:
            db.close()
        if api:
            api.close()

    application = app.create_app(settings, router, states, refused=dead_letters.count if dead_letters else None)
    application.extensions["vmledger.close"] = close  # gunicorn's worker_exit finds it there
    return Service(settings, application, states, close)
