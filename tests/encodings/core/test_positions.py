"""Positions: an index, or a clock that the tokens drive; wide sums, and steps that continue each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.encodings.core.positions import (
    INCREMENTS,
    ContextualPositions,
    HeadProjection,
    Input,
    both_per_head,
    index,
    wide,
)


@given(start=st.integers(0, 10**6), length=st.integers(1, 50))
def test_index(start: int, length: int) -> None:
    positions = index(start, start + length, torch.zeros(1))
    assert positions.shape == (1, 1, length)
    assert positions.flatten().tolist() == list(range(start, start + length))
    assert positions.dtype == torch.float64


def test_half_precision_inputs_still_count_in_float64() -> None:
    assert wide(torch.zeros(1, dtype=torch.bfloat16)) == torch.float64
    assert index(0, 70_000, torch.zeros(1, dtype=torch.bfloat16))[0, 0, -1] == 69_999


@pytest.mark.parametrize("source", ["full", "head"])
@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("biases", [(True, False), (False, True), (False, False)])
def test_two_maps_of_one_input(source: Input, length: int, biases: tuple[bool, bool]) -> None:
    one, other = (HeadProjection(12, 3, bias=bias, source=source).double() for bias in biases)
    for map in (one, other):
        if map.bias is not None:
            torch.nn.init.normal_(map.bias)
    x = torch.randn(2, length, 12, dtype=torch.float64)
    for got, expected in zip(both_per_head(x, one, other), (one(x), other(x)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("source", ["full", "head"])
def test_what_a_head_reads(source: Input) -> None:
    projection = HeadProjection(12, 3, bias=True, source=source)
    assert projection.bias is not None
    with torch.no_grad():
        projection.bias.normal_()
    x = torch.randn(2, 5, 12)
    for h in range(3):
        read = x if source == "full" else x[..., 4 * h : 4 * h + 4]
        torch.testing.assert_close(projection(x)[:, h], read @ projection.weight[h] + projection.bias[h])


def test_unknown_source() -> None:
    with pytest.raises(ValueError, match="'full' or 'head', not 'tail'"):
        HeadProjection(8, 2, bias=False, source="tail")  # type: ignore[arg-type]


def test_autocast_does_not_round_the_projection() -> None:
    projection, x = HeadProjection(16, 2, bias=False), torch.randn(1, 4, 16)
    expected = projection(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(projection(x), expected)
    assert projection.bfloat16()(x.bfloat16()).dtype == torch.float32


def test_contextual_positions_are_kept_in_float64() -> None:
    assert ContextualPositions(8, 2, increments="softplus", bias=True)(torch.randn(1, 3, 8)).dtype == torch.float64


#: The increments once more, number by number.
PLAIN = {
    "softplus": lambda z: math.log(1 + math.exp(z)),
    "relu": lambda z: max(z, 0.0),
    "log-sigmoid": lambda z: -math.log(1 / (1 + math.exp(-z))),
    "exp": math.exp,
}


@pytest.mark.parametrize("increments", sorted(INCREMENTS))
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_contextual_positions_sum_their_increments_and_continue(increments: str, lengths: list[int]) -> None:
    torch.manual_seed(0)
    positions = ContextualPositions(8, 2, increments=increments, bias=True).double()
    x = torch.randn(2, sum(lengths), 8, dtype=torch.float64)
    whole = positions(x)
    steps = positions.projection(x).detach().apply_(PLAIN[increments])
    expected = torch.stack([steps[..., : t + 1].sum(-1) for t in range(x.size(1))], dim=-1)
    torch.testing.assert_close(whole, expected)
    assert (whole.diff(dim=-1) >= 0).all()
    parts, last = [], None
    for part in torch.split(x, lengths, dim=1):
        parts.append(positions(part, last))
        last = parts[-1][..., -1:]
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole, rtol=1e-12, atol=1e-12)
