"""What the layouts make of a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from function.lists import ansible, ledger, machine, membership, rvtools, table

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
names = st.one_of(texts, st.sampled_from(["a", "a.b", "b", "b.c", "%2E", "A", "~"]))


def one(**known: Any) -> machine.Machine:
    """A machine of which no more is known than this."""
    named = {"type": "t", "id": "1", "kind": "VirtualMachine", "cluster": "east", "namespace": "shop", "name": "db-1"}
    return machine.decoder.decode(msgspec.json.encode({**named, **known}))


def vinfo(**known: Any) -> dict[str, Any]:
    """Its row in RVTools' shape."""
    return dict(rvtools.layout(deleted=False).members(one(**known)))


def test_the_columns_that_others_rely_on_are_there_under_their_exact_names() -> None:
    """The 16 of RvToolsMerge, and the two without which migration-planner takes no row."""
    assert len(rvtools.MANDATORY) == 16
    assert {*rvtools.MANDATORY, "VM ID", "VM"} <= set(rvtools.COLUMNS)
    assert len(set(rvtools.COLUMNS)) == len(rvtools.COLUMNS)


def test_what_is_not_known_is_empty_and_never_0() -> None:
    """A machine of which only a flat event was received; what KubeVirt does not have is empty too."""
    known = {"VM", "Template", "SRM Placeholder", "Folder", "Cluster", "VM ID"}
    assert {name for name, cell in vinfo().items() if cell is not None} == known
    assert vinfo(vcpus=2)["In Use MiB"] is None


def test_sizes_are_whole_mib() -> None:
    """As RVTools has them, so that sums over both agree."""
    row = vinfo(memory_bytes=8 << 30, disk_bytes=60 << 30, vcpus=4, disks=2)
    assert (row["Memory"], row["Provisioned MiB"], row["Total disk capacity MiB"]) == (8192, 61440, 61440)
    assert (row["CPUs"], row["Disks"]) == (4, 2)
    assert vinfo(memory_bytes=1_000_000_000)["Memory"] == 954


def test_networks_and_addresses_have_columns_of_their_own() -> None:
    """The first address is the primary one; a ninth network has no column, and counts."""
    row = vinfo(network="default,net/a", ip_addresses=["10.0.0.1", "fe80::1"])
    assert [row[f"Network #{number}"] for number in (1, 2, 3)] == ["default", "net/a", None]
    assert (row["NICs"], row["Primary IP Address"]) == (2, "10.0.0.1")
    assert vinfo(network=",".join("abcdefghi"))["NICs"] == 9


def test_a_time_is_as_rvtools_writes_it() -> None:
    """In UTC; a time for which Python has no value stays as Postgres writes it."""
    assert vinfo(created_at="2026-11-27T09:30:01.5+00:00")["Creation date"] == "2026/11/27 09:30:01"
    assert vinfo(created_at="12026-11-27T09:30:01+00:00")["Creation date"] == "12026-11-27T09:30:01+00:00"
    deleted = rvtools.layout(deleted=True).members(one(deleted_at="2026-11-27T09:30:01+00:00"))
    assert (deleted["Powerstate"], deleted[rvtools.DELETED]) == ("poweredOff", "2026/11/27 09:30:01")


@pytest.mark.parametrize(
    ("status", "phase", "expected"),
    [
        ("Running", "Running", "poweredOn"),
        ("Running", None, "poweredOn"),
        ("Migrating", "Running", "poweredOn"),
        ("Paused", "Running", "suspended"),
        ("Stopped", "Gone", "poweredOff"),
        ("Stopping", "Running", "poweredOn"),
        ("Terminating", "Gone", "poweredOff"),
        ("Starting", "Scheduling", "poweredOff"),
        ("Provisioning", None, "poweredOff"),
        ("Starting", "Running", "poweredOn"),
        (None, "Running", "poweredOn"),
        (None, "Succeeded", "poweredOff"),
        ("Unknown", None, None),
        ("Stopping", None, None),
        (None, "Unknown", None),
        (None, None, None),
    ],
)
def test_the_powerstate_is_one_of_vspheres_words(status: str | None, phase: str | None, expected: str | None) -> None:
    """The status says it, else the phase of the running instance; else it is not known."""
    assert vinfo(status=status, phase=phase)["Powerstate"] == expected


def test_the_ledgers_columns_are_those_of_the_row() -> None:
    """Labels are JSON and addresses are joined in a cell; in JSON they stay what they are."""
    shown = one(labels={"app": "web"}, ip_addresses=["10.0.0.1", "10.0.0.2"])
    layout = ledger.layout(deleted=False)
    cells = dict(zip(layout.columns, layout.cells(shown), strict=True))
    assert (cells["labels"], cells["ip_addresses"]) == ('{"app":"web"}', "10.0.0.1,10.0.0.2")
    assert msgspec.json.decode(msgspec.json.encode(layout.members(shown)))["labels"] == {"app": "web"}
    assert "deleted_at" not in layout.columns
    assert ledger.layout(deleted=True).columns[-1] == "deleted_at"
    assert dict(zip(layout.columns, layout.cells(one()), strict=True))["labels"] is None


def test_a_time_that_python_has_no_value_for_is_none() -> None:
    """Postgres' calendar is longer."""
    assert table.moment("infinity") is None


@hypothesis.given(st.lists(st.tuples(names, names, names), min_size=2, max_size=2, unique=True))
def test_any_two_machines_have_different_host_names(keys: list[tuple[str, str, str]]) -> None:
    """And the name leads back to the machine, which --host needs."""
    hosts = [ansible.host(one(cluster=cluster, namespace=space, name=name)) for cluster, space, name in keys]
    assert len(set(hosts)) == 2
    assert [ansible.key(host) for host in hosts] == keys
    assert all(re.fullmatch(r"[A-Za-z0-9._%-]+", host) for host in hosts)


def test_a_usual_host_name_can_be_read() -> None:
    """NAME.NAMESPACE.CLUSTER; the dots of a cluster stay."""
    assert ansible.host(one(cluster="east.example.com")) == "db-1.shop.east.example.com"
    assert ansible.key("localhost") is None
    assert ansible.key("%00.a.b") is None


def test_a_host_has_the_columns_that_are_known_as_variables() -> None:
    """The first address is where Ansible connects to; without one there is no ansible_host."""
    found = ansible.variables(one(vcpus=4, ip_addresses=["10.0.0.1", "fe80::1"], labels={"app": "web"}))
    assert found == {
        "ansible_host": "10.0.0.1",
        "vm_name": "db-1",
        "vm_namespace": "shop",
        "vm_cluster": "east",
        "vm_vcpus": 4,
        "vm_ip_addresses": ["10.0.0.1", "fe80::1"],
        "vm_labels": {"app": "web"},
    }
    assert "ansible_host" not in ansible.variables(one())


def test_a_text_that_ansible_would_evaluate_is_marked() -> None:
    """Also inside of lists and labels; a label whose key could be Ansible's own word is left out."""
    run = "{{ lookup('pipe', 'id') }}"
    labels = {"app": run, "__ansible_vault": "x", "{{ x }}": "y"}
    found = ansible.variables(one(guest_os=run, ip_addresses=[run], labels=labels))
    unsafe = {"__ansible_unsafe": run}
    assert (found["vm_guest_os"], found["ansible_host"], found["vm_ip_addresses"]) == (unsafe, unsafe, [unsafe])
    assert found["vm_labels"] == {"app": unsafe}
    assert run not in msgspec.json.encode(found).decode().replace(f'{{"__ansible_unsafe":"{run}"}}', "")


def test_the_groups_are_by_cluster_namespace_system_and_label() -> None:
    """With letters, digits and underscores only, which is all that Ansible takes without a warning."""
    shown = one(guest_os="Fedora Linux 41", os="fedora", labels={"app.kubernetes.io/name": "web", "n": 1})
    assert [name for name, _ in ansible.groups(shown)] == [
        "cluster_east",
        "namespace_shop",
        "os_Fedora_Linux_41",
        "label_app_kubernetes_io_name_web",
    ]
    assert [name for name, _ in ansible.groups(one(os="rhel9"))][-1] == "os_rhel9"


def joined(machines: list[machine.Machine]) -> Iterator[tuple[str, str, list[str]]]:
    """The groups of some machines as they are written, with what each is made of."""
    members = membership.Membership()
    for each in machines:
        members.add((*group, ansible.host(each)) for group in ansible.groups(each))
    for name, origin, shared, hosts in members.groups():
        yield ansible.marked(name, origin, shared=shared), origin, list(hosts)
    members.close()


def test_groups_whose_names_would_be_the_same_are_kept_apart() -> None:
    """Both get a mark that is always the same for the same label; the others keep their plain names."""
    machines = [one(name="a", labels={"app": "x-y"}), one(name="b", labels={"app": "x.y"}), one(name="c")]
    found = {name: hosts for name, _, hosts in joined(machines)}
    assert found["cluster_east"] == ["a.shop.east", "b.shop.east", "c.shop.east"]
    marked = sorted(name for name in found if name.startswith("label"))
    assert [bool(re.fullmatch(r"label_app_x_y_[0-9a-f]{12}", name)) for name in marked] == [True, True]
    assert sorted(found[name] for name in marked) == [["a.shop.east"], ["b.shop.east"]]


@hypothesis.given(st.lists(st.dictionaries(st.sampled_from(["a", "a_b", "a.b"]), texts, max_size=3), max_size=6))
def test_any_labels_give_groups_that_are_valid_and_different(labels: list[dict[str, str]]) -> None:
    """One for each label that a machine has, with just the machines that have it."""
    machines = [one(name=f"m{number}", labels=each) for number, each in enumerate(labels)]
    groups = list(joined(machines))
    assert len({name for name, _, _ in groups}) == len(groups)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name, _, _ in groups)
    expected: dict[str, list[str]] = {}
    for each in machines:
        for _, origin in ansible.groups(each):
            expected.setdefault(origin, []).append(ansible.host(each))
    assert {origin: hosts for _, origin, hosts in groups} == expected


def test_a_group_that_looks_like_a_marked_one_is_marked() -> None:
    """Or somebody could choose a label whose group is another's."""
    assert ansible.marked("label_a_b", "x", shared=False) == "label_a_b"
    taken = ansible.marked("label_a_b", "x", shared=True)
    assert ansible.marked(taken, "y", shared=False) != taken


def test_many_pairs_are_sorted_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound that is passed several times, the groups are as with one that is not."""
    machines = [one(name=f"m{number:03}", labels={"app": f"x{number % 7}"}) for number in range(100)]
    whole = list(joined(machines))
    monkeypatch.setattr(membership, "MOST_IN_MEMORY", 9)
    assert list(joined(machines)) == whole
    assert len(whole) == 9
