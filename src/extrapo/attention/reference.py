"""The specification of attention under a bias: the plain formula, in any dtype, with the whole T x S matrix."""

from __future__ import annotations

from torch import Tensor

from extrapo.encodings.core.bias import Bias, causal_mask


def reference(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """softmax(s q.k + b) v over the keys up to each query; shapes as `attend`."""
    queries, keys = q.size(-2), k.size(-2)
    rows = slice(0, queries)
    logits = bias.given(q, k).score(q, k, scale, rows)
    return bias.mix(logits.masked_fill(causal_mask(queries, keys, q.device), float("-inf")), v, rows)
