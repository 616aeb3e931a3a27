"""``python -m function render-webhook``: the request that a Secret would send, without sending it.

Nothing here uses a network. The output may be shown to others: function/scaling/preview.py masks its secrets.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import click

from function import errors, events
from function.cli import output
from function.scaling import preview
from function.web import cloudevents

HELP = """\
SECRET.yaml is the Secret as you would apply it, with the keys

  url      where to POST to, http:// or https://
  headers  a JSON object of header names and values (may be absent)
  body     JSON, whatever the receiver wants
  success  what the answer to a success contains, such as {"errno": 0}; or the word status, for any 2xx (may be absent)

and EVENT.json is a CloudEvent about a HorizontalPodAutoscaler in the JSON format, as the dead letter sink shows it.
Without it a sample is used: php-apache in namespace default was scaled to 4.

These placeholders are replaced in the strings of body and in the values of headers:

  _message_         the message of the Event               _namespace_ _name_   the HPA
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

Exits with 1, and prints why, where the Secret or the event cannot be used.
"""


@click.command(epilog=output.as_written(HELP))
@click.argument("secret", metavar="SECRET.yaml")
@click.argument("event", metavar="[EVENT.json]", required=False)
def command(secret: str, event: str | None) -> None:
    """Print the request that a Secret would send about a scaling event, with its secrets masked."""
    about = preview.SAMPLE if event is None else _event(event)
    found = preview.preview(*_secret(secret), about, output.configuration())
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    output.say(f"POST {found.url}")
    for name, value in found.headers.items():
        output.say(f"{name}: {value}")
    output.say(f"\n{json.dumps(found.body, indent=2)}")
    if found.closed is not None:
        raise errors.Refused(f"the url leads to {found.closed}, where no webhook may lead with these settings")


def _secret(path: str) -> tuple[dict[str, Any], str]:
    """Return the one Secret of a file, and what names it in sentences."""
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
    return secrets[0], where


def _event(path: str) -> events.Event:
    [event] = cloudevents.from_wsgi({"CONTENT_TYPE": "application/cloudevents+json"}, _bytes(path))
    return event


def _bytes(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as exc:
        raise errors.Refused(f"{path} cannot be read: {exc.strerror or type(exc).__name__}") from None
