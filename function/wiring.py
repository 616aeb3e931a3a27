"""Builds the application from the settings, and closes at the end what it has opened.

Only this module imports all capabilities and gives each its clients; it decides nothing about an event.
What is not configured is not imported: each start from zero would pay for it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import logging.config
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from function import __version__, errors, events, logs, settings, tracing
from function.clients import postgres
from function.inventory import capability as inventory
from function.inventory.storage import refusals
from function.web import app, cloudevents, intake, routing

if TYPE_CHECKING:
    from function.clients import issuer, kubernetes
    from function.dead_letters import sink, table
    from function.inventory import health
    from function.scaling import capability as scaling
    from function.vsphere import capability as vsphere
    from function.web import callers

NOT_CONFIGURED = "not configured"

log = logging.getLogger(__name__)


class Service:
    """The application (``app``), and what it holds open.

    configuration: what it was built from. door: takes requests in.
    """

    def __init__(self, configuration: settings.Settings) -> None:
        self.configuration = configuration
        self._database = _database(configuration.database)
        self._api = _api(configuration.kubernetes)
        self._operations = _operations(configuration.operations, self._database)
        self._ledger = _Ledger(configuration.ledger, self._database) if self._database else None
        notices = _notices(configuration, self._database, self._api)
        ledger = inventory.Ledger(configuration.ledger, db=self._database, api=self._api)
        router = routing.Router({"inventory": ledger, "scaling": notices, "vsphere": self._operations})
        refused = self._ledger.refusals.count if self._ledger else None
        web = _web(configuration.callers)
        guard = _guard(configuration.callers, self._api, web) if web else None
        self.door = intake.Intake(configuration.receiver, guard)
        self._router = router
        dead_letters = _sink(configuration, self._database)
        self.app = app.create_app(
            configuration, router, self.states, door=self.door, refused=refused, dead_letters=dead_letters
        )
        self.app.extensions["vmledger.close"] = self.close  # gunicorn's worker_exit finds it there
        self.app.extensions["vmledger.memory"] = self.door.memory  # its worker measures it
        self._open = contextlib.ExitStack()  # closes the last one first
        self._open.callback(tracing.stop)
        for opened in (web, self._api, self._database, self._ledger, dead_letters, self._operations, notices):
            if opened is not None and not isinstance(opened, _Off):
                self._open.callback(opened.close)

    def letters(self) -> table.Table | None:
        """Return the dead letters that are kept; None without a database."""
        return _letters(self.configuration.dead_letters, self._database) if self._database else None

    def states(self) -> dict[str, str]:
        """Return the state of each dependency by its name: "ok", or a sentence."""
        database_state = self._database.state() if self._database else NOT_CONFIGURED
        return {
            "database": database_state,
            "ledger": self._ledger.state(database_state) if self._ledger else NOT_CONFIGURED,
            "kubernetes": self._api.state() if self._api else NOT_CONFIGURED,
            "operations": NOT_CONFIGURED if isinstance(self._operations, _Off) else self._operations.state(),
            "callers": self.door.guard.state() if self.door.guard else NOT_CONFIGURED,
        }

    def handle(self, document: bytes) -> None:
        """Handle one event in the JSON format as if it had been sent to POST /; raise what that would answer."""
        self._router.handle(cloudevents.from_wsgi({"CONTENT_TYPE": "application/cloudevents+json"}, document))

    def close(self) -> None:
        """Close what is open, when nothing is in flight any more."""
        self._open.close()


class _Off:
    """A capability without its settings: it holds nothing open, and is made with the first event that may be for it."""

    def __init__(self, make: Callable[[], routing.Capability]) -> None:
        self._made = functools.cache(make)

    def prepare(self, event: events.Event) -> Any | None:
        """Decide as the capability does, which may be a refusal."""
        return self._made().prepare(event)

    def perform(self, prepared: Sequence[Any]) -> Sequence[str]:
        """Do what it does."""
        return self._made().perform(prepared)


class _Sink:
    """What keeps dead letters, made with the first one: most processes never get any."""

    def __init__(self, make: Callable[[], sink.Sink]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: sink.Sink | None = None

    def __call__(self) -> sink.Sink:
        """Return it, always the same one: it may have letters that are to be written yet."""
        with self._lock:
            self._made = self._made or self._make()
            return self._made

    def close(self) -> None:
        """Write what waits."""
        if self._made is not None:
            self._made.close()


class _Ledger:
    """The state of the ledger for readiness, and the count of refusals."""

    def __init__(self, part: settings.Ledger, db: postgres.Database) -> None:
        self._watch = functools.cache(functools.partial(_watch, part, db))
        self.refusals = refusals.Refusals(db, cluster=part.cluster_name)

    def state(self, database_state: str) -> str:
        """Return "ok", or a sentence."""
        if database_state != "ok":
            return "not known: the database cannot be used now"
        self.refusals.flush()
        return self._watch().state()

    def close(self) -> None:
        """Flush what was counted."""
        self.refusals.close()


def from_env(environ: Mapping[str, str]) -> Service:
    """Build the service; raise :class:`errors.BadSetting` where a variable cannot be used."""
    configuration = settings.Settings.from_env(environ)
    logging.config.dictConfig(logs.configuration(configuration.receiver.log_level))
    for sentence in settings.corrections(environ):
        log.warning(sentence, extra={"action": "setting.corrected"})
    if configuration.tracing.on:
        _trace(configuration.tracing)
    return Service(configuration)


def _trace(part: settings.Tracing) -> None:
    """Record what this process does; called once its server has forked, as the spans are sent by a thread."""
    from function.clients import telemetry

    tracer = telemetry.Telemetry(part, version=__version__)
    tracing.use(tracer)
    logs.accompany(tracer.log_fields)


def _watch(part: settings.Ledger, db: postgres.Database) -> health.Watch:
    from function.inventory import health

    return health.Watch(db, part.max_silence, own=part.cluster_name)


def _letters(part: settings.DeadLetters, db: postgres.Database) -> table.Table:
    from function.dead_letters import table

    return table.Table(db, most=part.most, days=part.days)


def _sink(configuration: settings.Settings, db: postgres.Database | None) -> _Sink | None:
    """Return what keeps the dead letters that POST /echo receives; None where none are to be kept."""
    part = configuration.dead_letters
    if db is None or not part.most:
        return None

    def make() -> sink.Sink:
        from function.dead_letters import keeper, sink
        from function.inventory.mapping import trimmed

        return sink.Sink(keeper.Keeper(_letters(part, db)), trimmed.data, most=configuration.echo.max_bytes)

    return _Sink(make)


def _api(part: settings.Kubernetes) -> kubernetes.Kube | None:
    if not part.configured:
        return None
    from function.clients import kubernetes

    return kubernetes.Kube(part)


def _operations(part: settings.Operations, db: postgres.Database | None) -> vsphere.Mirror | _Off:
    def make() -> vsphere.Mirror:
        from function.vsphere import capability as vsphere

        return vsphere.Mirror(part, db)

    return _Off(make) if part.access() is None else make()


def _notices(
    configuration: settings.Settings, db: postgres.Database | None, api: kubernetes.Kube | None
) -> scaling.Scaling | _Off:
    def make() -> scaling.Scaling:
        from function.scaling import capability as scaling

        return scaling.Scaling(
            configuration.scaling, configuration.webhooks, names=configuration.ledger, db=db, api=api
        )

    return _Off(make) if api is None else make()


def _web(part: settings.Callers) -> issuer.Web | None:
    """Return what reads the keys of callers' tokens; None where callers are not to be verified."""
    if part.audience is None:
        return None
    from function.clients import issuer

    return issuer.Web(part.ca_file)


def _guard(part: settings.Callers, api: kubernetes.Kube | None, web: issuer.Web) -> callers.Callers:
    """Return what verifies the callers.

    Raises :class:`errors.BadSetting` where the issuer of their tokens, or the subjects that may send, are unknown.
    """
    from function.clients import issuer
    from function.web import callers

    if part.issuer is not None:
        read = functools.partial(issuer.of_url, part.issuer, web.document)
    elif api is not None:
        read = functools.partial(issuer.of_cluster, api, web.document)
    else:
        raise errors.BadSetting("OIDC_ISSUER", "is missing: there is no Kubernetes API that knows the issuer of tokens")
    return callers.Callers(part.audience or "", part.subjects or _triggers(api), issuer.Issuer(read))


def _triggers(api: kubernetes.Kube | None) -> tuple[str, ...]:
    from function.web import callers

    try:
        if api is not None:
            return callers.of_triggers(api.namespace())
    except errors.Unavailable:
        pass
    raise errors.BadSetting(
        "OIDC_SUBJECTS", "is missing: the function's namespace, whose Triggers may send, is unknown"
    )


def _database(part: settings.Database) -> postgres.Database | None:
    return postgres.Database(part.connection(), timeout=part.timeout) if part.configured else None
