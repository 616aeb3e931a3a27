"""The files that KUBECONFIG names: which entry counts, and what is refused by its name."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from function import errors
from function.clients import kubeconfig

Write = Callable[..., str]
CONTEXT = {"cluster": "lab", "user": "me"}


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Write:
    """Write a file with entries by kind and name; return its path."""

    def file(name: str, current: str | None = None, **entries: dict[str, Any]) -> str:
        document: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
        if current is not None:
            document["current-context"] = current
        for kind, named in entries.items():
            document[f"{kind}s"] = [{"name": key, kind: entry} for key, entry in named.items()]
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
        return str(path)

    return file


def whole(write: Write, user: dict[str, Any], **cluster: Any) -> str:
    """Write a file that says all."""
    return write(
        "config", "at", context={"at": CONTEXT}, cluster={"lab": {"server": "x", **cluster}}, user={"me": user}
    )


def test_one_file_says_all(write: Write) -> None:
    """The cluster and the user of its current context."""
    path = whole(write, {"token": "t"})
    assert kubeconfig.chosen(path) == kubeconfig.Chosen({"server": "x"}, {"token": "t"})


def test_several_files_are_merged(write: Write, tmp_path: pathlib.Path) -> None:
    """Of each name the first entry counts, and the first current-context; a file that is not there is left out."""
    first = write("first", "at", cluster={"lab": {"server": "first"}})
    second = write("second", "elsewhere", context={"at": CONTEXT}, cluster={"lab": {"server": "second"}})
    third = write("third", user={"me": {"token": "third"}}, context={"at": {"cluster": "none"}})
    paths = [str(tmp_path / "missing"), first, "", second, third]
    assert kubeconfig.chosen(os.pathsep.join(paths)) == kubeconfig.Chosen({"server": "first"}, {"token": "third"})


def test_paths_are_relative_to_the_file_that_they_stand_in(write: Write, tmp_path: pathlib.Path) -> None:
    """A command too, unless it is to be found in PATH."""
    authority = {"certificate-authority": "ca.crt", "server": "x"}
    first = write("a/config", "at", context={"at": CONTEXT}, cluster={"lab": authority})
    keys = {"client-certificate": "../me.crt", "client-key": "/etc/me.key", "tokenFile": "token"}
    plugin = {"apiVersion": kubeconfig.PLUGIN_VERSION, "command": "./bin/login"}
    second = write("b/config", user={"me": {**keys, "exec": plugin}})
    found = kubeconfig.chosen(f"{first}{os.pathsep}{second}")
    assert found.cluster["certificate-authority"] == str(tmp_path / "a" / "ca.crt")
    assert found.user["client-certificate"] == str(tmp_path / "b" / "../me.crt")
    assert found.user["client-key"] == "/etc/me.key"
    assert found.user["tokenFile"] == str(tmp_path / "b" / "token")
    assert found.user["exec"]["command"] == str(tmp_path / "b" / "bin/login")
    plain = whole(write, {"exec": {**plugin, "command": "aws"}})
    assert kubeconfig.chosen(plain).user["exec"]["command"] == "aws"


def test_a_context_may_have_no_user(write: Write) -> None:
    """As behind kubectl proxy."""
    path = write("config", "at", context={"at": {"cluster": "lab"}}, cluster={"lab": {"server": "x"}})
    assert kubeconfig.chosen(path).user == {}


@pytest.mark.parametrize("paths", ["{0}/a", "{0}/a:{0}/b", ":"])
def test_files_that_are_not_there_are_said_to_be_so(paths: str, tmp_path: pathlib.Path) -> None:
    """Or Python's own error, of which the caller says the kind alone."""
    with pytest.raises((errors.Unavailable, FileNotFoundError)):
        kubeconfig.chosen(paths.format(tmp_path))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({}, "no current-context"),
        ({"current": "at"}, "no context of the name"),
        ({"current": "at", "context": {"at": CONTEXT}}, "no cluster of the name"),
        ({"current": "at", "context": {"at": CONTEXT}, "cluster": {"lab": {}}}, "no user of the name"),
        ({"current": "at", "context": {"other": CONTEXT}}, "no context of the name"),
    ],
)
def test_what_the_files_lack_is_said(entries: dict[str, Any], sentence: str, write: Write) -> None:
    """Without their own words."""
    with pytest.raises(errors.Unavailable, match=sentence):
        kubeconfig.chosen(write("config", **entries))


@pytest.mark.parametrize("key", ["as", "as-uid", "as-groups", "as-user-extra", "auth-provider"])
def test_who_else_to_be_is_refused_by_its_name(key: str, write: Write) -> None:
    """Left out in silence, the function would act as somebody who may do more."""
    with pytest.raises(errors.Refused, match=f"the user of the KUBECONFIG file has {key}, which is not honoured here"):
        kubeconfig.chosen(whole(write, {"token": "hunter2", key: ["hunter2"]}))


def test_another_name_for_tls_is_refused_by_its_name(write: Write) -> None:
    """Left out in silence, the certificate would be verified for the wrong one."""
    with pytest.raises(errors.Refused, match="the cluster of the KUBECONFIG file has tls-server-name"):
        kubeconfig.chosen(whole(write, {}, **{"tls-server-name": "kubernetes"}))


@pytest.mark.parametrize("version", ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1alpha1", 7])
def test_a_plugin_of_another_version_is_refused_by_its_name(version: Any, write: Write) -> None:
    """The sentence says which is run here."""
    plugin = {"apiVersion": version, "command": "hunter2", "args": ["hunter2"]}
    with pytest.raises(errors.Refused) as caught:
        kubeconfig.chosen(whole(write, {"exec": plugin}))
    assert str(version) in str(caught.value)
    assert "client.authentication.k8s.io/v1beta1 are run here" in str(caught.value)
    assert "hunter2" not in str(caught.value)
