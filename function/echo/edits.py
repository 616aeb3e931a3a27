"""Pieces of a text that others take the place of; pure."""

from __future__ import annotations

from collections.abc import Iterator


class Edits:
    """What is to be replaced in a text; of what overlaps, the outermost wins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._edits: list[tuple[int, int, str]] = []
        """Start, minus the end, what comes there; so that sorting puts the outermost first."""

    def replace(self, start: int, end: int, by: str) -> None:
        """Note a replacement of what stands between two positions."""
        self._edits.append((start, -end, by))

    def replaced(self) -> Iterator[str]:
        """Yield each piece that :meth:`applied` leaves out."""
        for start, end, _ in self._outermost():
            yield self._text[start:end]

    def applied(self) -> str:
        """Return the text with all replacements made."""
        pieces, position = [], 0
        for start, end, by in self._outermost():
            pieces += [self._text[position:start], by]
            position = end
        return "".join([*pieces, self._text[position:]]) if pieces else self._text

    def _outermost(self) -> Iterator[tuple[int, int, str]]:
        position = 0
        for start, minus_end, by in sorted(self._edits):
            if start >= position:
                yield start, -minus_end, by
                position = -minus_end
