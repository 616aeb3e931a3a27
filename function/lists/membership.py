"""Which hosts are in which group, for a fleet of any size.

Hosts are read by their own keys, and a group needs all of its hosts together. In memory that is a list for each group,
and a label of its own for each machine makes a hundred thousand groups. So the pairs are sorted in temporary files: a
portion at a time in memory, then all portions are merged.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import operator
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

import msgspec

MOST_IN_MEMORY = 40_000
"""Pairs: some 10 MB."""

Pair = tuple[str, str, str]
"""The group's name, what it is made of, and the host."""

_GROUP = operator.itemgetter(0, 1)


class Membership:
    """Pairs of a group and a host; close it, so that its files go."""

    def __init__(self) -> None:
        self._pairs: list[Pair] = []
        self._files = contextlib.ExitStack()
        self._sorted: list[IO[bytes]] = []

    def add(self, pairs: Iterable[Pair]) -> None:
        """Keep some pairs."""
        self._pairs += pairs
        if len(self._pairs) >= MOST_IN_MEMORY:
            self._store()

    def _store(self) -> None:
        file = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # closed by :meth:`close`
        self._sorted.append(file)
        encode = msgspec.json.Encoder().encode
        file.writelines(encode(pair) + b"\n" for pair in sorted(self._pairs, key=_GROUP))
        self._pairs.clear()

    def _merged(self) -> Iterator[Pair]:
        decode = msgspec.json.Decoder(Pair).decode
        for file in self._sorted:
            file.seek(0)
        return heapq.merge(*(map(decode, file) for file in self._sorted), key=_GROUP)

    def groups(self) -> Iterator[tuple[str, str, bool, Iterator[str]]]:
        """Yield each group: its name, what it is made of, whether others have the name, and its hosts in their order.

        All is read twice, because the first group of a name is written before the second one is seen.
        """
        self._store()
        names = (name for (name, _), _ in itertools.groupby(self._merged(), key=_GROUP))
        shared = {name for name, groups in itertools.groupby(names) if len(list(itertools.islice(groups, 2))) > 1}
        for (name, origin), members in itertools.groupby(self._merged(), key=_GROUP):
            yield name, origin, name in shared, (pair[2] for pair in members)

    def close(self) -> None:
        """Remove the files."""
        self._files.close()
