"""Somebody who is told how far a preparation is."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told how far a preparation is."""

    def step(self, name: str, total: int) -> None:
        """A step begins, of so many bytes, or tokens, to read (0 where that is not known)."""

    def progress(self, size: int, tokens: int) -> None:
        """So much has been read in this step, and so many tokens are there."""


class Unwatched:
    """Nobody looks."""

    def step(self, name: str, total: int) -> None:
        """Nothing."""

    def progress(self, size: int, tokens: int) -> None:
        """Nothing."""
