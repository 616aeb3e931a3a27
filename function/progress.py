"""What long work says while it goes on. The work calls it; who runs the work decides what a person sees of it."""

from __future__ import annotations


class Progress:
    """Says nothing; the command line overrides it."""

    def at(self, what: str, count: int, most: int) -> None:
        """``count`` of about ``most`` are done of ``what``, such as "virtual machines"."""

    def note(self, sentence: str) -> None:
        """Something that a person who waits wants to read now."""
