"""How query rows are cut into tiles, and how what a tile does not see is masked."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.attention.tiling import (
    DEVICE_TILE_BYTES,
    MAX_ROWS,
    MIN_ROWS,
    TILE_BYTES,
    mask_hidden,
    rows_per_tile,
    tile_slices,
)
from extrapo.encodings import Visibility


@given(queries=st.integers(1, 300), rows=st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_tile(queries: int, rows: int) -> None:
    tiles = tile_slices(queries, rows)
    assert [row for tile in tiles for row in range(tile.start, tile.stop)] == list(range(queries))
    assert all(tile.stop - tile.start == rows for tile in tiles[1:])


@given(
    rows=st.integers(1, 12),
    before=st.integers(0, 9),
    seen=st.none() | st.builds(Visibility, st.integers(1, 8), st.integers(0, 3)),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_later_or_out_of_sight_is_masked(
    rows: int, before: int, seen: Visibility | None, dtype: torch.dtype
) -> None:
    logits = torch.randn(2, 3, rows, before + rows, dtype=torch.float64).to(dtype)
    logits[..., -1, 0] = torch.inf
    expected = logits.clone()
    for i in range(rows):
        for j in range(before + rows):
            place = before + i
            near = seen is None or place - j < seen.window or j < seen.sinks
            if j > place or not near:
                expected[..., i, j] = -torch.inf
    found = mask_hidden(logits, seen)
    assert torch.equal(found, expected)
    assert found.data_ptr() == logits.data_ptr(), "it overwrites what it is given"


@given(heads=st.integers(1, 512), queries=st.integers(1, 2**17), past=st.integers(0, 2**17), tiles=st.integers(1, 16))
@settings(max_examples=100, deadline=None)
def test_a_tile_is_small_and_has_some_rows(heads: int, queries: int, past: int, tiles: int) -> None:
    keys = queries + past
    rows = rows_per_tile(heads, keys, queries, tiles)
    assert MIN_ROWS <= rows <= MAX_ROWS
    assert rows & (rows - 1) == 0
    assert rows == MIN_ROWS or 4 * heads * keys * rows <= TILE_BYTES


def test_few_queries_make_low_tiles_and_many_heads_too() -> None:
    assert rows_per_tile(8, 2048, 2048) == 128
    assert rows_per_tile(8, 131_072, 131_072) == 16
    assert rows_per_tile(32, 512, 512) == 64
    assert rows_per_tile(32, 512, 512, tiles=4) == 128


def test_on_a_gpu_memory_alone_limits_a_tile() -> None:
    """Each operation of a tile is a launch."""
    assert rows_per_tile(96, 4096, 4096) == 16
    assert rows_per_tile(96, 4096, 4096, cached=False) == 64
    assert rows_per_tile(12, 4096, 4096, cached=False) == 512
    assert rows_per_tile(12, 131_072, 131_072, cached=False) == 16


@given(heads=st.integers(1, 512), queries=st.integers(1, 2**17), past=st.integers(0, 2**17), tiles=st.integers(1, 16))
@settings(max_examples=100, deadline=None)
def test_and_does_limit_it(heads: int, queries: int, past: int, tiles: int) -> None:
    keys = queries + past
    rows = rows_per_tile(heads, keys, queries, tiles, cached=False)
    assert rows == MIN_ROWS or 4 * heads * keys * rows <= DEVICE_TILE_BYTES
    assert rows >= rows_per_tile(heads, keys, queries, tiles) or rows * 2 > queries
