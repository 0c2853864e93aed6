"""Disjoint windows: every target is scored once, with 1 to L tokens of past. ALiBi (2108.12409): nonoverlapping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extrapo.evaluation.lengths import tokens_to_score
from extrapo.evaluation.protocols.base import PROTOCOLS, Protocol, ScoredWindow


@PROTOCOLS.register("disjoint")
@dataclass(frozen=True)
class Disjoint(Protocol):
    """Windows side by side; where a length does not divide the targets, the last one begins earlier to be whole.

    The first tokens of a window see little: longer windows have fewer of them, so that even a model that only looks
    at its neighbours gains a little with L.
    """

    description = "disjoint windows, stride = length"

    def stride(self, length: int) -> int:
        return length

    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> range:
        return range(1, 1 + tokens_to_score(lengths, available, wanted))

    def windows(self, length: int, targets: range) -> Iterator[ScoredWindow]:
        for first in targets[::length]:
            stop = min(first - 1 + length, targets[-1])
            yield ScoredWindow(stop - length, stop, first)
