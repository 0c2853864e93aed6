"""What the last tokens of a window cost: the same tokens under contexts of every length, nothing else changing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extrapo.errors import UserError
from extrapo.evaluation.lengths import require_text
from extrapo.evaluation.protocols.base import PROTOCOLS, Protocol, ScoredWindow


@dataclass(frozen=True)
class WindowEnds(Protocol):
    """The targets come in groups of `last`, and the windows of all lengths end where a group ends: a target has
    L - last + 1 to L tokens of past.

    Args:
        last: targets at the end of each window.

    Raises:
        UserError: `last` below 1; `targets`, of a length below it, or of a text shorter than one window.
    """

    last: int | None = None

    def __post_init__(self) -> None:
        if self.last is not None and self.last < 1:
            raise UserError(f"protocol '{self.name}' scores at least 1 token of each window, not {self.last}")

    def group(self, lengths: Sequence[int]) -> int:
        """Targets of one window; see `last`."""
        last = self.by_default(min(lengths)) if self.last is None else self.last
        if last > min(lengths):
            raise UserError(f"protocol '{self.name}': a window of {min(lengths)} tokens has no {last} targets")
        return last

    @abstractmethod
    def by_default(self, shortest: int) -> int:
        """`last` where it is not given, for a shortest length of so many tokens."""

    @abstractmethod
    def apart(self, longest: int, last: int) -> int:
        """Tokens from the end of one group to the end of the next."""

    def stride(self, length: int) -> None:
        return None

    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> list[range]:
        longest, last = max(lengths), self.group(lengths)
        require_text(lengths, available)
        apart = self.apart(longest, last)
        groups = min(max(1, wanted // last), 1 + (available - 1 - longest) // apart)
        ends = range(longest + 1, longest + 1 + groups * apart, apart)
        return [range(end - last, end) for end in ends]

    def windows(self, length: int, targets: Sequence[range]) -> Iterator[ScoredWindow]:
        for group in targets:
            yield ScoredWindow(group[-1] - length, group[-1], group.start)


@PROTOCOLS.register("last-k")
@dataclass(frozen=True)
class LastK(WindowEnds):
    """The windows of the longest length stand side by side, and of each the last `last` targets are scored; 256, or as
    many as the shortest length has.
    """

    @property
    def description(self) -> str:
        last = "256 targets (or as many as the shortest length has)" if self.last is None else f"{self.last:,} targets"
        return f"the last {last} of windows that end at the same places"

    def by_default(self, shortest: int) -> int:
        return min(256, shortest)

    def apart(self, longest: int, last: int) -> int:
        return longest


@PROTOCOLS.register("fixed-target")
@dataclass(frozen=True)
class FixedTarget(WindowEnds):
    """Every target of one stretch of text under every length: what more context is worth. The groups stand side by
    side; a quarter of the shortest length each, so that no target has less than three quarters of a length.
    """

    @property
    def description(self) -> str:
        groups = "a quarter of the shortest length" if self.last is None else f"{self.last:,}"
        return f"the same stretch of text under every length, {groups} targets at a time"

    def by_default(self, shortest: int) -> int:
        return max(1, shortest // 4)

    def apart(self, longest: int, last: int) -> int:
        return last
