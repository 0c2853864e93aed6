"""KERPLE, kernelised relative positional embedding (Chi et al., 2205.09921; code chijames/KERPLE)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from extrapo.encodings.base import Encoding, Paper, distance_bias, encodings
from extrapo.encodings.bias import Bias
from extrapo.kernels import create
from extrapo.kernels.base import Constraint
from extrapo.positions import index


class IndexKernel(Encoding):
    """b_ij = kappa(i - j) with a learned kernel of two parameters per head, drawn as KERPLE draws them.

    Args:
        constraint: how the parameters are kept in range: `softplus`, or `clamp` as in the authors' code.
    """

    kernel_name: ClassVar[str]

    def __init__(self, heads: int, head_dim: int, dim: int, *, constraint: Constraint = "softplus") -> None:
        super().__init__(heads, head_dim, dim)
        # p ~ U(0, 2), a ~ U(0, 1), both at least 0.01.
        p = (2 * torch.rand(heads)).clamp_min(0.011)
        a = torch.rand(heads).clamp_min(0.011)
        self.kernel = create(self.kernel_name, heads, p=p, a=a, constraint=constraint)

    def bias(self, x: Tensor, past: Bias | None = None) -> Bias:
        before = 0 if past is None else past.shape[-1]
        queries = index(before, before + x.size(1), x)
        return distance_bias(self.kernel, queries, past, x=x, heads=self.heads)


@encodings.register("kerple-log")
class KerpleLog(IndexKernel):
    """b_ij = -p_h ln(1 + a_h (i - j))."""

    paper = Paper("Chi et al., 2205.09921", "index", "-", "log", "a learned logarithm of the distance per head")
    kernel_name = "log"


@encodings.register("kerple-power")
class KerplePower(IndexKernel):
    """b_ij = -a_h (i - j)^(p_h), 0 < p <= 2."""

    paper = Paper("Chi et al., 2205.09921", "index", "-", "power", "a learned power of the distance per head")
    kernel_name = "power"
