"""Logit: the formula of one pair's logit, from its score s q.k and its factors, written once.

Every back end makes what it needs of the same formula: a tile, the row of decoding, FlexAttention's (b, h, i, j), a
compiled loop, a line of distances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor


class Logit(ABC):
    """logit(score, *factors), elementwise. Subclasses are frozen dataclasses without tensors: equal ones share what was
    compiled.
    """

    @property
    def additive(self) -> bool:
        """Whether the formula only adds to the score."""
        return False

    @abstractmethod
    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        """The logits (..., R, S') of scores s q.k, and of factors that broadcast with them."""

    def added(self, *factors: Tensor) -> Tensor:
        """What is left where the score is 0."""
        return self(factors[0].new_zeros(()), *factors)

    def line(self, *factors: Tensor) -> tuple[Tensor | None, Tensor] | None:
        """(t, b) where the logit is t score + b, t None for 1; None where it is not so."""
        return None


class Affine(Logit):
    """score x temperature + bias."""

    @abstractmethod
    def temperature(self, *factors: Tensor) -> Tensor:
        """What the score is multiplied by."""

    @abstractmethod
    def bias(self, *factors: Tensor) -> Tensor:
        """What is added."""

    @final
    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score * self.temperature(*factors) + self.bias(*factors)

    @final
    def added(self, *factors: Tensor) -> Tensor:
        return self.bias(*factors)

    @final
    def line(self, *factors: Tensor) -> tuple[Tensor | None, Tensor] | None:
        return self.temperature(*factors), self.bias(*factors)


class Additive(Logit):
    """score + bias."""

    @property
    @final
    def additive(self) -> bool:
        return True

    @abstractmethod
    def bias(self, *factors: Tensor) -> Tensor:
        """What is added."""

    @final
    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score + self.bias(*factors)

    @final
    def added(self, *factors: Tensor) -> Tensor:
        return self.bias(*factors)

    @final
    def line(self, *factors: Tensor) -> tuple[Tensor | None, Tensor] | None:
        return None, self.bias(*factors)


@final
@dataclass(frozen=True)
class AddedTile(Additive):
    """score + tile: the one factor is a number of each pair."""

    def bias(self, *factors: Tensor) -> Tensor:
        (tile,) = factors
        return tile


@final
@dataclass(frozen=True)
class AffineLine(Affine):
    """score x t + b, of factors t and b."""

    def temperature(self, *factors: Tensor) -> Tensor:
        return factors[0]

    def bias(self, *factors: Tensor) -> Tensor:
        return factors[1]


@final
@dataclass(frozen=True)
class Content(Logit):
    """The score as it is; the one factor is the 0 that is added."""

    @property
    def additive(self) -> bool:
        return True

    def __call__(self, score: Tensor, *factors: Tensor) -> Tensor:
        return score

    def added(self, *factors: Tensor) -> Tensor:
        return factors[0]
