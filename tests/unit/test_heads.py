"""Where a request's head ends, however its bytes are divided."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from function.web import heads

BYTES = st.text(alphabet="a:\r\n", max_size=60).map(str.encode)


def taken(pieces: list[bytes], *, most_line: int = 4094, most_fields: int = 200) -> int | None:
    """Return how many pieces were taken until the parser was to have them; None where it was to wait."""
    head = heads.Head(most_line, most_fields)
    for number, piece in enumerate(pieces, 1):
        if head.add(piece):
            return number
    return None


@hypothesis.given(BYTES, st.lists(st.integers(0, 60)))
def test_a_head_ends_at_the_same_byte_in_whatever_pieces_it_comes(data: bytes, cuts: list[int]) -> None:
    """The parser gets it with the piece that holds the end, or the first line that LF alone ends."""
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    expected = next((number for number, end in enumerate(ends, 1) if _is_over(data[:end])), None)
    assert taken(pieces) == expected


def _is_over(data: bytes) -> bool:
    return b"\r\n\r\n" in data or data.count(b"\n") != data.count(b"\r\n")


def test_the_parser_refuses_a_request_line_that_is_too_long_at_once() -> None:
    """Whatever follows, it is 414."""
    assert taken([b"GET /", b"x" * 4091]) is None
    assert taken([b"GET /", b"x" * 4092]) == 2
    assert taken([b"GET / HTTP/1.1\r\n", b"a: " + b"x" * 5000]) is None


@pytest.mark.parametrize("piece", [b"a" * 1000, b"a: b\r\n", b"a: " + b"b" * 60_000 + b"\r\n"])
def test_a_head_without_end_is_refused(piece: bytes) -> None:
    """For its bytes, or for its lines."""
    head = heads.Head(4094, 200)
    assert not head.add(b"GET / HTTP/1.1\r\n")
    with pytest.raises(heads.TooMuch):
        any(head.add(piece) for _ in range(1000))
    assert head.size <= heads.MOST_BYTES + len(piece)


def test_a_head_of_as_many_fields_as_are_allowed_is_waited_for() -> None:
    """200 lines and the request line; the empty line ends it."""
    assert taken([b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 200, b"\r\n"]) == 202
