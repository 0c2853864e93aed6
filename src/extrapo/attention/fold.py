"""Fold: a bias of low rank as extra columns of q and k, then the stock fused attention. Exact, linear in memory."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.encodings.bias import Bias, NoBias


def can_fold(bias: Bias) -> bool:
    """Whether the bias is zero or a product of columns."""
    return isinstance(bias, NoBias) or (bias.additive and bias.fold() is not None)


def fold(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """Attention with q' = [q, u / s], k' = [k, w] and the scale of the original width; shapes as `attend`.

    All of q', k', v are padded to one width, a multiple of 8: where v is narrower, the fused path is left on CPU.
    """
    queries, keys, width = q.size(-2), k.size(-2), v.size(-1)
    bias = bias.given(q, k)
    columns = None if isinstance(bias, NoBias) else bias.fold()
    if columns is not None:
        rank = columns.u.size(-1)
        q = torch.cat([q, pad(columns.u / scale, q, rank)], dim=-1)
        k = torch.cat([k, pad(columns.w, k, rank)], dim=-1)
    if columns is not None or q.size(-1) != width:
        common = 8 * math.ceil(max(q.size(-1), width) / 8)
        q, k, v = (F.pad(t, (0, common - t.size(-1))) for t in (q, k, v))
    if queries == keys:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    elif queries == 1:
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    else:
        visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril_(keys - queries)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
    return out[..., :width]


def pad(columns: Tensor, like: Tensor, width: int) -> Tensor:
    """(B or 1, H or 1, N, r) -> (B, H, N, width), zeros after r, in the dtype of `like` (B, H, N, d)."""
    full = columns.to(like.dtype).expand(*like.shape[:-1], columns.size(-1))
    return F.pad(full, (0, width - columns.size(-1)))
