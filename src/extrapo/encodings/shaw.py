"""Relative position representations (Shaw et al., 1803.02155; code tensorflow/tensor2tensor): a vector per distance."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, Rowwise
from extrapo.encodings.core.context import Context
from extrapo.encodings.core.curves import gather_by_distance, scatter_by_distance, whole_distances
from extrapo.encodings.core.encoding import Encoding, Paper, encodings
from extrapo.encodings.core.relative import Relative, index_positions, wide_enough, with_past
from extrapo.encodings.core.spec import LayerSpec
from extrapo.errors import UserError


@dataclass(frozen=True)
class ShawBias(Relative, Rowwise):
    """The logits and the values with a vector per distance.

    Args:
        key_table: (K + 1, d) a^K, added to the keys.
        value_table: (K + 1, d) a^V, added to the values; None where they stay as they are.
    """

    key_table: Tensor = field(kw_only=True)
    value_table: Tensor | None = None

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        # q.(k + a_n) is q.k + q.a_n, and q.a_n is one of K + 1 numbers.
        curves = q @ self.key_table.to(q.dtype).transpose(0, 1)
        at = whole_distances(self, rows, curves.size(-1) - 1)
        return scale * (q @ k.transpose(-1, -2) + gather_by_distance(curves, at)).to(self.dtype)

    def mix(self, logits: Tensor, v: Tensor, rows: slice) -> Tensor:
        if self.value_table is None:
            return super().mix(logits, v, rows)
        weights = logits.softmax(dim=-1)
        size, width = self.value_table.shape
        at_distance = scatter_by_distance(weights, whole_distances(self, rows, size - 1), size).to(v.dtype)
        relative = at_distance @ self.value_table.to(v.dtype)
        return weights.to(v.dtype) @ v + F.pad(relative, (0, v.size(-1) - width))


@encodings.register("shaw")
class Shaw(Encoding):
    """logit_ij = s q_i.(k_j + a^K_min(n, K)), n = i - j; with `values`, o_i = sum_j p_ij (v_j + a^V_min(n, K)).

    The tables, (K + 1, d), are shared by the heads and start as N(0, 0.02) (the paper gives no initial values).

    Args:
        clip: K, the distance from which on all share a vector; the paper has 16 for translation.
        values: add vectors to the values as well. The paper's method has them; its ablation found no use for them.
    """

    paper = Paper(
        "Shaw et al., 1803.02155", "index", summary="a learned vector per clipped distance", year=2018, contextual=True
    )
    bias_kind = "owns"
    query_key = "read"

    def __init__(self, spec: LayerSpec, *, clip: int = 128, values: bool = False) -> None:
        super().__init__(spec)
        if clip < 1:
            raise UserError(f"encoding 'shaw': clip must be at least 1, not {clip}")
        self.key_table = nn.Parameter(0.02 * torch.randn(clip + 1, self.head_dim))
        self.value_table = nn.Parameter(0.02 * torch.randn(clip + 1, self.head_dim)) if values else None

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        queries = index_positions(x, past, context)
        return ShawBias(
            self.heads,
            queries,
            with_past(queries, past),
            wide_enough(x),
            key_table=self.key_table,
            value_table=self.value_table,
        )
