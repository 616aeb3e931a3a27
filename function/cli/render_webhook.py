"""``python -m function render-webhook``: the request that a Secret would send, without sending it.

Nothing here touches a network. What is printed may be shown to others: the url's path, the headers' values and the
body's keys are masked.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any, TextIO

import click

from function import errors, settings
from function.cli import output
from function.scaling import address_policy, occurrences, placeholders, subscriptions, template
from function.web import cloudevents

MASK = "***"
HELP = """\
SECRET.yaml is the Secret as you would apply it, with the keys

  url      where to POST to, http:// or https://
  headers  a JSON object of header names and values (may be absent)
  body     JSON, whatever the receiver wants

and EVENT.json is a CloudEvent about a HorizontalPodAutoscaler in the JSON format, as the dead letter sink shows it.
Without it a sample is used: php-apache in namespace default was scaled to 4.

These placeholders are replaced in the strings of body and in the values of headers:

  _message_         what the HPA controller said           _namespace_ _name_   the HPA
  _time_            when, as 2026-03-04T09:14:03Z           _hpa_uid_            its uid
  _time_s_          ... in seconds since 1970              _target_             what it scales: Deployment/php-apache
  _time_ms_         ... in milliseconds                    _cluster_            the cluster's name
  _time_us_         ... in microseconds                    _reason_ _type_      SuccessfulRescale, Normal
  _time_ns_         ... in nanoseconds                     _count_              how often the Event was counted
  _time_ms_plus_1_  ... in milliseconds, and one more      _direction_          up or down
  _new_size_        replicas                               _occurrence_         the same for the same occurrence

A string that is only "_new_size_", "_count_" or a time since 1970 becomes a number. One without a value becomes null,
or nothing inside a text. Options before the last underscore change that:

  "_new_size:text_"          always a text, "" where there is no value
  "_direction:or=unknown_"   what stands for a value that is missing
  "_message:max=140_"        at most so many characters

No letter, digit or underscore may touch a placeholder, and keys stay as they are. Notes say what looks like a
placeholder and is not one.

  kubectl create secret generic hook --dry-run=client -o yaml \\
    --from-literal=url=https://example.com/hook --from-literal='body={"text":"_name_: _message_"}' > secret.yaml
  python -m function render-webhook secret.yaml

Exits with 1, and says why, where the Secret or the event could not be used.
"""

_KEYS = re.compile(
    r"(?:^|[-_.])(?:key|sid)$|(?:routing|integration|service|api|app|access|auth|license|write|account|user)[-_]?key"
    r"|token|secret|passw|credential|authoriz|signature|webhook[-_]?url",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"(?:dedup|aggregation|incident|idempotency)[-_]?key", re.IGNORECASE)

SAMPLE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "sample",
    "source": "https://10.96.0.1:443",
    "type": "dev.knative.apiserver.resource.add",
    "kind": "Event",
    "data": {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "php-apache.189998892946cc55", "namespace": "default"},
        "involvedObject": {
            "kind": occurrences.KIND,
            "namespace": "default",
            "name": "php-apache",
            "uid": "7f0b2c0e-9a41-4f0e-8d0a-2f5a0f4f6c11",
        },
        "source": {"component": occurrences.CONTROLLER},
        "type": "Normal",
        "reason": occurrences.RESCALED,
        "message": "New size: 4; reason: cpu resource utilization (percentage of request) above target",
        "lastTimestamp": "2026-03-04T09:14:03Z",
        "count": 1,
    },
}


@click.command(epilog=output.as_written(HELP))
@click.argument("secret", metavar="SECRET.yaml")
@click.argument("event", metavar="EVENT.json", required=False)
def command(secret: str, event: str | None) -> None:
    """Print the request that a Secret would send about a scaling event, with its secrets masked."""
    run(secret, event, output.configuration())


def run(
    secret: str,
    event: str | None,
    configuration: settings.Settings,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> None:
    """Print the request of the Secret in the file ``secret``; raise :class:`errors.VmledgerError` for what is wrong."""
    read = _template(secret)
    occurrence = _occurrence(event, configuration)
    for note in _notes(read, occurrence, configuration):
        print(f"note: {note}", file=err or sys.stderr)
    target = f"Deployment/{occurrence.name}"  # only the HPA itself says what it scales, and it is not asked here
    request = read.render(placeholders.values_of(occurrence, target=target))
    _show(request, read, out)
    reason = _closed(read.url, configuration)
    if reason is not None:
        raise errors.Refused(f"the url leads to {reason}, where no webhook may lead with these settings")


def _template(path: str) -> template.Template:
    import yaml

    try:
        documents = [each for each in yaml.safe_load_all(_bytes(path)) if each is not None]
    except yaml.MarkedYAMLError as exc:  # its text quotes the file
        line = f" at line {exc.problem_mark.line + 1}" if exc.problem_mark else ""
        raise errors.Refused(f"{path} is not YAML: the parser gave up{line}") from None
    except (yaml.YAMLError, UnicodeError, ValueError):
        raise errors.Refused(f"{path} is not YAML") from None
    secrets = [each for each in documents if isinstance(each, dict) and each.get("kind") == "Secret"]
    if len(secrets) != 1:
        raise errors.Refused(f"{path} holds {len(secrets) or 'no'} Secrets, and must hold one")
    metadata = secrets[0].get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    where = f"Secret {name}" if isinstance(name, str) else path
    return template.read(template.contents(secrets[0], where), where)


def _occurrence(path: str | None, configuration: settings.Settings) -> occurrences.Occurrence:
    body = json.dumps(SAMPLE).encode() if path is None else _bytes(path)
    [event] = cloudevents.from_wsgi({"CONTENT_TYPE": "application/cloudevents+json"}, body)
    found = occurrences.occurrence(event, cluster_name=configuration.ledger.cluster_name)
    if found is None:
        raise errors.Refused(
            f"{path} would notify nobody: it is not about a HorizontalPodAutoscaler, only refers to an Event, or says"
            " that an Event was deleted"
        )
    return found


def _bytes(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as exc:
        raise errors.Refused(f"{path} cannot be read: {exc.strerror or type(exc).__name__}") from None


def _notes(read: template.Template, occurrence: occurrences.Occurrence, configuration: settings.Settings) -> list[str]:
    notes = list(read.remarks)
    reasons = configuration.scaling.reasons
    if subscriptions.ALL not in reasons and occurrence.reason not in reasons:
        reason = errors.shown(occurrence.reason)
        notes.append(
            f"the reason {reason} notifies only if HPA_REASONS, or the annotation {subscriptions.REASONS}, has it"
        )
    return notes


def _closed(url: address_policy.Url, configuration: settings.Settings) -> str | None:
    """Return why the url is closed, as far as that can be told without resolving a name."""
    policy = address_policy.Policy(
        denied=address_policy.Rules.read(configuration.webhooks.denied_hosts),
        allowed=address_policy.Rules.read(configuration.webhooks.allowed_hosts),
    )
    host = url.host.rstrip(".")
    try:
        where = address_policy.address("127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host)
    except ValueError:
        # The name may yet resolve into a network that is allowed; an address in it tells only what names tell.
        where = next((network[0] for network in policy.allowed.networks), address_policy.address("203.0.113.1"))
    return policy.closed(url, where, ())


def _show(request: template.Request, read: template.Template, out: TextIO | None) -> None:
    url = request.url
    print(f"POST {url.scheme}://{url.authority}/{MASK}", file=out)
    theirs = {name.lower() for name in read.headers} | {"authorization"}
    for name, value in request.headers.items():
        print(f"{name}: {MASK if name.lower() in theirs and name != template.IDEMPOTENCY else value}", file=out)
    print(f"\n{json.dumps(_masked(json.loads(request.body)), indent=2, ensure_ascii=True)}", file=out)


def _masked(node: Any, *, hidden: bool = False) -> Any:
    match node:
        case dict():
            return {key: _masked(value, hidden=hidden or _is_secret(key)) for key, value in node.items()}
        case list():
            return [_masked(item, hidden=hidden) for item in node]
        case _:
            return MASK if hidden and node not in (None, "") else node


def _is_secret(key: str) -> bool:
    return bool(_KEYS.search(key)) and not _HARMLESS.fullmatch(key)
