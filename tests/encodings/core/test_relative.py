"""Relative: distances of a tile keep their digits however far out it lies, and the past comes before the new."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo.encodings import AddedBias, Context, NoBias, Relative, index_positions
from extrapo.encodings.core.relative import consecutive, wide_enough, with_past


@dataclass(frozen=True)
class Distance(Relative, AddedBias):
    """The distance itself."""

    def tile(self, rows: slice) -> Tensor:
        return self.distance(rows)


def made(queries: int, past: int, start: float, dtype: torch.dtype, seed: int = 0) -> tuple[Distance, Tensor]:
    """Positions that grow by about 1/3 a token, and all distances in float64."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(2, 3, past + queries, generator=generator, dtype=torch.float64)
    keys = start + (steps / 1.5).cumsum(-1)
    bias = Distance(heads=3, queries=keys[..., past:], keys=keys, dtype=dtype)
    return bias, keys[..., past:].unsqueeze(-1) - keys.unsqueeze(-2)


@given(
    queries=st.integers(1, 20),
    past=st.integers(0, 20),
    start=st.floats(0, 1e7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_tile_has_its_distances(
    queries: int, past: int, start: float, dtype: torch.dtype, data: st.DataObject
) -> None:
    """To the digits of its dtype relative to the distance, and not to the position."""
    bias, exact = made(queries, past, start, dtype)
    first = data.draw(st.integers(0, queries - 1))
    rows = slice(first, data.draw(st.integers(first + 1, queries)))
    stop = past + rows.stop
    assert bias.stop(rows) == stop
    found = bias.distance(rows)
    assert found.dtype == dtype
    assert found.shape == (2, 3, rows.stop - rows.start, stop)
    # At 10^7 the positions themselves are kept to 2e-9, in float64.
    torch.testing.assert_close(found.double(), exact[..., rows, :stop], rtol=1e-6, atol=3e-6)
    row, column = bias.edges(rows)
    assert torch.equal((row + column).expand_as(found), found)


def test_its_shape_is_that_of_its_positions() -> None:
    bias, _ = made(4, 3, 0.0, torch.float32)
    assert bias.shape == (2, 3, 4, 7)
    assert torch.equal(bias.so_far(), bias.keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_reach_queries_and_keys(dtype: torch.dtype) -> None:
    """Each position moves its row up and its column down, also where a tile is measured from it."""
    keys = torch.rand(1, 1, 6, dtype=torch.float64, requires_grad=True)
    queries = torch.rand(1, 1, 6, dtype=torch.float64, requires_grad=True)
    bias = Distance(heads=1, queries=queries, keys=keys, dtype=dtype)
    weights = torch.rand(4, 6, dtype=torch.float64)
    (bias.distance(slice(2, 6))[0, 0] * weights.to(dtype)).sum().backward()
    assert queries.grad is not None
    assert keys.grad is not None
    torch.testing.assert_close(queries.grad[0, 0, 2:], weights.sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(keys.grad[0, 0], -weights.sum(0), rtol=1e-6, atol=1e-6)
    assert not queries.grad[0, 0, :2].any()


def test_the_past_comes_first() -> None:
    new = torch.tensor([[[5.0, 6.0]]])
    assert with_past(new, None) is new
    past = Distance(heads=1, queries=torch.tensor([[[4.0]]]), keys=torch.tensor([[[1.0, 4.0]]]))
    assert with_past(new, past).tolist() == [[[1.0, 4.0, 5.0, 6.0]]]
    with pytest.raises(AssertionError):
        with_past(new, NoBias(1, 1, 2, new.device))


def test_tokens_follow_the_past_unless_a_context_says_where_they_stand() -> None:
    x = torch.zeros(1, 3, 8)
    assert index_positions(x, None, None).tolist() == [[[0, 1, 2]]]
    assert index_positions(x, NoBias(1, 2, 7, x.device), None).tolist() == [[[7, 8, 9]]]
    context = Context(torch.tensor([[[3.0, 9.0, 10.0]]]))
    assert index_positions(x, NoBias(1, 2, 7, x.device), context) is context.index


@given(start=st.integers(-5, 10**6), count=st.integers(1, 30), gap=st.integers(0, 29))
@settings(max_examples=40, deadline=None)
def test_consecutive_is_one_step_a_token(start: int, count: int, gap: int) -> None:
    keys = torch.arange(start, start + count, dtype=torch.float64).view(1, 1, -1)
    assert consecutive(keys)
    assert not consecutive(keys.expand(1, 2, -1))
    assert not consecutive(keys.expand(2, 1, -1))
    broken = keys.clone()
    broken[..., gap:] += 1
    assert consecutive(broken) == (gap == 0 or gap >= count)
    bias = Distance(heads=1, queries=keys[..., -2:], keys=keys)
    assert bias.consecutive()
    assert not Distance(heads=1, queries=keys[..., -2:] + 1, keys=keys).consecutive()


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_a_bias_is_in_float32_at_least(dtype: torch.dtype, wide: torch.dtype) -> None:
    assert wide_enough(torch.zeros(1, dtype=dtype)) == wide
