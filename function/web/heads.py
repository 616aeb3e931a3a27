"""Where the head of a request ends, in whatever pieces it arrives, and what WSGI does not show of it; pure.

gunicorn's parser searches all that has come of a head at each read, so a head of n bytes that trickles in would cost n
squared. Here each piece is looked at once, and the parser gets the head when it is whole.
This is not a parser: what a head says, and whether it is one, is gunicorn's to decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

END = b"\r\n\r\n"
MOST_BYTES = 128 * 1024
"""Of a head in all: the request line and every header line."""


REPEATED = "HTTP_VMLEDGER_REPEATED"
"""Where in a request's environment each door says which header of an attribute is there twice."""


def repeated(names: Sequence[str]) -> str:
    """Return the header of an attribute that is there twice, and an empty text where none is.

    WSGI joins the two values to one that nobody sent. names: of all headers, each in the same case.
    """
    attributes = [name for name in names if name[:3] in ("CE-", "ce-")]
    if len(attributes) == len({*attributes}):
        return ""
    return next(name.lower() for name in attributes if attributes.count(name) > 1)


class TooMuch(Exception):
    """The head is larger than a request may have, and no end of it has come."""


@dataclasses.dataclass
class Head:
    """The head of one request as far as it has come.

    most_line: bytes of the request line. most_fields: header lines.
    """

    most_line: int
    most_fields: int
    size: int = 0
    lines: int = 0
    last: bytes = b""
    """The last bytes that came; the end of the head, or of a line, may be divided between two pieces."""

    def add(self, piece: bytes) -> bool:
        """Take the bytes that follow; return whether the parser is to have what has come.

        That is the case at the end of the head, and where more bytes would change nothing about the parser's refusal:
        after a request line that is too long, or a line that ends in LF alone (RFC 9112, section 2.2).

        Raises :class:`TooMuch`.
        """
        joined = self.last + piece
        self.size += len(piece)
        lines = joined.count(b"\r\n", max(0, len(self.last) - 1))
        self.lines += lines
        if END in joined:
            return True
        if self.size > MOST_BYTES or self.lines > self.most_fields + len(("empty line", "request line")):
            raise TooMuch
        if piece.count(b"\n") != lines:
            return True
        self.last = joined[-3:]
        return not self.lines and self.size > self.most_line + len(b"\r\n")
