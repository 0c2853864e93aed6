"""Watched: rows whose weights a bias is to see, made again beside compiled loops that never have a row of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from extrapo.attention.tiles import attend_rows
from extrapo.encodings.core.bias import Bias


@torch.no_grad()
def watch(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float, watched: Sequence[int]) -> None:
    """Show `bias.mix` the weights of some queries, each in a tile of its own; shapes as Backend."""
    past = k.size(2) - q.size(2)
    for row in watched:
        seen = slice(0, past + row + 1)
        attend_rows(q[:, :, row : row + 1], k[:, :, seen], v[:, :, seen], bias, scale, slice(row, row + 1))
