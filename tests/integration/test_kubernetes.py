"""The door to the Kubernetes API."""

from __future__ import annotations

import gc
import itertools
import json
import pathlib
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from function import errors, settings
from function.clients import kubernetes as kube
from function.clients import list_pages
from tests import api_server as model
from tests import cluster, machines

kubernetes, servers = cluster.kubernetes, cluster.servers

MANY = """
import sys, threading
from function import settings
from function.clients import kubernetes as kube
api = kube.Kube(settings.Settings.from_env({"KUBECONFIG": sys.argv[1]}).kubernetes)
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

LISTS = """
import sys, threading
from function import settings
from function.clients import kubernetes as kube
api = kube.Kube(settings.Settings.from_env({"KUBECONFIG": sys.argv[1]}).kubernetes)
start, found = threading.Barrier(8), []
def read(number):
    start.wait()
    for page in api.pages((kube.VMS, kube.CONTROLLER_REVISIONS)[number % 2], limit=7):
        found.extend(page.items)
    found.append(api.expand("shop", "web-0"))
threads = [threading.Thread(target=read, args=[number]) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
api.close()
print(len(found))
"""

MEMORY = """
import sys, tracemalloc
from function import settings
from function.clients import kubernetes as kube
api = kube.Kube(settings.Settings.from_env({"KUBECONFIG": sys.argv[1]}).kubernetes)
api.cluster_uid()
tracemalloc.start()
count = sum(len(page.items) for page in api.pages(kube.VMS))
print(count, tracemalloc.get_traced_memory()[1])
"""

NOT_A_PAGE: dict[str, tuple[Callable[[Any], object], str]] = {
    "no version": (lambda page: page["metadata"].pop("resourceVersion"), "resourceVersion that is a number"),
    "null as version": (lambda page: page["metadata"].update(resourceVersion=None), "resourceVersion that is a number"),
    "an empty version": (lambda page: page["metadata"].update(resourceVersion=""), "resourceVersion that is a number"),
    "no number": (lambda page: page["metadata"].update(resourceVersion="1e3"), "resourceVersion that is a number"),
    "a sign": (lambda page: page["metadata"].update(resourceVersion="-1"), "resourceVersion that is a number"),
    "other digits": (lambda page: page["metadata"].update(resourceVersion="١٢"), "resourceVersion that is a number"),
    "a JSON number": (lambda page: page["metadata"].update(resourceVersion=1010), "resourceVersion that is a number"),
    "too large": (lambda page: page["metadata"].update(resourceVersion=str(2**63)), "resourceVersion that is a number"),
    "the largest": (
        lambda page: page["metadata"].update(resourceVersion=str(2**63 - 1)),
        "number of a plausible size",
    ),
    "no version at all": (lambda page: page["metadata"].update(resourceVersion="0"), "number of a plausible size"),
    "another version": (lambda page: page["metadata"].update(resourceVersion="999"), "changed its resourceVersion"),
    "no metadata": (lambda page: page.pop("metadata"), "has no metadata"),
    "another kind": (lambda page: page.update(kind="PodList"), "is not a VirtualMachineList"),
    "a Status": (lambda page: page.update(kind="Status", code=410), "is not a VirtualMachineList"),
    "no items": (lambda page: page.pop("items"), "has no items"),
    "null as items": (lambda page: page.update(items=None), "has no items"),
    "an item that is text": (lambda page: page["items"].append("web"), "has no items"),
    "a token that is not text": (lambda page: page["metadata"].update({"continue": 7}), "continue token"),
    "an object of another kind": (lambda page: page["items"][0].update(kind="Pod"), "an object of another kind"),
    "an object of another group": (
        lambda page: page["items"][0].update(apiVersion="example.com/v1"),
        "an object of another kind",
    ),
    "an object without metadata": (lambda page: page["items"][0].pop("metadata"), "an object without a name"),
    "an object without a name": (lambda page: page["items"][0]["metadata"].pop("name"), "an object without a name"),
    "an object twice": (lambda page: page["items"].append(page["items"][0]), "holds an object twice"),
    "an object of the page before": (
        lambda page: page["items"][0]["metadata"].update(name="web-0"),
        "holds an object twice",
    ),
    "an early end": (lambda page: page["metadata"].pop("continue"), "ends with 4 objects missing"),
}
"""What may be wrong with the second of three pages of a list of 12, and what the sentence says."""


@pytest.fixture(scope="module")
def served() -> Iterator[model.ApiServer]:
    """A model cluster, up for the whole module."""
    with model.running() as server:
        yield server


@pytest.fixture
def shop(served: model.ApiServer) -> Iterator[model.ApiServer]:
    """The model cluster with 12 VMs and a ControllerRevision; nothing is wrong with it."""
    empty = served.backup()
    served.seed(machines.vm(f"web-{number}") for number in range(12))
    served.create(machines.revision("web-0-u1.large"))
    served.calls.clear()
    yield served
    served.calm()
    served.rewind(empty)


@pytest.fixture
def door(shop: model.ApiServer, tmp_path: pathlib.Path) -> Iterator[kube.Kube]:
    """The door to it; it does not wait before it asks once more."""
    opened = kube.Kube(settings.Settings.from_env({"KUBECONFIG": shop.kubeconfig(tmp_path)}).kubernetes, pause=0)
    yield opened
    opened.close()


@pytest.fixture
def api(kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> kube.Kube:
    """The door to a Kubernetes API with nothing in it."""
    return kube.Kube(settings.Settings.from_env({"KUBECONFIG": kubernetes.kubeconfig(tmp_path)}).kubernetes)


def test_many_threads_may_read_their_first_objects_at_once(kubernetes: cluster.Cluster, tmp_path: pathlib.Path) -> None:
    """Also ones that are not there; typed objects crashed the process in one of three runs."""
    kubernetes.hpa()
    kubernetes.secret(url="x")
    root = pathlib.Path(kube.__file__).parents[2]
    for _ in range(5):
        command = [sys.executable, "-c", MANY, kubernetes.kubeconfig(tmp_path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "99 51\n"), done.stderr


@pytest.mark.parametrize("name", ["../secrets/hook", "a/b", "", "A", "a" * 254, "a?watch=1", "a%2fb", "a\n"])
def test_a_name_that_no_object_has_is_not_asked_for(name: str, api: kube.Kube, kubernetes: cluster.Cluster) -> None:
    """It could lead elsewhere in the API."""
    for place in ({"namespace": "shop", "name": name}, {"namespace": name, "name": "cart"}):
        with pytest.raises(errors.Refused):
            api.get(kube.HPAS, **place)  # type: ignore[arg-type]  # as names are
    assert kubernetes.reads == []


def test_an_import_of_the_door_does_not_import_the_client() -> None:
    """A start that does not need it does not pay for it."""
    names = "'lightkube', 'httpcore2', 'httpx2', 'yaml'"
    code = f"import sys, function.wiring; print([name for name in ({names}) if name in sys.modules])"
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
    api = kube.Kube(settings.Settings.from_env({"KUBECONFIG": str(file)}).kubernetes)
    with pytest.raises(errors.Unavailable) as caught:
        api.get(kube.HPAS, namespace="shop", name="cart")
    api.close()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["10.96.0.1", "fd00::1", "127.0.0.1"])
def test_in_a_cluster_the_service_accounts_files_are_used(host: str, tmp_path: pathlib.Path) -> None:
    """Address, certificate and token; without them the API cannot be used, and the sentence says so."""
    configuration = settings.Settings.from_env({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"})
    missing = kube.Kube(configuration.kubernetes, service_account=str(tmp_path))
    with pytest.raises(errors.Unavailable, match="token and certificate"):
        missing.get(kube.HPAS, namespace="shop", name="cart")
    import certifi

    (tmp_path / "ca.crt").write_text(pathlib.Path(certifi.where()).read_text())
    found = kube.Kube(configuration.kubernetes, service_account=str(tmp_path))
    assert found.address() == (host, 6443)
    with pytest.raises(errors.Unavailable, match="token and certificate"):
        found.get(kube.HPAS, namespace="shop", name="cart")
    found.close()


def names(pages: Iterator[kube.Page]) -> list[str]:
    """Take every page; return the names."""
    return [item["metadata"]["name"] for page in pages for item in page.items]


def run(code: str, *arguments: str) -> str:
    """Run code in a process of its own; return what it printed."""
    root = pathlib.Path(kube.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_list_comes_in_pages_of_one_version(door: kube.Kube, shop: model.ApiServer) -> None:
    """Every object once, whole; and how many are to come."""
    pages = list(door.pages(kube.VMS, limit=5))
    assert [(len(page.items), page.resource_version, page.remaining) for page in pages] == [
        (5, shop.revision, 7),
        (5, shop.revision, 2),
        (2, shop.revision, None),
    ]
    found = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for page in pages for item in page.items}
    assert found == shop.objects(kube.VMS)
    assert {type(item) for page in pages for item in page.items} == {dict}


def test_the_first_page_is_a_consistent_read(door: kube.Kube, shop: model.ApiServer) -> None:
    """Without resourceVersion the API reads from etcd, not from a cache; a continue token goes alone with the limit."""
    list(door.pages(kube.VMS, limit=6))
    first, second = shop.calls
    assert first == "/apis/kubevirt.io/v1/virtualmachines?limit=6"
    assert second.startswith("/apis/kubevirt.io/v1/virtualmachines?limit=6&continue=")


def test_a_page_is_asked_for_when_it_is_wanted(door: kube.Kube, shop: model.ApiServer) -> None:
    """Nothing is read ahead."""
    pages = door.pages(kube.VMS, limit=5)
    asked = [len(shop.calls)]
    for _ in pages:
        asked.append(len(shop.calls))
    assert asked == [0, 1, 2, 3]


def test_a_page_that_the_caller_let_go_is_gone_before_the_next_comes(door: kube.Kube, shop: model.ApiServer) -> None:
    """So the caller decides how many are held at a time."""
    pages = door.pages(kube.VMS, limit=5)
    page = next(pages)
    let_go, held = weakref.ref(page), []
    del page
    shop.on_page(lambda _: held.append(let_go()))
    next(pages)
    assert held == [None]


def test_a_list_of_nothing_is_one_page(door: kube.Kube, shop: model.ApiServer) -> None:
    """With its version: an empty cluster is a fact."""
    assert list(door.pages(kube.VMIS)) == [kube.Page([], shop.revision, None)]


def test_objects_of_a_built_in_kind_lack_their_kind_in_a_list(door: kube.Kube, shop: model.ApiServer) -> None:
    """As the API sends them; a get has it."""
    [page] = door.pages(kube.CONTROLLER_REVISIONS)
    found = door.get(kube.CONTROLLER_REVISIONS, namespace="shop", name="web-0-u1.large")
    assert found is not None
    assert [{"apiVersion": "apps/v1", "kind": "ControllerRevision", **item} for item in page.items] == [found]


def test_a_list_shows_one_moment(door: kube.Kube, shop: model.ApiServer) -> None:
    """Whatever lives, changes and dies while it runs."""
    before = sorted(shop.objects(kube.VMS).items(), key=lambda entry: entry[0])

    def change(_: kube.Object) -> None:
        for victim in list(shop.objects(kube.VMS))[-2:]:
            shop.delete(kube.VMS, *victim)
        shop.create(machines.vm(f"new-{shop.revision}"))
        for namespace, name in shop.objects(kube.VMS):
            shop.update(kube.VMS, namespace, name, {"metadata": {"labels": {"at": str(shop.revision)}}})

    shop.on_page(change)
    listed = [item for page in door.pages(kube.VMS, limit=5) for item in page.items]
    assert sorted(((item["metadata"]["namespace"], item["metadata"]["name"]), item) for item in listed) == before
    assert len(shop.objects(kube.VMS)) != len(before)


def test_a_list_that_expires_midway_is_no_list(door: kube.Kube, shop: model.ApiServer) -> None:
    """It is not carried on with the token that the 410 offers, which would skip and repeat objects."""
    shop.expire_after(1)
    pages = door.pages(kube.VMS, limit=5)
    next(pages)
    with pytest.raises(errors.ListExpired, match="list of virtualmachines expire before it was read to its end"):
        next(pages)
    assert len(shop.calls) == 2
    assert issubclass(errors.ListExpired, errors.Unavailable)
    assert list(pages) == []
    assert len(names(door.pages(kube.VMS, limit=5))) == 12


def test_a_list_that_the_api_compacted_away_expires(door: kube.Kube, shop: model.ApiServer) -> None:
    """The API server keeps five minutes."""
    pages = door.pages(kube.VMS, limit=5)
    next(pages)
    shop.create(machines.vm("late"))
    shop.compact()
    with pytest.raises(errors.ListExpired):
        next(pages)


@pytest.mark.parametrize("wrong", NOT_A_PAGE)
def test_a_page_that_is_damaged_ends_the_list(wrong: str, door: kube.Kube, shop: model.ApiServer) -> None:
    """In a sentence that says how; a short list would be taken for deletions."""
    damage, sentence = NOT_A_PAGE[wrong]
    shop.spoil_after(1, damage)
    pages = door.pages(kube.VMS, limit=4)
    next(pages)
    with pytest.raises(errors.Unavailable, match=sentence) as caught:
        next(pages)
    assert door.state() == str(caught.value)


@pytest.mark.parametrize("many", ["empty pages", "sparse pages", "objects"])
def test_a_list_that_does_not_come_to_an_end_ends(
    many: str, door: kube.Kube, shop: model.ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page has a token that was never there before, and nothing, or objects that were never there before."""
    monkeypatch.setattr(list_pages, "MOST_OBJECTS", 200)
    count = itertools.count()

    def go_on(page: Any) -> None:
        number = next(count)
        page["metadata"] |= {"continue": f"token-{number}", "remainingItemCount": 7, "resourceVersion": "1000"}
        objects = {"empty pages": 0, "sparse pages": 1, "objects": 5}[many]
        page["items"] = [machines.vm(f"vm-{number}-{each}") for each in range(objects)]

    monkeypatch.setattr(shop, "answer", lambda *_: made(go_on))
    pages = list[kube.Page]()
    with pytest.raises(errors.Unavailable, match="list of virtualmachines does not come to an end"):
        pages.extend(door.pages(kube.VMS, limit=5))
    assert len(pages) == {"objects": 40}.get(many, list_pages.MOST_SPARSE)


def made(change: Callable[[Any], object]) -> model.Reply:
    """Return a page that somebody makes up."""
    page: Any = {"kind": "VirtualMachineList", "metadata": {}}
    change(page)
    return model.Reply(200, json.dumps(page).encode())


def test_pages_that_are_too_long_are_asked_for_with_fewer_objects(
    door: kube.Kube, shop: model.ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until they are short enough, for the rest of the list too; the list is the same."""
    caplog.set_level("INFO", kube.log.name)
    shop.seed(machines.fleet(30, size=6000))
    monkeypatch.setattr(kube, "PAGE_BYTES", 50_000)
    pages = list(door.pages(kube.VMS, limit=500))
    assert {(each["metadata"]["namespace"], each["metadata"]["name"]) for page in pages for each in page.items} == set(
        shop.objects(kube.VMS)
    )
    assert max(len(page.items) for page in pages) == 7
    assert len([call for call in shop.calls if "limit=500" in call]) == 1
    assert [message for message in caplog.messages if "too long" in message] == [
        "a page of virtualmachines is too long: it is requested with fewer objects"
    ] * 3


@pytest.mark.parametrize("compress", [True, False])
def test_an_object_that_is_too_long_ends_the_list(
    compress: bool, door: kube.Kube, shop: model.ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing smaller to ask for; packed or not."""
    shop.compress = compress
    shop.create(machines.vm("large", labels={"text": "x" * 200_000}))
    monkeypatch.setattr(kube, "PAGE_BYTES", 50_000)
    with pytest.raises(errors.Unavailable, match="it gave an answer that is too long"):
        names(door.pages(kube.VMS, limit=5))
    shop.compress = True


def test_a_list_that_does_not_go_on_ends(door: kube.Kube, shop: model.ApiServer) -> None:
    """The same token again would be read for ever."""
    first: list[str] = []

    def repeat(page: Any) -> None:
        first.append(page["metadata"]["continue"])
        page["metadata"]["continue"] = first[0]

    shop.spoil_after(0, repeat, times=2)
    with pytest.raises(errors.Unavailable, match="does not go on"):
        names(door.pages(kube.VMS, limit=2))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"<html>hunter2</html>", b'{"items": "\xff"}', b"[" * 5000, b'"\\ud800"']
)
def test_a_body_that_is_no_list_is_unavailable(body: bytes, door: kube.Kube, shop: model.ApiServer) -> None:
    """Without its words."""
    shop.replace_after(1, model.Reply(200, body))
    with pytest.raises(errors.Unavailable) as caught:
        names(door.pages(kube.VMS, limit=4))
    assert "hunter2" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["metadata", "items", "a"]), inner),
)
METADATA = st.fixed_dictionaries(
    {}, optional={"resourceVersion": JSON | st.just("1015"), "continue": JSON, "remainingItemCount": JSON}
)


@hypothesis.given(
    page=JSON
    | st.fixed_dictionaries({"kind": st.just("VirtualMachineList"), "metadata": METADATA | JSON, "items": JSON})
)
def test_any_page_gives_objects_or_a_sentence(page: Any, door: kube.Kube, shop: model.ApiServer) -> None:
    """And no other error."""
    shop.calm()
    shop.replace_after(0, model.Reply(200, json.dumps(page).encode()))
    shop.fail_after(0, 400)
    try:
        assert all(isinstance(item, dict) for found in door.pages(kube.VMS) for item in found.items)
    except errors.VmledgerError as exc:
        assert "\n" not in str(exc)  # both outcomes are right


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_page_that_fails_in_passing_is_asked_for_once_more(
    status: int, door: kube.Kube, shop: model.ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: a list is not held up by an API server that restarts, nor does it hang on one that is down."""
    caplog.set_level("INFO", kube.log.name)
    shop.fail_after(1, status)
    assert len(names(door.pages(kube.VMS, limit=5))) == 12
    assert shop.calls[1] == shop.calls[2]
    assert caplog.messages == ["a page of virtualmachines is requested once more"]
    shop.fail_after(1, status, times=2)
    with pytest.raises(errors.Unavailable, match=f"answered {status} to the reading of virtualmachines"):
        names(door.pages(kube.VMS, limit=5))
    assert len(shop.calls) == 4 + 3


@pytest.mark.parametrize("status", [204, 302, 400, 405, 409, 422])
def test_a_page_that_fails_for_good_is_not(status: int, door: kube.Kube, shop: model.ApiServer) -> None:
    """It would fail again."""
    shop.fail_after(1, status)
    with pytest.raises(errors.Unavailable, match=str(status)):
        names(door.pages(kube.VMS, limit=5))
    assert len(shop.calls) == 2


def test_the_api_says_how_long_to_wait(door: kube.Kube, shop: model.ApiServer) -> None:
    """In Retry-After; what is not a number of seconds is not waited for."""
    for said, least, most in ((1, 1.0, 5.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0, 5.0), (-3, 0.0, 5.0)):
        shop.fail_after(0, 429, retry_after=said)
        began = time.monotonic()
        assert len(names(door.pages(kube.VMS))) == 12
        assert least <= time.monotonic() - began < most


def test_the_wait_has_an_end(door: kube.Kube, shop: model.ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the API asks for."""
    assert kube.LONGEST_PAUSE == 10
    monkeypatch.setattr(kube, "LONGEST_PAUSE", 0.1)
    shop.fail_after(0, 503, retry_after=3600)
    began = time.monotonic()
    assert len(names(door.pages(kube.VMS))) == 12
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("compress", [True, False])
def test_a_page_that_is_cut_off_is_not_taken(compress: bool, door: kube.Kube, shop: model.ApiServer) -> None:
    """It is asked for once more; cut off again, the list fails. Half of a gzipped page as well."""
    shop.compress = compress
    shop.seed(machines.fleet(60, size=6000))
    shop.cut_after(1)
    assert len(names(door.pages(kube.VMS, limit=30))) == 72
    shop.cut_after(1, times=2)
    with pytest.raises(errors.Unavailable, match="no usable answer now"):
        names(door.pages(kube.VMS, limit=30))
    shop.cut_after(1, times=2, announced=False)
    with pytest.raises(errors.Unavailable, match="no usable answer now"):
        names(door.pages(kube.VMS, limit=30))
    shop.compress = True


def test_an_api_server_that_restarts_is_waited_for(door: kube.Kube, shop: model.ApiServer) -> None:
    """The connection that was kept is gone; a server that stays away is unavailable."""
    pages = door.pages(kube.VMS, limit=5)
    next(pages)
    shop.stop()
    shop.start()
    assert len(names(pages)) == 7
    pages = door.pages(kube.VMS, limit=5)
    next(pages)
    shop.stop()
    try:
        with pytest.raises(errors.Unavailable, match="no usable answer now"):
            next(pages)
    finally:
        shop.start()


@pytest.mark.parametrize("slow", ["delay", "drip"])
def test_a_page_has_an_end(slow: str, door: kube.Kube, shop: model.ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of which a little comes now and then."""
    monkeypatch.setattr(kube, "PAGE_SECONDS", 0.5)
    pages = door.pages(kube.VMS, limit=5)
    next(pages)
    setattr(shop, slow, {"delay": 2, "drip": 0.2}[slow])
    began = time.monotonic()
    with pytest.raises(errors.Unavailable, match="did not answer in time"):
        next(pages)
    assert time.monotonic() - began < 3


def test_an_object_has_an_end_too(door: kube.Kube, shop: model.ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which a little comes now and then."""
    monkeypatch.setattr(kube, "ANSWER_SECONDS", 0.5)
    shop.drip = 0.2
    with pytest.raises(errors.Unavailable, match="did not answer in time"):
        door.cluster_uid()


def test_a_list_that_is_forbidden_names_the_right_that_lacks(door: kube.Kube, shop: model.ApiServer) -> None:
    """To the person who writes the Role."""
    shop.forbidden.add(("list", "virtualmachines"))
    with pytest.raises(errors.Refused, match=r"needs a ClusterRole with the verb list on virtualmachines$"):
        names(door.pages(kube.VMS))
    assert len(shop.calls) == 1


def test_a_resource_that_is_not_installed_is_no_empty_list(door: kube.Kube, shop: model.ApiServer) -> None:
    """Every VM would be taken for gone."""
    shop.absent.add("virtualmachines")
    with pytest.raises(errors.Refused, match=r"has no virtualmachines of kubevirt.io/v1: they are not installed"):
        names(door.pages(kube.VMS))


def test_a_token_that_is_not_taken_is_unavailable(shop: model.ApiServer, tmp_path: pathlib.Path) -> None:
    """And not shown."""
    other = kube.Kube(settings.Settings.from_env({"KUBECONFIG": shop.kubeconfig(tmp_path, token="hunter2")}).kubernetes)
    with pytest.raises(errors.Unavailable, match=r"token \(401\)") as caught:
        names(other.pages(kube.VMS))
    other.close()
    assert "hunter2" not in str(caught.value)


def test_the_collector_runs_again_after_a_list(door: kube.Kube, shop: model.ApiServer) -> None:
    """Also after a page that is damaged; one that was off stays off."""
    shop.replace_after(1, model.Reply(200, b"{"))
    with pytest.raises(errors.Unavailable):
        names(door.pages(kube.VMS, limit=4))
    assert gc.isenabled()
    gc.disable()
    try:
        names(door.pages(kube.VMS))
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("resource", [kube.VMS, kube.VMIS, kube.CONTROLLER_REVISIONS])
def test_an_object_of_any_resource_is_read(resource: kube.Resource, door: kube.Kube, shop: model.ApiServer) -> None:
    """Or None where there is none."""
    machine = shop.get(kube.VMS, "shop", "web-1")
    shop.create(machines.vmi(machine))
    name = {kube.CONTROLLER_REVISIONS: "web-0-u1.large"}.get(resource, "web-1")
    assert door.get(resource, namespace="shop", name=name) == shop.get(resource, "shop", name)
    assert door.get(resource, namespace="shop", name="gone") is None


def test_the_cluster_is_known_by_its_uid(door: kube.Kube, shop: model.ApiServer) -> None:
    """Of namespace kube-system, which no backup changes."""
    assert door.cluster_uid() == shop.uid
    assert shop.calls == ["/api/v1/namespaces/kube-system"]


def test_an_object_of_the_cluster_is_in_no_namespace(door: kube.Kube, shop: model.ApiServer) -> None:
    """Whatever the caller says."""
    found = door.get(kube.NAMESPACES, name="kube-system", namespace="shop")
    assert found == shop.get(kube.NAMESPACES, "", "kube-system")


@pytest.mark.parametrize("metadata", [None, {"uid": None}, {"uid": ""}, {"uid": 7}])
def test_a_cluster_without_identity_is_unavailable(metadata: Any, door: kube.Kube, shop: model.ApiServer) -> None:
    """Nobody may guess which cluster it is."""
    if metadata is None:
        shop.delete(kube.NAMESPACES, "", "kube-system")
    else:
        shop.update(kube.NAMESPACES, "", "kube-system", {"metadata": metadata})
    with pytest.raises(errors.Unavailable, match="no namespace kube-system with a uid"):
        door.cluster_uid()


def test_the_identity_that_is_forbidden_names_the_right_that_lacks(door: kube.Kube, shop: model.ApiServer) -> None:
    """Which a ClusterRole alone can give."""
    shop.forbidden.add(("get", "namespaces"))
    with pytest.raises(errors.Refused, match=r"the whole cluster: .* needs a ClusterRole with the verb get on names"):
        door.cluster_uid()


@pytest.mark.parametrize("said", ["another object", "no object", "a page", "a proxy"])
def test_a_404_that_is_not_about_the_object_does_not_say_that_it_is_gone(
    said: str, door: kube.Kube, shop: model.ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is not served, or somebody else's 404; a delete would follow from it."""
    status = {"kind": "Status", "reason": "NotFound", "code": 404, "details": {"name": "web-1"}}
    body: dict[str, bytes] = {
        "another object": json.dumps(status).encode(),
        "no object": json.dumps({**status, "details": {}}).encode(),
        "a page": b"404 page not found\n",
        "a proxy": b'{"error": "no route"}',
    }
    monkeypatch.setattr(shop, "answer", lambda *_: model.Reply(404, body[said]))
    with pytest.raises(errors.Unavailable, match="answered 404 to the reading of virtualmachines web-0, and not about"):
        door.get(kube.VMS, namespace="shop", name="web-0", surely=True)
    assert door.get(kube.VMS, namespace="shop", name="web-0") is None


def test_a_vm_is_expanded(door: kube.Kube, shop: model.ApiServer) -> None:
    """By what KubeVirt keeps of its instancetype."""
    shop.create(machines.vm("typed", instancetype="u1.large"))
    shop.update(kube.VMS, "shop", "typed", machines.revised("web-0-u1.large"))
    found = door.expand("shop", "typed")
    assert found is not None
    assert found["spec"]["template"]["spec"]["domain"]["cpu"]["sockets"] == 2
    assert "instancetype" not in found["spec"]
    assert door.expand("shop", "gone") is None


def test_an_expansion_that_is_forbidden_names_the_right_that_lacks(door: kube.Kube, shop: model.ApiServer) -> None:
    """A subresource is a resource of its own to a Role."""
    shop.forbidden.add(("get", "virtualmachines/expand-spec"))
    with pytest.raises(errors.Refused, match=r"verb get on virtualmachines/expand-spec$"):
        door.expand("shop", "web-0")


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b", "a?b"])
def test_a_vm_that_cannot_be_is_not_expanded(name: str, door: kube.Kube, shop: model.ApiServer) -> None:
    """The name could lead elsewhere in the API."""
    for place in ((name, "web-0"), ("shop", name)):
        with pytest.raises(errors.Refused, match=r"a VirtualMachine .* cannot exist"):
            door.expand(*place)
    assert shop.calls == []


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b"{", b"<html>"])
def test_an_object_that_is_none_is_unavailable(body: bytes, kubernetes: cluster.Cluster, api: kube.Kube) -> None:
    """Nothing else may pass for one."""
    kubernetes.server.clear()
    kubernetes.server.expect_request(cluster.any_path()).respond_with_data(body, content_type="application/json")
    with pytest.raises(errors.Unavailable):
        api.get(kube.VMS, namespace="shop", name="web")


def test_many_threads_may_list_at_once(shop: model.ApiServer, tmp_path: pathlib.Path) -> None:
    """As their first use of the client."""
    for _ in range(3):
        assert run(LISTS, shop.kubeconfig(tmp_path)) == f"{4 * 12 + 4 * 1 + 8}\n"


def test_memory_does_not_grow_with_the_list(shop: model.ApiServer, tmp_path: pathlib.Path) -> None:
    """5,000 VMs of 6 kB take what 1,000 take: the page at hand and the one before it."""
    peaks = []
    for start, count in ((0, 1000), (1000, 4000)):
        shop.seed(machines.fleet(count, start=start))
        found, peak = map(int, run(MEMORY, shop.kubeconfig(tmp_path)).split())
        assert found == start + count + 12
        peaks.append(peak)
    assert peaks[1] < peaks[0] * 1.1
    assert peaks[1] < 60e6
