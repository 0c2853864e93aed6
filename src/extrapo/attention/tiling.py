"""Tiling: how the query rows of an attention are cut into tiles, and what a tile's rows do not see."""

from __future__ import annotations

from torch import Tensor

from extrapo.encodings.core.visibility import Visibility, hidden

#: A tile's logits (B x H x R x S floats) should stay near the cache; fewer rows than 16 starve the matrix products.
TILE_BYTES = 2**23
MIN_ROWS, MAX_ROWS = 16, 128

#: Rows up to which a tile is worth what it computes above the diagonal, however few the queries.
FEW_ROWS = 64

#: Elsewhere nothing but memory limits a tile, of which its graph keeps some ten: each of its operations is a launch,
#: and few tiles are few launches.
DEVICE_TILE_BYTES = 2**27


def rows_per_tile(batch_heads: int, keys: int, queries: int, tiles: int = 8, *, cached: bool = True) -> int:
    """Rows of a tile, a power of two: as many as keep the tile small (`cached`: near that of a CPU), no more than 64 or
    than make so many tiles.
    """
    size, most = (TILE_BYTES, MAX_ROWS) if cached else (DEVICE_TILE_BYTES, queries)
    rows = min(size // max(1, 4 * batch_heads * keys), max(FEW_ROWS, queries // tiles), most)
    return 1 << (max(MIN_ROWS, rows).bit_length() - 1)


def tile_slices(queries: int, rows: int) -> list[slice]:
    """The tiles' query rows, in order; where they do not divide, the first tile is the short one."""
    starts = [0, *range(queries % rows or rows, queries, rows)]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], queries], strict=True)]


def mask_hidden(logits: Tensor, visibility: Visibility | None) -> Tensor:
    """-inf where a key is later or out of sight, of a tile (..., R, S') whose last R columns hold its diagonal.

    Overwrites `logits`.
    """
    size = logits.size(-2)
    if visibility is None:
        logits[..., -size:].masked_fill_(hidden(size, size, None, logits.device), float("-inf"))
        return logits
    return logits.masked_fill_(hidden(size, logits.size(-1), visibility, logits.device), float("-inf"))
