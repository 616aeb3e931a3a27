"""The cluster with a memory: all that ever happened in it, and when; and what a source would send about each of it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from function import events
from function.clients import kubernetes
from tests import api_server, machines

Object = kubernetes.Object
Place = tuple[str, str]
"""Namespace and name."""

CLUSTER = "east"
INSTANCETYPES = {"u1.small": (1, "2Gi"), "u1.large": (2, "8Gi")}


class Shape(enum.Enum):
    """How an event tells of a VirtualMachine."""

    WHOLE = "the object"
    TRIMMED = "the object without its bulk"
    FLAT = "the published example's attributes, with uid and resourceversion"
    BARE = "the published example's attributes"


class Happening(NamedTuple):
    """A change of the cluster: add, update or delete, the object, and when."""

    step: str
    object: Object
    moment: datetime.datetime

    @property
    def resource(self) -> kubernetes.Resource:
        """Of what kind the object is."""
        return kubernetes.VMS if self.object["kind"] == kubernetes.VMS.kind else kubernetes.VMIS

    @property
    def place(self) -> Place:
        """Where the object is."""
        return place(self.object)

    @property
    def key(self) -> tuple[kubernetes.Resource, Place]:
        """What tells the object from others: its kind and where it is."""
        return self.resource, self.place

    @property
    def version(self) -> int:
        """The resource version that the change gave it."""
        return version(self.object)


@dataclasses.dataclass(frozen=True)
class Envelope:
    """A CloudEvent about something that happened, on its way."""

    id: str
    time: datetime.datetime
    happening: Happening
    shape: Shape

    @property
    def attributes(self) -> dict[str, Any]:
        """The context attributes, as a structured event has them."""
        found = self.happening.object
        known: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": "https://10.96.0.1:443",
            "type": f"dev.knative.apiserver.resource.{self.happening.step}",
            "time": self.time.isoformat().replace("+00:00", "Z"),
            "kind": found["kind"],
            "apiversion": found["apiVersion"],
            "namespace": found["metadata"]["namespace"],
            "name": found["metadata"]["name"],
        }
        if self.shape is Shape.WHOLE:
            known["cluster"] = CLUSTER  # elsewhere it is the function that knows it
        if self.shape is Shape.FLAT:
            known |= {"uid": found["metadata"]["uid"], "resourceversion": found["metadata"]["resourceVersion"]}
        if self.shape in (Shape.FLAT, Shape.BARE):
            known |= _flat(found)
        return known

    @property
    def data(self) -> Object | None:
        """The data."""
        if self.shape in (Shape.FLAT, Shape.BARE):
            return None
        return self.happening.object if self.shape is Shape.WHOLE else _trimmed(self.happening.object)

    def binary(self) -> dict[str, Any]:
        """Return what the Flask test client posts for it in binary mode."""
        headers = {f"ce-{name}": str(value) for name, value in self.attributes.items()}
        if self.data is None:
            return {"headers": headers}
        return {"headers": headers, "data": json.dumps(self.data), "content_type": "application/json"}

    def structured(self) -> Object:
        """Return it as JSON, as in structured and batched mode."""
        said = self.attributes
        return said if self.data is None else {**said, "datacontenttype": "application/json", "data": self.data}

    def event(self) -> events.Event:
        """Return what the receiver should read, in whatever mode it comes."""
        return events.Event({**self.attributes, "time": self.time}, self.data)


class Saved(NamedTuple):
    """A backup of the cluster, with what had happened until then."""

    backup: api_server.Backup
    history: list[Happening]


class ModelCluster:
    """Machines that live, change and die; each method returns what happened, in the order in which it did.

    A method does nothing where it cannot be done, such as starting what runs.
    history: what happened up to now. others: the histories that a restored backup ended.
    backups: one after each change.
    """

    def __init__(self, api: api_server.ApiServer) -> None:
        self.api = api
        self.history: list[Happening] = []
        self.others: list[list[Happening]] = []
        self.backups: list[Saved] = []
        self._last = datetime.datetime.min.replace(tzinfo=datetime.UTC)
        self._second: datetime.datetime | None = None
        """The time of the cluster where its objects carry their times: some hours ago, in whole seconds."""
        api.manager, api.now = "", lambda: self._second or datetime.datetime.now(datetime.UTC)
        api.instancetypes = INSTANCETYPES

    def carry_times(self) -> None:
        """Let objects carry the times of their changes, as the API server writes them."""
        self.api.manager = "virt-controller"
        self._second = self.tick().replace(microsecond=0) - datetime.timedelta(hours=2)

    def create(self, where: Place, *, instancetype: str | None, kept: bool, **options: Any) -> Iterator[Happening]:
        """Make a virtual machine; ``kept``: what its instancetype says is kept in a ControllerRevision."""
        if where not in self.machines():
            made = machines.vm(where[1], where[0], instancetype=instancetype, **options)
            yield self._note(self.api.create(made))
            if instancetype and kept:
                yield from self._keep(where, instancetype)

    def change(self, where: Place, patch: Object) -> Iterator[Happening]:
        """Change a virtual machine; one of an instancetype keeps its size."""
        machine = self.machines().get(where)
        if machine and not ("instancetype" in machine["spec"] and "template" in patch.get("spec", {})):
            yield from self._update(kubernetes.VMS, where, patch)

    def resize(self, where: Place, instancetype: str, *, kept: bool) -> Iterator[Happening]:
        """Give a virtual machine of an instancetype another one."""
        machine = self.machines().get(where)
        if machine and "instancetype" in machine["spec"]:
            patch = {"spec": {"instancetype": {"name": instancetype}}, "status": {"instancetypeRef": None}}
            yield from self._update(kubernetes.VMS, where, patch)
            if kept:
                yield from self._keep(where, instancetype)

    def _keep(self, where: Place, name: str) -> Iterator[Happening]:
        """Keep the instancetype as it is, as KubeVirt does when it sees the machine."""
        cpus, memory = INSTANCETYPES[name]
        revision = f"{where[1]}-{name}-{self.api.revision}"
        self.api.create(machines.revision(revision, where[0], instancetype=name, cpus=cpus, memory=memory))
        patch = machines.revised(revision)
        patch["status"]["instancetypeRef"]["name"] = name
        yield from self._update(kubernetes.VMS, where, patch)

    def remove(self, where: Place, *, announced: bool) -> Iterator[Happening]:
        """Delete a virtual machine; ``announced``: it has a finalizer, so the deletion is asked for first."""
        if where not in self.machines():
            return
        if announced or self._second:
            yield from self._ask(kubernetes.VMS, where, {"printableStatus": "Terminating"})
        yield self._note(self.api.delete(kubernetes.VMS, *where))

    def start(self, where: Place, **options: Any) -> Iterator[Happening]:
        """Let an instance of a virtual machine run; where there is none, an instance of its own."""
        if where in self.instances():
            return
        owner = self.machines().get(where)
        made = machines.vmi(owner or machines.vm(where[1], where[0], uid="nobody"), **options)
        if owner is None:
            del made["metadata"]["ownerReferences"]
        yield self._note(self.api.create(made))

    def run(self, where: Place, patch: Object) -> Iterator[Happening]:
        """Change a running instance."""
        yield from self._update(kubernetes.VMIS, where, patch)

    def hand_over(self, where: Place) -> Iterator[Happening]:
        """Give an instance to the virtual machine of its name, or take it away from one that is gone."""
        owner, ran = self.machines().get(where), self.instances().get(where)
        if ran is not None:
            made = machines.vmi(owner) if owner else None
            owners = made["metadata"]["ownerReferences"] if made else None
            yield from self._update(kubernetes.VMIS, where, {"metadata": {"ownerReferences": owners}})

    def end(self, where: Place) -> Iterator[Happening]:
        """Let an instance go."""
        if where in self.instances():
            if self._second:
                yield from self._ask(kubernetes.VMIS, where, {})
            yield self._note(self.api.delete(kubernetes.VMIS, *where))

    def restore(self, back: int) -> None:
        """Restore a backup from before the last changes; nobody is told what is gone, or back."""
        saved = self.backups[-min(back, len(self.backups))]
        self.api.rewind(saved.backup)
        self.others.append(self.history)
        self.history = [*saved.history]
        self.tick()

    def machines(self) -> dict[Place, Object]:
        """Return the virtual machines that there are."""
        return self.api.objects(kubernetes.VMS)

    def instances(self) -> dict[Place, Object]:
        """Return the running instances that there are."""
        return self.api.objects(kubernetes.VMIS)

    def tick(self) -> datetime.datetime:
        """Return the time, in whole milliseconds, later than ever before, and not before it has come.

        Milliseconds, because an EventTransform cuts the time off there; and what happened before a reconcile began must
        have happened before by the database's clock too.
        """
        now = datetime.datetime.now(datetime.UTC)
        floor = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self._last = max(floor, self._last) + datetime.timedelta(milliseconds=1)
        time.sleep(max(0.0, (self._last - datetime.datetime.now(datetime.UTC)).total_seconds()))
        return self._last

    def happened(self, resource: kubernetes.Resource, where: Place) -> Iterator[Happening]:
        """Yield all that ever happened at a place, in this history and in others."""
        for history in (self.history, *self.others):
            yield from (each for each in history if each.key == (resource, where))

    def absent(self, resource: kubernetes.Resource, where: Place, listed: int, owner: str | None = None) -> bool:
        """Return whether a list of that version could have lacked the object; ``owner``: an instance of that one."""
        return any(_at(history, resource, where, listed, owner) is None for history in (self.history, *self.others))

    def _ask(self, resource: kubernetes.Resource, where: Place, status: Object) -> Iterator[Happening]:
        """Ask for the deletion of an object that has a finalizer; it ends within the same second."""
        time = f"{self._second:%Y-%m-%dT%H:%M:%SZ}" if self._second else "2026-11-22T10:00:00Z"
        asked = {"deletionTimestamp": time, "deletionGracePeriodSeconds": 0}
        yield from self._update(resource, where, {"metadata": asked, "status": status})

    def _update(self, resource: kubernetes.Resource, where: Place, patch: Object) -> Iterator[Happening]:
        if where in self.api.objects(resource) and (event := self.api.update(resource, *where, patch)):
            yield self._note(event)

    def _note(self, event: api_server.WatchEvent) -> Happening:
        """Remember a change; the backup is the one from after it, and the last of them is the present."""
        happening = Happening(event.step, event.object, self._second or self.tick())
        self.history.append(happening)
        if self._second and (event.step == "delete" or "deletionTimestamp" not in event.object["metadata"]):
            self._second += datetime.timedelta(seconds=happening.version % 3)
        self.backups.append(Saved(self.api.backup(), [*self.history]))
        return happening


def post(name: str, happening: Happening, shape: Shape, time: datetime.datetime) -> Envelope:
    """Return an event about what happened; the source makes up its id, and says the time at which it sends.

    An instance is told of as a whole in any case: no EventTransform knows it.
    """
    if happening.resource is kubernetes.VMIS:
        shape = Shape.WHOLE
    return Envelope(name, time, happening, shape)


def place(found: Object) -> Place:
    """Return where an object is."""
    return found["metadata"]["namespace"], found["metadata"]["name"]


def version(found: Object) -> int:
    """Return an object's resource version."""
    return int(found["metadata"]["resourceVersion"])


def owner_of(instance: Object) -> str | None:
    """Return the uid of the virtual machine that an instance belongs to."""
    owners = instance["metadata"].get("ownerReferences")
    return owners[0]["uid"] if owners else None


def _at(
    history: list[Happening], resource: kubernetes.Resource, where: Place, listed: int, owner: str | None
) -> Object | None:
    """Return the object as a list of that version held it."""
    found = None
    for each in history:
        if each.key == (resource, where) and each.version <= listed:
            found = None if each.step == "delete" else each.object
    return found if found is None or owner in (None, owner_of(found)) else None


def _flat(machine: Object) -> dict[str, Any]:
    """Return what the published example's EventTransform takes out of a virtual machine."""
    spec = machine["spec"]["template"]["spec"]
    known = {
        "cpucores": spec["domain"].get("cpu", {}).get("cores"),
        "cpusockets": spec["domain"].get("cpu", {}).get("sockets"),
        "memory": spec["domain"].get("memory", {}).get("guest"),
        "storageclass": machine["spec"]["dataVolumeTemplates"][0]["spec"]["storage"]["storageClassName"],
        "network": spec["networks"][0]["name"],
    }
    return {name: value for name, value in known.items() if value is not None}


def _trimmed(machine: Object) -> Object:
    """Return a virtual machine without what no row needs, as our EventTransform does."""
    trimmed: Object = json.loads(json.dumps(machine))
    for note in trimmed["metadata"].get("managedFields", ()):
        note.pop("fieldsV1", None)
    for volume in trimmed["spec"]["template"]["spec"]["volumes"]:
        if "cloudInitNoCloud" in volume:
            volume["cloudInitNoCloud"] = {}
    return trimmed
