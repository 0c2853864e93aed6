"""Sandwich against the inner products of sinusoidal embeddings that it is made of."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from extrapo.attention import attend
from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.sandwich import Sandwich

H, T, WIDTH = 4, 12, 16


@pytest.mark.parametrize("first", [0, 1])
def test_inner_products_of_sinusoids(first: Literal[0, 1]) -> None:
    layer = Sandwich(LayerSpec(H, 8, 8 * H), width=WIDTH, first=first).double()
    positions = [3 * t + t % 2 for t in range(T)]
    context = Context(torch.tensor(positions, dtype=torch.float64).view(1, 1, -1))
    bias = layer.bias(torch.zeros(1, T, 8 * H, dtype=torch.float64), None, context)
    tile = bias.added(slice(0, T))[0]

    def sinusoid(position: int) -> list[float]:
        angles = [position / 10_000 ** (2 * c / WIDTH) for c in range(first, first + WIDTH // 2)]
        return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]

    for h in range(H):
        for i in range(T):
            for j in range(i + 1):
                product = sum(a * b for a, b in zip(sinusoid(positions[i]), sinusoid(positions[j]), strict=True))
                expected = (product - WIDTH / 2) / (8 * (h + 1) / H)
                assert float(tile[h, i, j]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("first", [0, 1])
def test_folds_exactly(first: Literal[0, 1]) -> None:
    layer = Sandwich(LayerSpec(H, 8, 8 * H), first=first).double()
    bias = layer.bias(torch.zeros(1, 40, 8 * H, dtype=torch.float64))
    columns = bias.low_rank()
    assert columns is not None
    assert columns.u.size(-1) == columns.w.size(-1) == 128
    q, k, v = torch.randn(3, 1, H, 40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        attend(q, k, v, bias, scale=0.3, impl="fold"), attend(q, k, v, bias, scale=0.3, impl="reference")
    )


def test_has_no_parameters() -> None:
    assert not list(Sandwich(LayerSpec(H, 8, 8 * H)).parameters())
