"""How long work reports its progress. The work calls it and prints nothing; the command line decides what is shown."""

from __future__ import annotations


class Progress:
    """Shows nothing; the command line overrides it."""

    def at(self, what: str, count: int, most: int) -> None:
        """Report that ``count`` of about ``most`` are done of ``what``, such as "virtual machines"."""

    def note(self, sentence: str) -> None:
        """Report a sentence for the person who waits."""
