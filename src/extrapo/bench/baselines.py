"""The formulations that people use today, from their formulas: what the exact paths are an alternative to.

dense-bias     the T x T bias of K-Cable (2503.08067) as the float mask of the stock attention
public-cable   the same bias under baddbmm and a whole softmax, as Cable's public code computes
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def whole_bias(positions: Tensor) -> Tensor:
    """-ln(1 + (S_i - S_j)^2) of positions (B, H, T), (B, H, T, T), -inf where the key is later."""
    positions = positions.float()
    distance = positions.unsqueeze(-1) - positions.unsqueeze(-2)
    future = torch.ones(distance.shape[-2:], dtype=torch.bool, device=distance.device).triu(1)
    return (-torch.log1p(distance.square())).masked_fill(future, float("-inf"))


def dense_bias(q: Tensor, k: Tensor, v: Tensor, positions: Tensor, scale: float) -> Tensor:
    """scaled_dot_product_attention with the materialised bias as its mask; q, k, v (B, H, T, d)."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=whole_bias(positions).to(q.dtype), scale=scale)


def public_cable(q: Tensor, k: Tensor, v: Tensor, positions: Tensor, scale: float) -> Tensor:
    """softmax(baddbmm(bias, q, k^T)) v with everything of size T x T in memory; q, k, v (B, H, T, d)."""
    bias = whole_bias(positions).to(q.dtype).flatten(0, 1)
    logits = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=scale)
    return torch.bmm(logits.softmax(dim=-1), v.flatten(0, 1)).view_as(v)


BASELINES = {"dense-bias": dense_bias, "public-cable": public_cable}
