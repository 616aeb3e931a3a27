"""The door to the Kubernetes API."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from function import config, errors, kube
from tests import cluster

kubernetes, servers = cluster.kubernetes, cluster.servers

MANY = """
import sys, threading
from function import config, kube
api = kube.Kube(config.Settings.from_env({"KUBECONFIG": sys.argv[1]}))
start, found = threading.Barrier(16), []
def read(number):
    start.wait()
    for resource, name in ((kube.SECRETS, "hook"), (kube.HPAS, "cart"), (kube.HPAS, "gone"))[number % 3 :] * 3:
        found.append(api.get(resource, namespace="shop", name=name) is not None)
threads = [threading.Thread(target=read, args=[number]) for number in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
api.close()
print(len(found), sum(found))
"""


@pytest.fixture
def api(kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> kube.Kube:
    """The door to a Kubernetes API with nothing in it."""
    return kube.Kube(config.Settings.from_env({"KUBECONFIG": kubernetes.kubeconfig(tmp_path)}))


def test_many_threads_may_read_their_first_objects_at_once(kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """Also ones that are not there; typed objects crashed the process in one of three runs."""
    kubernetes.hpa()
    kubernetes.secret(url="x")
    root = pathlib.Path(kube.__file__).parent.parent
    for _ in range(5):
        command = [sys.executable, "-c", MANY, kubernetes.kubeconfig(tmp_path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "99 51\n"), done.stderr


@pytest.mark.parametrize("name", ["../secrets/hook", "a/b", "", "A", "a" * 254, "a?watch=1", "a%2fb", "a\n"])
def test_a_name_that_no_object_has_is_not_asked_for(name: str, api: kube.Kube, kubernetes: cluster.Cluster) -> None:
    """It could lead elsewhere in the API."""
    for place in ({"namespace": "shop", "name": name}, {"namespace": name, "name": "cart"}):
        with pytest.raises(errors.Refused):
            api.get(kube.HPAS, **place)
    assert kubernetes.reads == []


def test_an_import_of_the_door_does_not_import_the_client() -> None:
    """A start that does not need it does not pay for it; nor for requests."""
    code = "import sys, function.service; print([name for name in ('lightkube', 'requests') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_state_is_that_of_the_last_reading(api: kube.Kube, kubernetes: cluster.Cluster) -> None:
    """Readiness asks nobody."""
    assert api.state() == "not used yet"
    api.get(kube.HPAS, namespace="shop", name="cart")
    assert api.state() == "ok"
    kubernetes.failures["horizontal"] = 500
    with pytest.raises(errors.Unavailable) as caught:
        api.get(kube.HPAS, namespace="shop", name="cart")
    assert api.state() == str(caught.value)
    api.close()


@pytest.mark.parametrize("says", ["{}", '{"status": null}', "[]", "hunter2", ""])
def test_a_plugin_that_gives_no_token_is_unavailable(
    says: str, kubernetes: cluster.Cluster, tmp_path: pathlib.Path
) -> None:
    """Whatever it says, and without its words."""
    file = pathlib.Path(kubernetes.kubeconfig(tmp_path))
    document = json.loads(file.read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "echo", "args": [says]}
    document["users"][0]["user"] = {"exec": plugin}
    file.write_text(json.dumps(document))
    api = kube.Kube(config.Settings.from_env({"KUBECONFIG": str(file)}))
    with pytest.raises(errors.Unavailable) as caught:
        api.get(kube.HPAS, namespace="shop", name="cart")
    api.close()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["10.96.0.1", "fd00::1", "127.0.0.1"])
def test_in_a_cluster_the_service_accounts_files_are_used(host: str, tmp_path: pathlib.Path) -> None:
    """Address, certificate and token; without them the API cannot be used, and the sentence says so."""
    settings = config.Settings.from_env({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"})
    missing = kube.Kube(settings, service_account=str(tmp_path))
    with pytest.raises(errors.Unavailable, match="token and certificate"):
        missing.get(kube.HPAS, namespace="shop", name="cart")
    import certifi

    (tmp_path / "ca.crt").write_text(pathlib.Path(certifi.where()).read_text())
    found = kube.Kube(settings, service_account=str(tmp_path))
    assert found.address() == (host, 6443)
    with pytest.raises(errors.Unavailable, match="token and certificate"):
        found.get(kube.HPAS, namespace="shop", name="cart")
    found.close()
