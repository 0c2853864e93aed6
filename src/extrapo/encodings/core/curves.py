"""Curves over the distance, one per query, read at each key: Shaw (1803.02155), Transformer-XL (1901.02860) and kin."""

from __future__ import annotations

import torch
from torch import Tensor

from extrapo.encodings.core.relative import Relative


def whole_distances(bias: Relative, rows: slice, last: int) -> Tensor:
    """The distances i - j of a tile as whole numbers 0..last, (B or 1, H or 1, R, S') int64.

    Those beyond `last` count as `last`; those of later keys, which are masked, as 0.
    """
    return bias.distance(rows).round().clamp(0, last).long()


def gather_by_distance(curves: Tensor, at: Tensor) -> Tensor:
    """Each query's curve (B, H, R, N) at the distances (B or 1, H or 1, R, S') of its keys: (B, H, R, S')."""
    return curves.gather(-1, at.expand(*curves.shape[:-1], -1))


def scatter_by_distance(weights: Tensor, at: Tensor, size: int) -> Tensor:
    """The reverse: the sum of each query's weights (B, H, R, S') over its keys at every distance: (B, H, R, size)."""
    return weights.new_zeros(*weights.shape[:-1], size).scatter_add(-1, at.expand_as(weights), weights)


def longest_distance(queries: Tensor, keys: Tensor) -> int:
    """The longest distance, in whole tokens, between positions (B or 1, 1, T) and (B or 1, 1, S)."""
    return int(torch.ceil(queries.max() - keys.min()))
