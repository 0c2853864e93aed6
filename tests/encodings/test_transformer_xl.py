"""Transformer-XL's four terms against the paper's formula, pair by pair, in values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.transformer_xl import TransformerXL
from extrapo.errors import UserError

H, D = 2, 3
WIDTH = H * D
SCALE = 1 / math.sqrt(D)


def plain(layer: TransformerXL, q: torch.Tensor, k: torch.Tensor, positions: list[int]) -> dict[tuple[int, ...], float]:
    """(h, i, j) -> s (q_i.k_j + q_i.r_n + u.k_j + v.r_n)."""
    found = {}
    for i, at in enumerate(positions):
        for j in range(i + 1):
            n = at - positions[j]
            if layer.clamp_len is not None:
                n = min(n, layer.clamp_len)
            angles = [n / 10_000 ** (2 * c / WIDTH) for c in range(WIDTH // 2)]
            sinusoid = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles], dtype=torch.float64)
            r = layer.project @ sinusoid
            for h in range(H):
                r_h, q_i, k_j = r[h * D : (h + 1) * D], q[0, h, i], k[0, h, j]
                terms = q_i @ k_j + q_i @ r_h + layer.u[h, 0] @ k_j + layer.v[h, 0] @ r_h
                found[h, i, j] = SCALE * terms
    return found


@given(gaps=st.lists(st.integers(1, 9), min_size=1, max_size=7), clamp_len=st.none() | st.integers(1, 20))
@settings(deadline=None, max_examples=15)
def test_formula(gaps: list[int], clamp_len: int | None) -> None:
    positions, length = [sum(gaps[: i + 1]) for i in range(len(gaps))], len(gaps)
    torch.manual_seed(0)
    layer = TransformerXL(LayerSpec(H, D, WIDTH), clamp_len=clamp_len).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    q, k = (torch.randn(1, H, length, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    receive = torch.randn(H, length, length, dtype=torch.float64).tril()
    context = Context(torch.tensor(positions, dtype=torch.float64).view(1, 1, -1))
    bias = layer.bias(torch.zeros(1, length, WIDTH, dtype=torch.float64), None, context)
    logits = bias.score_rows(q, k, SCALE, slice(0, length))[0]
    expected = plain(layer, q, k, positions)
    for (h, i, j), value in expected.items():
        torch.testing.assert_close(logits[h, i, j], value)
    leaves = [q, k, *layer.parameters()]
    weighed = sum(value * receive[place] for place, value in expected.items())
    for ours, theirs in zip(
        torch.autograd.grad((logits * receive).sum(), leaves), torch.autograd.grad(weighed, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_decoding_makes_only_the_new_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = TransformerXL(LayerSpec(H, D, WIDTH))
    made: list[tuple[int, int]] = []
    make = layer.relative
    monkeypatch.setattr(layer, "relative", lambda start, stop: made.append((start, stop)) or make(start, stop))
    first = layer.bias(torch.zeros(1, 5, WIDTH))
    second = layer.bias(torch.zeros(1, 1, WIDTH), first)
    third = layer.bias(torch.zeros(1, 3, WIDTH), second)
    assert made == [(0, 5), (5, 6), (6, 9)]
    torch.testing.assert_close(third.relative, make(0, 9))


def test_widths_and_lengths_that_cannot_be() -> None:
    with pytest.raises(UserError, match="even width, not 9"):
        TransformerXL(LayerSpec(3, 3, 9))
    with pytest.raises(UserError, match="clamp_len must be at least 1"):
        TransformerXL(LayerSpec(H, D, WIDTH), clamp_len=0)
