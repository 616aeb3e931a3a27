"""What k8s/ renders to, and what must be true of it: each rule is a function that returns what is wrong, in sentences.

The rules know the objects and nothing of the files, so a test can break an object and see that its rule notices.
"""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml

from function import settings
from function.cli import main as command_line
from function.clients import postgres
from function.web import routing

ROOT = pathlib.Path(__file__).resolve().parent.parent
K8S = ROOT / "k8s"
OVERLAYS = ("direct", "transform", "kafka", "kafka-ordered", "dev")

Object = dict[str, Any]
Objects = list[Object]

SECRET = "psql-secret"
SECRET_KEYS = {"db_host", "db_port", "db_name", "db_user", "db_password"}
"""The Secret that people make; its name and keys are published."""
BUILT_IN = {"system:service-account-issuer-discovery"}
"""ClusterRoles of Kubernetes' own, which grant reading of no object."""
OPERATIONS_SECRET = "veba-knative-mm-vrops"
"""The one that the component vsphere needs besides; its name is published too."""
FAILOVER_SECONDS = 300
MT_BROKER_SECONDS = 900
"""After this the MT Broker's fan-out gives up, whatever a Trigger says."""
NODE_FETCH_SECONDS = 300
"""After this the transformer stops waiting for the second Broker's answer."""
MAX_CONNECTIONS = 100 - 3
"""What Postgres' default leaves to ordinary roles."""
RESERVED = {"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"}
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
JOBS = {
    "vmledger-reconcile": (600, ["reconcile", "--repaired-ok"]),
    "vmledger-prune": (86400, ["prune", "--older-than", "400d"]),
    "vmledger-health": (600, ["health"]),
}
"""The seconds between two starts of each CronJob, and what it runs; the last one is a component's."""
CONNECTIONS_OF_A_JOB = 2
VERBS = ("add", "update", "delete")
MODES = {"Resource": "resource", "Reference": "ref"}
"""What the source's mode is called in the types of its events; Knative's default is Reference."""

Right = tuple[str, str, str, str]
"""API group, resource, verb, and the only object's name, or '' for all."""
RECONCILES = {
    ("kubevirt.io", "virtualmachines", "list", ""),
    ("kubevirt.io", "virtualmachineinstances", "list", ""),
    ("apps", "controllerrevisions", "get", ""),
    ("subresources.kubevirt.io", "virtualmachines/expand-spec", "get", ""),
    ("", "namespaces", "get", "kube-system"),
}
"""What `reconcile` asks of the Kubernetes API."""


@functools.cache
def _rendered(folder: pathlib.Path) -> str:
    program = [shutil.which("kubectl") or "", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    if not shutil.which(program[0]):
        pytest.skip("neither kubectl nor kustomize is here to render k8s/: .ci/install-kubectl installs kubectl")
    done = subprocess.run([*program, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{folder.name} does not render: {done.stderr}"
    return done.stdout


def render(folder: pathlib.Path) -> Objects:
    """Return the objects that a kustomization renders to, in the order in which they are applied.

    Each caller has its own, to change; read by libyaml, where it is, because that takes a tenth of the time.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(_rendered(folder), loader) if document]


def components() -> list[str]:
    """Return the names of the components that a person may add to an overlay; two are parts of overlays already."""
    folders = {file.parent.name for file in (K8S / "components").glob("*/kustomization.yaml")}
    # oidc is the last, as its comment asks.
    return sorted(folders - {"transform", "kafka"}, key=lambda name: (name == "oidc", name))


def overlay(word: str) -> Objects:
    """Return the objects of an overlay."""
    return render(K8S / "overlays" / word)


def extended(folder: pathlib.Path, word: str, *components: str) -> Objects:
    """Return the objects of an overlay with components, in another namespace."""
    shutil.copytree(K8S, folder / "k8s")
    file = folder / "k8s" / "overlays" / word / "kustomization.yaml"
    text = yaml.safe_load(file.read_text())
    text["namespace"] = "elsewhere"
    text["components"] = [*text.get("components", []), *(f"../../components/{name}" for name in components)]
    file.write_text(yaml.safe_dump(text))
    return render(file.parent)


def of_kind(objects: Objects, kind: str, group: str = "") -> Objects:
    """Return the objects of a kind; ``group`` tells Knative's Service from Kubernetes'."""
    return [item for item in objects if item["kind"] == kind and item["apiVersion"].startswith(group)]


def named(objects: Objects, kind: str, name: str, group: str = "") -> Object:
    """Return the one object of that kind and name."""
    [found] = [item for item in of_kind(objects, kind, group) if item["metadata"]["name"] == name]
    return found


def services(objects: Objects) -> Objects:
    """Return Knative's Services."""
    return of_kind(objects, "Service", "serving.knative.dev/")


def pod(item: Object) -> Any:
    """Return the pod's spec of a workload; of a CronJob that of its Jobs."""
    spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
    return spec["template"]["spec"]


def pods(objects: Objects) -> Iterator[tuple[str, Object]]:
    """Yield the pod of each workload, with its name."""
    for item in objects:
        if item in services(objects) or item["kind"] in ("Job", "CronJob", "Deployment", "StatefulSet"):
            yield item["metadata"]["name"], pod(item)


def containers(objects: Objects) -> Iterator[tuple[str, Object]]:
    """Yield the containers of all workloads, with the workload's name."""
    for name, spec in pods(objects):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield name, container


def ours(objects: Objects) -> Iterator[tuple[str, Object]]:
    """Yield the containers that run vmledger."""
    for name, container in containers(objects):
        if "/vmledger:" in container["image"] or container["image"] == "vmledger":
            yield name, container


# Rules. Each returns sentences; none is wrong when there is none.


@functools.cache
def described_secrets() -> dict[str, set[str]]:
    """Return the Secrets that people make, those for which an example says how, with their keys."""
    examples = (file.read_text() for file in K8S.rglob("*.env.example"))
    return {
        name: set(re.findall(r"^(\w+)=", text, re.MULTILINE))
        for text in examples
        for name in re.findall(r"create secret generic (\S+)", text)
    }


def dangling(objects: Objects) -> list[str]:
    """References that point to nothing, or into another namespace."""
    there = {(item["kind"], item["metadata"]["name"]) for item in objects}
    there |= {(f"{item['apiVersion']}/{item['kind']}", item["metadata"]["name"]) for item in objects}
    wrong = []
    for item in objects:
        where = f"{item['kind']} {item['metadata']['name']}"
        for kind, name, namespace in _references(item):
            if (kind, name) not in there and name not in {*described_secrets(), *BUILT_IN}:
                wrong.append(f"{where} refers to {kind} {name}, which is not there")
            if namespace not in (None, item["metadata"].get("namespace", namespace)):
                wrong.append(f"{where} refers to {name} in the namespace {namespace}")
    for name, container in containers(objects):
        for variable in container.get("env", []):
            key = variable.get("valueFrom", {}).get("secretKeyRef", {"name": SECRET, "key": "db_host"})
            keys = described_secrets().get(key["name"], set())
            if key["key"] not in keys:
                wrong.append(f"{name} reads the key {key['key']}, which {key['name']} does not have")
    return wrong


def _references(item: Object) -> Iterator[tuple[str, str, str | None]]:
    spec = item.get("spec", {})
    if item["kind"] == "Trigger":
        yield "Broker", spec["broker"], None
    if item["kind"] == "Broker" and "config" in spec:
        yield spec["config"]["kind"], spec["config"]["name"], spec["config"].get("namespace")
    destinations = [spec.get("subscriber"), spec.get("sink"), spec.get("delivery", {}).get("deadLetterSink")]
    for destination in filter(None, destinations):
        ref = destination["ref"]
        yield f"{ref['apiVersion']}/{ref['kind']}", ref["name"], ref.get("namespace")
    if item["kind"] == "EventPolicy":
        for ref in (end["ref"] for end in [*spec.get("to", []), *spec["from"]] if "ref" in end):
            yield f"{ref['apiVersion']}/{ref['kind']}", ref["name"], ref.get("namespace")
    if "roleRef" in item:
        yield item["roleRef"]["kind"], item["roleRef"]["name"], None
        for subject in item["subjects"]:
            yield subject["kind"], subject["name"], None
    yield from _references_of_pod(pod(item) if {"template", "jobTemplate"} & spec.keys() else spec)


def _references_of_pod(spec: Object) -> Iterator[tuple[str, str, str | None]]:
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"], None
    for container in spec.get("containers", []):
        for source in container.get("envFrom", []):
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if key in source:
                    yield kind, source[key]["name"], None
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"], None


def outside_the_namespace(objects: Objects) -> list[str]:
    """Objects, or subjects of a binding, that are not in the namespace of the overlay."""
    [namespace] = [item["metadata"]["name"] for item in of_kind(objects, "Namespace")]
    wrong = [
        f"{item['kind']} {item['metadata']['name']} is in {item['metadata'].get('namespace')}"
        for item in objects
        if item["kind"] not in CLUSTER_WIDE and item["metadata"].get("namespace") != namespace
    ]
    for item in objects:
        for subject in item.get("subjects", []):
            if subject.get("namespace") != namespace:
                wrong.append(f"{item['metadata']['name']} binds {subject['name']} of {subject.get('namespace')}")
    return wrong


def without_dead_letter(objects: Objects) -> list[str]:
    """Triggers and Brokers whose failed events are lost."""
    wrong = []
    for item in of_kind(objects, "Trigger") + of_kind(objects, "Broker"):
        sink = item["spec"].get("delivery", {}).get("deadLetterSink", {})
        if sink.get("ref", {}).get("name") != "vmledger-dead-letter" or sink.get("uri") != "/echo":
            wrong.append(f"{item['kind']} {item['metadata']['name']} has no dead letter sink that shows what it got")
    return wrong


def unknown_variables(objects: Objects) -> list[str]:
    """Variables of vmledger's containers that neither the settings nor libpq, Python or gunicorn.conf.py reads."""
    known = {field.metadata["variable"] for _, field in settings.Settings.declared()}
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(objects, "ConfigMap")}
    wrong = []
    for name, container in ours(objects):
        given = [variable["name"] for variable in container.get("env", [])]
        for source in container.get("envFrom", []):
            given += maps.get(source.get("configMapRef", {}).get("name"), {})
        wrong += [
            f"{name} is given {variable}, which nothing reads"
            for variable in given
            if variable not in known and not variable.startswith(("PG", "PYTHON"))
        ]
    return wrong


def _bound(objects: Objects) -> set[tuple[str, str | None]]:
    return {
        (subject["name"], subject.get("namespace"))
        for item in objects
        for subject in item.get("subjects", [])
        if subject["kind"] == "ServiceAccount"
    }


def unbound_accounts(objects: Objects) -> list[str]:
    """ServiceAccounts with a token and no binding: they exist to be allowed something, and are allowed nothing."""
    bound = _bound(objects)
    return [
        f"the ServiceAccount {item['metadata']['name']} has a token and no binding"
        for item in of_kind(objects, "ServiceAccount")
        if item.get("automountServiceAccountToken", True)
        and (item["metadata"]["name"], item["metadata"].get("namespace")) not in bound
    ]


def bound_without_token(objects: Objects) -> list[str]:
    """Pods whose ServiceAccount is allowed something that they cannot ask for."""
    bound = {name for name, _ in _bound(objects)}
    without = {
        item["metadata"]["name"]
        for item in of_kind(objects, "ServiceAccount")
        if item.get("automountServiceAccountToken") is False
    }
    return [
        f"{name} has the rights of {account} and no token"
        for name, spec in pods(objects)
        if (account := spec.get("serviceAccountName")) in bound
        and (account in without or spec.get("automountServiceAccountToken") is False)
    ]


def mounted_tokens(objects: Objects) -> list[str]:
    """Pods of ours that have a token of the Kubernetes API without need."""
    fine = {
        item["metadata"]["name"]
        for item in of_kind(objects, "ServiceAccount")
        if item.get("automountServiceAccountToken") is False
    }
    fine |= {name for name, _ in _bound(objects)}
    return [
        f"a token is mounted in {name}"
        for name, spec in pods(objects)
        if spec.get("automountServiceAccountToken") is not False and spec.get("serviceAccountName") not in fine
    ]


def rights(objects: Objects, account: str) -> set[Right]:
    """Return all that a ServiceAccount may do."""
    roles = (
        named(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for binding in objects
        if any(subject["name"] == account for subject in binding.get("subjects", []))
        and binding["roleRef"]["name"] not in BUILT_IN
    )
    return {
        right
        for role in roles
        for rule in role["rules"]
        for right in itertools.product(
            rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""])
        )
    }


def _differences(who: str, allowed: set[Right], needed: set[Right]) -> list[str]:
    return [f"{who} may {right}, and need not" for right in sorted(allowed - needed)] + [
        f"{who} may not {right}, and must" for right in sorted(needed - allowed)
    ]


def _watched(source: Object) -> set[tuple[str, str]]:
    """Return the groups and plurals of what a source watches."""
    return {
        (resource["apiVersion"].rpartition("/")[0], f"{resource['kind'].lower()}s")
        for resource in source["spec"]["resources"]
    }


def wrong_rights(objects: Objects) -> list[str]:
    """What a source may do beyond, or cannot do of, reading exactly what it watches."""
    wrong = []
    for source in of_kind(objects, "ApiServerSource"):
        needed = {(*what, verb, "") for what in _watched(source) for verb in ("get", "list", "watch")}
        wrong += _differences("the source", rights(objects, source["spec"]["serviceAccountName"]), needed)
    return wrong


def wrong_rights_of_vmledger(objects: Objects) -> list[str]:
    """What vmledger may do beyond, or cannot do of, reading one HPA or one referred object at a time."""
    needed = set()
    for source in of_kind(objects, "ApiServerSource"):
        kinds = {resource["kind"] for resource in source["spec"]["resources"]}
        if "Event" in kinds:
            needed.add(("autoscaling", "horizontalpodautoscalers", "get", ""))
        elif source["spec"].get("mode", "Reference") == "Reference":
            needed |= {(*what, "get", "") for what in _watched(source)}
    return _differences("vmledger", rights(objects, "vmledger"), needed)


def wrong_rights_of_the_jobs(objects: Objects) -> list[str]:
    """What the reconcile may do beyond, or cannot do of, reading what the ledger holds; who else may."""
    wrong = _differences("the reconcile", rights(objects, "vmledger-reconcile"), RECONCILES)
    for item in of_kind(objects, "CronJob") + of_kind(objects, "Job"):
        name = item["metadata"]["name"]
        expected = "vmledger-reconcile" if name == "vmledger-reconcile" else None
        if pod(item).get("serviceAccountName") != expected:
            wrong.append(f"{name} runs as {pod(item).get('serviceAccountName')}")
    return wrong


def wrong_source(objects: Objects) -> list[str]:
    """What would make a source send what cannot be stored, watch too little or too often, or stamp another cluster."""
    wrong = []
    for source in of_kind(objects, "ApiServerSource"):
        name, spec = source["metadata"]["name"], source["spec"]
        readable = {(*what, "get", "") for what in _watched(source)} <= rights(objects, "vmledger")
        if spec.get("mode") != "Resource" and not readable:
            wrong.append(f"{name}: mode is not Resource, the events hold no object, and vmledger may not read it")
        if spec.get("namespaceSelector") != {}:
            wrong.append(f"{name}: not all namespaces by one watch")
        if spec.get("sink", {}).get("ref", {}).get("kind") != "Broker":
            wrong.append(f"{name}: sends to no Broker")
        if any("selector" in resource for resource in spec["resources"]):
            wrong.append(f"{name}: an object that leaves a label selector is announced as deleted")
    spec = named(objects, "ApiServerSource", "apiserversource")["spec"]
    kinds = [(resource["apiVersion"], resource["kind"]) for resource in spec["resources"]]
    if sorted(kinds) != [("kubevirt.io/v1", "VirtualMachine"), ("kubevirt.io/v1", "VirtualMachineInstance")]:
        wrong.append("not one watch for each kind")
    configuration = named(objects, "ConfigMap", "vmledger")["data"]
    if spec["ceOverrides"]["extensions"].get("cluster") != configuration["CLUSTER_NAME"]:
        wrong.append("the source stamps another cluster than CLUSTER_NAME")
    return wrong


def seconds(duration: str) -> float:
    """Return the seconds of an ISO 8601 duration such as PT1M30S."""
    found = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", duration)
    assert found, f"{duration} is no duration"
    hours, minutes, rest = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + rest


def window(delivery: Object, *, kafka: bool) -> float:
    """Return the seconds between the first and the last try of a delivery, the tries themselves not counted.

    Sources: pkg/kncloudevents/retries.go of knative/eventing; the Kafka Broker counts its waits from one.
    """
    delay = seconds(delivery["backoffDelay"])
    steps = range(kafka, delivery["retry"] + kafka)
    return delay * sum(step if delivery["backoffPolicy"] == "linear" else 2**step for step in steps)


def to_vmledger(objects: Objects) -> Objects:
    """Return the Triggers that bring VMs to vmledger; what a component adds has its own label."""
    return [
        item
        for item in of_kind(objects, "Trigger")
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "triggers"
    ]


def to_transform(objects: Objects) -> Objects:
    """Return the Triggers whose subscriber is an EventTransform."""
    return [
        item for item in of_kind(objects, "Trigger") if item["spec"]["subscriber"]["ref"]["kind"] == "EventTransform"
    ]


def wrong_retries(objects: Objects) -> list[str]:
    """Deliveries that give up before a failover of the database is over, or multiply where they need not."""
    wrong = []
    for trigger in to_vmledger(objects):
        broker = named(objects, "Broker", trigger["spec"]["broker"])
        kafka = broker["metadata"]["annotations"]["eventing.knative.dev/broker.class"] == "Kafka"
        given = window(trigger["spec"]["delivery"], kafka=kafka)
        if not FAILOVER_SECONDS * 1.2 <= given <= MT_BROKER_SECONDS * 0.6:
            wrong.append(f"Trigger {trigger['metadata']['name']} retries for {given:g} seconds")
    for trigger in to_transform(objects):
        delivery = trigger["spec"]["delivery"]
        if delivery["retry"] != 3:
            wrong.append("the Trigger to the EventTransform needs 3 retries: each repeats all of the second Broker's")
        if seconds(delivery["timeout"]) <= NODE_FETCH_SECONDS:
            wrong.append("the first Broker sends again while the transformer still waits for the second")
    return wrong


def wrong_timeouts(objects: Objects) -> list[str]:
    """Waits that end before the wait that they are for."""
    gunicorn = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
    service = named(objects, "Service", "vmledger", "serving.knative.dev/")["spec"]["template"]["spec"]
    wait = int(named(objects, "ConfigMap", "vmledger")["data"]["DB_TIMEOUT"])
    chain: list[tuple[str, float]] = [
        ("a statement", postgres.STATEMENT_SECONDS),
        ("DB_TIMEOUT", wait),
        # An event may wait that long for its group to be written, and then lead the next group.
        ("a request", 2 * wait - 0.001),
        ("gunicorn's graceful_timeout", gunicorn["graceful_timeout"]),
        ("gunicorn's timeout", gunicorn["timeout"]),
        ("timeoutSeconds of the Service", service["timeoutSeconds"]),
        *(
            (f"the delivery of Trigger {trigger['metadata']['name']}", seconds(trigger["spec"]["delivery"]["timeout"]))
            for trigger in to_vmledger(objects)[:1]
        ),
    ]
    wrong = [
        f"{inner} may take {least:g} seconds, and {outer} ends after {most:g}"
        for (inner, least), (outer, most) in itertools.pairwise(chain)
        if least >= most
    ]
    wrong += [
        f"the delivery of Trigger {trigger['metadata']['name']} ends before the Service's request"
        for trigger in of_kind(objects, "Trigger")
        if trigger["spec"]["subscriber"]["ref"]["name"] == "vmledger"
        and seconds(trigger["spec"]["delivery"].get("timeout", "PT0S")) <= service["timeoutSeconds"]
    ]
    lengths = {trigger["spec"]["delivery"]["timeout"] for trigger in to_vmledger(objects)}
    return wrong + ([] if len(lengths) == 1 else ["the Triggers' timeouts differ"])


def arrivals(objects: Objects, broker: str, attributes: dict[str, str]) -> int:
    """Return how often an event that is sent to a Broker reaches vmledger; a transformer keeps the attributes."""
    count = 0
    for trigger in of_kind(objects, "Trigger"):
        spec = trigger["spec"]
        wanted = spec.get("filter", {}).get("attributes", {})
        if spec["broker"] != broker or not wanted.items() <= attributes.items():
            continue
        ref = spec["subscriber"]["ref"]
        if ref["kind"] == "EventTransform":
            transform = named(objects, "EventTransform", ref["name"])
            count += arrivals(objects, transform["spec"]["sink"]["ref"]["name"], attributes)
        elif ref["name"] == "vmledger" and "uri" not in spec["subscriber"]:
            count += 1
    return count


def wrong_filters(objects: Objects) -> list[str]:
    """Events of the sources that reach vmledger never or twice, that are for nobody there, or that others would get."""
    wrong = []
    for source in of_kind(objects, "ApiServerSource"):
        spec = source["spec"]
        watched = [resource["kind"] for resource in spec["resources"]]
        mode = MODES[spec.get("mode", "Reference")]
        wrong += [f"vmledger has no route for {kind}" for kind in watched if kind not in routing.KINDS]
        for kind, verb in itertools.product([*watched, "Pod"], VERBS):
            attributes = {"type": f"dev.knative.apiserver.{mode}.{verb}", "kind": kind}
            found = arrivals(objects, spec["sink"]["ref"]["name"], attributes)
            # An Event's deletion is its own expiry.
            if found != (kind in watched and (kind, verb) != ("Event", "delete")):
                wrong.append(f"{verb} of {kind} reaches vmledger {found} times")
    for trigger in to_transform(objects):
        if trigger["spec"].get("filter", {}).get("attributes") != {"kind": "VirtualMachine"}:
            wrong.append("the EventTransform gets what its expression would make nothing of")
    return wrong


def unrestricted(objects: Objects) -> list[str]:
    """Containers that Pod Security's "restricted" refuses, or that may write their root file system."""
    wrong = []
    for name, container in containers(objects):
        context = container.get("securityContext", {})
        expected = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        wrong += [f"{name}: {key} is not {value}" for key, value in expected.items() if context.get(key) != value]
        if not container.get("resources", {}).get("requests") or not container["resources"].get("limits", {}):
            wrong.append(f"{name} has no resources")
    return wrong


def refused_by_serving(objects: Objects) -> list[str]:
    """What Serving's webhook refuses, though its CRD takes it (pkg/apis/serving/fieldmask.go, k8s_validation.go)."""
    wrong = []
    for item in services(objects):
        spec = pod(item)
        if spec.get("automountServiceAccountToken"):
            wrong.append(f"{item['metadata']['name']}: automountServiceAccountToken may only be false")
        if "securityContext" in spec or "initContainers" in spec or "volumes" in spec:
            wrong.append(f"{item['metadata']['name']} needs a feature of Serving that is off by default")
        for container in spec["containers"]:
            reserved = {variable["name"] for variable in container.get("env", [])} & RESERVED
            wrong += [f"{item['metadata']['name']}: Serving sets {name}" for name in sorted(reserved)]
            for probe in (container[name] for name in container if name.endswith("Probe")):
                if "port" in probe["httpGet"]:
                    wrong.append(f"{item['metadata']['name']}: Serving chooses the port of a probe")
    return wrong


def secrets(objects: Objects) -> list[str]:
    """Secrets that are in the manifests themselves."""
    wrong = [f"the Secret {item['metadata']['name']} is in the manifests" for item in of_kind(objects, "Secret")]
    for name, container in containers(objects):
        for variable in container.get("env", []):
            if re.search("PASSWORD|TOKEN|SECRET|DATABASE_URL", variable["name"]) and variable.get("value"):
                wrong.append(f"{name} is given {variable['name']} in the manifest")
    for item in of_kind(objects, "ConfigMap"):
        for key in item["data"]:
            if re.search("PASSWORD|TOKEN|DATABASE_URL", key):
                wrong.append(f"the ConfigMap {item['metadata']['name']} holds {key}")
    return wrong


def wrong_scale(objects: Objects) -> list[str]:
    """What would leave no pod, or want more connections than a Postgres gives."""
    service = named(objects, "Service", "vmledger", "serving.knative.dev/")
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    workers = int(named(objects, "ConfigMap", "vmledger")["data"]["WEB_CONCURRENCY"])
    least = int(annotations["autoscaling.knative.dev/min-scale"])
    most = int(annotations["autoscaling.knative.dev/max-scale"])
    wrong = []
    if not 1 <= least <= most:
        wrong.append(f"scale from {least} to {most}")
    jobs = len(of_kind(objects, "Job") + of_kind(objects, "CronJob"))
    measured = any(variable["name"] == "METRICS_PORT" for variable in pod(service)["containers"][0]["env"])
    of_a_pod, pages = workers + measured, _connections_of_pages(objects)
    if (needed := 2 * most * of_a_pod + CONNECTIONS_OF_A_JOB * jobs + pages) > MAX_CONNECTIONS:
        wrong.append(
            f"2 x {most} pods x {of_a_pod} + {CONNECTIONS_OF_A_JOB} x {jobs} Jobs + {pages} of the page are {needed}"
            f" connections, more than {MAX_CONNECTIONS}"
        )
    if service["spec"]["template"]["spec"]["containerConcurrency"] < 1:
        wrong.append("containerConcurrency is not set")
    return wrong


def _connections_of_pages(objects: Objects) -> int:
    """Return the connections of the page's pods, twice while a new one takes over."""
    return sum(
        2 * item["spec"]["replicas"] * int(named(objects, "ConfigMap", "vmledger-page")["data"]["PAGE_WORKERS"])
        for item in of_kind(objects, "Deployment")
        if item["metadata"]["name"] == "vmledger-page"
    )


def wrong_page(objects: Objects) -> list[str]:
    """A page that somebody reaches past the proxy, or that reads as a role that may write."""
    wrong = []
    for item in of_kind(objects, "Deployment"):
        if item["metadata"]["name"] != "vmledger-page":
            continue
        found = {container["name"]: container for container in pod(item)["containers"]}
        given = {variable["name"] for variable in found["page"]["env"]}
        if "ports" in found["page"] or "PAGE_HOST" in given:
            wrong.append("the page listens elsewhere than on the loopback")
        if "proxy" not in found:
            wrong.append("no proxy asks who somebody is")
        elif "--upstream=http://127.0.0.1:8081" not in found["proxy"]["args"]:
            wrong.append("the proxy leads elsewhere than to the page")
        if any("skip-auth" in word or "trusted-ip" in word for word in found.get("proxy", {}).get("args", [])):
            wrong.append("the proxy lets somebody in without asking")
        if given != {f"PAGE_{key.upper()}" for key in SECRET_KEYS}:
            wrong.append(f"the page is given {sorted(given)}")
        [port] = named(objects, "Service", "vmledger-page", "v1")["spec"]["ports"]
        if port["targetPort"] != found.get("proxy", {}).get("ports", [{}])[0].get("name"):
            wrong.append("the Service leads past the proxy")
    return wrong


def wrong_dead_letter(objects: Objects) -> list[str]:
    """A dead letter sink that may not be there, or does not take and show what vmledger refuses."""
    template = named(objects, "Service", "vmledger-dead-letter", "serving.knative.dev/")["spec"]["template"]
    annotations = template.get("metadata", {}).get("annotations", {})
    scale = [annotations.get(f"autoscaling.knative.dev/{end}-scale") for end in ("min", "max")]
    wrong = (
        [] if scale == ["1", "1"] else [f"the dead letter sink scales from {scale[0]} to {scale[1]}: one log, always"]
    )
    for container in template["spec"]["containers"]:
        given = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
        sink = settings.Settings.from_env(given)
        most = settings.Settings.from_env(named(objects, "ConfigMap", "vmledger")["data"]).receiver.max_event_bytes
        if sink.receiver.max_event_bytes <= most:
            wrong.append("the dead letter sink refuses what vmledger refuses for its size")
        if sink.echo.max_bytes < most:
            wrong.append("the dead letter sink cuts what vmledger would take, so it cannot be replayed")
    return wrong


def wrong_probes(objects: Objects) -> list[str]:
    """Services whose pods are sent events before they serve, or are kept when they hang."""
    return [
        f"{item['metadata']['name']} has no {kind} probe at /health/{kind}"
        for item in services(objects)
        for container in item["spec"]["template"]["spec"]["containers"]
        for kind in ("readiness", "liveness")
        if container.get(f"{kind}Probe", {}).get("httpGet", {}).get("path") != f"/health/{kind}"
    ]


def public(objects: Objects) -> list[str]:
    """Services that the world can call."""
    return [
        f"{item['metadata']['name']} is not cluster-local"
        for item in services(objects)
        if item["metadata"].get("labels", {}).get("networking.knative.dev/visibility") != "cluster-local"
    ]


def wrong_images(objects: Objects) -> list[str]:
    """Images that are not pinned, or a migration of another version than the Service."""
    wrong = [
        f"the image {container['image']} of {name} has no version"
        for name, container in containers(objects)
        if not re.search(r":[^/:]*\d[^/:]*$", container["image"])
    ]
    mine = {container["image"] for _, container in ours(objects)}
    return wrong + ([] if len(mine) == 1 else [f"vmledger runs as {sorted(mine)}"])


def wrong_migration(objects: Objects) -> list[str]:
    """A migration that is not the Service's image and database, or that the next version cannot replace."""
    job = named(objects, "Job", "vmledger-migrate")
    service = named(objects, "Service", "vmledger", "serving.knative.dev/")
    [migrate] = job["spec"]["template"]["spec"]["containers"]
    [serve] = service["spec"]["template"]["spec"]["containers"]
    wrong = [
        f"the {key} of the migration is not that of the Service"
        for key in ("image", "env", "envFrom")
        if migrate.get(key) != serve.get(key)
    ]
    if migrate.get("args") != ["python", "-m", "function", "migrate"]:
        wrong.append("the Job does not migrate")
    if job["spec"]["template"]["spec"].get("restartPolicy") not in ("OnFailure", "Never"):
        wrong.append("a Job's pod may not restart for ever")
    if not job["spec"].get("ttlSecondsAfterFinished"):
        wrong.append("a Job that is done stays, and a new image cannot be applied")
    if objects.index(job) > objects.index(service):
        wrong.append("the Service is applied before the migration")
    given = {variable["name"]: variable["valueFrom"]["secretKeyRef"]["key"] for variable in serve["env"]}
    if given != {key.upper(): key for key in SECRET_KEYS}:
        wrong.append(f"the Service reads {given} of the Secret")
    return wrong


def period(schedule: str) -> int:
    """Return the seconds between two starts of a schedule of ours: every so many minutes, every hour or every day."""
    minute, hour, *rest = schedule.split()
    assert rest == ["*"] * 3, schedule
    if hour != "*":
        return 86400
    return 60 * int(minute.partition("/")[2] or 60)


def wrong_schedules(objects: Objects) -> list[str]:
    """CronJobs that are missing, too seldom, twice at once, late, without end or tried again and again."""
    names = {item["metadata"]["name"] for item in of_kind(objects, "CronJob")}
    wrong = [f"there is no CronJob {name}" for name in sorted(JOBS.keys() - names - {"vmledger-health"})]
    for item in of_kind(objects, "CronJob"):
        name, spec, job = item["metadata"]["name"], item["spec"], item["spec"]["jobTemplate"]["spec"]
        every = period(spec["schedule"])
        if every != JOBS[name][0] or spec.get("suspend"):
            wrong.append(f"{name} does not start every {JOBS[name][0]} seconds")
        if spec.get("concurrencyPolicy") != "Forbid":
            wrong.append(f"{name} may run twice at once")
        # Below 10 the controller may never start it: it looks every 10 seconds.
        if not 10 <= spec.get("startingDeadlineSeconds", 0) <= every / 2:
            wrong.append(f"a start of {name} that is late is not left to the next one")
        if not 0 < job.get("activeDeadlineSeconds", 0) < 3 * every:
            wrong.append(f"{name} may hang for three starts")
        if job.get("backoffLimit", 6) > 2 or pod(item).get("restartPolicy") != "Never":
            wrong.append(f"{name} is tried again and again")
    return wrong


def wrong_commands(objects: Objects) -> list[str]:
    """CronJobs that run something else, or elsewhere than the migration; commands that there are not."""
    [migrate] = pod(named(objects, "Job", "vmledger-migrate"))["containers"]
    wrong = []
    for item in of_kind(objects, "CronJob"):
        name = item["metadata"]["name"]
        [container] = pod(item)["containers"]
        wrong += [
            f"the {key} of {name} is not that of the migration"
            for key in ("image", "env", "envFrom", "resources", "securityContext")
            if container.get(key) != migrate.get(key)
        ]
        program, given = container.get("args", [])[:3], container.get("args", [])[3:]
        if (program, given) != (["python", "-m", "function"], JOBS[name][1]):
            wrong.append(f"{name} runs {container.get('args')}")
        try:
            context = command_line.program.make_context("vmledger", [*given])
            name, command, rest = command_line.program.resolve_command(context, [*given])
            assert name is not None
            assert command is not None
            command.make_context(name, rest, parent=context)
        except click.UsageError:
            wrong.append(f"python -m function does not take {given}")
    return wrong


COMMON = (
    dangling,
    outside_the_namespace,
    without_dead_letter,
    unknown_variables,
    unbound_accounts,
    bound_without_token,
    mounted_tokens,
    wrong_rights,
    wrong_rights_of_vmledger,
    wrong_rights_of_the_jobs,
    wrong_source,
    wrong_retries,
    wrong_timeouts,
    wrong_filters,
    unrestricted,
    refused_by_serving,
    secrets,
    wrong_scale,
    wrong_page,
    wrong_dead_letter,
    wrong_probes,
    public,
    wrong_images,
    wrong_schedules,
    wrong_commands,
)
"""Rules that hold with any component too."""
RULES = (*COMMON, wrong_migration)
"""Rules of an overlay as it is."""


def tracked() -> list[pathlib.Path]:
    """Return the project's files under k8s/ that are not ignored by git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "k8s"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    if done.returncode:
        pytest.skip("this is no checkout of git")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).exists()]
