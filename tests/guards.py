"""Who may reach and send what, in what k8s/ renders to: rules as those of :mod:`tests.manifests`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

from tests import manifests

Object = manifests.Object
Objects = manifests.Objects

OURS = {"app.kubernetes.io/part-of": "vmledger"}
"""The label of vmledger's pods."""
DATABASE = {"app.kubernetes.io/component": "database"}
KNATIVE = {"knative-eventing", "knative-serving", "kourier-system", "istio-system", "knative-serving-ingress"}
SCRAPERS = {"monitoring", "openshift-user-workload-monitoring"}
METRICS_PORT = 9095
NAMESPACE_NAME = "kubernetes.io/metadata.name"
PORTS = {53, 5353, 5432, 443, 6443}
"""DNS, Postgres and the API server."""
PAGE = {"app.kubernetes.io/component": "page", **OURS}
INGRESSES = {"ingress-nginx", "openshift-ingress"}
PROXY_PORT = 4180
OUTSIDE = (
    ({"vmledger.dev/webhooks": "true"}, {443}),
    ({"vmledger.dev/operations": "true"}, {443}),
    ({"vmledger.dev/traces": "true"}, {4318}),
    (PAGE, {443}),
)
"""The ports to everywhere, by the labels of the pods that may use them; the page's proxy asks its issuer."""
PUBLISH = {"app.kubernetes.io/name": "vmledger-publish"}
BROKERS = {8080, 8443}
"""The ports of the Brokers' ingress, to which changes are sent."""
SENDERS = ("apiserversource-events", "vmdata-transform")
"""Who sends into a Broker of ours where a component brings them; a policy cannot refer to what may not be there."""


def _audience(objects: Objects) -> str | None:
    """Return what callers' tokens must be for; None where callers are not verified."""
    data = manifests.named(objects, "ConfigMap", "vmledger")["data"]
    return str(data["OIDC_AUDIENCE"]) if "OIDC_AUDIENCE" in data else None


def unnamed_audience(objects: Objects) -> list[str]:
    """Senders without a token for us where callers are verified, and senders with one where they are not."""
    audience = _audience(objects)
    wrong = []
    for item in manifests.of_kind(objects, "Trigger") + manifests.of_kind(objects, "Broker"):
        where = f"{item['kind']} {item['metadata']['name']}"
        if item["spec"]["delivery"]["deadLetterSink"].get("audience") != audience:
            wrong.append(f"{where} sends dead letters for another audience than {audience}")
        subscriber = item["spec"].get("subscriber", {"ref": {"name": "vmledger"}, "audience": audience})
        if subscriber.get("audience") != (audience if subscriber["ref"]["name"] == "vmledger" else None):
            wrong.append(f"{where} sends for the audience {subscriber.get('audience')}")
    [sink] = manifests.pod(manifests.named(objects, "Service", "vmledger-dead-letter", "serving."))["containers"]
    given = {variable["name"]: variable.get("value") for variable in sink["env"]}
    if given.get("OIDC_AUDIENCE") != audience:
        wrong.append("the dead letter sink verifies other callers than vmledger")
    return wrong


def blind_guards(objects: Objects) -> list[str]:
    """Services that verify callers, and cannot ask the API server who issues tokens."""
    if _audience(objects) is None:
        return []
    bound = {
        subject["name"]
        for binding in manifests.of_kind(objects, "ClusterRoleBinding")
        if binding["roleRef"]["name"] == "system:service-account-issuer-discovery"
        for subject in binding["subjects"]
    }
    tokens = {
        item["metadata"]["name"]
        for item in manifests.of_kind(objects, "ServiceAccount")
        if item.get("automountServiceAccountToken", True)
    }
    wrong = []
    for item in manifests.services(objects):
        spec = manifests.pod(item)
        account = spec.get("serviceAccountName")
        if account not in bound & tokens or spec.get("automountServiceAccountToken") is False:
            wrong.append(f"{item['metadata']['name']} cannot ask for the issuer's keys")
    return wrong


def open_brokers(objects: Objects) -> list[str]:
    """Brokers of ours that a sender cannot send into, or somebody else can, where callers are verified."""
    if _audience(objects) is None:
        return [f"{item['metadata']['name']}: without the flag its Broker is not ready" for item in _policies(objects)]
    wrong = []
    for sender in manifests.of_kind(objects, "ApiServerSource") + manifests.of_kind(objects, "EventTransform"):
        broker = manifests.named(objects, "Broker", sender["spec"]["sink"]["ref"]["name"])
        admitted = [one for policy in _policies(objects) if _applies(policy, broker) for one in policy["spec"]["from"]]
        if not any(_admits(one, sender) for one in admitted):
            wrong.append(f"{broker['metadata']['name']} does not let {sender['metadata']['name']} in")
    [namespace] = [item["metadata"]["name"] for item in manifests.of_kind(objects, "Namespace")]
    known = {f"system:serviceaccount:{namespace}:{name}*" for name in SENDERS}
    for policy in _policies(objects):
        wrong += [
            f"{policy['metadata']['name']} lets {one} in"
            for one in policy["spec"]["from"]
            if one.get("sub") not in known and one.get("ref", {}).get("kind") != "ApiServerSource"
        ]
        if not policy["spec"].get("to"):
            wrong.append(f"{policy['metadata']['name']} is for every Broker")
    return wrong


def _policies(objects: Objects) -> Objects:
    return manifests.of_kind(objects, "EventPolicy")


def _applies(policy: Object, broker: Object) -> bool:
    return any(
        to.get("ref", {}).get("name") == broker["metadata"]["name"]
        or ("selector" in to and _selects({"matchLabels": to["selector"]["matchLabels"]}, broker["metadata"]["labels"]))
        for to in policy["spec"].get("to", [])
    )


def _admits(one: Object, sender: Object) -> bool:
    """Whether an entry of a policy is about a sender: by reference, or by the name that Knative gives its account."""
    name, namespace = sender["metadata"]["name"], sender["metadata"]["namespace"]
    if "ref" in one:
        return bool((one["ref"]["kind"], one["ref"]["name"]) == (sender["kind"], name))
    return fnmatch.fnmatchcase(f"system:serviceaccount:{namespace}:{name}-oidc", str(one["sub"]))


def unrestricted_namespace(objects: Objects) -> list[str]:
    """Namespaces that do not hold their pods to Pod Security's strictest rules."""
    return [
        f"the namespace does not {mode} restricted pods"
        for item in manifests.of_kind(objects, "Namespace")
        for mode in ("enforce", "audit", "warn")
        if item["metadata"]["labels"].get(f"pod-security.kubernetes.io/{mode}") != "restricted"
    ]


def wrong_disruption(objects: Objects) -> list[str]:
    """Services of several pods that a drain may take all at once; of one pod that keep a node from being drained."""
    budgets = manifests.of_kind(objects, "PodDisruptionBudget")
    wrong = [
        f"{item['metadata']['name']} keeps the last pod on its node"
        for item in budgets
        if item["spec"].get("maxUnavailable") != 1 or "minAvailable" in item["spec"]
    ]
    for item in manifests.services(objects):
        name, labels = item["metadata"]["name"], _labels(item)
        several = item["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"] != "1"
        if several and not any(_selects(budget["spec"]["selector"], labels) for budget in budgets):
            wrong.append(f"{name} has several pods and no PodDisruptionBudget")
    return wrong


def pod_labels(item: Object) -> Any:
    """Return the labels that a workload gives its pods, to look at or to change."""
    spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
    return spec["template"].setdefault("metadata", {}).setdefault("labels", {})


def _labels(item: Object) -> dict[str, str]:
    """Return the labels of a workload's pods; Serving adds one of its own."""
    found = dict(pod_labels(item))
    if item["apiVersion"].startswith("serving."):
        found["serving.knative.dev/service"] = item["metadata"]["name"]
    return found


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "a selector that this rule does not read"
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _workloads(objects: Objects) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the workloads of vmledger's image with their pods' labels."""
    names = {name for name, _ in manifests.ours(objects)}
    for item in objects:
        if item["metadata"]["name"] in names and "template" in str(item.get("spec", {}).keys()).lower():
            yield item["metadata"]["name"], _labels(item)


def unguarded_pods(objects: Objects) -> list[str]:
    """Pods of vmledger's image that components/network does not find, or finds and leaves open."""
    wrong = [
        f"{name} lacks the label of vmledger's pods" for name, labels in _workloads(objects) if not _is_ours(labels)
    ]
    policies = [item["spec"] for item in manifests.of_kind(objects, "NetworkPolicy")]
    if any(spec["podSelector"].get("matchLabels") == OURS for spec in policies):
        wrong += [
            f"{name} has no policy of {direction}"
            for name, labels in _workloads(objects)
            for direction in ("Ingress", "Egress")
            if not any(_selects(spec["podSelector"], labels) and direction in spec["policyTypes"] for spec in policies)
        ]
    return wrong


def _is_ours(labels: dict[str, str]) -> bool:
    return OURS.items() <= labels.items()


def open_ways_in(objects: Objects) -> list[str]:
    """Rules that let others in than Knative, the scraper, people to the page's proxy, and vmledger to its Postgres."""
    wrong = []
    for name, selected, rule in _rules(objects, "ingress"):
        peers, ports = rule.get("from", [{}]), {port["port"] for port in rule.get("ports", [])}
        found = {word for peer in peers for word in _namespaces(peer)}
        if selected == DATABASE:
            sound = peers == [{"podSelector": {"matchLabels": OURS}}] and ports == {5432}
        elif selected == PAGE:
            sound = found <= INGRESSES and ports == {PROXY_PORT}
        else:
            sound = found <= KNATIVE or (found <= SCRAPERS and ports == {METRICS_PORT})
        if not sound:
            wrong.append(f"{name} lets others in")
    return wrong


def open_ways_out(objects: Objects) -> list[str]:
    """Rules that let vmledger send elsewhere than to DNS, Postgres and the API server, and what is switched on."""
    wrong = []
    for name, selected, rule in _rules(objects, "egress"):
        ports = {port["port"] for port in rule.get("ports", [])}
        if "to" not in rule:
            allowed: set[int] = next((allowed for labels, allowed in OUTSIDE if labels == selected), set())
        elif selected == PUBLISH and all(_namespaces(peer) == {"knative-eventing"} for peer in rule["to"]):
            allowed = BROKERS
        else:
            allowed = PORTS
        if not ports or not ports <= allowed:
            wrong.append(f"{name} lets vmledger send to {sorted(ports)} {'there' if 'to' in rule else 'anywhere'}")
        everywhere = [
            peer for peer in rule.get("to", []) if peer.get("ipBlock", {}).get("cidr") in ("0.0.0.0/0", "::/0")
        ]
        if everywhere:
            wrong.append(f"{name} lets vmledger send everywhere")
    return wrong


def mislabelled_capabilities(objects: Objects) -> list[str]:
    """Labels that open a way to what is not switched on, or leave closed what is."""
    sources = manifests.of_kind(objects, "ApiServerSource")
    scaling = any(resource["kind"] == "Event" for source in sources for resource in source["spec"]["resources"])
    vsphere = any(
        {"secretRef": {"name": manifests.OPERATIONS_SECRET}} in container.get("envFrom", [])
        for _, container in manifests.ours(objects)
    )
    switched_on = {"vmledger.dev/webhooks": scaling, "vmledger.dev/operations": vsphere}
    return [
        f"{name} is {'' if label in labels else 'not '}labelled {label}"
        for name, labels in _workloads(objects)
        for label, is_on in switched_on.items()
        if (labels.get(label) == "true") != (is_on and name == "vmledger")
    ]


def _rules(objects: Objects, direction: str) -> Iterator[tuple[str, dict[str, str], Object]]:
    """Yield the rules of all policies for a direction: the policy's name, whom it selects, and the rule."""
    for item in manifests.of_kind(objects, "NetworkPolicy"):
        for rule in item["spec"].get(direction, []):
            yield item["metadata"]["name"], item["spec"]["podSelector"]["matchLabels"], rule


def _namespaces(peer: Any) -> set[str]:
    """Return the names of the namespaces that a peer is in; what is not such a peer has a name that is never good."""
    match peer:
        case {"namespaceSelector": {"matchExpressions": [{"key": key, "operator": "In", "values": values}]}}:
            return set(values) if len(peer) == 1 and key == NAMESPACE_NAME else {"?"}
        case _:
            return {"?"}


RULES = (
    unnamed_audience,
    blind_guards,
    open_brokers,
    unrestricted_namespace,
    wrong_disruption,
    unguarded_pods,
    open_ways_in,
    open_ways_out,
    mislabelled_capabilities,
)
