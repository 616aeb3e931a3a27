"""k8s/components/page: a page that nobody reaches without saying who they are."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from function import settings
from function.cli import main as command_line
from tests import manifests

PAGE = manifests.ROOT / "docs" / "page.md"
EXAMPLES = manifests.K8S / "examples" / "page"


def container(objects: manifests.Objects, name: str) -> manifests.Object:
    """A container of the page's pod."""
    deployment = manifests.named(objects, "Deployment", "vmledger-page")
    [found] = [each for each in manifests.pod(deployment)["containers"] if each["name"] == name]
    return dict(found)


def example(name: str) -> str:
    """The overlay that a step of the documents adds to, without its indentation in a list."""
    begin = f"<!-- example: {name} -->\n"
    before, _, rest = PAGE.read_text().partition(begin)
    indent = len(before) - len(before.rstrip(" "))
    lines = rest.partition("```yaml\n")[2].split("```")[0].splitlines()
    return "\n".join(line[indent:] for line in lines)


def overlaid(folder: pathlib.Path, *examples: str) -> manifests.Objects:
    """The objects of the direct overlay with what the documents say to add."""
    manifests.extended(folder, "direct")
    file = folder / "k8s" / "overlays" / "direct" / "kustomization.yaml"
    overlay = yaml.safe_load(file.read_text())
    for name in examples:
        added = yaml.safe_load(example(name))
        overlay["patches"] += added["patches"]
        overlay["components"] = [*overlay.get("components", []), *added.get("components", [])]
    other = folder / "k8s" / "overlays" / "documented"
    other.mkdir()
    (other / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return manifests.render(other)


BREAKS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("no proxy", "Deployment/vmledger-page", lambda o: manifests.pod(o)["containers"].pop()),
    (
        "the proxy leads elsewhere",
        "Deployment/vmledger-page",
        lambda o: manifests.pod(o)["containers"][1].update(args=["--upstream=http://127.0.0.1:8080"]),
    ),
    (
        "a way without a login",
        "Deployment/vmledger-page",
        lambda o: manifests.pod(o)["containers"][1]["args"].append("--skip-auth-route=/"),
    ),
    (
        "the page has a port",
        "Deployment/vmledger-page",
        lambda o: manifests.pod(o)["containers"][0].update(ports=[{"containerPort": 8081}]),
    ),
    (
        "the page listens to all",
        "Deployment/vmledger-page",
        lambda o: manifests.pod(o)["containers"][0]["env"].append({"name": "PAGE_HOST", "value": "0.0.0.0"}),
    ),
    (
        "the Service leads to the page",
        "Service/vmledger-page",
        lambda o: o["spec"]["ports"][0].update(targetPort=8081),
    ),
]


@pytest.mark.parametrize(("what", "change"), [row[1:] for row in BREAKS], ids=[row[0] for row in BREAKS])
def test_a_way_past_the_proxy_is_noticed(what: str, change: Callable[[Any], Any], tmp_path: pathlib.Path) -> None:
    """The component as it is has none."""
    objects = manifests.extended(tmp_path, "direct", "page")
    assert manifests.wrong_page(objects) == []
    change(manifests.named(objects, *what.split("/")))
    assert manifests.wrong_page(objects) != []


def test_the_page_reads_as_its_own_role_and_serves_on_the_loopback(tmp_path: pathlib.Path) -> None:
    """With the settings of the manifests, and another role and password than the function's."""
    objects = manifests.extended(tmp_path, "direct", "page")
    given = {variable["name"]: "5432" for variable in container(objects, "page")["env"]}
    for source in container(objects, "page")["envFrom"]:
        given |= manifests.named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    found = settings.Settings.from_env({**given, "PAGE_DB_USER": "reader"})
    assert found.page.address == "127.0.0.1:8081"
    assert found.page.hosts == ("vmledger.example.com",)
    assert found.page.connection(found.database)["user"] == "reader"


def test_only_the_ingress_controller_reaches_the_pod(tmp_path: pathlib.Path) -> None:
    """And only the proxy's port, which is the only one that the pod has."""
    objects = manifests.extended(tmp_path, "direct", "page")
    policy = manifests.named(objects, "NetworkPolicy", "vmledger-page")["spec"]
    [rule] = policy["ingress"]
    [port] = container(objects, "proxy")["ports"]
    assert [each["port"] for each in rule["ports"]] == [port["containerPort"]]
    assert [list(each) for each in rule["from"]] == [["namespaceSelector"]]
    labels = manifests.named(objects, "Deployment", "vmledger-page")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert manifests.named(objects, "Service", "vmledger-page", "v1")["spec"]["selector"].items() <= labels.items()


def test_the_overlay_of_the_documents_keeps_the_rules(tmp_path: pathlib.Path) -> None:
    """One name in all places: what people type, what the page answers for, and where the issuer sends them back to."""
    objects = overlaid(tmp_path, "overlay")
    assert {rule.__name__: wrong for rule in manifests.COMMON if (wrong := rule(objects))} == {}
    host = manifests.named(objects, "ConfigMap", "vmledger-page")["data"]["PAGE_HOSTS"]
    proxy = manifests.named(objects, "ConfigMap", "vmledger-page-proxy")["data"]
    assert proxy["OAUTH2_PROXY_REDIRECT_URL"] == f"https://{host}/oauth2/callback"


def test_the_variant_for_openshift_is_behind_its_proxy(tmp_path: pathlib.Path) -> None:
    """The page stays on the loopback; the token that the proxy needs is the one thing that is let in."""
    objects = overlaid(tmp_path, "overlay", "openshift")
    allowed = {"mounted_tokens", "unbound_accounts", "dangling"}
    wrong = {rule.__name__: wrong for rule in manifests.COMMON if (wrong := rule(objects))}
    assert wrong.keys() <= allowed, wrong
    proxy = container(objects, "proxy")
    assert "--provider=openshift" in proxy["args"]
    assert "envFrom" not in proxy
    assert proxy["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


@pytest.mark.parametrize("file", ["ingress.yaml", "route.yaml"])
def test_the_ways_in_lead_to_the_service(file: str, tmp_path: pathlib.Path) -> None:
    """By the name that the page answers for, and over TLS."""
    objects = manifests.extended(tmp_path, "direct", "page")
    [port] = manifests.named(objects, "Service", "vmledger-page", "v1")["spec"]["ports"]
    hosts = manifests.named(objects, "ConfigMap", "vmledger-page")["data"]["PAGE_HOSTS"]
    way = yaml.safe_load((EXAMPLES / file).read_text())
    spec = way["spec"]
    assert spec["tls"]
    if way["kind"] == "Route":
        found = (spec["host"], spec["to"]["name"], spec["port"]["targetPort"])
    else:
        [path] = spec["rules"][0]["http"]["paths"]
        found = (
            spec["rules"][0]["host"],
            path["backend"]["service"]["name"],
            path["backend"]["service"]["port"]["name"],
        )
        assert [host for each in spec["tls"] for host in each["hosts"]] == [found[0]]
    assert found == (hosts, "vmledger-page", port["name"])


def test_the_list_of_each_night_is_a_command_that_there_is() -> None:
    """k8s/examples/export renders, and asks for what the command line takes."""
    objects = manifests.render(manifests.K8S / "examples" / "export")
    [found] = manifests.pod(manifests.named(objects, "CronJob", "vmledger-export"))["containers"]
    assert found["args"][:4] == ["python", "-m", "function", "export"]
    context = command_line.program.make_context("vmledger", found["args"][3:])
    name, command, rest = command_line.program.resolve_command(context, found["args"][3:])
    assert command is not None
    assert command.make_context(name, rest, parent=context).params["path"] == "/lists/fleet.xlsx"
    assert manifests.unrestricted(objects) == []
    assert manifests.mounted_tokens(objects) == []
