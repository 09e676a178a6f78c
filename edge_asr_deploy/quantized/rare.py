"""Rows of the tied table that are stored coarser than the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RareRows:
    """The rows `start` .. `stop` - 1, of tokens that are seldom said.

    The `dropped` lowest bits of their codes and zero points are 0, and those of the codes are not stored.
    """

    start: int
    stop: int
    dropped: int

    @property
    def number(self) -> int:
        """How many there are."""
        return self.stop - self.start
