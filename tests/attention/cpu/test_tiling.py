"""Sizes of compiled tiles, and the mask that is fast."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.attention.cpu.tiling import (
    CALL_BYTES,
    LARGEST_CALL,
    apply_causal_mask,
    heads_per_call,
    rows_per_compiled_tile,
)
from extrapo.attention.tiling import MAX_ROWS, MIN_ROWS, mask_hidden


@given(rows=st.integers(1, 20), before=st.integers(0, 9), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=40, deadline=None)
def test_it_hides_what_the_plain_mask_hides(rows: int, before: int, dtype: torch.dtype) -> None:
    logits = torch.randn(2, 3, rows, before + rows, dtype=dtype)
    logits[..., -1, 0] = torch.inf
    expected = mask_hidden(logits.clone(), None)
    # In a larger memory, as a worker's is.
    own = torch.zeros(2, 3, rows, before + rows + 4, dtype=dtype)[..., : before + rows]
    own.copy_(logits)
    assert torch.equal(apply_causal_mask(own), expected)
    assert torch.equal(own, expected)


@given(queries=st.integers(1, 2**18), keys=st.integers(1, 2**18))
def test_a_call_takes_as_many_heads_as_stay_small_together(queries: int, keys: int) -> None:
    rows = rows_per_compiled_tile(queries, keys)
    heads = heads_per_call(rows, keys)
    assert MIN_ROWS <= rows <= MAX_ROWS
    assert heads == 1 or 4 * rows * keys * heads <= CALL_BYTES < 4 * rows * keys * (heads + 1)
    assert rows == MIN_ROWS or 4 * rows * keys <= LARGEST_CALL


def test_rows_leave_four_tiles() -> None:
    assert [rows_per_compiled_tile(queries, queries) for queries in (9, 256, 512, 16_384)] == [16, 64, 128, 128]


def test_rows_of_a_very_long_text_are_fewer() -> None:
    assert [rows_per_compiled_tile(queries, 131_072) for queries in (512, 131_072)] == [64, 64]
