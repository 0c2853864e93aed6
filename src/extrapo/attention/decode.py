"""Decode: one query. Its row of logits is all there is, and no key is copied."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo.attention.backend import Backend, Verdict
from extrapo.encodings.core.bias import Bias, Elementwise, NoBias
from extrapo.encodings.core.visibility import hidden

#: Weights up to this are 0: beside their sum, 1, they have no digit, and a CPU multiplies the least of them slowly.
NOTHING = 1e-30


class Decode(Backend):
    """One query over all keys."""

    name = "decode"

    def serves(self, bias: Bias, q: Tensor, k: Tensor) -> Verdict:
        if q.size(-2) > 1:
            return Verdict(False, "it takes one query at a time")
        return Verdict(True, "one query: its row of logits is all there is, and no key is copied")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Bias, *, scale: float) -> Tensor:
        if isinstance(bias, NoBias):
            return F.scaled_dot_product_attention(q, k, v, scale=scale)
        only, visibility = slice(0, 1), bias.visibility()
        unseen = None if visibility is None else hidden(1, k.size(-2), visibility, q.device)
        # In half precision a bias that is added to the logits of the stock attention would be rounded.
        if q.dtype.itemsize >= 4 and isinstance(bias, Elementwise) and (row := affine_row(bias)) is not None:
            temperature, added = row
            added = added if unseen is None else added.masked_fill(unseen, float("-inf"))
            return attend_row(q, k, v, temperature, added.to(q.dtype), scale)
        logits = bias.score_rows(q, k, scale, only)
        return bias.mix(logits if unseen is None else logits.masked_fill(unseen, float("-inf")), v, only)


def affine_row(bias: Elementwise) -> tuple[Tensor | None, Tensor] | None:
    """(t, b) of the only query's logits t s q.k + b, (B or 1, H or 1, 1, S) each, t None for 1, b up to a constant."""
    if (line := bias.cached_line()) is not None:
        return line
    if (columns := bias.low_rank()) is not None and columns.u.size(-1) == 1:
        return None, columns.row()
    return bias.logit.line(*bias.factors(slice(0, 1)))


def attend_row(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor | None, added: Tensor, scale: float) -> Tensor:
    """softmax(t s q.k + b) v of one query."""
    if temperature is None and not q.is_cpu:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
    # On a CPU two products of matrices are no slower than fused attention, and the bias is added on the way.
    batch, heads, keys, _ = k.shape
    q, k, v = (tensor.flatten(0, 1) for tensor in (q, k, v))
    if temperature is not None:
        scores = torch.bmm(scale * q, k.mT).view(batch, heads, 1, keys)
        logits = torch.addcmul(added, scores, temperature.to(q.dtype))
    else:
        logits = torch.baddbmm(added.expand(batch, heads, 1, keys).flatten(0, 1), q, k.mT, alpha=scale)
    weights = F.threshold(logits.softmax(-1), NOTHING, 0.0, inplace=not torch.is_grad_enabled())
    return torch.bmm(weights.view(-1, 1, keys), v).view(batch, heads, 1, -1)
