"""Flex: a fused kernel that a compiler makes of the bias's own formula (FlexAttention, Dong et al., 2412.05496).

On a GPU for training and evaluation, on a CPU for evaluation alone. The first call of a shape compiles, which takes
half a minute; other values of positions, gates and parameters do not compile again. Blocks above the diagonal, beyond
a window, or behind the end of a document are never visited.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from extrapo.attention.blocks import blocks, blocks_of_rows
from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.errors import UserError


def can_flex(bias: Bias) -> bool:
    """Whether the bias is zero or a function of one pair."""
    return isinstance(bias, NoBias) or (bias.additive and bias.pair() is not None)


@lru_cache(maxsize=1)
def compiled() -> Callable[..., Any]:
    """FlexAttention, compiled for each shape at its first call."""
    return torch.compile(flex_attention, dynamic=False)


def flex(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, *, lengths: Tensor | None = None) -> Tensor:
    """softmax(s q.k + b) v; shapes as `attend`.

    Args:
        lengths: (B,) tokens of each row that are there; nothing is computed for the others.

    Raises:
        UserError: a bias that is not a function of one pair, or gradients asked for on a CPU.
    """
    bias = bias.given(q, k)
    if q.device.type == "cpu" and torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, *bias.tensors())):
        raise UserError("impl 'flex' has no backward pass on a CPU; use 'auto' or 'tiles' to train")
    pair = None if isinstance(bias, NoBias) else bias.pair()

    def score(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score if pair is None else score + pair(b, h, i, j)

    shape = q.size(-2), k.size(-2), bias.sight()
    seen = blocks(*shape, q.device) if lengths is None else blocks_of_rows(*shape, lengths, q.device)
    found: Tensor = compiled()(q, k, v, score_mod=None if pair is None else score, block_mask=seen, scale=scale)
    return found
