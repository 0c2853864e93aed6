"""KERPLE, kernelised relative positional embedding (Chi et al., 2205.09921; code chijames/KERPLE)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.distance import DistanceBias, distance_bias
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.logit import Affine, Logit
from extrapo.encodings.core.relative import index_positions, is_counted
from extrapo.encodings.core.spec import LayerSpec
from extrapo.kernels import create
from extrapo.kernels.base import Constraint


class IndexKernel(Encoding):
    """b_ij = phi(i - j) with a learned kernel of two parameters per head, drawn as KERPLE draws them.

    Args:
        constraint: how the parameters are kept in range: `softplus`, or `clamp` as in the authors' code.
    """

    kernel_name: ClassVar[str]

    def __init__(self, spec: LayerSpec, *, constraint: Constraint = "softplus") -> None:
        super().__init__(spec)
        # p ~ U(0, 2), a ~ U(0, 1), both at least 0.01.
        p = (2 * torch.rand(self.heads)).clamp_min(0.011)
        a = torch.rand(self.heads).clamp_min(0.011)
        self.kernel = create(self.kernel_name, self.heads, p=p, a=a, constraint=constraint)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return distance_bias(self.kernel, queries, past, x=x, heads=self.heads, counted=is_counted(context))


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


@final
@dataclass(frozen=True)
class DampedScore(Affine):
    """score x e^kernel(i - j).

    Args:
        kernel: the kernel of the distance, as what it would add.
    """

    kernel: Logit

    def temperature(self, *factors: Tensor) -> Tensor:
        return self.kernel.added(*factors).exp()

    def bias(self, *factors: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(*(factor.shape for factor in factors))  # type: ignore[no-untyped-call]
        return factors[0].new_zeros(shape)


@final
@dataclass(frozen=True)
class DampedContent(Elementwise):
    """Logits s q.k e^kernel(i - j): the kernel is a factor on the content.

    Args:
        damping: the kernel of the distance, as a bias.
    """

    damping: DistanceBias

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.damping.shape

    @property
    def logit(self) -> Logit:
        return DampedScore(self.damping.logit)

    def factors(self, rows: slice) -> tuple[Tensor, ...]:
        return self.damping.factors(rows)

    def pointwise(self) -> bool:
        return self.damping.pointwise()

    def toeplitz(self) -> bool:
        return self.damping.toeplitz()

    def known_toeplitz(self) -> bool:
        return self.damping.known_toeplitz()

    def cached_line(self) -> tuple[Tensor | None, Tensor] | None:
        return self.damping.cached_line_of(DampedScore(self.damping.of_pairs()))

    def whole_text(self) -> DampedContent:
        return replace(self, damping=self.damping.whole_text())

    def wide_formula(self) -> tuple[Logit, tuple[Tensor, ...]] | None:
        if (damping := self.damping.wide_formula()) is None:
            return None
        return DampedScore(damping[0]), damping[1]


@encodings.register("kerple-weight")
class KerpleWeight(IndexKernel):
    """logit_ij = s q_i.k_j exp(-a_h (i - j)^(p_h)), 0 < p <= 2: the weight kernel of the authors' code.

    The code adds its power kernel to it: `kerple-weight+kerple-power`.
    """

    paper = Paper(
        "Chi et al., 2205.09921", "index", summary="content damped by a learned power of the distance", year=2022
    )
    kernel_name = "power"
    bias_kind = "owns"
    query_key = "scaled"

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        before = past.damping if isinstance(past, DampedContent) else None
        queries = index_positions(x, past, context)
        return DampedContent(
            distance_bias(self.kernel, queries, before, x=x, heads=self.heads, counted=is_counted(context))
        )
