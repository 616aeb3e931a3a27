"""Events of vCenter for the tests, in the form of each producer and version."""

from __future__ import annotations

import json
import pathlib
import xml.sax.saxutils
from collections.abc import Mapping
from typing import Any

from function import events
from function.web import cloudevents

SAMPLES = pathlib.Path(__file__).parent / "events" / "vsphere"
ENTER, EXIT = "EnteredMaintenanceModeEvent", "ExitMaintenanceModeEvent"
HOST, MOREF, VCENTER = "esx7.rack.example", "host-77", "vc1.example"

Request = tuple[dict[str, str], bytes]
"""The headers and the body of a request."""


def data(
    name: str = ENTER, *, key: int | str = 500, created: str = "2026-03-01T08:00:00.25Z", **more: Any
) -> dict[str, Any]:
    """Return an event's data as govmomi writes it."""
    entity = {"Name": HOST, "Host": {"Type": "HostSystem", "Value": MOREF}}
    return {
        "Key": key,
        "ChainId": 499,
        "CreatedTime": created,
        "UserName": "EXAMPLE\\operator",
        "Datacenter": {"Name": "Hall", "Datacenter": {"Type": "Datacenter", "Value": "datacenter-3"}},
        "ComputeResource": None,
        "Host": more.pop("host", entity),
        "Vm": None,
        "FullFormattedMessage": f"Host {HOST}: {name}",
        "ChangeTag": "",
        **more,
    }


def named(name: str, moref: str | None) -> dict[str, Any]:
    """Return the member Host of an event's data."""
    return {"Name": name, "Host": {"Type": "HostSystem", "Value": moref} if moref else None}


def as_xml(name: str, content: Mapping[str, Any]) -> str:
    """Return data as encoding/xml writes govmomi's types: lower camel case, a reference as text with its type."""

    def element(tag: str, value: Any) -> str:
        tag = tag[0].lower() + tag[1:]
        if value is None:
            return ""
        if isinstance(value, Mapping) and value.keys() == {"Type", "Value"}:
            return f'<{tag} type="{value["Type"]}">{value["Value"]}</{tag}>'
        if isinstance(value, Mapping):
            return f"<{tag}>{''.join(element(*item) for item in value.items())}</{tag}>"
        return f"<{tag}>{xml.sax.saxutils.escape(str(value))}</{tag}>"

    return f"<{name}>{''.join(element(*item) for item in content.items())}</{name}>"


def router(name: str, content: Mapping[str, Any], **attributes: str) -> Request:
    """Return a request of the Event Router, whole in JSON."""
    event = {
        "specversion": "1.0",
        "id": "0f1d-router",
        "source": f"https://{VCENTER}/sdk",
        "type": "com.vmware.event.router/event",
        "subject": name,
        "time": "2026-03-01T09:59:59.999Z",
        "datacontenttype": "application/json",
        **attributes,
        "data": content,
    }
    return {"Content-Type": "application/cloudevents+json"}, json.dumps(event).encode()


def source(
    name: str,
    content: Mapping[str, Any] | str,
    *,
    version: str = ".v0",
    type_: str = "application/json",
    **attributes: str,
) -> Request:
    """Return a request of the VSphereSource, binary."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "500",
        "ce-source": f"https://{VCENTER}/sdk",
        "ce-type": f"com.vmware.vsphere.{name}{version}",
        "ce-eventclass": "event",
        "Content-Type": type_,
        **{f"ce-{key}": value for key, value in attributes.items()},
    }
    return headers, (content if isinstance(content, str) else json.dumps(content)).encode()


def parsed(request: Request) -> events.Event:
    """Return the event that a request holds."""
    headers, body = request
    environ = {f"HTTP_{key.upper().replace('-', '_')}": value for key, value in headers.items()}
    environ["CONTENT_TYPE"] = headers.get("Content-Type", "")
    [event] = cloudevents.from_wsgi(environ, body)
    return event


def sample(name: str) -> Request:
    """Return the request of a sample: what a producer sent."""
    recorded = json.loads((SAMPLES / f"{name}.json").read_text())
    body = recorded["body"] if isinstance(recorded["body"], str) else json.dumps(recorded["body"])
    return recorded["headers"], body.encode()
