"""Fold: a bias of low rank as extra columns of q and k, then the stock fused attention. Exact, linear in memory.

A bias of the key alone needs no column on a CPU, see `key_bias`; gradients may go by tiles, see `fold_tiles`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.columns import common_width, split, widened
from extrapo.attention.cpu.fold_tiles import fold_tiles, trains_by_tiles
from extrapo.attention.cpu.key_bias import can_add_to_keys, key_attention
from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.kernels.base import Columns, UnitColumns


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


def compiles_gradients(bias: Bias, q: Tensor) -> bool:
    """Whether the gradients of a folded bias take a compiled body; of a bias that is given its q and k."""
    return not isinstance(bias, NoBias) and trains_by_tiles(q, bias.fold())


def fold(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """Attention with q' = [q, u / s], k' = [k, w] and the scale of the original width; shapes as `attend`."""
    queries, keys, width = q.size(-2), k.size(-2), v.size(-1)
    bias = bias.given(q, k)
    columns = None if isinstance(bias, NoBias) else bias.fold()
    if columns is not None and queries == keys and trains_by_tiles(q, columns):
        return fold_tiles(q, k, v, columns, scale)
    if isinstance(columns, UnitColumns) and can_add_to_keys(q, k, v, columns.w):
        of_keys = columns.w.to(torch.promote_types(q.dtype, torch.float32)).expand(*k.shape[:-1], 1)
        return key_attention(q, k, v, of_keys, scale)
    if columns is not None:
        columns = Columns(columns.u / scale, columns.w)
        if q.dtype.itemsize == 2:
            columns = split(columns, q.dtype)
    rank = 0 if columns is None else columns.u.size(-1)
    if rank or q.size(-1) != width:
        common = common_width(q.size(-1) + rank, width)
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
