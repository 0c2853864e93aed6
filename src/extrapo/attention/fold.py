"""Fold: a bias of low rank as extra columns of q and k, then the stock fused attention. Exact, linear in memory.

In half precision a column keeps 8 or 11 bits, and positions need more. Each column is then a sum of three parts, the
number rounded, what that left, rounded, and so on: their products that matter are six columns, added up in float32
inside the fused kernel. What is left of the error is float32's, 2^-24 of the largest position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.kernels.base import LowRank

#: Parts of a number in half precision; products of parts that are smaller than 2^-24 of the whole are left out.
PARTS = 3
PRODUCTS = [(a, b) for a in range(PARTS) for b in range(PARTS) if a + b < PARTS]

#: Columns of w are kept below 2^15, what float16 can hold; u takes up the rest.
LARGEST_EXPONENT = 15


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
        return Verdict(True, "the bias has low rank: extra columns of q and k, then the stock fused attention")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        columns = bias.low_rank() if isinstance(bias, Elementwise) else None
        assert columns is not None
        columns = LowRank(columns.u / scale, columns.w)
        if q.dtype.itemsize == 2 and columns.u.size(-1):
            columns = split(columns, q.dtype)
        queries, keys, width = q.size(-2), k.size(-2), v.size(-1)
        if (rank := columns.u.size(-1)) or q.size(-1) != width:
            common = common_width(q.size(-1) + rank, width)
            q, k, v = append_columns(q, columns.u, common), append_columns(k, columns.w, common), pad(v, common)
        if queries == keys:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        elif queries == 1:
            out = F.scaled_dot_product_attention(q, k, v, scale=scale)
        else:
            visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril_(keys - queries)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
        return out[..., :width]


def keeps_precision(columns: LowRank) -> bool:
    """Whether folded columns serve q and k of half precision, forward and backward.

    The outputs are as good as half precision allows, the gradients of the columns are not: the fused kernels round
    dS, and its sums along keys, to 8 or 11 bits, and what trains contextual positions or a gate is a small difference
    of many such sums (bfloat16, 2,048 tokens: 5% off for the input of `cable`, half of it for a bias). A rank above 1
    may have large terms that cancel, and does not serve either.
    """
    if columns.u.size(-1) > 1:
        return False
    return not (torch.is_grad_enabled() and (columns.u.requires_grad or columns.w.requires_grad))


def common_width(*widths: int) -> int:
    """The width, a multiple of 8, that q', k' and v share: where one is narrower, the fused path is left on a CPU."""
    return 8 * math.ceil(max(widths) / 8)


def append_columns(x: Tensor, columns: Tensor, width: int) -> Tensor:
    """[x, columns, zeros] of (B, H, N, d) and (B or 1, H or 1, N, r), (B, H, N, width), in one copy."""
    columns = columns.to(x.dtype).expand(*x.shape[:-1], columns.size(-1))
    zeros = x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1) - columns.size(-1))
    return torch.cat([x, columns, zeros], dim=-1)


def pad(x: Tensor, width: int) -> Tensor:
    """[x, zeros] of (B, H, N, d), (B, H, N, width), in one copy."""
    return torch.cat([x, x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1))], dim=-1)


def split(columns: LowRank, dtype: torch.dtype) -> LowRank:
    """The same product u . w from numbers that `dtype` can hold: six columns for each."""
    exponent = torch.frexp(columns.w.detach().abs().amax(dim=-2, keepdim=True)).exponent
    shift = (exponent - LARGEST_EXPONENT).clamp_min(0)
    power = 2.0**shift
    u, w = parts(columns.u * power, dtype), parts(columns.w / power, dtype)
    return LowRank(torch.cat([u[a] for a, _ in PRODUCTS], dim=-1), torch.cat([w[b] for _, b in PRODUCTS], dim=-1))


def parts(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Numbers of `dtype` whose sum is `x`, in the dtype of `x`; the gradient of `x` is that of the first, which meets
    every part of the other factor.
    """
    found, rest = [], x.detach()
    for _ in range(PARTS):
        found.append(rest.to(dtype).to(x.dtype))
        rest = rest - found[-1]
    return [x + (found[0] - x).detach(), *found[1:]]
