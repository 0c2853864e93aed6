"""The weights of one query's keys, also of schemes that make them of logits by something else than a softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Rowwise


def weights(logits: Tensor, bias: Bias, rows: slice) -> Tensor:
    """p of one row, (B, H, 1, S): what each value counts in the output.

    Args:
        logits: (B, H, 1, S), -inf where a key is not seen.
        bias: what mixes the values.
        rows: this row, i..i+1.
    """
    if type(bias).mix is Bias.mix:
        return logits.softmax(-1)
    # Whatever it does is linear in the values: the weights are its derivative.
    values = logits.new_zeros(*logits.shape[:2], logits.size(-1), 1).requires_grad_()
    with torch.enable_grad():
        out = bias.mix(logits.detach(), values, rows)
        (weight,) = torch.autograd.grad(out.sum(), values)
    return weight.transpose(-1, -2)


def is_softmax(bias: Bias) -> bool:
    """Whether weights are the softmax of the logits."""
    if not isinstance(bias, Rowwise) or type(bias).mix is Bias.mix:
        return True
    last = slice(bias.shape[2] - 1, bias.shape[2])
    logits = torch.arange(float(bias.shape[3])).expand(1, bias.shape[1], 1, -1)
    return bool(torch.allclose(weights(logits, bias, last), logits.softmax(-1), atol=1e-5))
