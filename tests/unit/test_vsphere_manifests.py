"""The components vsphere and echo, as an overlay takes them in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable

import pytest

from function import settings
from function.settings import operations
from tests import manifests, vsphere


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> manifests.Objects:
    """The overlay direct with both components."""
    folder = tmp_path_factory.mktemp("k8s")
    shutil.copytree(manifests.K8S, folder, dirs_exist_ok=True)
    file = folder / "overlays" / "direct" / "kustomization.yaml"
    line = "components: [../../components/vsphere, ../../components/echo]\n"
    file.write_text(file.read_text().replace("resources:\n", f"{line}resources:\n"))
    return manifests.render(file.parent)


@pytest.mark.parametrize("rule", manifests.COMMON, ids=lambda rule: rule.__name__)
def test_the_components_keep_every_rule(
    objects: manifests.Objects, rule: Callable[[manifests.Objects], list[str]]
) -> None:
    """Both at once, as each by itself."""
    assert rule(objects) == []


def test_each_form_of_both_events_reaches_vmledger_once(objects: manifests.Objects) -> None:
    """Of each sample that acts, exactly one Trigger's filter lets it through; of the others none."""
    triggers = [
        item
        for item in manifests.of_kind(objects, "Trigger")
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "vsphere"
    ]
    filters = [item["spec"]["filter"]["attributes"] for item in triggers]
    assert len(filters) == 6
    for path in vsphere.SAMPLES.glob("*.json"):
        attributes = vsphere.parsed(vsphere.sample(path.stem)).attributes
        passing = [wanted for wanted in filters if wanted.items() <= attributes.items()]
        acts = json.loads(path.read_text())["action"] is not None
        assert len(passing) == acts, path.stem


def test_deliveries_are_retried_and_end_where_they_are_seen(objects: manifests.Objects) -> None:
    """At least ten minutes for an Operations that is away."""
    for item in manifests.of_kind(objects, "Trigger"):
        if item["metadata"]["name"].startswith("vmledger-vsphere"):
            assert manifests.window(item["spec"]["delivery"], kafka=False) > 600


def test_the_echo_gets_everything(objects: manifests.Objects) -> None:
    """No filter, and the route /echo of vmledger."""
    spec = manifests.named(objects, "Trigger", "vmledger-echo")["spec"]
    assert ("filter" not in spec, spec["subscriber"]["uri"], spec["subscriber"]["ref"]["name"]) == (
        True,
        "/echo",
        "vmledger",
    )


def test_the_password_is_given_to_vmledger_alone(objects: manifests.Objects) -> None:
    """Not to the migration, and not to the dead letter sink."""
    given = [
        name
        for name, container in manifests.containers(objects)
        if {"secretRef": {"name": manifests.OPERATIONS_SECRET}} in container.get("envFrom", [])
    ]
    assert given == ["vmledger"]


def test_the_settings_of_the_component_can_be_used(objects: manifests.Objects) -> None:
    """With the Secret that the example file describes, which holds no password."""
    text = (manifests.K8S / "components" / "vsphere" / "vrops.env.example").read_text()
    secret = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert (tuple(secret), secret["vropsPassword"]) == (operations.PUBLISHED_KEYS, "")
    configuration = manifests.named(objects, "ConfigMap", "vmledger")["data"]
    read = settings.Settings.from_env({**configuration, **secret, "vropsUser": "u", "vropsPassword": "p"})
    assert read.operations.access() is not None
    assert (read.operations.maintenance_minutes, read.operations.unmark) == (0, "MANUAL")
    assert "vrops.env" in (manifests.ROOT / ".gitignore").read_text()


def test_the_document_names_what_is_there() -> None:
    """Settings, files and the shape of the echo's line in docs/vsphere.md."""
    text = (manifests.ROOT / "docs" / "vsphere.md").read_text()
    known = {field.metadata["variable"] for _, field in settings.Settings.declared()}
    named = set(re.findall(r"\b(?:VROPS|ECHO|FUNCTION)_[A-Z_]+\b|\bvrops[A-Z]\w+\b", text))
    assert named <= known
    assert {name for name in known if name.lower().startswith("vrops")} <= named
    for path in re.findall(r"k8s/[\w./-]+\w", text):
        assert (manifests.ROOT / path).exists(), path
