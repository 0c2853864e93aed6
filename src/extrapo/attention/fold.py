"""Fold: a bias of low rank as extra columns of q and k, then the stock fused attention. Exact, linear in memory.

A position loses digits with its distance to where it is measured from. In float32 a number of each key, S_j, is
therefore four columns, a coarse part and the rest of S_j and of -S_i: the coarse parts are whole multiples of one
number, their sum is exact, and all that is added to it is small. What is lost is relative to the distance, as in tiles:
3e-7 of outputs of size 1 at 131,072 tokens (`alibi`, `cable`, `fox`; one column: 9e-4). It needs a kernel that adds up
a dot product in its order, as PyTorch's forward pass was measured to do on one CPU (Intel, AVX-512); on a GPU this was
not measured. The backward pass does not, and positions above 4,096 are then left to tiles. Columns that are gated lose
digits with the length, and are not taken beyond what float32 keeps to 1e-5.

In half precision a column keeps 8 or 11 bits. Each column is then a sum of three parts, the number rounded, what that
left, rounded, and so on: their products that matter are six columns, added up in float32 inside the fused kernel. What
is left of the error is float32's, 2^-24 of the largest position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.kernels.low_rank import folded, keeps_precision, lost_digits


class Fold(Backend):
    """q' = [q, u / s] and k' = [k, w] under the scale of the original width."""

    name = "fold"

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if bias.visibility() is not None:
            return Verdict(False, "the stock fused attention has no windows")
        columns = bias.low_rank() if isinstance(bias, Elementwise) else None
        if columns is None:
            owner = "the bias has full rank" if isinstance(bias, Elementwise) else "the encoding owns its logits"
            return Verdict(False, owner)
        if not columns.u.size(-1):
            return Verdict(True, "no bias: the stock fused attention as it is")
        if q.dtype.itemsize == 2 and not keeps_precision(columns):
            half = str(q.dtype).removeprefix("torch.")
            return Verdict(False, f"in {half} the gradients of folded columns would be lost")
        if q.dtype == torch.float32 and (why := lost_digits(columns, q, k)) is not None:
            return Verdict(False, why)
        return Verdict(True, "the bias has low rank: extra columns of q and k, then the stock fused attention")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        columns = bias.low_rank() if isinstance(bias, Elementwise) else None
        assert columns is not None
        if scale == 0:
            # By which the columns cannot be divided.
            q, scale = 0 * q, 1.0
        columns = folded(columns, q.dtype, q.size(-2), scale)
        queries, keys, width = q.size(-2), k.size(-2), v.size(-1)
        if (rank := columns.u.size(-1)) or q.size(-1) != width:
            common = common_width(q.size(-1) + rank, width)
            q, k, v = with_columns(q, columns.u, common), with_columns(k, columns.w, common), pad(v, common)
        if queries == keys:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        elif queries == 1:
            out = F.scaled_dot_product_attention(q, k, v, scale=scale)
        else:
            visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril_(keys - queries)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
        return out[..., :width]


def common_width(*widths: int) -> int:
    """The width, a multiple of 8, that q', k' and v share: where one is narrower, the fused path is left on a CPU."""
    return 8 * math.ceil(max(widths) / 8)


def with_columns(x: Tensor, columns: Tensor, width: int) -> Tensor:
    """[columns, x, zeros] of (B, H, N, d) and (B or 1, H or 1, N, r), (B, H, N, width), in one copy.

    In this order: what the first columns add up to is known when the products of q and k, with digits of their own,
    come to it.
    """
    columns = columns.to(x.dtype).expand(*x.shape[:-1], columns.size(-1))
    zeros = x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1) - columns.size(-1))
    return torch.cat([columns, x, zeros], dim=-1)


def pad(x: Tensor, width: int) -> Tensor:
    """[x, zeros] of (B, H, N, d), (B, H, N, width), in one copy."""
    return torch.cat([x, x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1))], dim=-1)
