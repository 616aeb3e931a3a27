"""gunicorn's own messages among ours, whichever of our servers it runs."""

from __future__ import annotations

import logging.config

import gunicorn.glogging

from function import logs, settings


class Logger(gunicorn.glogging.Logger):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's messages among ours; no access log, because each event has a line of its own."""

    level = settings.Settings().receiver.log_level
    """Set by gunicorn's configuration."""

    def setup(self, cfg: object) -> None:  # noqa: ARG002  # gunicorn gives its configuration
        """Log through the root logger, as everything else."""
        logging.config.dictConfig(logs.configuration(self.level))

    def access(self, *_: object) -> None:
        """Log nothing."""
