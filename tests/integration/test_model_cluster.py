"""The model cluster that other tests take for a real one: what they rely on holds."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from function.clients import kubernetes
from function.inventory.mapping import vm_object
from tests import api_server, machines

VMS = "/apis/kubevirt.io/v1/virtualmachines"
EXPAND = "/apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachines/{}/expand-spec"


@pytest.fixture
def api() -> Iterator[api_server.ApiServer]:
    """A cluster with nothing but its identity."""
    with api_server.running() as served:
        yield served


def get(api: api_server.ApiServer, path: str, **query: Any) -> Any:
    """Ask; return the JSON of the answer, of a failure too."""
    asked = f"{api.url}{path}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(asked, headers={"Authorization": f"Bearer {api_server.TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as exc:
        return json.load(exc)


def names(page: Any) -> list[str]:
    """Return namespace/name of each item."""
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in page["items"]]


def test_each_change_has_the_next_revision_of_the_whole_cluster(api: api_server.ApiServer) -> None:
    """Of any kind; a delete has one of its own, and shows the last object."""
    made = api.create(machines.vm())
    instance = api.create(machines.vmi(made.object))
    changed = api.update(kubernetes.VMS, "shop", "web", {"status": {"printableStatus": "Running"}})
    gone = api.delete(kubernetes.VMS, "shop", "web")
    assert changed is not None
    events = (made, instance, changed, gone)
    assert [event.step for event in events] == ["add", "add", "update", "delete"]
    first = int(made.object["metadata"]["resourceVersion"])
    assert [event.object["metadata"]["resourceVersion"] for event in events] == [str(first + n) for n in range(4)]
    assert gone.object["status"] == {"printableStatus": "Running"}
    assert gone.type == "dev.knative.apiserver.resource.delete"
    assert api.objects(kubernetes.VMS) == {}


def test_the_generation_counts_changes_of_the_spec(api: api_server.ApiServer) -> None:
    """Not of metadata and status; and a write of what is there already is no change."""
    api.create(machines.vm())
    generations = []
    for patch in (
        {"status": {"ready": True}},
        {"metadata": {"labels": {"a": "b"}}},
        {"spec": {"runStrategy": "Halted"}},
    ):
        changed = api.update(kubernetes.VMS, "shop", "web", patch)
        assert changed is not None
        generations.append(changed.object["metadata"]["generation"])
        revision = api.revision
        assert api.update(kubernetes.VMS, "shop", "web", patch) is None
        assert api.revision == revision
    assert generations == [1, 1, 2]


def test_an_object_that_was_given_out_is_nobodys_to_change(api: api_server.ApiServer) -> None:
    """The cluster keeps its own."""
    given = machines.vm()
    made = api.create(given)
    given["spec"].clear()
    made.object["spec"].clear()
    api.get(kubernetes.VMS, "shop", "web")["spec"].clear()
    assert api.get(kubernetes.VMS, "shop", "web")["spec"]["runStrategy"] == "Always"


def test_the_same_name_again_is_another_object(api: api_server.ApiServer) -> None:
    """Two at a time cannot be."""
    first = api.create(machines.vm())
    with pytest.raises(ValueError, match="already exists"):
        api.create(machines.vm())
    api.delete(kubernetes.VMS, "shop", "web")
    again = api.create(machines.vm())
    assert again.object["metadata"]["uid"] != first.object["metadata"]["uid"]
    with pytest.raises(KeyError):
        api.delete(kubernetes.VMS, "shop", "other")


def test_a_list_is_in_the_order_of_etcds_keys(api: api_server.ApiServer) -> None:
    """Where a-b/x comes before a/x."""
    for namespace, name in (("b", "x"), ("a", "x"), ("a-b", "x"), ("a", "b")):
        api.create(machines.vm(name, namespace))
    assert names(get(api, VMS)) == ["a-b/x", "a/b", "a/x", "b/x"]
    assert names(get(api, "/apis/kubevirt.io/v1/namespaces/a/virtualmachines")) == ["a/b", "a/x"]


def test_a_list_goes_on_at_its_own_revision(api: api_server.ApiServer) -> None:
    """Which its token holds, and what it showed then."""
    api.seed(machines.vm(f"web-{number}") for number in range(5))
    first = get(api, VMS, limit=2)
    version = str(api.revision)
    assert first["metadata"] == {
        "resourceVersion": version,
        "continue": first["metadata"]["continue"],
        "remainingItemCount": 3,
    }
    api.delete(kubernetes.VMS, "shop", "web-2")
    api.create(machines.vm("web-9"))
    second = get(api, VMS, limit=2, **{"continue": first["metadata"]["continue"]})
    third = get(api, VMS, limit=2, **{"continue": second["metadata"]["continue"]})
    assert names(second) + names(third) == ["shop/web-2", "shop/web-3", "shop/web-4"]
    assert third["metadata"] == {"resourceVersion": version}
    assert names(get(api, VMS)) == ["shop/web-0", "shop/web-1", "shop/web-3", "shop/web-4", "shop/web-9"]


def test_a_list_that_is_too_old_offers_the_rest_as_it_is_now(api: api_server.ApiServer) -> None:
    """At another revision: who goes on with that token has no whole list."""
    api.seed(machines.vm(f"web-{number}") for number in range(4))
    token = get(api, VMS, limit=2)["metadata"]["continue"]
    api.delete(kubernetes.VMS, "shop", "web-3")
    api.compact()
    gone = get(api, VMS, limit=2, **{"continue": token})
    assert (gone["kind"], gone["code"], gone["reason"]) == ("Status", 410, "Expired")
    rest = get(api, VMS, limit=2, **{"continue": gone["metadata"]["continue"]})
    assert (names(rest), rest["metadata"]) == (["shop/web-2"], {"resourceVersion": str(api.revision)})


@pytest.mark.parametrize(
    "token", ["x", base64.urlsafe_b64encode(b"7").decode(), base64.urlsafe_b64encode(b"{}").decode()]
)
def test_a_token_that_is_none_is_refused(token: str, api: api_server.ApiServer) -> None:
    """As is one beside a resourceVersion."""
    assert get(api, VMS, **{"continue": token})["code"] == 400
    api.seed(machines.vm(f"web-{number}") for number in range(4))
    token = get(api, VMS, limit=2)["metadata"]["continue"]
    assert get(api, VMS, resourceVersion="1", **{"continue": token})["code"] == 400


def test_a_cluster_that_is_restored_counts_from_lower_again(api: api_server.ApiServer) -> None:
    """The same revisions come again with other objects; the identity stays; lists under way expire."""
    identity = api.uid
    api.create(machines.vm("kept"))
    saved = api.backup()
    lost = api.create(machines.vm("lost"))
    api.update(kubernetes.VMS, "shop", "kept", {"spec": {"runStrategy": "Halted"}})
    token = get(api, VMS, limit=1)["metadata"]["continue"]
    api.rewind(saved)
    assert [key[1] for key in api.objects(kubernetes.VMS)] == ["kept"]
    assert api.get(kubernetes.VMS, "shop", "kept")["spec"]["runStrategy"] == "Always"
    assert get(api, VMS, **{"continue": token})["code"] == 410
    again = api.create(machines.vm("again"))
    assert again.object["metadata"]["resourceVersion"] == lost.object["metadata"]["resourceVersion"]
    assert api.uid == identity


def test_a_fault_befalls_its_page_and_no_other(api: api_server.ApiServer) -> None:
    """Counted for its resource; two faults do not count each other's pages."""
    api.create(machines.vm())
    api.fail_after(2, 503, of=kubernetes.VMS)
    api.expire_after(1, of=kubernetes.VMS)
    get(api, "/apis/kubevirt.io/v1/virtualmachineinstances")
    assert [get(api, VMS).get("code", 200) for _ in range(5)] == [200, 410, 200, 503, 200]
    api.fail_after(0, 500)
    api.calm()
    assert names(get(api, VMS)) == ["shop/web"]


def test_an_instancetype_is_expanded_from_its_revision(api: api_server.ApiServer) -> None:
    """Else from the instancetype as it is; a VM without one stays as it is."""
    api.create(machines.revision("kept", cpus=6, memory="12Gi"))
    api.create(machines.vm("now", instancetype="u1.large"))
    api.create(machines.vm("then", instancetype="u1.large"))
    api.update(kubernetes.VMS, "shop", "then", machines.revised("kept"))
    api.create(machines.vm("plain", cores=3, memory="1Gi"))
    found = {}
    for name in ("now", "then", "plain"):
        domain = get(api, EXPAND.format(name))["spec"]["template"]["spec"]["domain"]
        found[name] = (domain["cpu"]["cores"] * domain["cpu"]["sockets"], domain["memory"]["guest"])
    assert found == {"now": (2, "8Gi"), "then": (6, "12Gi"), "plain": (3, "1Gi")}
    assert get(api, EXPAND.format("gone"))["code"] == 404


def test_an_api_server_comes_back_with_its_objects(api: api_server.ApiServer) -> None:
    """On the same port; while it is away nobody answers."""
    api.create(machines.vm())
    port = api.port
    api.stop()
    with pytest.raises(OSError, match="refused"):
        get(api, VMS)
    api.start()
    assert (api.port, names(get(api, VMS))) == (port, ["shop/web"])


def test_a_stranger_is_told_nothing(api: api_server.ApiServer) -> None:
    """Without the token."""
    api.create(machines.vm())
    api.tokens.clear()
    assert get(api, VMS)["code"] == 401


def test_a_fleet_is_of_real_size_and_all_different() -> None:
    """Within a tenth; the ledger reads each."""
    fleet = list(machines.fleet(40))
    sizes = [len(json.dumps(each, separators=(",", ":"))) for each in fleet]
    assert all(abs(size - 6000) < 600 for size in sizes)
    assert len({(each["metadata"]["namespace"], each["metadata"]["name"]) for each in fleet}) == 40
    facts = [vm_object.facts(each) for each in fleet]
    assert {(each["vcpus"], each["memory_bytes"]) for each in facts[:2]} == {(1, 2**30), (2, 2 * 2**30)}
    assert {each["status"] for each in facts} == {"Running", "Stopped"}
