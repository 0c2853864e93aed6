"""Spans: how the query rows of an attention are cut into tiles."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: A tile's logits (B x H x R x S floats) should stay near the cache; fewer rows than 16 starve the matrix products.
TILE_BYTES = 2**23
MIN_ROWS, MAX_ROWS = 16, 128

#: And those that a compiled body makes in one call, near a core: fewer cost more in calls. Measured: 1 to 16 MiB.
BODY_BYTES = 2**22

#: A row of a long text is large enough by itself: what one head's rows take is at most this.
LARGEST_BODY = 2**25

#: Rows up to which a tile is worth what it computes above the diagonal, however few the queries.
FEW_ROWS = 64


def rows_per_tile(batch_heads: int, keys: int, queries: int, tiles: int = 8) -> int:
    """Rows of a tile, a power of two: as many as keep the tile small, no more than 64 or than make so many tiles."""
    rows = TILE_BYTES // max(1, 4 * batch_heads * keys)
    return allowed(min(rows, max(FEW_ROWS, queries // tiles)))


def rows_per_body(queries: int, keys: int) -> int:
    """Rows of a tile that a compiled body makes, a power of two, however many heads: it takes a few at a time.

    Its loop is so fast that the sums of a tile's gradients weigh more: as many rows as leave four tiles.
    """
    return allowed(min(queries // 4, LARGEST_BODY // (4 * keys)))


def heads_per_body(rows: int, keys: int) -> int:
    """Heads, of all texts, whose tiles a compiled body makes in one call: as many as keep them small together."""
    return max(1, BODY_BYTES // (4 * rows * keys))


def allowed(rows: int) -> int:
    """The next power of two below, within what a tile may have."""
    return 1 << (max(MIN_ROWS, min(MAX_ROWS, rows)).bit_length() - 1)


def spans(queries: int, rows: int) -> list[slice]:
    """The tiles' query rows, in order; where they do not divide, the first tile is the short one."""
    starts = [0, *range(queries % rows or rows, queries, rows)]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], queries], strict=True)]


def masked(logits: Tensor) -> Tensor:
    """-inf where the key is later; the last R columns of a tile (..., R, S') hold its diagonal. Overwrites `logits`."""
    size = logits.size(-2)
    future = torch.ones(size, size, dtype=torch.bool, device=logits.device).triu_(1)
    logits[..., -size:].masked_fill_(future, float("-inf"))
    return logits


def capped(tile: Tensor, outside: float = -torch.inf) -> Tensor:
    """`masked` of numbers without a graph, in a sixth of the time: `outside` where the key is later.

    Args:
        tile: (..., R, S'), no number of it below `outside`. What is later must be a number, if an infinite one: a NaN
            stays, as it would in the gradient.
        outside: -infinity for logits, 0 for weights.
    """
    size = tile.size(-2)
    own = tile[..., -size:]
    torch.minimum(own, ceiling(size, outside, tile.dtype, tile.device), out=own)
    return tile


@lru_cache(maxsize=16)
def ceiling(size: int, outside: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(R, R): infinity up to the diagonal, `outside` above it."""
    with torch.inference_mode(False):
        later = torch.ones(size, size, dtype=torch.bool, device=device).triu_(1)
        return torch.full((size, size), torch.inf, dtype=dtype, device=device).masked_fill_(later, outside)
