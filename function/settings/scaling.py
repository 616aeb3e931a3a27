"""Which scaling events notify."""

from __future__ import annotations

import dataclasses
import re

from function.settings import variables


def namespaces(value: str) -> tuple[str, ...]:
    """Names of namespaces separated by commas, or ``*``."""
    found = variables.words(value)
    if not all(name == "*" or re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in found):
        raise ValueError("must list names of namespaces, or *, separated by commas")
    return found


def annotation(value: str) -> str:
    """The key of an annotation: a name, with or without a prefix and a slash (apimachinery's qualified name)."""
    if not re.fullmatch(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("must be the key of an annotation, such as hpa-event or example.com/hpa-event")
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling(variables.Part):
    """Which scaling events notify."""

    reasons: tuple[str, ...] = variables.variable(
        "HPA_REASONS",
        variables.words,
        default=("SuccessfulRescale", "FailedRescale"),
        doc="Reasons of an HPA's Events that notify, separated by commas; `*` for all.",
    )
    throttle: int | None = variables.variable(
        "HPA_THROTTLE",
        variables.whole(0, 10**9),
        doc="Least seconds between two notices of one HPA and reason. Unset: 0 for SuccessfulRescale, 600 for others.",
    )
    max_age: int = variables.variable(
        "HPA_MAX_AGE",
        variables.whole(0, 10**11),
        default=3600,
        doc="Seconds after which an occurrence notifies nobody any more; 0 for no limit.",
    )
    annotation: str = variables.variable(
        "HPA_ANNOTATION", annotation, default="hpa-event", doc="Annotation of an HPA that names the Secret."
    )
    secret_namespaces: tuple[str, ...] = variables.variable(
        "HPA_SECRET_NAMESPACES",
        namespaces,
        default=(),
        doc="Namespaces whose Secrets an HPA of another one may name, separated by commas; `*` for all.",
    )
