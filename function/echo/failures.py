"""What Knative says of a dead letter: which answer an event got, from whom, and with which status; pure.

Knative adds three extensions (knative/eventing, pkg/kncloudevents/attributes). A channel and Kafka's Broker put the
answer's body into ``knativeerrordata``, in base64 and cut after 1024 characters. The default Broker delivers through a
filter, which wraps the answer once more (pkg/broker/filter): ``knativeerrordata`` is then the base64 of
``{"errdestination": URL, "errresponsebody": base64 of the body}``, and ``knativeerrordest`` is the filter's own URL of
the Trigger. Both occur, and each may be cut in its middle.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from function import errors, events
from function.echo import encodings

EXTENSIONS = ("knativeerrordest", "knativeerrorcode", "knativeerrordata")
HOPS = "knativebrokerttl"
"""The default Broker's count of hops. Its filter removes it before it delivers, and leaves it on what goes to the dead
letter sink: where an answer is too long to be wrapped, that is all that a dead letter has.
"""

_CUT_WRAPPER = re.compile(
    r'\{\s*"errdestination"\s*:\s*(?:"(?P<destination>[^"\\]*)"|null)'
    r'(?:\s*,\s*"errresponsebody"\s*:\s*(?:"(?P<body>[A-Za-z0-9+/=]*)|null))?'
)
_DEEPEST = 4
"""How often an answer may be wrapped; a chain of Brokers could do it more than once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an event is a dead letter; what the extensions leave out is None.

    destination: the URL of who gave the answer. code: the answer's HTTP status; a text where it is not a number.
    answer: its body: JSON, or text.
    """

    destination: str | None
    code: int | str | None
    answer: Any

    @property
    def sentence(self) -> str | None:
        """What the answer says to a person: the error of ours, or the text; None where it is neither."""
        if isinstance(self.answer, dict):
            said = self.answer.get("error")
            return said if isinstance(said, str) else None
        return self.answer if isinstance(self.answer, str) else None


NOTHING = Failure(destination=None, code=None, answer=None)
"""A dead letter that says nothing of its failure."""


def of(attributes: Mapping[str, Any]) -> Failure | None:
    """Return what the attributes of an event say of its failure; None where it is not a dead letter."""
    if attributes.keys().isdisjoint((*EXTENSIONS, HOPS)):
        return None
    destination, code, data = (attributes.get(name) for name in EXTENSIONS)
    answered, answer = (None, None) if data is None else _answer(str(data))
    return Failure(
        destination=answered or (None if destination is None else str(destination)),
        code=None if code is None else _code(str(code)),
        answer=answer,
    )


def _code(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _answer(text: str) -> tuple[str | None, Any]:
    """Return who gave the answer, where it is wrapped, and what it says."""
    destination = None
    answer = _decoded(text)
    for _ in range(_DEEPEST):
        wrapper = _unwrapped(answer)
        if wrapper is None:
            break
        destination = wrapper[0] or destination
        answer = None if wrapper[1] is None else _decoded(wrapper[1])
    return destination, answer


def _unwrapped(answer: Any) -> tuple[str | None, str | None] | None:
    """Return the destination and the body of what the filter wrapped; None where it is something else."""
    if isinstance(answer, dict) and "errdestination" in answer:
        body = answer.get("errresponsebody")
        return _url(answer["errdestination"]), body if isinstance(body, str) else None
    cut = _CUT_WRAPPER.match(answer) if isinstance(answer, str) else None
    return (cut["destination"], cut["body"]) if cut else None


def _url(destination: Any) -> str | None:
    """Return a URL as text; Knative before 1.9 sent it as the parts that Go's net/url has."""
    if isinstance(destination, dict):
        scheme, host, path = (str(destination.get(part) or "") for part in ("Scheme", "Host", "Path"))
        return f"{scheme}://{host}{path}" if host else None
    return destination if isinstance(destination, str) and destination else None


def _decoded(text: str) -> Any:
    """Return what an answer in base64 says: JSON or text; None for bytes that are neither; plain text as it is."""
    content = encodings.decode(text)
    if not content:
        return text or None
    with contextlib.suppress(errors.BadEvent):
        return events.parse_json(content, "the answer")
    with contextlib.suppress(UnicodeDecodeError):
        return codecs.utf_8_decode(content)[0]  # without the half of a character that the cut has left at the end
    return text if re.fullmatch(r"[A-Za-z]{1,40}", text) else None
