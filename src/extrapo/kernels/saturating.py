"""Kernels with a floor: what lies far away keeps a weight. Controls; T5 (1910.10683) is flat beyond its last bucket."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.kernels.base import Initial, Kernel, Positive, Width, kernels


class Saturating(Kernel):
    """A fall from 0 to -c over a width w.

    Args:
        c: depth, positive.
        w: width.
    """

    paper = "-"
    summable = "never"
    cpd = True

    def __init__(self, heads: int | None = None, *, c: Initial = 4.0, w: Initial = 64.0) -> None:
        super().__init__(heads)
        self.c = Positive(c, heads)
        self.w = Width(w, heads)

    def values(self) -> tuple[Tensor, ...]:
        return self.c(), self.w()


@kernels.register("exp-saturating")
class ExpSaturating(Saturating):
    """phi(z) = -c (1 - e^(-z/w)). Parameters: see Saturating.

    Causally one column in exact arithmetic, e^(-S_i/w) e^(S_j/w), which overflows float32 beyond 88 w: not folded.
    """

    summary = "-c (1 - e^(-z/w)); control"

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        c, w = values
        return c * torch.expm1(-z / w)


@kernels.register("gauss-saturating")
class GaussSaturating(Saturating):
    """phi(z) = -c (1 - e^(-z^2/w^2)). Parameters: see Saturating."""

    summary = "-c (1 - e^(-z^2/w^2)); control"
    needs_nonnegative = False

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        c, w = values
        return c * torch.expm1(-(z / w).square())


@kernels.register("triangular")
class Triangular(Kernel):
    """phi(z) = -r min(z, w): linear up to w, then flat.

    Args:
        r: slope, positive.
        w: distance where it turns flat.
    """

    paper = "-"
    summary = "-r min(z, w); control"
    needs_nonnegative = False
    summable = "never"
    cpd = True

    def __init__(self, heads: int | None = None, *, r: Initial = 0.25, w: Initial = 16.0) -> None:
        super().__init__(heads)
        self.r = Positive(r, heads)
        self.w = Width(w, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        r, w = values
        return -r * torch.minimum(z, w)

    def values(self) -> tuple[Tensor, ...]:
        return self.r(), self.w()
