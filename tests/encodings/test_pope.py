"""PoPE against its formula, coordinate by coordinate."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Context
from extrapo.encodings.pope import PoPE

D, T = 5, 9
SHAPE = {"heads": 2, "head_dim": D, "dim": 10}


def draw(seed: int) -> Tensor:
    return torch.randn(1, 2, T, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def products(layer: PoPE, q: Tensor, k: Tensor, start: int = 0) -> Tensor:
    x = torch.zeros(1, T, 10, dtype=torch.float64)
    out = layer.transform(q, k, k, x=x, context=Context.plain(x, start), state=None)
    assert out.q.shape == out.k.shape == (1, 2, T, 2 * D)
    return (out.q @ out.k.transpose(-1, -2))[0]


def test_formula() -> None:
    """In values and gradients; an odd width will do."""
    layer = encodings.create("pope", **SHAPE, base=100.0).double()
    with torch.no_grad():
        layer.delta.uniform_(-6, 0, generator=torch.Generator().manual_seed(2))
        layer.delta[0, 0, :2] = torch.tensor([0.5, -7.0])
    q, k = draw(0).requires_grad_(), draw(1).requires_grad_()
    delta = layer.delta.detach().clone().requires_grad_()
    rows = []
    for i in range(T):
        for j in range(T):
            total = torch.zeros(2, dtype=torch.float64)
            for c in range(D):
                # Held at the bounds, with the gradient that it has there.
                own = delta[:, 0, c]
                own = own + (own.clamp(-2 * math.pi, 0) - own).detach()
                phase = (j - i) * 100.0 ** (-c / D) + own
                total = total + F.softplus(q[0, :, i, c]) * F.softplus(k[0, :, j, c]) * torch.cos(phase)
            rows.append(total)
    expected = torch.stack(rows, dim=-1).view(2, T, T)
    got = products(layer, q, k)
    torch.testing.assert_close(got, expected)
    receive = torch.randn(2, T, T, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * receive).sum(), (q, k, delta))
    mine = torch.autograd.grad((got * receive).sum(), (q, k, layer.delta))
    for a, b in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_products_depend_on_the_distance_alone() -> None:
    layer = encodings.create("pope", **SHAPE)
    q, k = draw(0), draw(1)
    torch.testing.assert_close(products(layer, q, k), products(layer, q, k, start=131_072), rtol=0, atol=1e-8)


@pytest.mark.parametrize("start", ["zero", "uniform"])
def test_phases_at_the_start(start: str) -> None:
    delta = encodings.create("pope", heads=8, head_dim=32, dim=256, start=start).delta
    if start == "zero":
        assert not delta.any()
    else:
        assert -2 * math.pi <= delta.min() < -5
        assert -1 < delta.max() <= 0
