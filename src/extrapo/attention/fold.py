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

from extrapo.encodings.bias import Bias, NoBias
from extrapo.kernels.base import Columns

#: Parts of a number in half precision; products of parts that are smaller than 2^-24 of the whole are left out.
PARTS = 3
PRODUCTS = [(a, b) for a in range(PARTS) for b in range(PARTS) if a + b < PARTS]

#: Columns of w are kept below 2^15, what float16 can hold; u takes up the rest.
LARGEST_EXPONENT = 15


def can_fold(bias: Bias) -> bool:
    """Whether the bias is zero or a product of columns."""
    return isinstance(bias, NoBias) or (bias.additive and bias.fold() is not None)


def keeps_precision(bias: Bias, dtype: torch.dtype) -> bool:
    """Whether folded columns serve q and k of this dtype, forward and backward.

    The outputs are as good as half precision allows, the gradients of the columns are not: the fused kernels round
    dS, and its sums along keys, to 8 or 11 bits, and what trains a clock or a gate is a small difference of many such
    sums (bfloat16, 2,048 tokens: 5% off for the input of `cable`, half of it for a bias). A rank above 1
    may have large terms that cancel, and does not serve either.
    """
    if dtype.itemsize > 2 or isinstance(bias, NoBias):
        return True
    columns = bias.fold()
    if columns is None or columns.u.size(-1) > 1:
        return False
    return not (torch.is_grad_enabled() and (columns.u.requires_grad or columns.w.requires_grad))


def fold(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """Attention with q' = [q, u / s], k' = [k, w] and the scale of the original width; shapes as `attend`.

    All of q', k', v are padded to one width, a multiple of 8: where v is narrower, the fused path is left on CPU.
    """
    queries, keys, width = q.size(-2), k.size(-2), v.size(-1)
    bias = bias.given(q, k)
    columns = None if isinstance(bias, NoBias) else bias.fold()
    if columns is not None:
        columns = Columns(columns.u / scale, columns.w)
        if q.dtype.itemsize == 2:
            columns = split(columns, q.dtype)
    widths = q.size(-1) + (0 if columns is None else columns.u.size(-1)), width
    if columns is not None or q.size(-1) != width:
        common = 8 * math.ceil(max(widths) / 8)
        q = widened(q, None if columns is None else columns.u, common)
        k = widened(k, None if columns is None else columns.w, common)
        v = widened(v, None, common)
    if queries == keys:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    elif queries == 1:
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    else:
        visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril_(keys - queries)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
    return out[..., :width]


def split(columns: Columns, dtype: torch.dtype) -> Columns:
    """The same product u . w from numbers that `dtype` can hold: six columns for each."""
    exponent = torch.frexp(columns.w.detach().abs().amax(dim=-2, keepdim=True)).exponent
    shift = (exponent - LARGEST_EXPONENT).clamp_min(0)
    u, w = parts(torch.ldexp(columns.u, shift), dtype), parts(torch.ldexp(columns.w, -shift), dtype)
    return Columns(torch.cat([u[a] for a, _ in PRODUCTS], dim=-1), torch.cat([w[b] for _, b in PRODUCTS], dim=-1))


def parts(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Numbers of `dtype` whose sum is `x`, in the dtype of `x`; the gradient of `x` is that of the first, which meets
    every part of the other factor.
    """
    found, rest = [], x.detach()
    for _ in range(PARTS):
        found.append(rest.to(dtype).to(x.dtype))
        rest = rest - found[-1]
    return [x + (found[0] - x).detach(), *found[1:]]


def widened(x: Tensor, columns: Tensor | None, width: int) -> Tensor:
    """[x, columns, zeros] of (B, H, N, d) and (B or 1, H or 1, N, r), (B, H, N, width), in one copy."""
    added = [] if columns is None else [columns.to(x.dtype).expand(*x.shape[:-1], columns.size(-1))]
    zeros = x.new_zeros(()).expand(*x.shape[:-1], width - x.size(-1) - sum(part.size(-1) for part in added))
    return torch.cat([x, *added, zeros], dim=-1)
