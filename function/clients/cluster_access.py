"""The way to the Kubernetes API: where it is, whom to trust, and the token.

In a cluster by the ServiceAccount's files, on a laptop by KUBECONFIG, which wins.
The token's file is read again when the API no longer takes the token (lightkube's BearerTokenFileAuth), which is how a
token that the kubelet replaces each hour stays good.
Of lightkube we take its tokens and its TLS; what is sent and read goes through :mod:`function.clients.http`.
"""

from __future__ import annotations

import urllib.parse
import urllib.request

import httpcore2
import httpx2
import lightkube.core.exceptions
import msgspec
from lightkube.config import client_adapter, models

from function import errors, settings
from function.clients import deadline, exec_plugin, http, kubeconfig

PROXY_SCHEMES = ("http", "https")
NO_URL = "the address of the Kubernetes API in the KUBECONFIG file is not a URL"


class Access:
    """An open way to the API; ``server`` is its URL."""

    def __init__(self, server: str, client: http.Client, auth: httpx2.Auth | None) -> None:
        self._url = urllib.parse.urlsplit(server)
        self.address = _address(self._url)
        """Host, a name or an address, and port."""
        self._client = client
        self._auth = auth

    def ask(self, target: str, limits: http.Limits) -> http.Answer:
        """Return the answer to a GET; where it is 401, that to the same with a token that is read anew.

        Raises :class:`http.NoAnswer`, and :class:`errors.Unavailable` where there is no token.
        """
        if self._auth is None:
            return self._send(target, "", limits)
        with deadline.within(limits.seconds):
            flow = self._auth.sync_auth_flow(httpx2.Request("GET", "https://kubernetes.default"))
            try:
                request = next(flow)
                while True:
                    answer = self._send(target, request.headers.get("Authorization", ""), limits)
                    request = flow.send(httpx2.Response(answer.status))
            except StopIteration:
                return answer
            except (lightkube.core.exceptions.ConfigError, OSError, UnicodeError) as exc:
                raise unusable(exc) from None

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()

    def _send(self, target: str, authorization: str, limits: http.Limits) -> http.Answer:
        headers = {"Host": self._url.netloc.rpartition("@")[2], "Accept": http.ACCEPT, "Accept-Encoding": "gzip"}
        if authorization:
            headers["Authorization"] = authorization
        host, port = self.address
        path = self._url.path.rstrip("/") + target
        request = http.Request(
            method="GET", scheme=self._url.scheme, host=host, port=port, target=path, headers=headers
        )
        return self._client.ask(request, limits)


def opened(part: settings.Kubernetes, service_account: str) -> Access:
    """Return the access that the settings name; ``service_account`` is the folder of its files.

    Raises :class:`errors.Unavailable` where it cannot be set up, :class:`errors.Refused` for what is not honoured.
    """
    try:
        return _of_files(part.kubeconfig) if part.kubeconfig else _of_account(part, service_account)
    except errors.VmledgerError:
        raise
    except Exception as exc:  # a file that a person wrote: YAML, certificates and types may fail in any way
        raise unusable(exc) from None


def unusable(exc: Exception) -> errors.Unavailable:
    """Return the error for files that cannot be used, without the words of ``exc``: those may quote them."""
    return errors.Unavailable(
        "the access to the Kubernetes API cannot be set up: the file that KUBECONFIG names, or the ServiceAccount's"
        f" token and certificate, cannot be used ({type(exc).__name__})"
    )


def _of_account(part: settings.Kubernetes, folder: str) -> Access:
    host = part.host or ""
    server = f"https://{f'[{host}]' if ':' in host else host}:{part.port}"
    client = http.Client(http.trusting(f"{folder}/ca.crt"))
    return Access(server, client, client_adapter.BearerTokenFileAuth(f"{folder}/token"))


def _of_files(paths: str) -> Access:
    chosen = kubeconfig.chosen(paths)
    cluster, user = msgspec.convert(chosen.cluster, models.Cluster), msgspec.convert(chosen.user, models.User)
    tls = client_adapter.verify_cluster(cluster, user, lambda path: path)
    client = http.Client(tls, proxy=_proxy(chosen.cluster.get("proxy-url"), cluster.server))
    plugin = user.exec is not None and user.token is None and user.token_file is None
    auth = exec_plugin.Auth(chosen.user["exec"]) if plugin else client_adapter.user_auth(user)
    return Access(cluster.server, client, auth)


def _address(url: urllib.parse.SplitResult) -> tuple[str, int]:
    try:
        port = url.port or {"http": 80, "https": 443}[url.scheme]
    except (ValueError, KeyError):
        raise errors.Unavailable(NO_URL) from None
    if not url.hostname:
        raise errors.Unavailable(NO_URL)
    return url.hostname.rstrip("."), port


def _proxy(given: str | None, server: str) -> httpcore2.Proxy | None:
    """Return the proxy that a KUBECONFIG file names, else the environment's: one may stand before a laptop."""
    text = given or _environments_proxy(urllib.parse.urlsplit(server))
    if not text:
        return None
    parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in PROXY_SCHEMES:
        raise errors.Refused(
            f"the proxy of the Kubernetes API begins with {errors.shown(parts.scheme)}, and only http and https are"
            " honoured here: it is the proxy-url of the KUBECONFIG file, or a variable of the environment"
        )
    host, port = _address(parts)
    url = httpcore2.URL(scheme=parts.scheme, host=host, port=port, target="/")
    login = (
        (urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")) if parts.username else None
    )
    return httpcore2.Proxy(url, auth=login, ssl_context=http.trusting() if parts.scheme == "https" else None)


def _environments_proxy(url: urllib.parse.SplitResult) -> str | None:
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    return proxies.get(url.scheme) or proxies.get("all")
