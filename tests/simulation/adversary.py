"""Who POSTs what it likes: events about things that never happened, in any form that the receiver takes."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests import machines
from tests.simulation import model_cluster

MOST = 2**63 - 1
"""The greatest version that a row can hold."""
OTHER_CLUSTER = "west"
"""A cluster besides ours that events may name."""
GHOSTS = [("ghost", f"g-{number:02}") for number in range(15)]
"""Machines that never were; more than a reconcile deletes without a second thought."""


class When(enum.Enum):
    """The time that a lie bears."""

    NONE = None
    LONG_AGO = datetime.timedelta(days=-4000)
    BEFORE = datetime.timedelta(minutes=-3)
    NOW = datetime.timedelta()
    TOMORROW = datetime.timedelta(days=2)
    FAR = datetime.timedelta(days=36500)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lie:
    """What an event claims; ``beyond`` is added to the cluster's revision, None for no version.

    uid, owner: those of the cluster's object where there is one ("its"), or made up.
    """

    step: str
    where: model_cluster.Place
    instance: bool
    beyond: int | None
    when: When
    uid: str
    cluster: str | None

    def told(self, name: str, cluster: model_cluster.ModelCluster) -> Mapping[str, Any]:
        """Return the event in structured mode."""
        found = self._object(cluster)
        said: dict[str, Any] = {
            "specversion": "1.0",
            "id": name,
            "source": "https://10.96.0.1:443",
            "type": f"dev.knative.apiserver.resource.{self.step}",
            "kind": found["kind"],
            "apiversion": found["apiVersion"],
            "namespace": self.where[0],
            "name": self.where[1],
            "datacontenttype": "application/json",
        }
        if self.when.value is not None:
            said["time"] = (datetime.datetime.now(datetime.UTC) + self.when.value).isoformat()
        if self.cluster is not None:
            said["cluster"] = self.cluster
        if self.beyond is None and not self.instance:
            return said | {"cpucores": "33", "memory": "1Gi"}
        return said | {"data": found}

    def _object(self, cluster: model_cluster.ModelCluster) -> model_cluster.Object:
        machine = cluster.machines().get(self.where) or machines.vm(self.where[1], self.where[0], uid="made-up")
        machine = copy.deepcopy(machine)
        if self.uid != "its":
            machine["metadata"]["uid"] = self.uid
        found = machine
        if self.instance:
            found = machines.vmi(machine, node="node-of-lies", uid=f"run-of-{self.uid}")
        else:
            found["spec"]["template"]["spec"]["domain"]["cpu"] = {"cores": 33}
        if self.beyond is not None:
            found["metadata"]["resourceVersion"] = str(max(1, min(cluster.api.revision + self.beyond, MOST)))
        return found


def lies(places: st.SearchStrategy[model_cluster.Place]) -> st.SearchStrategy[Lie]:
    """Return all lies about some places."""
    return st.builds(
        Lie,
        step=st.sampled_from(["add", "update", "delete"]),
        where=places,
        instance=st.booleans(),
        beyond=st.sampled_from([None, -1000, -2, -1, 0, 1, 2, 5, 40, 2**62, MOST]),
        when=st.sampled_from(When),
        uid=st.sampled_from(["its", "another", "a-third"]),
        cluster=st.sampled_from([None, model_cluster.CLUSTER, OTHER_CLUSTER]),
    )
