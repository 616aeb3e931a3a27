"""k8s/ lets in and out what docs/security.md says, and each rule notices when it is broken."""

from __future__ import annotations

import copy
import pathlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from function import settings
from function.web import callers
from tests import guards, manifests

Objects = manifests.Objects
Rule = Callable[[Objects], list[str]]
FLOWS = ["direct", "transform", "kafka", "kafka-ordered", "dev"]


@pytest.mark.parametrize("rule", guards.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("word", manifests.OVERLAYS)
def test_every_overlay_keeps_every_rule(word: str, rule: Rule) -> None:
    """As it is, without a component."""
    assert rule(manifests.overlay(word)) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The longest flow with every component, in another namespace."""
    return manifests.extended(tmp_path_factory.mktemp("whole"), "transform", *manifests.components())


@pytest.mark.parametrize("rule", guards.RULES, ids=lambda rule: rule.__name__)
def test_all_components_together_keep_every_rule(whole: Objects, rule: Rule) -> None:
    """What one opens, another does not leave open."""
    assert rule(whole) == []


@pytest.mark.parametrize("word", FLOWS)
@pytest.mark.parametrize("components", [["oidc"], ["network"], ["scaling", "vsphere", "network", "oidc"]])
def test_the_components_keep_every_rule_in_each_flow(word: str, components: list[str], tmp_path: pathlib.Path) -> None:
    """By themselves, and with the capabilities that open ways of their own."""
    objects = manifests.extended(tmp_path, word, *components)
    assert {rule.__name__: wrong for rule in guards.RULES if (wrong := rule(objects))} == {}


def test_the_settings_verify_the_triggers_of_the_namespace(whole: Objects) -> None:
    """The issuer is the cluster's and the subjects are the default ones: each Trigger's, however long its name is."""
    part = settings.Settings.from_env(manifests.named(whole, "ConfigMap", "vmledger")["data"]).callers
    assert (part.audience, part.issuer, part.subjects, part.ca_file) == ("vmledger", None, (), None)
    names = [item["metadata"]["name"] for item in manifests.of_kind(whole, "Trigger")]
    assert max(map(len, names)) + len("-oidc-eventing.knative.dev-trigger") > 63
    assert callers.of_triggers("elsewhere")[0].startswith("system:serviceaccount:elsewhere:*")


def test_every_image_can_be_pinned_by_a_line() -> None:
    """By a digest, or the overlay says in a line how."""
    for word in manifests.OVERLAYS:
        text = (manifests.K8S / "overlays" / word / "kustomization.yaml").read_text()
        [image] = yaml.safe_load(text)["images"]
        assert "digest" in image or re.search(
            r"^ +# `digest: sha256:\.\.\.` in place of newTag pins", text, re.MULTILINE
        )


BREAKS: list[tuple[str, Rule, str, Callable[[Any], Any]]] = [
    (
        "a Trigger sends no token",
        guards.unnamed_audience,
        "Trigger/vmledger-scaling-add",
        lambda o: o["spec"]["subscriber"].pop("audience"),
    ),
    (
        "a Trigger sends a token for somebody else",
        guards.unnamed_audience,
        "Trigger/vmledger-trimmed-add",
        lambda o: o["spec"]["subscriber"].update(audience="other"),
    ),
    (
        "the transformer gets our audience",
        guards.unnamed_audience,
        "Trigger/vmdata-transform",
        lambda o: o["spec"]["subscriber"].update(audience="vmledger"),
    ),
    (
        "a dead letter has no token",
        guards.unnamed_audience,
        "Broker/broker-transformer",
        lambda o: o["spec"]["delivery"]["deadLetterSink"].pop("audience"),
    ),
    (
        "the dead letter sink is open",
        guards.unnamed_audience,
        "Service/vmledger-dead-letter",
        lambda o: manifests.pod(o)["containers"][0]["env"].pop(),
    ),
    (
        "nobody asks for tokens, and Triggers send them",
        guards.unnamed_audience,
        "ConfigMap/vmledger",
        lambda o: o["data"].pop("OIDC_AUDIENCE"),
    ),
    (
        "vmledger has no token to ask with",
        guards.blind_guards,
        "ServiceAccount/vmledger",
        lambda o: o.update(automountServiceAccountToken=False),
    ),
    (
        "the dead letter sink may not ask",
        guards.blind_guards,
        "ClusterRoleBinding/vmledger-issuer-discovery",
        lambda o: o["subjects"].pop(),
    ),
    (
        "the dead letter sink mounts no token",
        guards.blind_guards,
        "Service/vmledger-dead-letter",
        lambda o: manifests.pod(o).update(automountServiceAccountToken=False),
    ),
    (
        "the source may not send",
        guards.open_brokers,
        "EventPolicy/vmledger-source",
        lambda o: o["spec"]["from"][0]["ref"].update(name="other"),
    ),
    (
        "the source of Events may not send",
        guards.open_brokers,
        "EventPolicy/vmledger-source-events",
        lambda o: o["spec"]["from"][0].update(sub="system:serviceaccount:vmledger:apiserversource-events*"),
    ),
    (
        "the transformer may not send",
        guards.open_brokers,
        "EventPolicy/vmledger-source-transform",
        lambda o: o["spec"]["to"][0]["selector"]["matchLabels"].update(x="y"),
    ),
    (
        "everybody may send",
        guards.open_brokers,
        "EventPolicy/vmledger-source",
        lambda o: o["spec"]["from"].append({"sub": "system:serviceaccount:*"}),
    ),
    (
        "a policy is for every Broker",
        guards.open_brokers,
        "EventPolicy/vmledger-source",
        lambda o: o["spec"].pop("to"),
    ),
    (
        "policies without the flag",
        guards.open_brokers,
        "ConfigMap/vmledger",
        lambda o: o["data"].pop("OIDC_AUDIENCE"),
    ),
    (
        "the namespace takes any pod",
        guards.unrestricted_namespace,
        "Namespace/elsewhere",
        lambda o: o["metadata"]["labels"].update({"pod-security.kubernetes.io/enforce": "baseline"}),
    ),
    (
        "the budget is for others",
        guards.wrong_disruption,
        "PodDisruptionBudget/vmledger",
        lambda o: o["spec"]["selector"]["matchLabels"].update({"serving.knative.dev/service": "other"}),
    ),
    (
        "a single pod blocks a drain",
        guards.wrong_disruption,
        "PodDisruptionBudget/vmledger",
        lambda o: o.update(spec={"minAvailable": 1, "selector": o["spec"]["selector"]}),
    ),
    (
        "a Job is not one of ours",
        guards.unguarded_pods,
        "CronJob/vmledger-health",
        lambda o: guards.pod_labels(o).pop("app.kubernetes.io/part-of"),
    ),
    (
        "nothing limits where pods send",
        guards.unguarded_pods,
        "NetworkPolicy/vmledger-egress",
        lambda o: o["spec"].update(policyTypes=[]),
    ),
    (
        "anybody in the cluster may connect",
        guards.open_ways_in,
        "NetworkPolicy/vmledger-from-knative",
        lambda o: o["spec"]["ingress"][0].update({"from": [{"namespaceSelector": {}}]}),
    ),
    (
        "anybody may connect",
        guards.open_ways_in,
        "NetworkPolicy/vmledger-from-knative",
        lambda o: o["spec"]["ingress"][0].pop("from"),
    ),
    (
        "the scraper may connect to every port",
        guards.open_ways_in,
        "NetworkPolicy/vmledger-from-metrics",
        lambda o: o["spec"]["ingress"][0].pop("ports"),
    ),
    (
        "vmledger may send everywhere",
        guards.open_ways_out,
        "NetworkPolicy/vmledger-egress",
        lambda o: o["spec"]["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}),
    ),
    (
        "vmledger may send to any port",
        guards.open_ways_out,
        "NetworkPolicy/vmledger-egress",
        lambda o: o["spec"]["egress"][0].pop("ports"),
    ),
    (
        "the database's way leads anywhere",
        guards.open_ways_out,
        "NetworkPolicy/vmledger-egress",
        lambda o: o["spec"]["egress"][1].pop("to"),
    ),
    (
        "publish may send to any namespace",
        guards.open_ways_out,
        "NetworkPolicy/vmledger-to-sink",
        lambda o: o["spec"]["egress"][0].update(to=[{"namespaceSelector": {}}]),
    ),
    (
        "everybody reaches the page's proxy",
        guards.open_ways_in,
        "NetworkPolicy/vmledger-page",
        lambda o: o["spec"]["ingress"][0].pop("from"),
    ),
    (
        "the way to webhooks is shut",
        guards.mislabelled_capabilities,
        "Service/vmledger",
        lambda o: guards.pod_labels(o).pop("vmledger.dev/webhooks"),
    ),
    (
        "the dead letter sink may send to Operations",
        guards.mislabelled_capabilities,
        "Service/vmledger-dead-letter",
        lambda o: guards.pod_labels(o).update({"vmledger.dev/operations": "true"}),
    ),
]


@pytest.mark.parametrize(("rule", "what", "change"), [row[1:] for row in BREAKS], ids=[row[0] for row in BREAKS])
def test_a_broken_guard_is_noticed(rule: Rule, what: str, change: Callable[[Any], Any], whole: Objects) -> None:
    """What is sound before the change is wrong after it."""
    objects = copy.deepcopy(whole)
    kind, _, name = what.partition("/")
    change(manifests.named(objects, kind, name, "serving." if kind == "Service" else ""))
    assert rule(objects) != []


def test_the_dev_postgres_lets_only_vmledger_in() -> None:
    """With or without components/network; another who is let in is noticed."""
    objects = copy.deepcopy(manifests.overlay("dev"))
    policy = manifests.named(objects, "NetworkPolicy", "postgres")
    [postgres] = manifests.of_kind(objects, "StatefulSet")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= guards.pod_labels(postgres).items()
    assert guards.open_ways_in(objects) == []
    policy["spec"]["ingress"][0]["from"].append({"podSelector": {}})
    assert guards.open_ways_in(objects) != []
