"""What a protocol is: a choice of targets, and of the windows through which the model comes to each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError
from extrapo.evaluation.uncertainty import block_of
from extrapo.registry import Registry

#: Indices of tokens: one stretch of text, or several from left to right.
Targets: TypeAlias = range | Sequence[range]


class ScoredWindow(NamedTuple):
    """What the model sees at once, and which of its predictions count.

    Tokens `start` to `stop - 1` go in and predict tokens `start + 1` to `stop`. Of these targets, `first_target` to
    `stop` are scored; those before it are context alone.
    """

    start: int
    stop: int
    first_target: int

    @property
    def size(self) -> int:
        """Tokens that the model sees."""
        return self.stop - self.start

    @property
    def targets(self) -> range:
        """The targets that are scored, as indices of tokens."""
        return range(self.first_target, self.stop + 1)

    @property
    def unscored(self) -> int:
        """Predictions at its beginning that do not count."""
        return self.first_target - self.start - 1


@dataclass(frozen=True)
class Protocol(ABC):
    """A way to measure the loss at some length: a perplexity at length L means nothing without one.

    The targets are chosen once, for all lengths, and each length covers exactly these: lengths differ in what the
    model sees, never in what it is asked. A subclass says how; `cover` holds it to that.

    Args:
        name: what it is registered under, and curves are recorded under.
    """

    name: str

    @property
    @abstractmethod
    def description(self) -> str:
        """The windows in a few words for people, such as "disjoint windows, stride = length"."""

    @abstractmethod
    def stride(self, length: int) -> int | None:
        """Tokens from the start of a window of this length to the start of the next; None if that varies."""

    @abstractmethod
    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> Targets:
        """The targets that every length is scored on, as indices of tokens: a range, or several from left to right.

        Args:
            lengths: evaluation lengths in tokens, none below 1.
            available: tokens of the text; token 0 has no past and cannot be a target.
            wanted: how many to score, at most, unless that is less than a window.

        Raises:
            UserError: the text is too short.
        """

    @abstractmethod
    def windows(self, length: int, targets: Any) -> Iterable[ScoredWindow]:
        """Windows of at most `length` tokens that together score every one of `targets` once, which are as the method
        of this name gave them.
        """

    def bins(self, length: int) -> Sequence[range]:
        """Positions in a window of this length, 1 to L, whose losses are told apart: stretches from left to right; none
        by default. A target at position n is predicted from n tokens.
        """
        return ()

    def block_of(self, targets: Sequence[range]) -> NDArray[np.int64]:
        """(last target + 1,) which block of a bootstrap each target belongs to; see `uncertainty.block_of`."""
        return block_of(targets)

    @final
    def bin_of(self, length: int) -> NDArray[np.int64]:
        """(L,) the bin of each position from 1 on; 0 where none are told apart.

        Raises:
            UserError: the bins leave a position out, or have one twice.
        """
        bins = self.bins(length)
        if bins and [position for one in bins for position in one] != list(range(1, length + 1)):
            raise UserError(f"protocol '{self.name}' at length {length}: its bins are not the positions 1 to {length}")
        return np.repeat(np.arange(len(bins) or 1), [len(one) for one in bins] or [length])

    @final
    def cover(self, lengths: Sequence[int], available: int, wanted: int) -> dict[int, list[ScoredWindow]]:
        """The windows of each length, all of which score the same targets.

        Args:
            lengths: evaluation lengths in tokens.
            available: tokens of the text.
            wanted: targets to score, at most, unless that is less than a window.

        Raises:
            UserError: no length, a length below 1, a text that is too short; or the protocol scores a target twice,
                leaves one out, or shows more than a length.
        """
        if not lengths:
            raise UserError("no evaluation length is given")
        if min(lengths) < 1:
            raise UserError(f"an evaluation length must be at least 1, not {min(lengths)}")
        targets = self.targets(lengths, available, wanted)
        stretches = stretches_of(targets)
        borders = [1, *(border for stretch in stretches for border in (stretch.start, stretch.stop)), available]
        if not stretches or not all(one and one.step == 1 for one in stretches) or borders != sorted(borders):
            raise UserError(f"protocol '{self.name}' has no targets in a text of {available} tokens: {targets}")
        return {length: self._checked(length, stretches, targets) for length in lengths}

    @final
    def fits(self, length: int, available: int, wanted: int) -> bool:
        """Whether a text of so many tokens can be scored at this length; arguments as those of `cover`."""
        try:
            self.cover([length], available, wanted)
        except UserError:
            return False
        return True

    @final
    def tokens_read(self, lengths: Sequence[int], wanted: int) -> dict[int, int]:
        """How many tokens the model reads at each length to score `wanted` targets of a long text."""
        if not lengths:
            return {}
        covered = self.cover(lengths, (wanted + 2) * max(lengths) + 1, wanted)
        return {length: sum(window.size for window in windows) for length, windows in covered.items()}

    def _checked(self, length: int, stretches: Sequence[range], targets: Targets) -> list[ScoredWindow]:
        windows = list(self.windows(length, targets))
        at = f"protocol '{self.name}' at length {length}"
        ahead = iter(stretches)
        due = next(ahead)
        for window in sorted(windows, key=lambda window: window.first_target):
            if not 0 <= window.start < window.first_target <= window.stop:
                raise UserError(f"{at}: {window} scores none of its own predictions")
            if window.size > length:
                raise UserError(f"{at}: {window} shows {window.size} tokens at once")
            if not due:
                due = next(ahead, due)
            if window.first_target < stretches[0].start or window.stop >= stretches[-1].stop:
                raise UserError(f"{at}: {window} scores more than the targets {_told(stretches)}")
            if window.first_target < due.start:
                raise UserError(f"{at}: token {window.first_target} is scored twice, or is no target")
            if window.first_target > due.start:
                break
            if window.stop >= due.stop:
                raise UserError(f"{at}: token {due.stop} is scored, which is no target")
            due = due[window.stop + 1 - due.start :]
        due = due or next(ahead, due)
        if due:
            raise UserError(f"{at}: token {due.start} is not scored, which is at other lengths")
        return windows


def stretches_of(targets: Targets) -> Sequence[range]:
    """The targets as several stretches, from left to right."""
    return [targets] if isinstance(targets, range) else targets


def _told(stretches: Sequence[range]) -> str:
    return f"{stretches[0].start} to {stretches[-1].stop - 1}"


#: The protocols, by name.
PROTOCOLS: Registry[Protocol] = Registry("protocol", "extrapo.protocols")
