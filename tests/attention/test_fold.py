"""Fold against the specification, its invariance to shifts, and what it costs in float32 over a long text."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.attention import can_fold, fold, reference
from extrapo.encodings import Bias, DistanceBias, Encoding

HEADS, HEAD_DIM, DIM = 2, 4, 8
SCALE = 1 / math.sqrt(HEAD_DIM)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(name: str) -> Encoding:
    torch.manual_seed(0)
    made = encodings.create(name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


FOLDED = [name for name in encodings.names() if can_fold(layer(name).bias(draw(1, 3, DIM)))]
WITH_POSITIONS = [name for name in FOLDED if isinstance(layer(name).bias(draw(1, 3, DIM)), DistanceBias)]


def test_who_folds() -> None:
    assert {"alibi", "cable", "cable-weighted", "cable-nw", "nope", "rope"} <= set(FOLDED)
    assert not {"k-cable", "kerple-log", "kerple-power", "adaptive"} & set(FOLDED)


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize(("past", "new"), [(0, 1), (0, 9), (8, 1), (5, 4)])
def test_equals_the_reference(name: str, past: int, new: int) -> None:
    made = layer(name)
    results = []
    for path in (fold, reference):
        x = draw(2, past + new, DIM, seed=1).requires_grad_()
        q = draw(2, HEADS, new, HEAD_DIM, seed=2).requires_grad_()
        k, v = (draw(2, HEADS, past + new, HEAD_DIM, seed=seed).requires_grad_() for seed in (3, 4))
        before: Bias | None = made.bias(x[:, :past]) if past else None
        out = path(q, k, v, made.bias(x[:, past:], before), SCALE)
        leaves = [q, k, v, x, *made.parameters()]
        grads = torch.autograd.grad((out * draw(*out.shape, seed=5)).sum(), leaves, allow_unused=True)
        results.append([out, *(torch.zeros(()) if grad is None else grad for grad in grads)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10, check_dtype=False)


@pytest.mark.parametrize("name", WITH_POSITIONS)
@given(shift=st.floats(-1e6, 1e6))
@settings(max_examples=15, deadline=None)
def test_a_shift_of_all_positions_changes_nothing(name: str, shift: float) -> None:
    bias = layer(name).bias(draw(1, 12, DIM))
    assert isinstance(bias, DistanceBias)
    moved = replace(bias, queries=bias.queries + shift, keys=bias.keys + shift)
    q, k, v = (draw(1, HEADS, 12, HEAD_DIM, seed=seed) for seed in (1, 2, 3))
    torch.testing.assert_close(fold(q, k, v, moved, SCALE), fold(q, k, v, bias, SCALE), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("name", "bound"), [("alibi", 1e-4), ("cable", 1e-3), ("cable-weighted", 1e-3)])
def test_float32_over_16384_tokens(name: str, bound: float) -> None:
    """Outputs of size about 1; measured: alibi 1.2e-5, cable 2.1e-4, cable-weighted 5e-5.

    A folded column holds positions of several thousand, where float32 steps by 5e-4.
    """
    length, rows = 16_384, 16
    made = layer(name)
    x = draw(1, length, DIM)
    q, k, v = (draw(1, HEADS, length, HEAD_DIM, seed=seed) for seed in (1, 2, 3))
    bias = made.bias(x)
    assert isinstance(bias, DistanceBias)
    gate = None if bias.gate is None else bias.gate[..., -rows:]
    last = replace(bias, queries=bias.queries[..., -rows:], gate=gate)
    expected = reference(q[:, :, -rows:], k, v, last, SCALE)
    in_float32 = made.float().bias(x.float())
    got = fold(q.float(), k.float(), v.float(), in_float32, SCALE)[:, :, -rows:]
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() < bound
