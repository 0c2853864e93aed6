"""Relative projection bias (lucidrains/x-transformers, after Inkling): every query draws its own curve of distance."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import AddedBias, Bias
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.curves import gather_by_distance, whole_distances
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@dataclass(frozen=True)
class ProjectionBias(Relative, AddedBias):
    """A curve per query, mixed from a bank.

    Args:
        weights: (B, H, T, C) what each query takes of every curve.
        bank: (C, N) curves over the distances 0..N-1; 0 beyond.
    """

    weights: Tensor = field(kw_only=True)
    bank: Tensor = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.weights.size(0), *super().shape[1:]

    def tile(self, rows: slice) -> Tensor:
        # One column of zeros more: where all distances beyond the bank look.
        bank = F.pad(self.bank.to(self.dtype), (0, 1))
        curves = self.weights[:, :, rows].to(self.dtype) @ bank
        return gather_by_distance(curves, whole_distances(self, rows, bank.size(-1) - 1))


@encodings.register("relative-proj")
class RelativeProjection(Encoding):
    """b_ij = (W_h x_i + c_h).bank[:, n], n = i - j; 0 for n >= the bank's length. It depends on the query alone.

    Args:
        curves: C, curves in the bank, shared by the heads.
        length: N, distances that the bank covers. The curves start as N(0, 0.02), W and c as torch's linear maps.
    """

    paper = Paper(
        "x-transformers (Inkling-style)",
        "index",
        summary="each query mixes 16 curves over the distance; 0 beyond 1,024",
        year=2026,
        contextual=True,
    )

    def __init__(self, spec: LayerSpec, *, curves: int = 16, length: int = 1024) -> None:
        super().__init__(spec)
        if curves < 1 or length < 1:
            raise UserError(
                f"encoding 'relative-proj' needs curves and length of at least 1, not {curves} and {length}"
            )
        self.project = nn.Linear(self.dim, self.heads * curves)
        self.bank = nn.Parameter(0.02 * torch.randn(curves, length))

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        weights = self.project(x.to(self.project.weight.dtype)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return ProjectionBias(
            self.heads, queries, with_past(queries, past), wide_enough(x), weights=weights, bank=self.bank
        )
