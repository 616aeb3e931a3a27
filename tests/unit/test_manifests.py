"""k8s/ holds what it promises, and each rule notices when it is broken."""

from __future__ import annotations

import copy
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

import dev.alerts
import function
from dev import run
from function import measures
from tests import manifests

Objects = manifests.Objects
pod = manifests.pod
KNATIVE = "serving.knative.dev/"


@pytest.mark.parametrize("rule", manifests.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("word", manifests.OVERLAYS)
def test_every_overlay_keeps_every_rule(word: str, rule: Callable[[Objects], list[str]]) -> None:
    """No overlay has anything that a rule calls wrong."""
    assert rule(manifests.overlay(word)) == []


@pytest.mark.parametrize("component", manifests.components())
@pytest.mark.parametrize("word", ["direct", "transform", "kafka", "kafka-ordered"])
def test_a_component_can_be_added_by_a_line(word: str, component: str, tmp_path: pathlib.Path) -> None:
    """An overlay with a component keeps the rules, in whatever namespace, and can still be applied."""
    objects = manifests.extended(tmp_path, word, component)
    assert {rule.__name__: wrong for rule in manifests.COMMON if (wrong := rule(objects))} == {}


def test_all_components_can_be_added_at_once(tmp_path: pathlib.Path) -> None:
    """What one patches, another leaves as it is."""
    objects = manifests.extended(tmp_path, "transform", *manifests.components())
    assert {rule.__name__: wrong for rule in manifests.COMMON if (wrong := rule(objects))} == {}


REFERENCE_BREAKS: list[tuple[str, Callable[[Objects], list[str]], str, Callable[[Any], Any]]] = [
    (
        "vmledger may list what it is told of",
        manifests.wrong_rights_of_vmledger,
        "ClusterRole/vmledger-references",
        lambda o: o["rules"][0]["verbs"].append("list"),
    ),
    (
        "vmledger may not read what runs",
        manifests.wrong_rights_of_vmledger,
        "ClusterRole/vmledger-references",
        lambda o: o["rules"][0]["resources"].pop(),
    ),
    (
        "vmledger has no token",
        manifests.bound_without_token,
        "ServiceAccount/vmledger",
        lambda o: o.update(automountServiceAccountToken=False),
    ),
    (
        "the source sends objects after all",
        manifests.wrong_filters,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"].update(mode="Resource"),
    ),
]


@pytest.mark.parametrize(
    ("rule", "what", "change"), [row[1:] for row in REFERENCE_BREAKS], ids=[row[0] for row in REFERENCE_BREAKS]
)
def test_a_broken_reference_is_noticed(
    rule: Callable[[Objects], list[str]], what: str, change: Callable[[Any], Any], tmp_path: pathlib.Path
) -> None:
    """In mode Reference the rights, the token and the Triggers go together."""
    objects = manifests.extended(tmp_path, "direct", "reference")
    assert rule(objects) == []
    change(manifests.named(objects, *what.split("/")))
    assert rule(objects) != []


METRICS = {
    "kube_cronjob_created",
    "kube_cronjob_status_last_successful_time",
    "kube_job_failed",
    "kube_job_status_start_time",
}
"""Stable ones of kube-state-metrics (its docs/metrics/workload); they carry `cronjob`, or `job_name`."""


def alerts() -> list[Any]:
    """The rules of the component."""
    document = yaml.safe_load((manifests.K8S / "components" / "metrics" / "alerts.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def test_the_alerts_look_at_what_there_is() -> None:
    """Metrics of ours, and those that kube-state-metrics has; each CronJob that has no metric of its own."""
    silent = [re.findall(r'cronjob="([\w-]+)"', rule["expr"]) for rule in alerts() if "time() -" in rule["expr"]]
    assert sorted(silent) == sorted([name, name] for name in manifests.JOBS if name != "vmledger-reconcile")
    expressions = " ".join(rule["expr"] for rule in alerts())
    assert set(re.findall(r"\bkube_\w+", expressions)) == METRICS
    assert set(re.findall(r"\bvmledger_\w+", expressions)) <= {metric.name for metric in measures.ALL}
    [pattern] = [found for rule in alerts() for found in re.findall(r'"job_name", "(.+)"', rule["expr"])]
    for name in manifests.JOBS:
        found = re.fullmatch(pattern, f"{name}-29384756")
        assert found is not None
        assert found.group(1) == name


def test_each_alert_has_a_runbook() -> None:
    """A section of its own, of three lines at least, where somebody must act on numbers of vmledger's."""
    page = (manifests.ROOT / "docs" / "operations.md").read_text()
    for rule in alerts():
        assert rule["annotations"]["runbook_url"].endswith(f"docs/operations.md#{rule['alert'].lower()}")
        section = page.split(f"\n### {rule['alert']}\n")[1].split("\n#", maxsplit=1)[0]
        assert section.strip().count("\n") + 1 >= (3 if "vmledger_" in rule["expr"] else 1), rule["alert"]


def test_the_plain_rules_are_those_of_the_operator() -> None:
    """`python -m dev.alerts` writes them."""
    assert dev.alerts.PLAIN.read_text() == dev.alerts.plain()


def test_the_scraper_reaches_the_pods(tmp_path: pathlib.Path) -> None:
    """The ServiceMonitor selects the Services, these the pods that serve metrics, at the port that is served."""
    objects = manifests.extended(tmp_path, "direct", "metrics", "network", "publish")
    monitor = manifests.named(objects, "ServiceMonitor", "vmledger")["spec"]
    selected = [
        service["spec"]
        for service in manifests.of_kind(objects, "Service", "v1")
        if monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    knative = {item["metadata"]["name"]: pod(item)["containers"][0] for item in manifests.services(objects)}
    publish = manifests.named(objects, "Deployment", "vmledger-publish")
    labels = [{"serving.knative.dev/service": name} for name in knative]
    labels.append(publish["spec"]["template"]["metadata"]["labels"])
    served = [next(service for service in selected if service["selector"].items() <= each.items()) for each in labels]
    assert sorted(map(str, served)) == sorted(map(str, selected))
    ports = {port["targetPort"] for service in selected for port in service["ports"]}
    assert {port["name"] for service in selected for port in service["ports"]} == {monitor["endpoints"][0]["port"]}
    for container in [*knative.values(), pod(publish)["containers"][0]]:
        given = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert {int(given["METRICS_PORT"] or 0)} == ports
    assert all([port["containerPort"] for port in each["ports"]] == [8080] for each in knative.values())
    policy = manifests.named(objects, "NetworkPolicy", "vmledger-from-metrics")["spec"]
    assert {port["port"] for port in policy["ingress"][0]["ports"]} == ports
    assert policy["podSelector"]["matchLabels"].items() <= labels[-1].items()


def test_the_dashboards_are_found_by_grafana(tmp_path: pathlib.Path) -> None:
    """A ConfigMap with the label that its sidecar looks for, and a dashboard in each key."""
    objects = manifests.extended(tmp_path, "direct", "metrics")
    dashboards = manifests.named(objects, "ConfigMap", "vmledger-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    files = {path.name for path in (manifests.K8S / "components" / "metrics" / "dashboards").glob("*.json")}
    assert set(dashboards["data"]) == files
    for text in dashboards["data"].values():
        assert json.loads(text)["panels"]


def test_an_alert_waits_for_more_than_two_starts() -> None:
    """A start that was missed wakes nobody; the reconcile's silence of an hour does."""
    for rule in alerts():
        if limit := re.search(r"^(?:time\(\) -|.*unreconciled)(?s:.*)\) > ([\d *]+)$", rule["expr"]):
            [name] = set(re.findall(r'cronjob="([\w-]+)"', rule["expr"])) or {"vmledger-reconcile"}
            seconds = math.prod(int(factor) for factor in limit[1].split("*"))
            assert 2 < seconds / manifests.JOBS[name][0] <= 6, rule["alert"]


def test_the_documents_select_what_there_is(tmp_path: pathlib.Path) -> None:
    """A label that no object has would select nothing, or everything."""
    objects = manifests.extended(tmp_path, "transform", *manifests.components())
    labels = {item["metadata"]["labels"]["app.kubernetes.io/component"] for item in objects}
    for document in [manifests.ROOT / "README.md", *(manifests.ROOT / "docs").glob("*.md")]:
        named = re.findall(r"app\.kubernetes\.io/component!?=([\w-]+)", document.read_text())
        assert set(named) <= labels, document.name


def test_the_base_renders() -> None:
    """The base is sound by itself, but for the namespace that an overlay gives."""
    objects = manifests.render(manifests.K8S / "base")
    assert manifests.dangling(objects) == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("direct", {"broker-apiserversource"}),
        ("transform", {"broker-apiserversource", "broker-transformer"}),
        ("kafka", {"broker-apiserversource"}),
        ("kafka-ordered", {"broker-apiserversource", "broker-transformer"}),
        ("dev", {"broker-apiserversource"}),
    ],
)
def test_the_published_names_are_kept(word: str, expected: set[str]) -> None:
    """People who come from the published example find themselves."""
    objects = manifests.overlay(word)
    assert {item["metadata"]["name"] for item in manifests.of_kind(objects, "Broker")} == expected
    assert manifests.named(objects, "ApiServerSource", "apiserversource")["spec"]["sink"]["ref"]["name"] == (
        "broker-apiserversource"
    )
    assert manifests.named(objects, "Service", "vmledger", KNATIVE)
    transforms = [item["metadata"]["name"] for item in manifests.of_kind(objects, "EventTransform")]
    assert transforms == (["vmdata-transform"] if len(expected) == 2 else [])


def test_the_transformed_flow_reads_from_the_second_broker() -> None:
    """Broker -> Trigger -> EventTransform -> second Broker -> Triggers -> vmledger; what runs goes straight there."""
    objects = manifests.overlay("transform")
    [first] = manifests.to_transform(objects)
    assert (first["spec"]["broker"], first["spec"]["filter"]) == (
        "broker-apiserversource",
        {"attributes": {"kind": "VirtualMachine"}},
    )
    transform = manifests.named(objects, "EventTransform", "vmdata-transform")
    assert transform["spec"]["sink"]["ref"]["name"] == "broker-transformer"
    assert transform["spec"]["reply"] == {"discard": True}
    last = manifests.to_vmledger(objects)
    assert {(item["spec"]["filter"]["attributes"]["kind"], item["spec"]["broker"]) for item in last} == {
        ("VirtualMachine", "broker-transformer"),
        ("VirtualMachineInstance", "broker-apiserversource"),
    }


def test_triggers_of_different_brokers_have_different_names() -> None:
    """A Trigger's Broker cannot be changed, so one flow can take over from the other only beside it."""
    direct, trimmed = (
        {item["metadata"]["name"]: item["spec"]["broker"] for item in manifests.to_vmledger(manifests.overlay(word))}
        for word in ("direct", "transform")
    )
    assert {name for name in direct.keys() & trimmed.keys() if direct[name] != trimmed[name]} == set()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("word", ["kafka", "kafka-ordered"])
def test_every_broker_is_on_kafka_there(word: str, first: bool, tmp_path: pathlib.Path) -> None:
    """Class and topic configuration are Kafka's, with replicas that outlive a node; a component's Broker's too."""
    shutil.copytree(manifests.K8S, tmp_path / "k8s")
    file = tmp_path / "k8s" / "overlays" / word / "kustomization.yaml"
    text = yaml.safe_load(file.read_text())
    text["components"].insert(0 if first else len(text["components"]), "../../components/vsphere")
    file.write_text(yaml.safe_dump(text))
    objects = manifests.render(file.parent)
    assert manifests.named(objects, "Broker", "default")
    for broker in manifests.of_kind(objects, "Broker"):
        assert broker["metadata"]["annotations"]["eventing.knative.dev/broker.class"] == "Kafka"
        topic = manifests.named(objects, "ConfigMap", broker["spec"]["config"]["name"])["data"]
        assert int(topic["default.topic.replication.factor"]) > int(topic["default.topic.config.min.insync.replicas"])
        assert topic["default.topic.config.cleanup.policy"] == "delete"
        assert topic["bootstrap.servers"]


def test_order_is_kept_from_the_source_to_the_last_trigger() -> None:
    """One partition up to the transformer, which sets the key; ordered delivery on both ways; one Trigger for all."""
    objects = manifests.overlay("kafka-ordered")
    order = "kafka.eventing.knative.dev/delivery.order"
    [first] = manifests.to_transform(objects)
    [last] = [item for item in manifests.to_vmledger(objects) if item["spec"]["broker"] == "broker-transformer"]
    assert [item["metadata"]["annotations"] for item in (first, last)] == [{order: "ordered"}] * 2
    config = manifests.named(objects, "Broker", first["spec"]["broker"])["spec"]["config"]["name"]
    assert manifests.named(objects, "ConfigMap", config)["data"]["default.topic.partitions"] == "1"


def test_dev_brings_a_postgres_and_no_secret() -> None:
    """The dev overlay's Postgres is made of the Secret that the example file describes."""
    objects = manifests.overlay("dev")
    postgres = manifests.named(objects, "StatefulSet", "postgres")
    assert manifests.named(objects, "Service", "postgres")["spec"]["selector"].items() <= (
        postgres["spec"]["template"]["metadata"]["labels"].items()
    )
    lines = (manifests.K8S / "overlays" / "dev" / "database.env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given.keys() == manifests.SECRET_KEYS
    assert (given["db_host"], given["db_password"]) == ("postgres", "")


def test_no_secret_file_is_kept() -> None:
    """Only the example of database.env is in the checkout; .gitignore keeps the real one out."""
    names = [path.name for path in manifests.tracked()]
    assert "database.env.example" in names
    assert "database.env" not in names
    assert "database.env" in (manifests.ROOT / ".gitignore").read_text()


def test_one_line_changes_the_namespace_of_everything(tmp_path: pathlib.Path) -> None:
    """Objects, the Namespace itself and the subject of the ClusterRoleBinding follow the overlay's line."""
    shutil.copytree(manifests.K8S, tmp_path / "k8s")
    for word in manifests.OVERLAYS:
        file = tmp_path / "k8s" / "overlays" / word / "kustomization.yaml"
        file.write_text(file.read_text().replace("namespace: vmledger\n", "namespace: elsewhere\n"))
        objects = manifests.render(file.parent)
        assert manifests.named(objects, "Namespace", "elsewhere")
        assert manifests.outside_the_namespace(objects) == []


def test_one_place_changes_the_cluster(tmp_path: pathlib.Path) -> None:
    """The setting and what the source stamps are the same name."""
    shutil.copytree(manifests.K8S, tmp_path / "k8s")
    for word in manifests.OVERLAYS:
        file = tmp_path / "k8s" / "overlays" / word / "kustomization.yaml"
        file.write_text(file.read_text().replace("CLUSTER_NAME: default", "CLUSTER_NAME: prod-1"))
        objects = manifests.render(file.parent)
        [source] = manifests.of_kind(objects, "ApiServerSource")
        assert source["spec"]["ceOverrides"]["extensions"] == {"cluster": "prod-1"}
        assert manifests.wrong_source(objects) == []


def test_no_namespace_is_typed_into_a_manifest_of_the_flows() -> None:
    """Namespaces come from the overlay's one line, so that changing it changes all."""
    for folder in ("base", "overlays", "components/transform", "components/kafka"):
        for file in (manifests.K8S / folder).rglob("*.yaml"):
            if file.name != "kustomization.yaml":
                for document in yaml.safe_load_all(file.read_text()):
                    assert "namespace" not in document["metadata"], file


def test_no_names_are_decorated() -> None:
    """Kustomize does not rewrite what Triggers and Knative Services refer to."""
    for file in manifests.K8S.rglob("kustomization.yaml"):
        text = yaml.safe_load(file.read_text())
        assert not text.keys() & {"namePrefix", "nameSuffix"}, file
        if text.keys() & {"configMapGenerator", "secretGenerator"}:
            assert text["generatorOptions"]["disableNameSuffixHash"] is True, file


BREAKS: list[tuple[str, Callable[[Objects], list[str]], str, Callable[[Any], Any]]] = [
    ("a Broker is misspelt", manifests.dangling, "Trigger/vmledger-add", lambda o: o["spec"].update(broker="brokr")),
    (
        "a subscriber is misspelt",
        manifests.dangling,
        "Trigger/vmledger-add",
        lambda o: o["spec"]["subscriber"]["ref"].update(name="vm-ledger"),
    ),
    (
        "a subscriber has another API",
        manifests.dangling,
        "Trigger/vmledger-add",
        lambda o: o["spec"]["subscriber"]["ref"].update(apiVersion="v1"),
    ),
    (
        "a dead letter sink points to nothing",
        manifests.dangling,
        "Trigger/vmledger-add",
        lambda o: o["spec"]["delivery"]["deadLetterSink"]["ref"].update(name="nobody"),
    ),
    (
        "the source's Broker is in another namespace",
        manifests.dangling,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"]["sink"]["ref"].update(namespace="default"),
    ),
    (
        "the source's ServiceAccount is not there",
        manifests.dangling,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"].update(serviceAccountName="nobody"),
    ),
    (
        "the settings are not there",
        manifests.dangling,
        "Service/vmledger",
        lambda o: container(o)["envFrom"][0]["configMapRef"].update(name="vmledger-7f8g"),
    ),
    (
        "a key of the Secret is misspelt",
        manifests.dangling,
        "Service/vmledger",
        lambda o: container(o)["env"][0]["valueFrom"]["secretKeyRef"].update(key="host"),
    ),
    (
        "a Secret is meant that nobody is told to make",
        manifests.dangling,
        "Service/vmledger",
        lambda o: container(o)["env"][0]["valueFrom"]["secretKeyRef"].update(name="postgres"),
    ),
    (
        "the binding is for another namespace's account",
        manifests.outside_the_namespace,
        "ClusterRoleBinding/vmledger-apiserversource",
        lambda o: o["subjects"][0].update(namespace="default"),
    ),
    (
        "a Trigger has no dead letter sink",
        manifests.without_dead_letter,
        "Trigger/vmledger-delete",
        lambda o: o["spec"]["delivery"].pop("deadLetterSink"),
    ),
    (
        "a dead letter goes to the receiver's own door",
        manifests.without_dead_letter,
        "Trigger/vmledger-delete",
        lambda o: o["spec"]["delivery"]["deadLetterSink"].pop("uri"),
    ),
    (
        "a Broker has no dead letter sink",
        manifests.without_dead_letter,
        "Broker/broker-apiserversource",
        lambda o: o["spec"].pop("delivery"),
    ),
    (
        "a variable is misspelt",
        manifests.unknown_variables,
        "Service/vmledger",
        lambda o: container(o)["env"][0].update(name="DB_HOSTNAME"),
    ),
    (
        "a key of the settings is misspelt",
        manifests.unknown_variables,
        "ConfigMap/vmledger",
        lambda o: o["data"].update(CLUSTERNAME="x"),
    ),
    (
        "the source's account is bound to nothing",
        manifests.unbound_accounts,
        "ClusterRoleBinding/vmledger-apiserversource",
        lambda o: o["subjects"].clear(),
    ),
    (
        "vmledger has a token that it does not need",
        manifests.unbound_accounts,
        "ServiceAccount/vmledger",
        lambda o: o.pop("automountServiceAccountToken"),
    ),
    (
        "a token is mounted",
        manifests.mounted_tokens,
        "ServiceAccount/vmledger",
        lambda o: o.update(automountServiceAccountToken=True),
    ),
    ("a token is mounted in the Job", manifests.mounted_tokens, "Job/vmledger-migrate", lambda o: pod(o).clear()),
    (
        "a token is mounted in a CronJob",
        manifests.mounted_tokens,
        "CronJob/vmledger-prune",
        lambda o: pod(o).pop("automountServiceAccountToken"),
    ),
    (
        "the reconcile has no token",
        manifests.bound_without_token,
        "ServiceAccount/vmledger-reconcile",
        lambda o: o.update(automountServiceAccountToken=False),
    ),
    (
        "the source may write",
        manifests.wrong_rights,
        "ClusterRole/vmledger-apiserversource",
        lambda o: o["rules"][0]["verbs"].append("update"),
    ),
    (
        "the source may read everything",
        manifests.wrong_rights,
        "ClusterRole/vmledger-apiserversource",
        lambda o: o["rules"][0].update(resources=["*"]),
    ),
    (
        "the source may read Secrets",
        manifests.wrong_rights,
        "ClusterRole/vmledger-apiserversource",
        lambda o: o["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
    ),
    (
        "the source cannot watch",
        manifests.wrong_rights,
        "ClusterRole/vmledger-apiserversource",
        lambda o: o["rules"][0]["verbs"].remove("watch"),
    ),
    (
        "a kind is watched without a right",
        manifests.wrong_rights,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"]["resources"].append({"apiVersion": "v1", "kind": "Event"}),
    ),
    (
        "what runs is watched without a right",
        manifests.wrong_rights,
        "ClusterRole/vmledger-apiserversource",
        lambda o: o["rules"][0]["resources"].remove("virtualmachineinstances"),
    ),
    (
        "the reconcile may watch",
        manifests.wrong_rights_of_the_jobs,
        "ClusterRole/vmledger-reconcile",
        lambda o: o["rules"][0]["verbs"].append("watch"),
    ),
    (
        "the reconcile may not list what runs",
        manifests.wrong_rights_of_the_jobs,
        "ClusterRole/vmledger-reconcile",
        lambda o: o["rules"][0]["resources"].remove("virtualmachineinstances"),
    ),
    (
        "the reconcile may list what StatefulSets were",
        manifests.wrong_rights_of_the_jobs,
        "ClusterRole/vmledger-reconcile",
        lambda o: o["rules"][1]["verbs"].append("list"),
    ),
    (
        "the reconcile may read every namespace",
        manifests.wrong_rights_of_the_jobs,
        "ClusterRole/vmledger-reconcile",
        lambda o: o["rules"][3].pop("resourceNames"),
    ),
    (
        "the reconcile may not see which cluster it is in",
        manifests.wrong_rights_of_the_jobs,
        "ClusterRole/vmledger-reconcile",
        lambda o: o["rules"].pop(3),
    ),
    (
        "the reconcile may change a VM's size",
        manifests.wrong_rights_of_the_jobs,
        "ClusterRole/vmledger-reconcile",
        lambda o: o["rules"][2]["verbs"].append("update"),
    ),
    (
        "the prune has the rights of the reconcile",
        manifests.wrong_rights_of_the_jobs,
        "CronJob/vmledger-prune",
        lambda o: pod(o).update(serviceAccountName="vmledger-reconcile"),
    ),
    (
        "the source sends references",
        manifests.wrong_source,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"].update(mode="Reference"),
    ),
    (
        "the source has the default mode",
        manifests.wrong_source,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"].pop("mode"),
    ),
    (
        "the source watches its own namespace only",
        manifests.wrong_source,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"].pop("namespaceSelector"),
    ),
    (
        "the source does not watch what runs",
        manifests.wrong_source,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"]["resources"].pop(),
    ),
    (
        "the source sends nowhere",
        manifests.wrong_source,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"].pop("sink"),
    ),
    (
        "vmledger is bound to another's role",
        manifests.wrong_rights_of_vmledger,
        "ClusterRoleBinding/vmledger-apiserversource",
        lambda o: o["subjects"].append({"kind": "ServiceAccount", "name": "vmledger", "namespace": "vmledger"}),
    ),
    (
        "the dead letter sink may be away",
        manifests.wrong_dead_letter,
        "Service/vmledger-dead-letter",
        lambda o: scale(o).pop("autoscaling.knative.dev/min-scale"),
    ),
    (
        "the dead letter sink refuses what is too large",
        manifests.wrong_dead_letter,
        "Service/vmledger-dead-letter",
        lambda o: container(o)["env"].pop(1),
    ),
    (
        "the dead letter sink cuts what is large",
        manifests.wrong_dead_letter,
        "Service/vmledger-dead-letter",
        lambda o: container(o)["env"].pop(2),
    ),
    (
        "vmledger takes more than the dead letter sink",
        manifests.wrong_dead_letter,
        "ConfigMap/vmledger",
        lambda o: o["data"].update(MAX_EVENT_BYTES="16777216"),
    ),
    (
        "a Service has no probe",
        manifests.wrong_probes,
        "Service/vmledger",
        lambda o: container(o).pop("livenessProbe"),
    ),
    (
        "a probe asks a door that is not there",
        manifests.wrong_probes,
        "Service/vmledger-dead-letter",
        lambda o: container(o)["readinessProbe"]["httpGet"].update(path="/ready"),
    ),
    (
        "the source stamps no cluster",
        manifests.wrong_source,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"]["ceOverrides"]["extensions"].clear(),
    ),
    (
        "the published retries: 15 seconds",
        manifests.wrong_retries,
        "Trigger/vmledger-update",
        lambda o: o["spec"]["delivery"].update(retry=3),
    ),
    (
        "the Broker's default retries: 205 seconds",
        manifests.wrong_retries,
        "Trigger/vmledger-update",
        lambda o: o["spec"]["delivery"].update(retry=10, backoffPolicy="exponential", backoffDelay="PT0.2S"),
    ),
    (
        "retries beyond what the MT Broker waits",
        manifests.wrong_retries,
        "Trigger/vmledger-update",
        lambda o: o["spec"]["delivery"].update(retry=20, backoffPolicy="exponential"),
    ),
    (
        "a delivery ends before the request",
        manifests.wrong_timeouts,
        "Trigger/vmledger-add",
        lambda o: o["spec"]["delivery"].update(timeout="PT60S"),
    ),
    (
        "the Triggers' timeouts differ",
        manifests.wrong_timeouts,
        "Trigger/vmledger-update",
        lambda o: o["spec"]["delivery"].update(timeout="PT1S"),
    ),
    (
        "the Service ends before gunicorn",
        manifests.wrong_timeouts,
        "Service/vmledger",
        lambda o: pod(o).update(timeoutSeconds=30),
    ),
    (
        "an event waits longer for the database than a stop allows",
        manifests.wrong_timeouts,
        "ConfigMap/vmledger",
        lambda o: o["data"].update(DB_TIMEOUT="15"),
    ),
    (
        "a Trigger is for every kind",
        manifests.wrong_filters,
        "Trigger/vmledger-add",
        lambda o: o["spec"]["filter"]["attributes"].pop("kind"),
    ),
    (
        "updates come never, and adds twice",
        manifests.wrong_filters,
        "Trigger/vmledger-update",
        lambda o: o["spec"]["filter"]["attributes"].update(type="dev.knative.apiserver.resource.add"),
    ),
    (
        "what runs comes never",
        manifests.wrong_filters,
        "Trigger/vmledger-instance-update",
        lambda o: o["spec"]["filter"]["attributes"].update(kind="VirtualMachineInstances"),
    ),
    (
        "the source's mode is not that of the Triggers",
        manifests.wrong_filters,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"].update(mode="Reference"),
    ),
    (
        "a kind is watched that has no Triggers and no route",
        manifests.wrong_filters,
        "ApiServerSource/apiserversource",
        lambda o: o["spec"]["resources"].append({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachinePool"}),
    ),
    (
        "a container may be root",
        manifests.unrestricted,
        "Service/vmledger",
        lambda o: container(o)["securityContext"].pop("runAsNonRoot"),
    ),
    (
        "a container may write its image",
        manifests.unrestricted,
        "Job/vmledger-migrate",
        lambda o: container(o)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        "a container keeps a capability",
        manifests.unrestricted,
        "Service/vmledger-dead-letter",
        lambda o: container(o)["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["NET_RAW"]}),
    ),
    (
        "a container has no resources",
        manifests.unrestricted,
        "Service/vmledger",
        lambda o: container(o).pop("resources"),
    ),
    (
        "a token is asked for where Serving refuses it",
        manifests.refused_by_serving,
        "Service/vmledger",
        lambda o: pod(o).update(automountServiceAccountToken=True),
    ),
    (
        "a variable is set that Serving sets",
        manifests.refused_by_serving,
        "Service/vmledger",
        lambda o: container(o)["env"].append({"name": "PORT", "value": "8080"}),
    ),
    (
        "a password is in the manifest",
        manifests.secrets,
        "Service/vmledger",
        lambda o: container(o)["env"].append({"name": "DB_PASSWORD", "value": "redhat"}),
    ),
    (
        "a password is in the settings",
        manifests.secrets,
        "ConfigMap/vmledger",
        lambda o: o["data"].update(DB_PASSWORD="redhat"),
    ),
    ("a Secret is in the manifests", manifests.secrets, "ConfigMap/vmledger", lambda o: o.update(kind="Secret")),
    (
        "more pods than connections",
        manifests.wrong_scale,
        "Service/vmledger",
        lambda o: scale(o).update({"autoscaling.knative.dev/max-scale": "50"}),
    ),
    (
        "no pod is kept",
        manifests.wrong_scale,
        "Service/vmledger",
        lambda o: scale(o).update({"autoscaling.knative.dev/min-scale": "0"}),
    ),
    (
        "more pods than connections, with those of the Jobs",
        manifests.wrong_scale,
        "Service/vmledger",
        lambda o: scale(o).update({"autoscaling.knative.dev/max-scale": "23"}),
    ),
    (
        "requests without end in one pod",
        manifests.wrong_scale,
        "Service/vmledger",
        lambda o: pod(o).update(containerConcurrency=0),
    ),
    (
        "the Service is public",
        manifests.public,
        "Service/vmledger",
        lambda o: o["metadata"]["labels"].pop("networking.knative.dev/visibility"),
    ),
    (
        "an image is whatever is latest",
        manifests.wrong_images,
        "Service/vmledger",
        lambda o: container(o).update(image="registry.example.com/vmledger:latest"),
    ),
    (
        "the migration is another version",
        manifests.wrong_migration,
        "Job/vmledger-migrate",
        lambda o: container(o).update(image="registry.example.com/vmledger:0.0.9"),
    ),
    (
        "the migration has another database",
        manifests.wrong_migration,
        "Job/vmledger-migrate",
        lambda o: container(o)["env"].pop(),
    ),
    (
        "the Job starts the receiver",
        manifests.wrong_migration,
        "Job/vmledger-migrate",
        lambda o: container(o).pop("args"),
    ),
    (
        "the Job restarts for ever",
        manifests.wrong_migration,
        "Job/vmledger-migrate",
        lambda o: pod(o).update(restartPolicy="Always"),
    ),
    (
        "the Job stays for ever",
        manifests.wrong_migration,
        "Job/vmledger-migrate",
        lambda o: o["spec"].pop("ttlSecondsAfterFinished"),
    ),
    (
        "two reconciles at once",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: o["spec"].pop("concurrencyPolicy"),
    ),
    (
        "two prunes at once",
        manifests.wrong_schedules,
        "CronJob/vmledger-prune",
        lambda o: o["spec"].update(concurrencyPolicy="Replace"),
    ),
    (
        "the reconcile is seldom",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: o["spec"].update(schedule="*/30 * * * *"),
    ),
    (
        "the reconcile is suspended",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: o["spec"].update(suspend=True),
    ),
    (
        "there is no reconcile",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: o.update(kind="Job", spec=o["spec"]["jobTemplate"]["spec"]),
    ),
    (
        "a late start is caught up by two",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: o["spec"].pop("startingDeadlineSeconds"),
    ),
    (
        "a run may hang for ever",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: job(o).pop("activeDeadlineSeconds"),
    ),
    (
        "a refused run is tried six times",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: job(o).pop("backoffLimit"),
    ),
    (
        "a refused run restarts in its pod",
        manifests.wrong_schedules,
        "CronJob/vmledger-reconcile",
        lambda o: pod(o).update(restartPolicy="OnFailure"),
    ),
    (
        "a run that repaired fails its Job",
        manifests.wrong_commands,
        "CronJob/vmledger-reconcile",
        lambda o: container(o)["args"].remove("--repaired-ok"),
    ),
    (
        "every run may delete without limit",
        manifests.wrong_commands,
        "CronJob/vmledger-reconcile",
        lambda o: container(o)["args"].append("--force"),
    ),
    (
        "the prune keeps forty days",
        manifests.wrong_commands,
        "CronJob/vmledger-prune",
        lambda o: container(o)["args"].__setitem__(-1, "40d"),
    ),
    (
        "the reconcile is another version",
        manifests.wrong_commands,
        "CronJob/vmledger-reconcile",
        lambda o: container(o).update(image="registry.example.com/vmledger:0.0.9"),
    ),
    (
        "the prune has another database",
        manifests.wrong_commands,
        "CronJob/vmledger-prune",
        lambda o: container(o)["env"].pop(),
    ),
    (
        "a CronJob's container may be root",
        manifests.unrestricted,
        "CronJob/vmledger-prune",
        lambda o: container(o)["securityContext"].pop("runAsNonRoot"),
    ),
    (
        "a CronJob's settings are not there",
        manifests.dangling,
        "CronJob/vmledger-reconcile",
        lambda o: container(o)["envFrom"][0]["configMapRef"].update(name="vmledger-7f8g"),
    ),
    (
        "a CronJob's ServiceAccount is not there",
        manifests.dangling,
        "CronJob/vmledger-reconcile",
        lambda o: pod(o).update(serviceAccountName="nobody"),
    ),
]


def job(item: manifests.Object) -> Any:
    """The spec of a CronJob's Jobs."""
    return item["spec"]["jobTemplate"]["spec"]


def container(item: manifests.Object) -> Any:
    """The only container of a workload."""
    [found] = pod(item)["containers"]
    return found


def scale(item: manifests.Object) -> Any:
    """The annotations that scale a Knative Service."""
    return item["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(("rule", "what", "change"), [row[1:] for row in BREAKS], ids=[row[0] for row in BREAKS])
def test_a_broken_manifest_is_noticed(
    rule: Callable[[Objects], list[str]], what: str, change: Callable[[Any], Any]
) -> None:
    """What is sound before the change is wrong after it."""
    objects = copy.deepcopy(manifests.overlay("direct"))
    assert rule(objects) == []
    kind, _, name = what.partition("/")
    change(manifests.named(objects, kind, name, KNATIVE if kind == "Service" else ""))
    assert rule(objects) != []


TRANSFORM_BREAKS: list[tuple[str, Callable[[Any], Any]]] = [
    ("ten retries into the transformer", lambda delivery: delivery.update(retry=10)),
    ("none", lambda delivery: delivery.update(retry=0)),
    ("a timeout below the second Broker's retries", lambda delivery: delivery.update(timeout="PT120S")),
]


@pytest.mark.parametrize("change", [row[1] for row in TRANSFORM_BREAKS], ids=[row[0] for row in TRANSFORM_BREAKS])
def test_retries_that_multiply_over_two_brokers_are_noticed(change: Callable[[Any], Any]) -> None:
    """Each retry into the transformer repeats all retries of the second Broker."""
    objects = copy.deepcopy(manifests.overlay("transform"))
    [trigger] = manifests.to_transform(objects)
    change(trigger["spec"]["delivery"])
    assert manifests.wrong_retries(objects) != []


def test_an_event_that_the_transformer_knows_nothing_of_is_noticed() -> None:
    """Its expression knows VMs; of what runs it would leave an event without a body."""
    objects = copy.deepcopy(manifests.overlay("transform"))
    assert manifests.wrong_filters(objects) == []
    [trigger] = manifests.to_transform(objects)
    trigger["spec"]["filter"]["attributes"].clear()
    assert manifests.wrong_filters(objects) != []


@pytest.mark.parametrize(
    ("policy", "kafka", "expected"),
    [
        ("linear", False, 0 + 5 + 10),
        ("linear", True, 5 + 10 + 15),
        ("exponential", False, 35),
        ("exponential", True, 70),
    ],
)
def test_the_window_of_retries_is_counted_as_the_brokers_do(policy: str, kafka: bool, expected: float) -> None:
    """The MT Broker counts its waits from nought, the Kafka Broker from one."""
    delivery = {"retry": 3, "backoffPolicy": policy, "backoffDelay": "PT5S"}
    assert manifests.window(delivery, kafka=kafka) == expected


def test_func_yaml_builds_and_deploys_the_same_function() -> None:
    """The same Secret and settings, health paths and visibility as k8s/; no subscription without a dead letter."""
    func = yaml.safe_load((manifests.ROOT / "func.yaml").read_text())
    given = {env["name"]: env["value"] for env in func["run"]["envs"]}
    settings = manifests.named(manifests.overlay("direct"), "ConfigMap", "vmledger")["data"]
    assert given == {
        **{key.upper(): f"{{{{ secret:{manifests.SECRET}:{key} }}}}" for key in manifests.SECRET_KEYS},
        # hypercorn, which func brings, has one process
        **{key: f"{{{{ configMap:vmledger:{key} }}}}" for key in settings if key != "WEB_CONCURRENCY"},
    }
    assert (func["name"], func["invoke"], func["runtime"]) == ("vmledger", "http", "python")
    deploy = func["deploy"]
    assert "subscriptions" not in deploy
    assert {label["key"]: label["value"] for label in deploy["labels"]} == {
        "networking.knative.dev/visibility": "cluster-local",
        "app.kubernetes.io/part-of": "vmledger",
    }
    service = manifests.named(manifests.overlay("direct"), "Service", "vmledger", KNATIVE)
    probes = {name: container(service)[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness")}
    assert deploy["healthEndpoints"] == probes
    assert deploy["serviceAccountName"] == pod(service)["serviceAccountName"]
    assert deploy["options"]["resources"]["limits"]["concurrency"] == pod(service)["containerConcurrency"]


def test_the_containerfile_starts_what_the_procfile_says_without_a_shell() -> None:
    """Process 1 is gunicorn, as any user of group 0, from pinned bases and a locked list with hashes."""
    lines = [line for line in (manifests.ROOT / "Containerfile").read_text().splitlines() if not line.startswith("#")]
    instructions = [line.split(" ", 1) for line in lines if re.match("[A-Z]+ ", line)]
    bases = [rest.split(" ")[0] for word, rest in instructions if word == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases)
    [command] = [json.loads(rest) for word, rest in instructions if word == "CMD"]
    assert command == [pathlib.Path(run.procfile()[0]).name, *run.procfile()[1:]]
    assert [rest for word, rest in instructions if word == "USER"] == ["1001:0"]
    assert "--require-hashes" in "".join(lines)
    assert "ENTRYPOINT" not in [word for word, _ in instructions]


def test_the_commands_run_from_what_the_containerfile_copies(tmp_path: pathlib.Path) -> None:
    """The Jobs run them in the image, which holds neither pyproject.toml nor an installed vmledger."""
    for line in (manifests.ROOT / "Containerfile").read_text().splitlines():
        if copied := re.fullmatch(r"COPY (\S+) /srv/(\S*)", line):
            source = manifests.ROOT / copied[1]
            target = tmp_path / (copied[2] or source.name)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for arguments, said in ((["--version"], f"vmledger {function.__version__}\n"), (["migrate", "--help"], "Usage: ")):
        command = [sys.executable, "-m", "function", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(said)


def test_every_room_is_in_the_package() -> None:
    """What func installs from pyproject.toml is the whole function; a folder that is not named there is left out."""
    with (manifests.ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]
    found = {
        str(init.parent.relative_to(manifests.ROOT)).replace("/", ".")
        for init in (manifests.ROOT / "function").rglob("__init__.py")
    }
    assert set(named) == found


def test_pack_builds_with_the_locked_list() -> None:
    """What buildpacks install is what the Containerfile installs."""
    text = (manifests.ROOT / "project.toml").read_text()
    assert 'value = "requirements.lock"' in text
    assert [line for line in (manifests.ROOT / "Procfile").read_text().splitlines() if line] == ["web: gunicorn"]
