"""Pruned: far keys that cannot matter are not read (Adaptive Computation Pruning, 2504.06949).

Where a bias only falls with distance, it bounds what key j can weigh beside the query's own key:
p_ij / p_ii <= e^(s |q_i| max|k| - s q_i.k_i + b_ij - b_ii), by Cauchy-Schwarz. Keys are skipped while all of them
together weigh at most `tolerance`: the output is off by at most 2 tolerance max|v|. For evaluation; a text of T tokens
costs T times the reach of the bias, not T^2. Each head goes by its own reach: ALiBi's flattest slope does not decide
for the steep ones. It is no back end of attention: those are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from extrapo.attention.tiling import mask_hidden, tile_slices
from extrapo.encodings.core.bias import Bias
from extrapo.encodings.core.distance import DistanceBias
from extrapo.errors import UserError

#: Query rows that skip the same keys.
ROWS = 256


def can_prune(bias: Bias) -> bool:
    """Whether the bias falls with distance, for the queries of a tile as for its first."""
    return isinstance(bias, DistanceBias) and bias.additive and bias.falls()


def pruned(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, tolerance: float) -> Tensor:
    """Attention without the far keys.

    Args:
        q, k, v, bias, scale: see `attend`.
        tolerance: weight that a query's skipped keys may have together, of 1.

    Raises:
        UserError: a bias that does not fall with distance, or gradients asked for.
    """
    if not can_prune(bias):
        raise UserError("skipping needs a bias that only falls with distance, without a gate; leave `skip` unset")
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, *bias.tensors())):
        raise UserError("skipping is for evaluation: it has no backward pass")
    assert isinstance(bias, DistanceBias)
    dtype, offset = torch.promote_types(q.dtype, torch.float32), k.size(-2) - q.size(-2)
    q, k, values = (x.to(dtype) for x in (q, k, v))
    # (B, H, T): by how much the content of any key can exceed that of the query's own.
    own = (q * k[..., offset:, :]).sum(-1)
    excess = scale * (q.norm(dim=-1) * k.norm(dim=-1).amax(-1, keepdim=True) - own)
    out = v.new_empty(*q.shape[:-1], v.size(-1))
    tiles = tile_slices(q.size(-2), ROWS)
    for head in range(q.size(1)):
        one = Head(q[:, head], k[:, head], values[:, head], excess[:, head], bias.of_heads([head]), scale, tolerance)
        for rows, output in one.outputs(tiles):
            out[:, head, rows] = output
    return out


@dataclass(frozen=True)
class Head:
    """One head.

    Args:
        q, k, v: (B, T, d), (B, S, d) and (B, S, d).
        excess: (B, T) by how much the content of any key can exceed that of the query's own.
        bias: of this head.
        scale, tolerance: as above.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    excess: Tensor
    bias: DistanceBias
    scale: float
    tolerance: float

    def outputs(self, tiles: Sequence[slice]) -> Iterator[tuple[slice, Tensor]]:
        """The outputs (B, R, d) of consecutive tiles."""
        start = 0
        for rows in tiles:
            stop = self.k.size(1) - self.q.size(1) + rows.stop
            # The first row is the nearest to every far key: what it may skip, all rows of the tile may.
            near = self.bias.part(slice(rows.start, rows.start + 1), start).added(slice(0, 1))[:, 0, 0]
            weight = self.excess[:, rows].amax(-1, keepdim=True) + near - near[:, -1:]
            start += int((weight <= math.log(self.tolerance / stop)).sum(-1).min())
            added = self.bias.part(rows, start).added(slice(0, rows.stop - rows.start))[:, 0]
            q, k = self.q[:, rows], self.k[:, start:stop].transpose(1, 2)
            logits = torch.baddbmm(added.expand(q.size(0), -1, -1), q, k, alpha=self.scale)
            yield rows, torch.bmm(mask_hidden(logits, None).softmax(-1), self.v[:, start:stop])
