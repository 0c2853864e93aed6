"""One query: its row of logits is all there is, and it sees every key. What decoding does at each step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from extrapo.encodings.bias import Bias


def row(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """softmax(s q.k + b) v of q (B, H, 1, d); shapes as `attend`.

    The stock attention takes a bias that is added as its mask; in half precision that would round it.
    """
    bias = bias.given(q, k)
    only = slice(0, 1)
    if bias.additive and q.dtype.itemsize > 2:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.tile(only).to(q.dtype), scale=scale)
    return bias.mix(bias.score(q, k, scale, only), v, only)
