"""Convergent normalisation, bounded entropy and the mass window of a line of logits (Vetcha, 2601.06113; 2307.10156).

    Z_L = sum over n < L of e^a_n,   p_n = e^a_n / Z_L,   H_L = -sum of p_n ln p_n
    w(eps) = min { n : sum over m < n of p_m >= 1 - eps }

A line is a_n at the distances n = 0, 1, ... of a query's keys, (..., L). Everything is float64, by log-sum-exp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from extrapo.errors import UserError

#: What a window may leave out, by default.
EPS = (0.1, 0.01)


def of_bias(b: Tensor | ArrayLike, eps: Sequence[float] = EPS) -> dict[str, Any]:
    """ln Z, the entropy in nats and the windows of one query's logits.

    Args:
        b: (L,) logits by distance 0..L-1, the nearest key first; -inf where a key is not seen.
        eps: the shares of the mass that windows leave out, in (0, 1).

    Returns:
        `ln_z`, `entropy`, and `window`: eps -> the nearest keys, in tokens, that hold 1 - eps of the mass.

    Raises:
        UserError: logits that are no line, or a share out of range.
    """
    logits = line(b)
    if logits.dim() != 1:
        raise UserError(f"one query's logits by distance are needed, (L,), not {tuple(logits.shape)}")
    return {
        "ln_z": float(ln_z(logits)[-1]),
        "entropy": float(entropy(logits)[-1]),
        "window": {share: int(window(logits, share)) for share in eps},
    }


def line(b: Tensor | ArrayLike) -> Tensor:
    """Logits by distance, (..., L), in float64.

    Raises:
        UserError: none at all, NaN, +inf, or a query that sees no key.
    """
    # Of arrays too: a read-only one would warn.
    logits = b.detach().double().cpu() if isinstance(b, Tensor) else torch.tensor(b, dtype=torch.float64)
    if logits.dim() == 0 or logits.numel() == 0:
        raise UserError("logits by distance are needed, at least one")
    if logits.isnan().any() or logits.isposinf().any():
        raise UserError("logits must be numbers, or -inf where a key is not seen")
    if logits.isneginf().all(-1).any():
        raise UserError("a query that sees no key has no weights")
    return logits


def ln_z(logits: Tensor) -> Tensor:
    """ln Z of the nearest 1, 2, ..., L keys: (..., L) -> (..., L)."""
    return logits.logcumsumexp(-1)


def entropy(logits: Tensor) -> Tensor:
    """H of the nearest 1, 2, ..., L keys in nats, by H = ln Z - sum p a: (..., L) -> (..., L)."""
    total, top = ln_z(logits), logits.amax(-1, keepdim=True)
    # What lies below the largest logit is never negative, and has a logarithm; -inf weighs nothing.
    depth = (top - logits).log().masked_fill(logits.isneginf(), 0.0)
    mean = ((logits + depth).logcumsumexp(-1) - total).exp()
    return (total - top + mean).masked_fill(total.isneginf(), 0.0)


def at(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """What `ln_z` or `entropy` gave, for some lengths: (..., L) -> (..., len(lengths))."""
    return values[..., [length - 1 for length in lengths]]


def slopes(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """d value / d ln L over the last doubling: from ceil(L/2) keys to L, (..., L) -> (..., len(lengths))."""
    halves = [math.ceil(length / 2) for length in lengths]
    steps = torch.tensor([math.log(length / half) or math.inf for length, half in zip(lengths, halves, strict=True)])
    return (at(values, lengths) - at(values, halves)) / steps.double()


def window(logits: Tensor, eps: float) -> Tensor:
    """w(eps), in tokens: (..., L) -> (...), whole numbers."""
    if not 0 < eps < 1:
        raise UserError(f"a window leaves out a share in (0, 1), not {eps}")
    total = ln_z(logits)
    # Sums that are equal but for their last digits count as equal.
    enough = total >= total[..., -1:] + math.log1p(-eps) - 1e-12
    return enough.double().argmax(-1) + 1
