"""Logarithms of the distance: KERPLE's log (2205.09921) and K-Cable's Cauchy kernel (2503.08067 v3, section 5.6)."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.kernels.base import Constraint, Initial, Kernel, Positive, kernels


@kernels.register("log")
class Log(Kernel):
    """phi(z) = -p ln(1 + a z).

    Args:
        p: outer factor, at least 0.01.
        a: inner factor, at least 0.01.
        constraint: `softplus` (default), or `clamp` as in KERPLE's code.
    """

    paper = "KERPLE, 2205.09921"
    summary = "-p ln(1 + a z)"

    def __init__(
        self,
        heads: int | None = None,
        *,
        p: Initial = 1.0,
        a: Initial = 1.0,
        constraint: Constraint = "softplus",
    ) -> None:
        super().__init__(heads)
        self.p = Positive(p, heads, floor=0.01, constraint=constraint)
        self.a = Positive(a, heads, floor=0.01, constraint=constraint)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        p, a = values
        return -p * torch.log1p(a * z)

    def values(self) -> tuple[Tensor, ...]:
        return self.p(), self.a()


@kernels.register("cauchy-log")
class CauchyLog(Kernel):
    """phi(z) = -ln(1 + (z / w)^2): the weight e^phi is a Cauchy density of the distance.

    Args:
        w: width; None is 1, as in the paper, without a parameter.
    """

    paper = "Cable v3, 2503.08067"
    summary = "-ln(1 + z^2)"
    needs_nonnegative = False

    def __init__(self, heads: int | None = None, *, w: Initial | None = None) -> None:
        super().__init__(heads)
        self.w = None if w is None else Positive(w, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        if values:
            z = z / values[0]
        return -torch.log1p(z * z)

    def values(self) -> tuple[Tensor, ...]:
        return () if self.w is None else (self.w(),)
