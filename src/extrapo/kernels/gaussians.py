"""Gaussian weights of the distance: KERPLE's power 2 (2205.09921), BAM's generalised Gaussian (2505.22842)."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.kernels.base import Free, Initial, Kernel, Width, default_slopes, kernels, per_head
from extrapo.kernels.low_rank import LowRank


@kernels.register("gauss-bias")
class GaussBias(Kernel):
    """phi(z) = -z^2 / (2 w^2): the weight e^phi is a Gaussian of width w; `power` with p = 2.

    Folds into two columns in float64 alone: in float32 the squares of positions cancel.

    Args:
        w: width.
    """

    paper = "KERPLE, 2205.09921"
    summary = "-z^2 / (2 w^2); KERPLE's power with p = 2, derived"
    needs_nonnegative = False
    summable = "always"
    cpd = True

    def __init__(self, heads: int | None = None, *, w: Initial = 64.0) -> None:
        super().__init__(heads)
        self.w = Width(w, heads)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        return -0.5 * (z / values[0]).square()

    def values(self) -> tuple[Tensor, ...]:
        return (self.w(),)

    @staticmethod
    def low_rank(queries: Tensor, keys: Tensor, gate: Tensor | None, *values: Tensor) -> LowRank | None:
        # The error in float32 is 6e-8 (S / w)^2: half a logit at 16,384 tokens and w = 2.
        if queries.dtype != torch.float64:
            return None
        # -a g_i^2 (S_i - S_j)^2 with a = 1 / (2 w^2): the square of S_i is constant in the row.
        factor = 0.5 / values[0].squeeze(-1).square() * torch.ones_like(queries)
        if gate is not None:
            factor = factor * gate.square()
        return LowRank(torch.stack([2 * factor * queries, -factor], dim=-1), torch.stack([keys, keys.square()], dim=-1))


@kernels.register("gen-gauss")
class GeneralisedGaussian(Kernel):
    """phi(z) = -e^a (|z + mu| + 1e-5)^r, mu = e^l - e^-l: the prior of Bayesian attention, location and shape free.

    With r > 0 it falls beyond z = -mu; r < 0 is allowed, and then it rises with distance. phi(0) is not 0.

    Args:
        a: logarithm of the slope; None is that of ALiBi's slopes.
        r: shape, of either sign.
        location: l; the peak lies at distance -mu, in the past where l < 0.
        learn_location: train l, which the authors hold at 0.
    """

    paper = "BAM, 2505.22842"
    summary = "-e^a (|z + mu| + 1e-5)^r"
    needs_nonnegative = False
    monotone = False
    summable = "r > 0"

    def __init__(
        self,
        heads: int | None = None,
        *,
        a: Initial | None = None,
        r: Initial = 1.0,
        location: Initial = 0.0,
        learn_location: bool = False,
    ) -> None:
        super().__init__(heads)
        self.a = Free(per_head(default_slopes(heads), heads).log() if a is None else per_head(a, heads))
        self.r = Free(per_head(r, heads))
        self.location = Free(per_head(location, heads), trainable=learn_location)

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        a, r, location = values
        mu = 2 * torch.sinh(location)
        return -a.exp() * ((z + mu).abs() + 1e-5).pow(r)

    def values(self) -> tuple[Tensor, ...]:
        return self.a(), self.r(), self.location()
