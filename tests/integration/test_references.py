"""Events of mode Reference: the object is read from the API, over real HTTP, as it is now."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from function import settings, wiring
from function.clients import kubernetes
from tests import api_server, machines

Query = Callable[..., list[tuple[Any, ...]]]
REFERENCE = "dev.knative.apiserver.ref."


@pytest.fixture
def api() -> Iterator[api_server.ApiServer]:
    """The cluster."""
    with api_server.running() as started:
        yield started


@pytest.fixture
def post(api: api_server.ApiServer, url: str, tmp_path: pathlib.Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Send an event of mode Reference to the function; return the status, and the sentence where there is one."""
    environ = {"DATABASE_URL": url, "KUBECONFIG": api.kubeconfig(tmp_path), "CLUSTERS": "west"}
    configuration = settings.Settings.from_env(environ)
    built = wiring.Service(configuration)

    def send(
        step: str, second: int | None, *, kind: str = "VirtualMachine", cluster: str = "", **named: Any
    ) -> tuple[int, str]:
        event = {"specversion": "1.0", "id": f"{step}{second}", "source": "s", "type": f"{REFERENCE}{step}"}
        if cluster:
            event["cluster"] = cluster
        data = {"apiVersion": "kubevirt.io/v1", "kind": kind, "namespace": "shop", "name": "web", **named}
        if second is not None:
            event["time"] = f"2036-11-22T10:00:{second:02d}Z"
        return answer(built, {**event, "datacontenttype": "application/json", "data": data})

    yield send
    built.close()


def answer(built: wiring.Service, event: dict[str, Any]) -> tuple[int, str]:
    """Send a structured event; return the status, and the sentence where there is one."""
    response = built.app.test_client().post("/", data=json.dumps(event), content_type="application/cloudevents+json")
    return response.status_code, json.loads(response.data)["error"] if response.data else ""


def test_the_object_is_stored_as_it_is_now(
    api: api_server.ApiServer, post: Callable[..., tuple[int, str]], query: Query
) -> None:
    """Once, whatever the events that told of it."""
    api.create(machines.vm("web", cores=2))
    changed = api.update(kubernetes.VMS, "shop", "web", {"status": {"printableStatus": "Running"}})
    assert changed is not None
    for step, second in (("add", 1), ("update", 2), ("update", 3)):
        assert post(step, second) == (204, "")
    version = int(changed.object["metadata"]["resourceVersion"])
    assert query("SELECT name, status, resource_version FROM virtual_machines") == [("web", "Running", version)]
    assert query("SELECT count(*) FROM vm_history") == [(1,)]


@pytest.mark.parametrize("step", ["delete", "update"])
def test_what_is_not_there_is_deleted(
    step: str, api: api_server.ApiServer, post: Callable[..., tuple[int, str]], query: Query
) -> None:
    """By the event's time; what was known of it stays on the tombstone."""
    api.create(machines.vm("web", cores=2))
    post("add", 1)
    api.delete(kubernetes.VMS, "shop", "web")
    assert post(step, 5) == (204, "")
    assert query("SELECT count(*) FROM virtual_machines") == [(0,)]
    assert query("SELECT type, cpucores, deleted_at::text FROM vm_state") == [
        (f"{REFERENCE}delete", 2, "2036-11-22 10:00:05+00")
    ]


def test_an_object_of_another_cluster_is_not_looked_for_here(
    api: api_server.ApiServer, post: Callable[..., tuple[int, str]], query: Query
) -> None:
    """One of that name may be here; it is another."""
    api.create(machines.vm("web"))
    status, sentence = post("add", 1, cluster="west")
    assert status == 422
    assert "of the cluster 'west', and the Kubernetes API here is that of 'default'" in sentence
    status, sentence = post("add", 1, cluster="north")
    assert (status, "CLUSTERS" in sentence) == (422, True)
    assert post("update", 2, cluster="default")[0] == 204
    assert query("SELECT cluster, name FROM vm_state") == [("default", "web")]


def test_an_older_reference_to_what_is_gone_changes_nothing(
    api: api_server.ApiServer, post: Callable[..., tuple[int, str]], query: Query
) -> None:
    """What is known is from a later event, so it is of a VM that was made after the one that is gone."""
    api.create(machines.vm("web"))
    post("add", 9)
    api.delete(kubernetes.VMS, "shop", "web")
    assert post("delete", 5) == (204, "")
    assert query("SELECT count(*) FROM virtual_machines") == [(1,)]
    assert query("SELECT count(*) FROM vm_history") == [(2,)]


def test_a_delete_of_what_was_made_again_stores_what_is_there(
    api: api_server.ApiServer, post: Callable[..., tuple[int, str]], query: Query
) -> None:
    """The API is asked, not the event."""
    api.create(machines.vm("web", uid="one"))
    post("add", 1)
    api.delete(kubernetes.VMS, "shop", "web")
    api.create(machines.vm("web", uid="two"))
    assert post("delete", 5) == (204, "")
    assert query("SELECT uid FROM virtual_machines") == [("two",)]


def test_a_gone_vm_that_nobody_knew_is_a_tombstone(post: Callable[..., tuple[int, str]], query: Query) -> None:
    """So that it is not raised by what comes late without a version."""
    assert post("delete", 5) == (204, "")
    assert query("SELECT name, deleted_at IS NOT NULL FROM vm_state") == [("web", True)]


def test_instances_are_read_too(api: api_server.ApiServer, post: Callable[..., tuple[int, str]], query: Query) -> None:
    """And gone as machines are."""
    made = api.create(machines.vm("web"))
    api.create(machines.vmi(made.object, node="node-1"))
    post("add", 1)
    assert post("add", 2, kind="VirtualMachineInstance") == (204, "")
    assert query("SELECT node FROM virtual_machines") == [("node-1",)]
    api.delete(kubernetes.VMIS, "shop", "web")
    assert post("delete", 3, kind="VirtualMachineInstance") == (204, "")
    assert query("SELECT node, phase FROM virtual_machines") == [("node-1", "Gone")]
    assert post("delete", 4, kind="VirtualMachineInstance", name="unknown") == (204, "")


def test_nothing_is_stored_while_the_api_does_not_answer(
    api: api_server.ApiServer, post: Callable[..., tuple[int, str]], query: Query
) -> None:
    """The event is to be sent again."""
    api.create(machines.vm("web"))
    api.forbidden.add(("get", "virtualmachines"))
    status, sentence = post("add", 1)
    assert status == 422
    assert "virtualmachines" in sentence
    api.forbidden.clear()
    api.stop()
    status, sentence = post("add", 1)
    assert status == 503
    assert query("SELECT count(*) FROM vm_history") == [(0,)]


@pytest.mark.parametrize(
    ("named", "problem"),
    [({"name": ""}, "has no name"), ({"namespace": 3}, "has no namespace"), ({"name": "A_b"}, "no such names")],
)
def test_what_names_nothing_is_refused(
    named: dict[str, Any], problem: str, post: Callable[..., tuple[int, str]]
) -> None:
    """With a sentence, and without asking."""
    status, sentence = post("add", 1, **named)
    assert status in (400, 422)
    assert problem in sentence


def test_without_access_it_is_refused_for_good(url: str) -> None:
    """The sentence says what to set."""
    built = wiring.Service(settings.Settings.from_env({"DATABASE_URL": url}))
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": f"{REFERENCE}add", "kind": "VirtualMachine"}
    status, sentence = answer(built, {**event, "data": {"namespace": "shop", "name": "web"}})
    built.close()
    assert status == 422
    assert "mode: Resource" in sentence
