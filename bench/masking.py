"""``python -m bench.masking``: how the time of masking grows with the text, for pieces that are hard to read.

Four times the text should take about four times as long; a step whose time grew with the square would show as 16.
Each text is the piece again and again, as somebody might send who wants to hold up the others.
"""

from __future__ import annotations

import sys
import time

from function.echo import masking

PIECES = (
    "token",
    'password="',
    "<",
    "<a ",
    "<a '\"",
    "&amp;",
    'token:"\\',
    "-",
    "<a></b>",
    "{",
    "token:\n- ",
    "kind: Secret\ndata: {",
    "kind: Secret\n- data:\n ",
    "<secret><data>",
    "<kind>Secret</kind>",
)
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


def main() -> int:
    """Print a line for each piece."""
    print(f"{'text made of':<28}{SIZE:>12,} characters{4 * SIZE:>12,} characters   times as long")
    for piece in PIECES:
        short, long = seconds(piece, SIZE), seconds(piece, 4 * SIZE)
        print(f"{piece!r:<28}{short * 1000:>20.0f} ms{long * 1000:>20.0f} ms{long / short:>16.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
