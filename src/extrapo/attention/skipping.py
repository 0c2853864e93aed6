"""Skipping: far keys that cannot matter are not read (after the pruning of the Forgetting Transformer, 2504.06949).

Where a bias only falls with distance, it bounds what key j can weigh beside the query's own key:
p_ij / p_ii <= e^(s |q_i| max|k| - s q_i.k_i + b_ij - b_ii), by Cauchy-Schwarz. Keys are skipped while all of them
together weigh at most `tolerance`: the output is off by at most 2 tolerance max|v|. For evaluation; a text of T tokens
costs T times the reach of the bias, not T^2. Heads that reach about as far are computed together: ALiBi's flattest
slope does not decide for the steep ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from extrapo.attention.reference import reference
from extrapo.attention.spans import spans
from extrapo.encodings.bias import Bias
from extrapo.encodings.distance import DistanceBias
from extrapo.errors import UserError

#: Query rows that skip the same keys.
ROWS = 128


def can_skip(bias: Bias) -> bool:
    """Whether the bias falls with distance, for the queries of a tile as for its first."""
    return isinstance(bias, DistanceBias) and bias.additive and bias.falls()


def skipping(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, tolerance: float) -> Tensor:
    """Attention without the far keys; shapes as `attend`.

    Args:
        tolerance: weight that a query's skipped keys may have together, of 1.

    Raises:
        UserError: a bias that does not fall with distance, or gradients asked for.
    """
    bias = bias.given(q, k)
    if not can_skip(bias):
        raise UserError("skipping needs a bias that only falls with distance, without a gate; leave `skip` unset")
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, *bias.tensors())):
        raise UserError("skipping is for evaluation: it has no backward pass")
    assert isinstance(bias, DistanceBias)
    offset = k.size(-2) - q.size(-2)
    # (B, H, T): by how much the content of any key can exceed that of the query's own.
    own = (q * k[..., offset:, :]).sum(-1)
    excess = scale * (q.norm(dim=-1) * k.norm(dim=-1).amax(-1, keepdim=True) - own).float()
    out = q.new_empty(*q.shape[:-1], v.size(-1))
    start = 0
    for rows in spans(q.size(-2), ROWS):
        stop = offset + rows.stop
        # The first row is the nearest to every far key: what it may skip, all rows of the tile may.
        first = bias.part(slice(rows.start, rows.start + 1), start).tile(slice(0, 1)).squeeze(-2)
        weight = excess[..., rows].amax(-1, keepdim=True) + first - first[..., -1:]
        starts = (start + (weight <= math.log(tolerance / stop)).sum(-1).amin(0)).tolist()
        for heads in alike([stop - begin if bias.plain() else 0 for begin in starts]):
            past = slice(min(starts[head] for head in heads), stop)
            some = bias.part(rows, past.start).of_heads(heads)
            out[:, heads, rows] = reference(q[:, heads, rows], k[:, heads, past], v[:, heads, past], some, scale)
        start = min(starts)
    return out


def alike(reaches: list[int]) -> list[list[int]]:
    """Heads by how many keys they reach: those within a factor of two together."""
    found: dict[int, list[int]] = {}
    for head, reach in enumerate(reaches):
        found.setdefault(reach.bit_length(), []).append(head)
    return list(found.values())
