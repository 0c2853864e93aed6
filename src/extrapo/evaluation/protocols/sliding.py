"""Sliding windows: each target has a past of nearly L tokens. Baevski and Auli (1809.10853); ALiBi (2108.12409)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extrapo.errors import UserError
from extrapo.evaluation.lengths import require_text
from extrapo.evaluation.protocols.base import PROTOCOLS, Protocol, ScoredWindow


@PROTOCOLS.register("sliding")
@dataclass(frozen=True)
class Sliding(Protocol):
    """Windows that move by a stride and score what is new. The first one stands at the start of the text, where there
    is no more past, and scores all it has.

    Args:
        step: tokens the window moves by; None is half the length.

    Raises:
        UserError: a stride below 1; `windows`, of a length that is shorter, which would leave targets out.
    """

    step: int | None = None

    def __post_init__(self) -> None:
        if self.step is not None and self.step < 1:
            raise UserError(f"protocol '{self.name}': the stride must be at least 1, not {self.step}")

    @property
    def description(self) -> str:
        moves = "length / 2" if self.step is None else f"{self.step:,}"
        return f"sliding windows, stride = {moves}, what is new is scored"

    def stride(self, length: int) -> int:
        return self.step or max(1, length // 2)

    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> range:
        require_text(lengths, available)
        return range(1, 1 + min(available - 1, max(wanted, *lengths)))

    def windows(self, length: int, targets: range) -> Iterator[ScoredWindow]:
        last = targets[-1]
        if self.stride(length) > length and len(targets) > length:
            raise UserError(f"protocol '{self.name}': a stride of {self.step} leaves targets out at length {length}")
        yield ScoredWindow(targets.start - 1, targets.start - 1 + length, targets.start)
        for first in range(targets.start + length, last + 1, self.stride(length)):
            stop = min(first - 1 + self.stride(length), last)
            yield ScoredWindow(stop - length, stop, first)
