"""Powers of the distance: linear (ALiBi 2108.12409, RetNet 2307.08621), any (KERPLE 2205.09921), 1/2 (2601.06113)."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.errors import UserError
from extrapo.kernels.base import Constraint, Initial, Kernel, Positive, kernels, root
from extrapo.kernels.low_rank import KeyBias, LowRank


@kernels.register("linear")
class Linear(Kernel):
    """phi(z) = -r z.

    Args:
        r: slope; None is the plain -z without a parameter, for positions that carry their own scale (Cable).
    """

    paper = "ALiBi, 2108.12409"
    summary = "-r z"
    needs_nonnegative = False
    summable = "r > 0"
    cpd = True

    def __init__(self, heads: int | None = None, *, r: Initial | None = None, trainable: bool = True) -> None:
        super().__init__(heads)
        self.r = None if r is None else Positive(r, heads, trainable=trainable)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        return -values[0] * z if values else -z

    def values(self) -> tuple[Tensor, ...]:
        return () if self.r is None else (self.r(),)

    @staticmethod
    def low_rank(queries: Tensor, keys: Tensor, gate: Tensor | None, *values: Tensor) -> LowRank:
        # -r g_i (S_i - S_j): the first term is constant in the row.
        r = values[0].squeeze(-1) if values else 1
        if gate is None:
            return KeyBias(torch.ones_like(queries).unsqueeze(-1), (r * keys).unsqueeze(-1))
        return LowRank((r * gate).unsqueeze(-1), keys.unsqueeze(-1))


@kernels.register("retention")
class Retention(Linear):
    """phi(z) = z ln(gamma), 0 < gamma < 1: `linear` with r = -ln gamma, so that the weight e^phi is gamma^z.

    Args:
        gamma: decay per unit of z; None is the paper's 1 - 2^(-5-h), heads counted from h = 0.
        trainable: learn the rates; in the paper they are fixed.
    """

    paper = "RetNet, 2307.08621"
    summary = "z ln(gamma), fixed"
    summable = "gamma < 1"

    def __init__(self, heads: int | None = None, *, gamma: Initial | None = None, trainable: bool = False) -> None:
        if gamma is None:
            gamma = 1 - 2.0**-5 if heads is None else [1 - 2.0 ** (-5 - h) for h in range(heads)]
        decay = torch.as_tensor(gamma, dtype=torch.float64)
        if not ((decay > 0) & (decay < 1)).all():
            raise UserError(f"gamma must lie between 0 and 1, not {gamma}")
        super().__init__(heads, r=-decay.log(), trainable=trainable)


@kernels.register("power")
class Power(Kernel):
    """phi(z) = -a z^p, 0 < p <= 2 (conditionally positive definite there).

    Args:
        a: factor, at least 0.01.
        p: exponent, in [0.01, 2].
        constraint: `softplus` (default), or `clamp` as in KERPLE's code.
    """

    paper = "KERPLE, 2205.09921"
    summary = "-a z^p"
    steep = True
    summable = "always (a, p > 0)"
    cpd = True

    def __init__(
        self,
        heads: int | None = None,
        *,
        a: Initial = 1.0,
        p: Initial = 1.0,
        constraint: Constraint = "softplus",
    ) -> None:
        super().__init__(heads)
        self.a = Positive(a, heads, floor=0.01, constraint=constraint)
        self.p = Positive(p, heads, floor=0.01, ceiling=2.0, constraint=constraint)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        a, p = values
        return -a * root(z, p)

    def values(self) -> tuple[Tensor, ...]:
        return self.a(), self.p()


@kernels.register("sqrt")
class SquareRoot(Kernel):
    """phi(z) = -g sqrt(z).

    Args:
        g: factor, positive.
    """

    paper = "Adaptive Positional Encoding, 2601.06113"
    summary = "-g sqrt(z); a reconstruction of one of the paper's terms"
    steep = True
    summable = "g > 0"
    cpd = True

    def __init__(self, heads: int | None = None, *, g: Initial = 1.0) -> None:
        super().__init__(heads)
        self.g = Positive(g, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        return -values[0] * root(z, 0.5)

    def values(self) -> tuple[Tensor, ...]:
        return (self.g(),)
