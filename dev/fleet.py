"""A believable fleet for pictures, tests and a first look: three clusters, some hundred VMs, forty days of history.

``python -m dev.fleet`` fills the ledger that DATABASE_URL or DB_* name, which must be migrated and should be empty.
Every row is written by the ledger's own store from events, so nothing here knows the tables but for what no event
gives: reconciles and dead letters. The same moment and seed give the same fleet.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import random
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from function import events, settings
from function.clients import postgres
from function.inventory import days
from function.inventory.mapping import instance, versions, vm
from function.inventory.storage import store

ADD, UPDATE, DELETE = (f"dev.knative.apiserver.resource.{verb}" for verb in ("add", "update", "delete"))
CLUSTERS = {"fra-prod": 16, "osl-prod": 10, "lab": 4}
"""Each with its nodes."""
SERVICES = (
    # namespace, names, how many, cores, GiB, disk GiB, instancetype, guest OS
    ("shop", "web", 24, 2, 4, 30, "u1.medium", "Red Hat Enterprise Linux 9.4 (Plow)"),
    ("shop", "checkout", 6, 4, 8, 40, None, "Red Hat Enterprise Linux 9.4 (Plow)"),
    ("shop", "orders-db", 3, 8, 64, 800, "m1.2xlarge", "Red Hat Enterprise Linux 9.4 (Plow)"),
    ("billing", "invoice", 5, 4, 16, 120, None, "Microsoft Windows Server 2022 Standard"),
    ("billing", "sqlserver", 2, 8, 64, 1200, None, "Microsoft Windows Server 2022 Standard"),
    ("warehouse", "etl", 12, 8, 32, 400, "cx1.2xlarge", "Ubuntu 24.04.1 LTS"),
    ("warehouse", "kafka", 5, 4, 32, 500, None, "Ubuntu 24.04.1 LTS"),
    ("identity", "keycloak", 3, 2, 8, 40, "u1.large", "Fedora Linux 41 (Server Edition)"),
    ("identity", "ldap", 2, 2, 4, 40, None, "Debian GNU/Linux 12 (bookworm)"),
    ("ci", "runner", 36, 4, 8, 100, "cx1.xlarge", "Fedora Linux 41 (Server Edition)"),
    ("desktops", "desk", 48, 4, 16, 120, "u1.xlarge", "Microsoft Windows 11 Enterprise"),
    ("legacy", "as400-gw", 1, 2, 4, 60, None, "Debian GNU/Linux 12 (bookworm)"),
)
POOLS = frozenset({"runner", "desk"})
"""Services of which the VMs are those of a VirtualMachinePool."""
DAYS = 40
BAD = ("CrashLoopBackOff", "ErrorUnschedulable", "DataVolumeError")
BATCH = 200
Json = dict[str, Any]


@dataclasses.dataclass
class Machine:
    """A VM while its life is told. started: how often it was started, which names its instances."""

    cluster: str
    namespace: str
    name: str
    uid: str
    cores: int
    gibibytes: int
    disk: int
    instancetype: str | None
    guest: str
    created: datetime.datetime
    node: str = ""
    started: int = 0
    address: str = ""
    status: str = "Provisioning"
    editor: str = "virt-controller"

    def spec(self) -> Json:
        """Return the object's spec."""
        domain: Json = {"devices": {"disks": [{"name": "root"}]}, "machine": {"type": "q35"}}
        if self.instancetype is None:
            domain |= {"cpu": {"cores": self.cores}, "memory": {"guest": f"{self.gibibytes}Gi"}}
        storage = {"resources": {"requests": {"storage": f"{self.disk}Gi"}}, "storageClassName": "ceph-rbd"}
        networks = [{"name": "default", "pod": {}}, {"name": "vlan-120", "multus": {"networkName": "vlan-120"}}]
        spec: Json = {
            "runStrategy": "Halted" if self.status == "Stopped" else "Always",
            "dataVolumeTemplates": [{"metadata": {"name": f"{self.name}-root"}, "spec": {"storage": storage}}],
            "template": {
                "spec": {
                    "architecture": "amd64",
                    "domain": domain,
                    "networks": networks[: 1 + self.disk // 200],
                    "volumes": [{"name": "root", "dataVolume": {"name": f"{self.name}-root"}}],
                }
            },
        }
        return spec if self.instancetype is None else {**spec, "instancetype": {"name": self.instancetype}}

    def machine(self, at: datetime.datetime) -> Json:
        """Return the VirtualMachine."""
        service = self.name.rpartition("-")[0]
        metadata: Json = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "creationTimestamp": _text(self.created),
            "labels": {"app": service, "env": "lab" if self.cluster == "lab" else "prod", "team": self.namespace},
            "managedFields": [{"manager": self.editor, "operation": "Update", "time": _text(at)}],
        }
        if service in POOLS:
            pool = {"kind": "VirtualMachinePool", "name": service, "uid": f"pool-{service}", "controller": True}
            metadata["ownerReferences"] = [{"apiVersion": "pool.kubevirt.io/v1beta1", **pool}]
        return {"kind": vm.KIND, "metadata": metadata, "spec": self.spec(), "status": {"printableStatus": self.status}}

    def instance(self) -> Json:
        """Return the VirtualMachineInstance."""
        owner = {"apiVersion": "kubevirt.io/v1", "kind": vm.KIND, "name": self.name, "uid": self.uid}
        metadata = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": f"{self.uid}-{self.started}",
            "ownerReferences": [owner],
        }
        status = {
            "nodeName": self.node,
            "phase": "Running",
            "interfaces": [{"name": "default", "ipAddress": self.address, "ipAddresses": [self.address]}],
            "guestOSInfo": {"prettyName": self.guest},
            "currentCPUTopology": {"cores": self.cores, "sockets": 1, "threads": 1},
            "memory": {"guestCurrent": f"{self.gibibytes}Gi"},
        }
        return {"kind": instance.KIND, "metadata": metadata, "status": status}


Told = tuple[datetime.datetime, str, str, str, Json]
"""When, in which cluster, the event's type, the object's kind, and the object."""


class Teller:
    """Tells the lives of all VMs, as the clusters' API servers would."""

    def __init__(self, now: datetime.datetime, seed: int) -> None:
        self._now = now
        self._chance = random.Random(seed)  # believable, not secret
        self._hosts = itertools.count(10)

    def fleet(self) -> Iterator[Told]:
        """Yield what happened, VM by VM."""
        for cluster, nodes in CLUSTERS.items():
            for namespace, name, count, *sizes in SERVICES:
                for number in range(1, (count if cluster != "lab" else max(1, count // 4)) + 1):
                    yield from self._life(cluster, nodes, namespace, f"{name}-{number}", sizes)

    def _life(self, cluster: str, nodes: int, namespace: str, name: str, sizes: list[Any]) -> Iterator[Told]:
        chance = self._chance
        cores, gibibytes, disk, instancetype, guest = sizes
        created = self._now - datetime.timedelta(days=chance.uniform(1, DAYS), hours=chance.uniform(0, 24))
        uid = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        machine = Machine(cluster, namespace, name, uid, cores, gibibytes, disk, instancetype, guest, created)
        yield self._say(created, machine, ADD)
        at = created + datetime.timedelta(minutes=chance.uniform(1, 6))
        if chance.random() < 0.03:
            machine.status = chance.choice(BAD)
            yield self._say(at, machine, UPDATE)
            return
        yield from self._start(at, machine, nodes)
        while (at := at + datetime.timedelta(hours=chance.expovariate(1 / 130))) < self._now:
            yield from self._something(at, machine, nodes)
            if machine.status == "Deleted":
                return

    def _something(self, at: datetime.datetime, machine: Machine, nodes: int) -> Iterator[Told]:
        """Let something happen to a VM: mostly a move to another node."""
        what = self._chance.choices(("move", "restart", "stop", "resize", "delete"), (60, 14, 14, 8, 4))[0]
        later = at + datetime.timedelta(minutes=self._chance.uniform(2, 9))
        if machine.status == "Stopped":
            yield from self._start(at, machine, nodes)
        elif what == "move":
            machine.node = self._node(machine.cluster, nodes)
            yield self._run(at, machine, UPDATE)
        elif what == "delete":
            yield self._run(at, machine, DELETE)
            machine.status = "Deleted"
            yield self._say(later, machine, DELETE)
        else:
            machine.status, machine.editor = "Stopped", self._chance.choice(("kubectl-edit", "argocd-controller"))
            yield self._say(at, machine, UPDATE)
            yield self._run(at + datetime.timedelta(seconds=20), machine, DELETE)
            if what == "resize" and machine.instancetype is None:
                machine.cores, machine.gibibytes = 2 * machine.cores, 2 * machine.gibibytes
            if what != "stop":
                yield from self._start(later, machine, nodes)

    def _start(self, at: datetime.datetime, machine: Machine, nodes: int) -> Iterator[Told]:
        machine.status, machine.editor = "Running", "virt-controller"
        machine.started += 1
        machine.node = self._node(machine.cluster, nodes)
        host = next(self._hosts)
        machine.address = f"10.{list(CLUSTERS).index(machine.cluster) + 20}.{host // 250 % 250}.{host % 250 + 2}"
        yield self._say(at, machine, UPDATE)
        yield self._run(at + datetime.timedelta(seconds=25), machine, ADD)

    def _node(self, cluster: str, nodes: int) -> str:
        return f"{cluster}-node-{self._chance.randint(1, nodes):02}"

    def _say(self, at: datetime.datetime, machine: Machine, kind: str) -> Told:
        return at, machine.cluster, kind, vm.KIND, machine.machine(at)

    def _run(self, at: datetime.datetime, machine: Machine, kind: str) -> Told:
        return at, machine.cluster, kind, instance.KIND, machine.instance()


def _text(at: datetime.datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def changes(now: datetime.datetime, seed: int = 7) -> Iterator[versions.Change]:
    """Yield the changes of the fleet's history, oldest first."""
    told = sorted((each for each in Teller(now, seed).fleet() if each[0] < now), key=lambda each: each[0])
    for number, (at, cluster, kind, what, data) in enumerate(told, 1000):
        data["metadata"]["resourceVersion"] = str(number)
        attributes = {"id": str(number), "type": kind, "time": at, "kind": what, "source": "dev", "specversion": "1.0"}
        event = events.Event(attributes, data)
        change = (vm if what == vm.KIND else instance).change(event, cluster_name=cluster)
        if change is not None:
            yield change


def fill(url: str, now: datetime.datetime, seed: int = 7) -> int:
    """Fill a migrated database; return how many changes were stored."""
    db = postgres.Database({"dsn": url}, timeout=60)
    tables = store.Store(db)
    count = 0
    try:
        told = changes(now, seed)
        for batch in iter(lambda: list(itertools.islice(told, BATCH)), []):
            tables.write(batch)
            count += len(batch)
        db.run(lambda cursor: cursor.execute(BESIDES, {"now": now, "clusters": list(CLUSTERS)}))
    finally:
        db.close()
    days.fill(settings.Settings.from_env({"DATABASE_URL": url}), seconds=60)  # as a reconcile does
    return count


BESIDES = """
INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome, seen, missed_adds, missed_updates, missed_deletes,
                            list_version, error)
SELECT cluster, at, 1.2 + number %% 7 * 0.3,
       CASE WHEN number %% 37 = 5 THEN 'failed' WHEN number %% 9 = 4 THEN 'repaired' ELSE 'clean' END,
       CASE WHEN number %% 37 = 5 THEN 0 ELSE 90 - number %% 4 END,
       CASE WHEN number %% 37 <> 5 AND number %% 9 = 4 THEN number %% 2 ELSE 0 END,
       CASE WHEN number %% 37 <> 5 AND number %% 9 = 4 THEN 1 + number %% 3 ELSE 0 END, 0, 100000 - number,
       CASE WHEN number %% 37 = 5 THEN 'the Kubernetes API cannot be reached: no answer in time' END
FROM unnest(%(clusters)s) WITH ORDINALITY AS clusters (cluster, place),
     generate_series(0, 7 * 24 - 1, 2) AS number,
     LATERAL (SELECT %(now)s::timestamptz - (number * 60 + 4 + place) * interval '1 minute') AS times (at);
INSERT INTO dead_letters (key, delivery, count, first_at, last_at, destination, code, sentence, event_id, source, type,
                          attributes, data, form)
SELECT md5(number::text), number::text, 1 + number %% 3, at - interval '20 minutes', at, 'http://vmledger.example/',
       code, sentence, 'e-' || number, 'https://10.96.0.1:443', 'dev.knative.apiserver.resource.update',
       json_build_object('subject', '/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/web-' || number,
                         'kind', 'VirtualMachine', 'namespace', 'shop', 'name', 'web-' || number),
       '{}', 'trimmed'
FROM generate_series(1, 5) AS number,
     LATERAL (SELECT %(now)s::timestamptz - number * interval '17 hours') AS times (at),
     LATERAL (SELECT CASE WHEN number %% 2 = 0 THEN 503 ELSE 400 END,
                     CASE WHEN number %% 2 = 0 THEN 'the database cannot be used now: connection refused'
                          ELSE 'the data is not a VirtualMachine: it has no metadata' END) AS why (code, sentence);
ANALYZE;
"""
"""What no event gives: a reconcile of each cluster every two hours, and a few dead letters."""


def main() -> int:
    """Fill the database that the environment names."""
    part = settings.Settings.from_env(os.environ).database
    if not part.configured:
        raise SystemExit(postgres.NOT_CONFIGURED)
    keywords = part.connection()
    url = keywords["dsn"] if "dsn" in keywords else " ".join(f"{key}='{value}'" for key, value in keywords.items())
    print(f"stored {fill(url, datetime.datetime.now(datetime.UTC))} changes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
