"""Tokens from the program that a KUBECONFIG file names (client-go's exec plugins), for a laptop.

lightkube runs such a program too, and waits for it without an end.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator, Mapping
from typing import Any

import httpx2

from function import errors
from function.clients import deadline

LONGEST_SECONDS = 60.0


class Auth(httpx2.Auth):
    """Puts the plugin's token into requests; runs the plugin at first, and again where the token is not taken."""

    def __init__(self, plugin: Mapping[str, Any]) -> None:
        self._plugin = plugin
        self._token: str | None = None

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the request with a token, once more with another where the answer is 401."""
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != 401:
                return
        self._token = self._ask()
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    def _ask(self) -> str:
        """Return the token that the plugin says; nothing else of it is passed on."""
        given = {each["name"]: each["value"] for each in self._plugin.get("env") or ()}
        try:
            done = subprocess.run(  # noqa: S603  # the laptop's owner wrote the file
                [self._plugin["command"], *(self._plugin.get("args") or ())],
                env={**os.environ, **given},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=deadline.left(LONGEST_SECONDS),
                check=True,
            )
            return str(json.loads(done.stdout)["status"]["token"])
        except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as exc:
            raise errors.Unavailable(
                f"the exec plugin of the KUBECONFIG file gives no token ({type(exc).__name__})"
            ) from None
