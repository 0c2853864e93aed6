"""A sum of cosines of the distance: Sandwich (Chi et al., 2212.10356), the inner product of sinusoidal embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from extrapo.errors import UserError
from extrapo.kernels.base import Initial, Kernel, kernels, per_head
from extrapo.kernels.low_rank import LowRank


@kernels.register("cos-sum")
class CosineSum(Kernel):
    """phi(z) = (sum over c = 1..D/2 of (cos(z 10000^(-2c/D)) - 1)) / h_n, without parameters.

    Falls only on average, like -(D/2) (ln z + 0.577) / ln(10000) / h_n for 10 < z < 10000, and then stays near
    -(D/2) / h_n. Folds into D columns where there is no gate.

    Args:
        width: D, even.
        compression: h_n; None is the paper's 8n/H for heads n = 1..H.
    """

    paper = "Sandwich, 2212.10356"
    summary = "(sum of cos(z 10000^(-2c/D)) - D/2) / h_n; reconstruction"
    needs_nonnegative = False
    monotone = False
    summable = "never"
    cpd = True
    compression: Tensor

    def __init__(self, heads: int | None = None, *, width: int = 128, compression: Initial | None = None) -> None:
        super().__init__(heads)
        if width < 2 or width % 2:
            raise UserError(f"the width of cos-sum must be even and positive, not {width}")
        if compression is None:
            compression = 8.0 if heads is None else [8 * n / heads for n in range(1, heads + 1)]
        self.width = width
        self.register_buffer("compression", per_head(compression, heads))

    @staticmethod
    def phi(z: Tensor, *values: Tensor) -> Tensor:
        compression, frequencies = values
        # cos x - 1 = -2 sin^2(x/2), which is exact near 0.
        return -2 * torch.sin(z.unsqueeze(-1) * frequencies / 2).square().sum(-1) / compression

    def values(self) -> tuple[Tensor, ...]:
        # Made here and not kept: a model cast to half precision would round them.
        dtype = torch.promote_types(self.compression.dtype, torch.float32)
        c = torch.arange(1, self.width // 2 + 1, device=self.compression.device, dtype=dtype)
        return self.compression, torch.exp(-2 * c / self.width * math.log(10_000))

    @staticmethod
    def low_rank(queries: Tensor, keys: Tensor, gate: Tensor | None, *values: Tensor) -> LowRank | None:
        if gate is not None:
            return None
        compression, frequencies = values
        # cos(a - b) = cos a cos b + sin a sin b; the -D/2 is the same in the whole row.
        rows, columns = (position.unsqueeze(-1) * frequencies for position in (queries, keys))
        u = torch.cat([rows.cos(), rows.sin()], dim=-1) / compression
        return LowRank(u, torch.cat([columns.cos(), columns.sin()], dim=-1))
