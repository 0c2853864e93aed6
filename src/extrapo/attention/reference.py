"""The specification of attention under a bias: the plain formula, in any dtype, with the whole T x S matrix."""

from __future__ import annotations

from torch import Tensor

from extrapo.encodings.bias import Bias, causal_mask


def reference(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """softmax(s q.k + b) v over the keys up to each query; shapes as `attend`."""
    queries, keys = q.size(-2), k.size(-2)
    logits = bias.score(q, k, scale, slice(0, queries))
    weights = logits.masked_fill(causal_mask(queries, keys, q.device), float("-inf")).softmax(dim=-1)
    return weights.to(v.dtype) @ v
