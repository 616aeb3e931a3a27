"""``python -m bench.masking``: what masking hides and need not, and how its time grows with the text.

The first lines count, over the corpus of the tests and the samples of events: payloads with a secret and how many of
them leak it, payloads without one and how many of them are changed, members of real events and how many are hidden.
Then, for pieces that are hard to read: four times the text should take about four times as long; a step whose time grew
with the square would show as 16. Each text is the piece again and again, as an attacker might send to hold up
the others.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from function.echo import masking
from tests import masking_corpus

SAMPLES = pathlib.Path(__file__).parent.parent / "tests" / "events"

SIZE = 200_000
"""Characters of the shorter text."""
ROUNDS = 3


def seconds(piece: str, size: int) -> float:
    """Return the processor time that masking a text takes; the least of some rounds."""
    text = piece * (size // len(piece))
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        masking.mask_text(text)
        spent.append(time.process_time() - started)
    return min(spent)


def members(value: Any) -> Iterator[Any]:
    """Yield each text, number and boolean of a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from members(inner)
    elif value not in (None, ""):
        yield value


def counted() -> Iterator[tuple[str, int, int]]:
    """Yield what was looked at, how many there were, and how many were wrong."""
    secrets = [text for text in masking_corpus.SECRETS.values() if isinstance(text, str)]
    leaking = [text for text in secrets if any(piece in masking.mask_text(text) for piece in masking_corpus.PIECES)]
    yield "payloads with a secret, leaking it in the clear", len(secrets), len(leaking)
    harmless = masking_corpus.HARMLESS.values()
    yield "payloads without a secret, changed", len(harmless), sum(masking.mask_text(text) != text for text in harmless)
    samples = [json.loads(path.read_text()) for path in SAMPLES.rglob("*.json")]
    hidden = sum(len(re.findall(r"\*\*\*", masking.Encoder().encode(sample))) for sample in samples)
    yield (
        "members of the samples of events, hidden (all of them secrets)",
        sum(len([*members(s)]) for s in samples),
        hidden,
    )


def main() -> int:
    """Print the counts, and a line for each piece."""
    for what, total, wrong in counted():
        print(f"{what:<64}{total:>8,}{wrong:>8,}", flush=True)
    print(f"{'text made of':<28}{SIZE:>12,} characters{4 * SIZE:>12,} characters   times as long")
    for piece in masking_corpus.HARD_TO_READ:
        short, long = seconds(piece, SIZE), seconds(piece, 4 * SIZE)
        print(f"{piece!r:<28}{short * 1000:>20.0f} ms{long * 1000:>20.0f} ms{long / short:>16.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
