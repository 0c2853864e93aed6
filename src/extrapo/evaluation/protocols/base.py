"""What a protocol is: a choice of targets, and of the windows through which the model comes to each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from extrapo.errors import UserError
from extrapo.registry import Registry


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
    def targets(self, lengths: Sequence[int], available: int, wanted: int) -> range:
        """The targets that every length is scored on, as indices of tokens.

        Args:
            lengths: evaluation lengths in tokens, none below 1.
            available: tokens of the text; token 0 has no past and cannot be a target.
            wanted: how many to score, at most, unless that is less than a window.

        Raises:
            UserError: the text is too short.
        """

    @abstractmethod
    def windows(self, length: int, targets: range) -> Iterable[ScoredWindow]:
        """Windows of at most `length` tokens that together score every one of `targets` once."""

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
        if not targets or targets.step != 1 or targets.start < 1 or targets.stop > available:
            raise UserError(f"protocol '{self.name}' has no targets in a text of {available} tokens: {targets}")
        return {length: self._checked(length, targets) for length in lengths}

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
        covered = self.cover(lengths, wanted + 2 * max(lengths) + 1, wanted)
        return {length: sum(window.size for window in windows) for length, windows in covered.items()}

    def _checked(self, length: int, targets: range) -> list[ScoredWindow]:
        windows = list(self.windows(length, targets))
        at = f"protocol '{self.name}' at length {length}"
        due = targets.start
        for window in sorted(windows, key=lambda window: window.first_target):
            if not 0 <= window.start < window.first_target <= window.stop:
                raise UserError(f"{at}: {window} scores none of its own predictions")
            if window.size > length:
                raise UserError(f"{at}: {window} shows {window.size} tokens at once")
            if window.first_target < targets.start or window.stop >= targets.stop:
                raise UserError(f"{at}: {window} scores more than the targets {targets.start} to {targets.stop - 1}")
            if window.first_target < due:
                raise UserError(f"{at}: token {window.first_target} is scored twice")
            if window.first_target > due:
                break
            due = window.stop + 1
        if due < targets.stop:
            raise UserError(f"{at}: token {due} is not scored, which is at other lengths")
        return windows


#: The protocols, by name.
PROTOCOLS: Registry[Protocol] = Registry("protocol", "extrapo.protocols")
