"""Blocks: no pair that is seen is left out, and none is taken for seen that is not."""

from __future__ import annotations

import pytest
import torch
from extrapo.attention.blocks import blocks, blocks_of_rows
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from extrapo.attention import blocks as module
from extrapo.encodings.core.visibility import Sight

CPU = torch.device("cpu")
sights = st.none() | st.builds(Sight, st.integers(1, 60), st.integers(0, 20))


def pairs(queries: int, keys: int, sight: Sight | None, lengths: list[int] | None) -> Tensor:
    """(B, T, S) bool, pair by pair from the definition."""
    found = torch.zeros(1 if lengths is None else len(lengths), queries, keys, dtype=torch.bool)
    for b in range(found.size(0)):
        for i in range(queries):
            place = i + keys - queries
            for j in range(place + 1):
                near = sight is None or place - j < sight.window or j < sight.sinks
                found[b, i, j] = near and (lengths is None or place < lengths[b])
    return found


@given(st.integers(1, 40), st.integers(0, 30), sights, st.none() | st.lists(st.integers(1, 40), min_size=2, max_size=3))
@example(32, 8, Sight(9, 3), [32, 5])
def test_against_every_pair(queries: int, past: int, sight: Sight | None, lengths: list[int] | None) -> None:
    # A smaller square, so that few pairs make many blocks.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIZE", 8)
        keys = queries + past
        rows = None if lengths is None else torch.tensor(lengths)
        made = blocks_of_rows(queries, keys, sight, rows, CPU)
        expected = pairs(queries, keys, sight, lengths)
        assert made.mask_mod is not None
        assert torch.equal(create_mask(made.mask_mod, len(expected), 1, queries, keys, "cpu")[:, 0], expected)
        whole, some = dense(made.full_kv_num_blocks, made.full_kv_indices), dense(made.kv_num_blocks, made.kv_indices)
        assert not (whole & some).any()
        squares = torch.nn.functional.pad(expected, (0, -keys % 8, 0, -queries % 8)).unflatten(-1, (-1, 8))
        squares = squares.unflatten(1, (-1, 8)).transpose(2, 3)
        any_seen, all_seen = squares.flatten(-2).any(-1), squares.flatten(-2).all(-1)
        assert not (any_seen & ~(whole | some)).any()
        assert not (whole & ~all_seen).any()
        if sight is None or not sight.sinks:
            # Nothing is visited in vain; where sinks end within a block, one may be.
            assert torch.equal(whole | some, any_seen)
            assert torch.equal(whole, all_seen)


def dense(counts: Tensor | None, order: Tensor | None) -> Tensor:
    """(B, rows, columns) bool of what a BlockMask lists."""
    assert counts is not None
    assert order is not None
    places = torch.arange(order.size(-1)) < counts.unsqueeze(-1)
    return torch.zeros_like(places).scatter(-1, order.long(), places)[:, 0]


def test_a_long_text_needs_no_matrix_of_its_pairs() -> None:
    """A million tokens: 8,192 x 8,192 blocks would be 64 million; all pairs would be 10^12."""
    made = blocks(2**16, 2**16, Sight(1000, 4), CPU)
    # Per row of blocks the window, and the block of the sinks.
    assert int((made.kv_num_blocks + made.full_kv_num_blocks).max()) == 1000 // 128 + 2 + 1
    assert blocks(2**16, 2**16, Sight(1000, 4), CPU) is made
