"""vmledger: a Knative function that keeps a ledger of a cluster's KubeVirt virtual machines in Postgres.

Two doors to the same application: :func:`create_app` for gunicorn, :func:`new` for kn func.
"""

from __future__ import annotations

import os
import sys
import typing

if typing.TYPE_CHECKING:
    from flask import Flask

    from function.web.kn_func import Function

__version__ = "0.2.0"
"""In the code, because an image holds neither pyproject.toml nor the metadata of an installed distribution."""


def create_app() -> Flask:
    """Build the WSGI application from the environment; gunicorn calls this in each worker."""
    from function import wiring

    return wiring.from_env(os.environ).app


def new() -> Function:
    """Build the function from the environment; kn func's middleware calls this once."""
    from function import errors
    from function.web import kn_func

    try:
        return kn_func.from_env(os.environ)
    except errors.BadSetting as exc:
        sys.exit(f"vmledger: {exc}")
