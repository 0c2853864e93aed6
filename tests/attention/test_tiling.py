"""How query rows are cut into tiles, and how what is later is hidden."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.attention.tiling import (
    BODY_BYTES,
    LARGEST_BODY,
    MAX_ROWS,
    MIN_ROWS,
    capped,
    heads_per_body,
    masked,
    rows_per_body,
    rows_per_tile,
    spans,
)


@given(queries=st.integers(1, 300), rows=st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_tile(queries: int, rows: int) -> None:
    tiles = spans(queries, rows)
    assert [row for tile in tiles for row in range(tile.start, tile.stop)] == list(range(queries))
    assert all(tile.stop - tile.start == rows for tile in tiles[1:])


@given(rows=st.integers(1, 20), before=st.integers(0, 9), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=40, deadline=None)
def test_both_ways_hide_the_same(rows: int, before: int, dtype: torch.dtype) -> None:
    logits = torch.randn(2, 3, rows, before + rows, dtype=dtype)
    logits[..., -1, 0] = torch.inf
    later = torch.ones(rows, before + rows, dtype=torch.bool).triu_(before + 1)
    expected = logits.masked_fill(later, -torch.inf)
    for hide in (masked, capped):
        # In a larger memory, as a worker's is.
        own = torch.zeros(2, 3, rows, before + rows + 4, dtype=dtype)[..., : before + rows]
        own.copy_(logits)
        assert torch.equal(hide(own), expected)
        assert torch.equal(own, expected)


def test_weights_are_hidden_too() -> None:
    weights = torch.rand(2, 4, 6)
    weights[0, 0, -1] = torch.inf
    expected = weights.masked_fill(torch.ones(4, 6, dtype=torch.bool).triu_(3), 0.0)
    assert torch.equal(capped(weights, outside=0.0), expected)


def test_few_queries_make_low_tiles_and_many_heads_too() -> None:
    assert rows_per_tile(8, 2048, 2048) == 128
    assert rows_per_tile(8, 131_072, 131_072) == 16
    assert rows_per_tile(32, 512, 512) == 64
    assert rows_per_tile(32, 512, 512, tiles=4) == 128


@given(queries=st.integers(1, 2**18), keys=st.integers(1, 2**18))
def test_a_body_takes_as_many_heads_as_stay_small_together(queries: int, keys: int) -> None:
    rows = rows_per_body(queries, keys)
    heads = heads_per_body(rows, keys)
    assert MIN_ROWS <= rows <= MAX_ROWS
    assert heads == 1 or 4 * rows * keys * heads <= BODY_BYTES < 4 * rows * keys * (heads + 1)
    assert rows == MIN_ROWS or 4 * rows * keys <= LARGEST_BODY


def test_rows_of_a_body_leave_four_tiles() -> None:
    assert [rows_per_body(queries, queries) for queries in (9, 256, 512, 16_384)] == [16, 64, 128, 128]


def test_rows_of_a_very_long_text_are_fewer() -> None:
    assert [rows_per_body(queries, 131_072) for queries in (512, 131_072)] == [64, 64]
