"""One query: its row of logits is all there is, and it sees every key. What decoding does at each step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.encodings.core.bias import Bias


def row(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """softmax(s q.k + b) v of q (B, H, 1, d); shapes as `attend`.

    In half precision a bias that is added to the logits of the stock attention would be rounded.
    """
    bias = bias.given(q, k)
    only = slice(0, 1)
    if not bias.additive or q.dtype.itemsize < 4:
        return bias.mix(bias.score(q, k, scale, only), v, only)
    added = bias.row().to(q.dtype)
    if not q.is_cpu:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
    # On a CPU two products of matrices read the keys and values no slower than the fused attention, and the bias is
    # added on the way.
    batch, heads, keys, _ = k.shape
    if added.shape[:2] != (batch, heads):
        added = added.expand(batch, heads, 1, keys)
    logits = torch.baddbmm(added.flatten(0, 1), q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=scale)
    return torch.bmm(logits.softmax(-1), v.flatten(0, 1)).view(batch, heads, 1, -1)
