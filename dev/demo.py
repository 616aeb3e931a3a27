"""``make demo``: a VM's life, replayed against ``make run``, with the table after each step."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from dev import embedded_postgres, follower

TABLE = """
SELECT name, vcpus, memory, network, instancetype, run_strategy, status, resource_version
FROM virtual_machines WHERE namespace = 'demo' ORDER BY name
"""
STORY = """
SELECT to_char(changed_at, 'HH24:MI:SS') AS at, name, what, changed_by,
       (SELECT string_agg(fact.key || ' ' || coalesce(fact.value ->> 'old', '∅') || ' > '
                          || coalesce(fact.value ->> 'new', '∅'), ', ' ORDER BY fact.key)
        FROM jsonb_each(changes) AS fact
        WHERE what = 'changed' AND fact.key <> 'memory_bytes') AS changes
FROM vm_changes
WHERE namespace = 'demo' AND uid IN ({})
ORDER BY changed_at, resource_version
"""
HOURS = """
SELECT name, round(hours * 3600) AS seconds, round(hours_running * 3600) AS seconds_running, running_by,
       round(vcpu_hours * 3600) AS vcpu_seconds, round(memory_gib_hours * 3600) AS gib_seconds
FROM vm_usage(now() - interval '1 day', now())
WHERE namespace = 'demo' AND uid IN ({})
ORDER BY name
"""
HISTORY = "SELECT count(*) AS versions_in_the_history FROM vm_history WHERE namespace = 'demo' AND name = 'shop'"
ADD, UPDATE, DELETE = (f"dev.knative.apiserver.resource.{verb}" for verb in ("add", "update", "delete"))

Json = dict[str, Any]


class Cluster:
    """Makes the events that a cluster would: resource versions that rise, and an id for each send."""

    def __init__(self, port: str) -> None:
        self._url = f"http://127.0.0.1:{port}/"
        self._version = int(time.time() * 10)

    def event(self, kind: str, machine: Json, *, by: str = "virt-controller") -> Json:
        """Return the event of a change that a field manager made, with the object as it is then."""
        self._version += 1
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        metadata = machine["metadata"]
        metadata |= {"resourceVersion": str(self._version), "managedFields": [{"manager": by, "time": now}]}
        if kind == DELETE:
            metadata["deletionTimestamp"] = now
        return {
            "specversion": "1.0",
            "id": f"demo-{self._version}",
            "source": "https://10.96.0.1:443",
            "type": kind,
            "time": now,
            "kind": "VirtualMachine",
            "data": copy.deepcopy(machine),
        }

    def send(self, event: Json) -> None:
        """Send an event; end with a sentence where the receiver does not accept it."""
        request = urllib.request.Request(
            self._url, json.dumps(event).encode(), {"Content-Type": "application/cloudevents+json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except urllib.error.HTTPError as exc:
            raise SystemExit(f"the receiver answered {exc.code}: {exc.read().decode()}") from None
        except OSError:
            raise SystemExit(f"no receiver answers at {self._url}: give `make demo` the PORT of `make run`") from None


def machine(name: str, **spec: Any) -> Json:
    """Return a VirtualMachine as the API server would."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "demo", "uid": f"{name}-{time.time_ns()}", "generation": 1},
        "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {}}}, **spec},
    }


def headline(title: str) -> None:
    """Print a step's title."""
    print(f"\n\x1b[1m{title}\x1b[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)


def show(title: str, sql: str = TABLE) -> None:
    """Print a step's title and the table."""
    headline(title)
    command = [
        *embedded_postgres.client(),
        "--pset",
        "pager=off",
        "--pset",
        "footer=off",
        "--pset",
        "null=∅",
        "--command",
        sql,
    ]
    subprocess.run(command, check=True)


def main() -> int:
    """Send the events of the VM's life, and show the table after each step."""
    embedded_postgres.client()  # ends with a sentence where `make run` is not running
    cluster = Cluster(os.environ.get("PORT", "8080"))
    shop = machine("shop")
    with follower.following(embedded_postgres.client()[1]) as received:
        started = live(cluster, shop)
        end(cluster, shop, started)
        headline(
            "11. What `python -m function publish` has sent meanwhile to whoever follows, such as a second terminal:"
        )
        for line in received(ends=2):
            print(line)
    return 0


def live(cluster: Cluster, shop: Json) -> Json:
    """Create, start, resize and migrate the VM; return the event of its start, which comes again after its end."""
    domain = shop["spec"]["template"]["spec"]["domain"]
    domain |= {"cpu": {"cores": 2, "sockets": 1}, "memory": {"guest": "4Gi"}}
    created = cluster.event(ADD, shop, by="kubectl-create")
    cluster.send(created)
    show("1. A VM is created: an event of type add, the whole object in it.")

    shop["spec"]["runStrategy"] = "Always"
    shop["status"] = {"printableStatus": "Running"}
    started = cluster.event(UPDATE, shop)
    cluster.send(started)
    time.sleep(1)  # so that there are hours to count: an object's times are whole seconds
    show("2. It is started.")

    shop["spec"]["template"]["spec"]["networks"] = [{"name": "default", "pod": {}}, {"name": "vlan-100", "multus": {}}]
    domain["cpu"]["sockets"], domain["memory"]["guest"] = 4, "16Gi"
    cluster.send(cluster.event(UPDATE, shop, by="kubectl-edit"))
    time.sleep(1)
    show("3. It gets a second network and is resized. The published example loses it here.")

    shop["status"]["printableStatus"] = "Migrating"
    migrating = cluster.event(UPDATE, shop)
    shop["status"]["printableStatus"] = "Running"
    cluster.send(cluster.event(UPDATE, shop))
    show("4. It migrates; the event of its end arrives first.")
    for late in (migrating, started, created, started):
        cluster.send(late)
    show("5. The event of its beginning arrives late, and three old ones arrive again: nothing changes.")
    return started


def end(cluster: Cluster, shop: Json, started: Json) -> None:
    """Create a VM with an instancetype, and delete both; ``started`` is an event that comes too late."""
    typed = machine("batch", instancetype={"name": "u1.large"}, runStrategy="Always")
    cluster.send(cluster.event(ADD, typed, by="kubectl-create"))
    time.sleep(1)
    show("6. A VM with an instancetype: its size is not in the object, so the columns stay empty.")

    gone = cluster.event(DELETE, shop)
    cluster.send(gone)
    cluster.send(started)
    cluster.send(cluster.event(DELETE, typed))
    show("7. Both are deleted, and a late update arrives: neither comes back.")
    show("8. The history has each version once.", HISTORY)
    uids = ", ".join(f"'{each['metadata']['uid']}'" for each in (shop, typed))
    show("9. The story: what changed, when by the API server's clock, and who changed it.", STORY.format(uids))
    show("10. The hours, here in seconds: how long they were there, ran, and had how much.", HOURS.format(uids))


if __name__ == "__main__":
    sys.exit(main())
