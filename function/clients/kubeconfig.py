"""The files that KUBECONFIG names: one, or several that are merged as kubectl merges them.

Of each map the first file's entry of a name counts, and the first current-context. Relative paths are relative to the
file that they stand in. Of several files those that are not there are left out.
What an entry asks for that is not honoured here is refused by its name: left out in silence, ``as`` would act as
somebody who may do more.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any, NamedTuple

import yaml

from function import errors

Entry = dict[str, Any]

NAMESPACE = "default"
"""That of a context that names none."""
PLUGIN_VERSION = "client.authentication.k8s.io/v1beta1"
_PATHS = {
    "cluster": ("certificate-authority",),
    "user": ("client-certificate", "client-key", "tokenFile"),
}
_REFUSED = {
    "cluster": ("tls-server-name",),
    "user": ("as", "as-uid", "as-groups", "as-user-extra", "auth-provider"),
}


class Chosen(NamedTuple):
    """What the current context says: the cluster and the user, as the files have them, and the namespace."""

    cluster: Entry
    user: Entry
    namespace: str = NAMESPACE


def chosen(paths: str) -> Chosen:
    """Return what the current context of the files says; ``paths`` are separated as in PATH.

    Raises :class:`errors.Refused` for what is not honoured here, :class:`errors.Unavailable` where nothing is chosen;
    whatever Python raises for files that are no such files passes through.
    """
    files = [pathlib.Path(path).expanduser() for path in paths.split(os.pathsep) if path]
    there = files if len(files) == 1 else [file for file in files if file.is_file()]
    if not there:
        raise errors.Unavailable("none of the files that KUBECONFIG names is there")
    documents = [_read(file) for file in there]
    name = next((found for document in documents if (found := document.get("current-context"))), None)
    if name is None:
        raise errors.Unavailable("the KUBECONFIG file has no current-context")
    context = _named(documents, "context", name)
    found = Chosen(
        _named(documents, "cluster", context.get("cluster")),
        _named(documents, "user", context["user"]) if context.get("user") else {},
        context.get("namespace") or NAMESPACE,
    )
    _check(found)
    return found


def _read(file: pathlib.Path) -> Entry:
    """Return what a file says, with the paths in it made absolute."""
    document: Entry = yaml.safe_load(file.read_text()) or {}
    folder = file.absolute().parent
    for kind, keys in _PATHS.items():
        for each in document.get(f"{kind}s") or ():
            entry = each[kind]
            entry.update({key: str(folder / entry[key]) for key in keys if entry.get(key)})
            command = (entry.get("exec") or {}).get("command", "")
            if os.sep in command:  # else it is looked for in PATH
                entry["exec"]["command"] = str(folder / command)
    return document


def _named(documents: list[Entry], kind: str, name: Any) -> Entry:
    for document in documents:
        for each in document.get(f"{kind}s") or ():
            if each["name"] == name:
                return dict(each[kind])
    raise errors.Unavailable(f"the KUBECONFIG file has no {kind} of the name that its current-context asks for")


def _check(found: Chosen) -> None:
    """Raise :class:`errors.Refused` for what is not honoured here."""
    for kind, entry in (("cluster", found.cluster), ("user", found.user)):
        for key in _REFUSED[kind]:
            if entry.get(key):
                raise errors.Refused(f"the {kind} of the KUBECONFIG file has {key}, which is not honoured here")
    version = (found.user.get("exec") or {}).get("apiVersion", PLUGIN_VERSION)
    if version != PLUGIN_VERSION:
        raise errors.Refused(
            f"the user of the KUBECONFIG file has an exec plugin of {errors.shown(version)}, and only those of"
            f" {PLUGIN_VERSION} are run here: let the plugin's tool write that version, or use a token"
        )
