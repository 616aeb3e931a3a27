"""A VM's page: what it is and from where, its story, how and where it ran; also once it is gone."""

from __future__ import annotations

import datetime
import html
import re
import urllib.parse
from collections.abc import Iterator

import flask.testing
import pytest

from function.page import wording
from tests import conftest, page
from tests.integration import test_past
from tests.integration.test_past import ADD, DELETE, UPDATE, machine, running

Client = flask.testing.FlaskClient
HERE = "/vm/east/team/a"


@pytest.fixture
def ask(url: str) -> Iterator[Client]:
    """A client of the page over a fresh database."""
    client = page.client(url)
    yield client
    page.close(client)


def facts(reply: page.Reply) -> dict[str, tuple[str, str]]:
    """Value and source of each fact."""
    return {name: (value, source) for name, value, source in page.rows(reply)}


def text(reply: page.Reply) -> str:
    """The page as it was sent."""
    return reply.get_data(as_text=True)


def story(reply: page.Reply) -> list[str]:
    """The kinds of the changes, in the order of the page."""
    return re.findall(r'<li class="what-(\w+)">', reply.get_data(as_text=True))


def at(hour: float) -> str:
    """The query string for an hour of the past."""
    moment = test_past.START + hour * test_past.HOUR
    return f"?at={moment:%Y-%m-%dT%H:%M:%S}"


def test_each_number_says_where_it_comes_from(ask: Client, url: str) -> None:
    """From the spec, the running instance or the instancetype."""
    page.store(url, machine(ADD, 1, 0, cores=2), running(ADD, 2, 1, "n1"))
    page.store(url, machine(ADD, 3, 0, name="b", cores=None), running(ADD, 4, 1, "n1", name="b"))
    page.store(url, machine(ADD, 5, 0, name="c", cores=None))
    conftest.execute(url, "UPDATE vm_state SET instancetype_vcpus = 6 WHERE name = 'c'")
    own = facts(ask.get(HERE))
    assert own["vCPUs"] == (
        "2",
        "the VM's spec: 2 cores \N{MULTIPLICATION SIGN} 1 sockets \N{MULTIPLICATION SIGN} 1 threads",
    )
    assert own["Memory"] == ("1 GiB", "the VM's spec: 1Gi")
    assert own["Node"] == ("n1", "the instance")
    instance = facts(ask.get("/vm/east/team/b"))["vCPUs"]
    assert (instance[0], instance[1].partition(",")[0]) == ("4", "the instance")
    sized = facts(ask.get("/vm/east/team/c"))["vCPUs"]
    assert sized[0] == "6"
    assert sized[1].startswith("the instancetype ")


def test_the_story_is_told_newest_first_with_old_and_new_side_by_side(ask: Client, url: str) -> None:
    """Starts, moves, deletes and re-creations."""
    page.store(url, machine(ADD, 1, 0, cores=1), running(ADD, 2, 1, "n1"), running(UPDATE, 3, 2, "n2"))
    page.store(url, machine(UPDATE, 4, 3, cores=4), running(DELETE, 5, 4, "n2"), machine(DELETE, 6, 5))
    page.store(url, machine(ADD, 7, 6, uid="u2", cores=1))
    reply = ask.get(HERE)
    assert story(reply) == ["recreated", "deleted", "stopped", "changed", "moved", "started", "appeared"]
    shown = page.text(reply)
    assert "cores 1 4" in shown
    assert "node n1 n2" in shown


def test_a_deleted_vm_has_its_page_as_it_was_last(ask: Client, url: str) -> None:
    """With the facts that the delete did not carry, and where it ran last."""
    page.store(url, machine(ADD, 1, 0, cores=2), running(ADD, 2, 1, "n1"), running(DELETE, 3, 2, "n1"))
    page.store(url, machine(DELETE, 4, 3, cores=8))
    reply = ask.get(HERE)
    assert reply.status_code == 200
    assert "This VM was deleted at 2026-11-01 03:00:00" in page.text(reply)
    known = facts(reply)
    assert (known["vCPUs"][0], known["Node"]) == ("2", ("n1", "the instance; the last one known"))


def test_what_was_never_there_is_not_found(ask: Client, url: str) -> None:
    """Nor what was not there yet at the time; with a sentence."""
    page.store(url, machine(ADD, 1, 5))
    for address in ("/vm/east/team/b", "/vm/west/team/a", HERE + at(4)):
        reply = ask.get(address)
        assert (reply.status_code, reply.content_type) == (404, "text/html; charset=utf-8")
        assert "There is nothing under this address in the ledger." in page.text(reply)
    assert ask.get(HERE + at(6)).status_code == 200


def test_the_page_shows_the_past(ask: Client, url: str) -> None:
    """The facts, the story and the nodes of then, as virtual_machines_at has them."""
    page.store(url, machine(ADD, 1, 0, cores=1), running(ADD, 2, 1, "n1"), running(UPDATE, 3, 20, "n2"))
    page.store(url, machine(UPDATE, 4, 30, cores=4), machine(DELETE, 5, 40), machine(ADD, 6, 50, uid="u2", cores=3))
    reply = ask.get(HERE + at(25))
    known = facts(reply)
    assert (known["vCPUs"][0], known["Node"][0]) == ("1", "n2")
    assert story(reply) == ["moved", "started", "appeared"]
    assert "This is the past" in page.text(reply)
    assert "was deleted" in page.text(ask.get(HERE + at(45)))
    assert facts(ask.get(HERE + at(45)))["vCPUs"][0] == "4"
    for hour in (0, 10, 25, 35, 60):
        moment = test_past.START + hour * test_past.HOUR
        [(vcpus, node, phase)] = conftest.execute(
            url, "SELECT vcpus, node, phase FROM virtual_machines_at(%s)", [moment]
        )
        known = facts(ask.get(HERE + at(hour)))
        assert [known[name][0] for name in ("vCPUs", "Node", "Phase")] == [
            str(vcpus),
            node or wording.UNKNOWN,
            phase or wording.UNKNOWN,
        ]


def test_the_nodes_are_told_with_their_times(ask: Client, url: str) -> None:
    """The newest first; the one on which it runs is still there."""
    page.store(
        url, machine(ADD, 1, 0), running(ADD, 2, 1, "n1"), running(UPDATE, 3, 2, "n2"), running(DELETE, 4, 3, "n2")
    )
    page.store(url, running(ADD, 5, 4, "n1"))
    stays = page.rows(ask.get(HERE), 2)
    assert stays == [
        ["n1", "2026-11-01 04:00:00", "still there"],
        ["n2", "2026-11-01 02:00:00", "2026-11-01 03:00:00"],
        ["n1", "2026-11-01 01:00:00", "2026-11-01 02:00:00"],
    ]


def test_the_strip_has_its_spans_as_a_table(ask: Client, url: str) -> None:
    """For readers of text; what was before the VM is no span of the strip."""
    page.store(url, machine(ADD, 1, 0), running(ADD, 2, 24, "n1"), running(DELETE, 3, 48, "n1"), machine(DELETE, 4, 72))
    reply = ask.get(HERE + at(96))
    begin = test_past.START + 96 * test_past.HOUR - datetime.timedelta(days=30)
    assert page.rows(reply, 1) == [
        ["Deleted", "2026-11-04 00:00:00", "2026-11-05 00:00:00"],
        ["Not running", "2026-11-03 00:00:00", "2026-11-04 00:00:00"],
        ["Running", "2026-11-02 00:00:00", "2026-11-03 00:00:00"],
        ["Unknown", "2026-11-01 00:00:00", "2026-11-02 00:00:00"],
        ["Not there yet", f"{begin:%Y-%m-%d %H:%M:%S}", "2026-11-01 00:00:00"],
    ]
    assert len(re.findall(r"<rect ", reply.get_data(as_text=True))) == 3


def test_each_link_to_what_is_near_finds_the_vm_itself(ask: Client, url: str) -> None:
    """Node, instancetype, namespace and labels are filters of the fleet."""
    labelled = machine(ADD, 1, 0, cores=None)
    page.store(url, labelled, running(ADD, 2, 1, "n1"))
    conftest.execute(url, """UPDATE vm_state SET labels = '{"app": "shop", "say": "two words", "q": "a=b&c"}'""")
    near = re.search(r'<ul class="near">(.*?)</ul>', ask.get(HERE).get_data(as_text=True), re.DOTALL)
    assert near is not None
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', near[1])]
    assert len(links) == 5
    for link in links:
        assert [row[0] for row in page.rows(ask.get(link))] == ["a"], link


def test_vms_of_the_same_owner_are_a_link_away(ask: Client, url: str) -> None:
    """Those that its pool owns, now and as they were; not those of another pool, of nobody, or of another namespace."""
    owners = [{"kind": "VirtualMachinePool", "name": "web", "uid": "pool", "controller": True}]
    pool = {"ownerReferences": owners}
    store = [machine(ADD, 1, 0, said=pool), machine(ADD, 2, 1, name="b", said=pool), machine(ADD, 3, 1, name="c")]
    other = {"ownerReferences": [{**owners[0], "name": "other"}]}
    page.store(url, *store, machine(ADD, 4, 1, name="d", said=other), machine(UPDATE, 5, 9, name="b", said=other))
    page.store(url, machine(ADD, 6, 1, name="e", said={**pool, "namespace": "elsewhere"}))
    for moment, expected in (("", ["a"]), (at(5), ["a", "b"])):
        reply = ask.get(HERE + moment)
        assert facts(reply)["Owner"] == ("VirtualMachinePool/web", "the VM's owner references")
        found = re.search(r'<a href="([^"]*)"><span class="place">owner</span> VirtualMachinePool/web</a>', text(reply))
        assert found is not None
        assert [row[0] for row in page.rows(ask.get(html.unescape(found[1])))] == expected


def test_a_vm_that_nothing_owns_has_no_such_link(ask: Client, url: str) -> None:
    """And a dash where its owner would be."""
    page.store(url, machine(ADD, 1, 0))
    reply = ask.get(HERE)
    assert facts(reply)["Owner"] == (wording.UNKNOWN, "")
    assert '<span class="place">owner</span>' not in text(reply)


def test_a_change_of_the_owner_is_in_the_story(ask: Client, url: str) -> None:
    """With old and new."""
    owners = [{"kind": "VirtualMachinePool", "name": "web", "uid": "pool", "controller": True}]
    page.store(url, machine(ADD, 1, 0, said={"ownerReferences": owners}), machine(UPDATE, 2, 1))
    shown = ask.get(HERE)
    assert story(shown) == ["changed", "appeared"]
    assert f"owner VirtualMachinePool/web {wording.UNKNOWN}" in page.text(shown)


def test_a_hostile_name_is_text(ask: Client, url: str) -> None:
    """In its own page, in the links to it and in what changed."""
    name = "<script>alert(1)</script>/../?#%41 javascript:x"
    page.store(url, machine(ADD, 1, 0, name=name), running(ADD, 2, 1, "<b>", name=name))
    reply = ask.get(f"/vm/east/team/{urllib.parse.quote(name, safe='')}")
    assert reply.status_code == 200
    assert "<script>alert" not in reply.get_data(as_text=True)
    assert "<b>" not in reply.get_data(as_text=True)
    link = re.search(r'href="(/vm/[^"]*)"', ask.get("/changes").get_data(as_text=True))
    assert link is not None
    assert ask.get(html.unescape(link[1])).status_code == 200


def test_a_long_story_has_pages(ask: Client, url: str) -> None:
    """By key: all changes are shown once, and no page says so twice."""
    page.store(url, *(machine(UPDATE, version, version / 10, cores=version) for version in range(1, 131)))
    address, seen = HERE, list[str]()
    while address:
        text = ask.get(address).get_data(as_text=True)
        seen += re.findall(r'<p class="when"><time datetime="([^"]*)"', text)
        following = re.search(r'<a href="(\?[^"]*)" rel="next"', text)
        address = HERE + html.unescape(following[1]) if following else ""
    assert len(seen) == 130
    assert seen == sorted(set(seen), reverse=True)
