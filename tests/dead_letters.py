"""Dead letters as Knative sends them: through the default Broker, whose filter wraps the answer, and through others."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

SAMPLES = pathlib.Path(__file__).parent / "events"
FILTER = "http://broker-filter.knative-eventing.svc.cluster.local/triggers/vmledger/vmledger-update/1c8e2f0a-7d7b-4d0c"
RECEIVER = "http://vmledger.vmledger.svc.cluster.local"
AWAY = "the database cannot be used now"


def sample(name: str, folder: str = "vm") -> dict[str, Any]:
    """An object of the samples."""
    found: dict[str, Any] = json.loads((SAMPLES / folder / f"{name}.json").read_text())["object"]
    return found


def attributes(number: int = 1, kind: str = "VirtualMachine", **more: str) -> dict[str, str]:
    """The attributes of an event of the source."""
    return {
        "specversion": "1.0",
        "id": f"8c2f1a52-5c6e-4f7a-9d1c-{number:012}",
        "source": "https://10.96.0.1:443",
        "type": "dev.knative.apiserver.resource.update",
        "kind": kind,
        "apiversion": "kubevirt.io/v1",
        "time": "2026-11-22T10:00:00.832153220Z",
        **more,
    }


def failure(code: int = 503, sentence: str = AWAY, *, default_broker: bool = True) -> dict[str, str]:
    """What Knative adds to an event that it gave up on."""
    answer = base64.b64encode(json.dumps({"error": sentence}).encode()).decode()
    if not default_broker:
        return {"knativeerrordest": RECEIVER, "knativeerrorcode": str(code), "knativeerrordata": answer}
    wrapped = json.dumps({"errdestination": RECEIVER, "errresponsebody": answer}, separators=(",", ":"))
    return {
        "knativeerrordest": FILTER,
        "knativeerrorcode": str(code),
        "knativeerrordata": base64.b64encode(wrapped.encode()).decode()[:1024],
        "knativebrokerttl": "254",
    }


def request(data: Any, given: dict[str, str], content_type: str = "application/json") -> tuple[bytes, dict[str, str]]:
    """The body and the headers of an event in binary mode."""
    body = data if isinstance(data, bytes) else b"" if data is None else json.dumps(data).encode()
    headers = {f"ce-{name}": value for name, value in given.items()}
    return body, {**headers, **({"Content-Type": content_type} if body else {})}
