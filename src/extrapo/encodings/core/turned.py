"""Turned: scores whose planes turn by an angle of the distance that is no multiple of it (2601.06113)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from extrapo.encodings.core.bias import Bias, Elementwise
from extrapo.encodings.core.hosted import HostedRows, LimitedRows


@dataclass(frozen=True)
class TurnedRows(HostedRows):
    """Re sum over c of q_c conj(k_c) e^(i t(n) theta_c) in the place of q.k of its host, an elementwise bias of n.

    A phase that is not linear in n does not split into a turn of q and a turn of k. Where the host is the same along
    every diagonal, so are the turns: cosine and sine of each plane are a line.

    Args:
        host: what becomes of the scores.
        theta: (F,) frequencies, each of d / 2F planes.
    """

    host: Elementwise
    theta: Tensor

    @abstractmethod
    def distance(self, rows: slice) -> Tensor:
        """n of a tile, (B or 1, 1, R, S')."""

    @abstractmethod
    def turns(self, n: Tensor) -> Tensor:
        """t of distances (B or 1, 1, R, S'), (B or 1, H, R, S'), in their dtype."""

    def line_of_turns(self) -> Tensor | None:
        """t of the last query and all keys, (1, H, 1, S) in double precision: far out a phase has many turns. None
        where it is not the same along every diagonal.
        """
        if not self.host.toeplitz():
            return None
        queries = self.shape[2]
        return self.turns(self.distance(slice(queries - 1, queries)).double().clamp_min(0.0))

    def watched_rows(self) -> list[int]:
        """Queries whose weights `mix` is to see in any case, each in a tile of its own."""
        return []

    def score_rows(self, q: Tensor, k: Tensor, scale: float, rows: slice) -> Tensor:
        turns = self.turns(self.distance(rows).clamp_min(0.0))
        return self.host.logit(scale * turned_scores(q, k, turns, self.theta), *self.host.factors(rows))


def turned_rows(bias: Bias) -> TurnedRows | None:
    """What turns of a bias, of which queries may see less; None where nothing does."""
    while isinstance(bias, LimitedRows):
        bias = bias.host
    return bias if isinstance(bias, TurnedRows) else None


def cosines(turns: Tensor, theta: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each frequency along a line of turns, (H, F, S) each in `dtype`.

    Args:
        turns: (1, H, 1, S) in double precision, which the angles are in as well: one of a whole round that is rounded
            to float32 is off by 2e-7, and so is its cosine.
        theta: (F,).
    """
    phase = turns.detach().view(turns.size(1), 1, -1) * theta.to(turns.dtype).view(-1, 1)
    return phase.cos().to(dtype), phase.sin().to(dtype)


def turned_scores(q: Tensor, k: Tensor, turns: Tensor, theta: Tensor) -> Tensor:
    """Re sum over c of q_c conj(k_c) e^(i t theta_c), one frequency at a time: exact, O(R S' d).

    A phase that is not linear in n does not split into a turn of q and a turn of k. Its derivative is summed beside
    the value, so that the backward pass keeps nothing of a tile's size per plane but the sum.

    Args:
        q: (B, H, R, d).
        k: (B, H, S', d).
        turns: (B or 1, H, R, S') t of each pair.
        theta: (F,) theta_c, each of d / 2F planes.

    Returns:
        (B, H, R, S') in the dtype of `turns`.
    """
    batch, heads, size, _ = q.shape
    planes = (2, theta.numel(), -1)
    q = q.to(turns.dtype).reshape(batch, heads, size, *planes)
    k = k.to(turns.dtype).transpose(-1, -2).reshape(batch, heads, *planes, k.size(-2))
    first, second = q.unbind(-3)
    # With k, q gives the real part of q_c conj(k_c), and (q2, -q1) the imaginary one.
    pairs = torch.stack([q, torch.stack([second, -first], dim=-3)])
    queries = pairs.movedim(-2, 0).flatten(-2).contiguous()
    keys = k.movedim(-3, 0).flatten(-3, -2).contiguous()
    phase = turns.detach()
    total = turns.new_zeros(batch, heads, *turns.shape[-2:])
    slope = torch.zeros_like(total) if turns.requires_grad else None
    for pair, key, rate in zip(queries, keys, theta.unbind(), strict=True):
        real, imaginary = pair[0] @ key, pair[1] @ key
        cos, sin = (rate * phase).cos(), (rate * phase).sin()
        total.addcmul_(real, cos).addcmul_(imaginary, -sin)
        if slope is not None:
            slope.addcmul_(real.detach(), -rate * sin).addcmul_(imaginary.detach(), -rate * cos)
    return total if slope is None else total + slope * (turns - phase)
