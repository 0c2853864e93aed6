"""KERPLE, kernelised relative positional embedding (Chi et al., 2205.09921; code chijames/KERPLE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import DistanceBias, distance_bias, index_positions
from extrapo.kernels import create
from extrapo.kernels.base import Constraint


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

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return distance_bias(self.kernel, queries, past, x=x, heads=self.heads)


@encodings.register("kerple-log")
class KerpleLog(IndexKernel):
    """b_ij = -p_h ln(1 + a_h (i - j))."""

    paper = Paper("Chi et al., 2205.09921", "index", "-", "log", "a learned logarithm of the distance per head", 2022)
    kernel_name = "log"


@encodings.register("kerple-power")
class KerplePower(IndexKernel):
    """b_ij = -a_h (i - j)^(p_h), 0 < p <= 2."""

    paper = Paper("Chi et al., 2205.09921", "index", "-", "power", "a learned power of the distance per head", 2022)
    kernel_name = "power"


@dataclass(frozen=True)
class DampedContent(Bias):
    """Logits s q.k e^phi(i - j): the kernel is a factor on the content.

    Args:
        damping: phi(i - j).
    """

    damping: DistanceBias

    @property
    def additive(self) -> bool:
        return False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.damping.shape

    def tile(self, rows: slice) -> Tensor:
        return torch.zeros_like(self.damping.tile(rows))

    def score(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        return scale * (q @ k.transpose(-1, -2)) * self.damping.tile(rows).exp()


@encodings.register("kerple-weight")
class KerpleWeight(IndexKernel):
    """logit_ij = s q_i.k_j exp(-a_h (i - j)^(p_h)), 0 < p <= 2: the weight kernel of the authors' code.

    The code adds its power kernel to it: `kerple-weight+kerple-power`.
    """

    paper = Paper(
        "Chi et al., 2205.09921", "index", summary="content damped by a learned power of the distance", year=2022
    )
    kernel_name = "power"
    owns = True
    acts_on_products = True

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        before = past.damping if isinstance(past, DampedContent) else None
        queries = index_positions(x, past, context)
        return DampedContent(distance_bias(self.kernel, queries, before, x=x, heads=self.heads))
