"""Adaptive Positional Encoding against its formula pair by pair, and its two reductions."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import encodings
from extrapo.attention import reference
from extrapo.kernels.base import Positive

HEADS, D, T = 2, 6, 9
SCALE = 1 / math.sqrt(D)


def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, T, D, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v, torch.randn(1, T, HEADS * D, generator=generator, dtype=torch.float64)


def logits(layer: encodings.Encoding) -> torch.Tensor:
    q, k, v, x = draws()
    turned = layer.transform(q, k, v, x=x, start=0, carry=None)
    return layer.bias(x).score(turned.q, turned.k, SCALE, slice(0, T))[0]


@pytest.mark.parametrize("mode", ["log", "const"])
def test_formula(mode: str) -> None:
    layer = encodings.create("adaptive", heads=HEADS, head_dim=D, dim=HEADS * D, alpha_mode=mode).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5)
    got = logits(layer)
    q, k, _, _ = draws()
    delta, beta, gamma = (float(v[1].detach()) for v in layer.kernel.values())
    damping = float(layer.damping()[1].detach())
    for i in range(T):
        for j in range(i + 1):
            n = i - j
            alpha = (
                float(layer.alpha()[1].detach())
                if mode == "const"
                else 1 + float(layer.stretch()[1].detach()) * math.log(1 + n)
            )
            content = 0.0
            for c in range(D // 2):
                angle = n / alpha * 10_000 ** (-2 * c / D)
                a = complex(q[0, 1, i, c], q[0, 1, i, c + D // 2])
                b = complex(k[0, 1, j, c], k[0, 1, j, c + D // 2])
                content += (a * b.conjugate() * complex(math.cos(angle), math.sin(angle))).real
            bias = -delta * n - beta * math.log(1 + n) - gamma * math.sqrt(n)
            assert float(got[1, i, j].detach()) == pytest.approx(SCALE / (1 + damping * n) * content + bias, abs=1e-9)


def silence(parameter: Positive) -> None:
    """softplus(-80) is 1e-35."""
    with torch.no_grad():
        parameter.raw.fill_(-80.0)


@pytest.mark.parametrize("mode", ["log", "const"])
def test_without_temperature_bias_and_stretch_it_is_rope(mode: str) -> None:
    layer = encodings.create("adaptive", heads=HEADS, head_dim=D, dim=HEADS * D, alpha_mode=mode).double()
    silence(layer.damping)
    for term in (layer.kernel.delta, layer.kernel.beta, layer.kernel.gamma):
        silence(term)
    if layer.stretch is not None:
        silence(layer.stretch)
    q, k, v, x = draws()
    rope = encodings.create("rope", heads=HEADS, head_dim=D, dim=HEADS * D)
    turned = rope.transform(q, k, v, x=x, start=0, carry=None)
    expected = SCALE * (turned.q @ turned.k.transpose(-1, -2))[0]
    below = torch.ones(T, T, dtype=torch.bool).tril()
    torch.testing.assert_close(logits(layer)[:, below], expected[:, below], rtol=0, atol=1e-6)


def test_without_temperature_rotation_and_bent_terms_it_is_alibi() -> None:
    layer = encodings.create("adaptive", heads=HEADS, head_dim=D, dim=HEADS * D, alpha_mode="const").double()
    silence(layer.damping)
    silence(layer.kernel.beta)
    silence(layer.kernel.gamma)
    with torch.no_grad():
        layer.alpha.raw.fill_(1e12)
    q, k, v, x = draws()
    alibi = encodings.create("alibi", heads=HEADS, head_dim=D, dim=HEADS * D)
    expected = reference(q, k, v, alibi.bias(x), SCALE)
    turned = layer.transform(q, k, v, x=x, start=0, carry=None)
    got = reference(turned.q, turned.k, v, layer.bias(x), SCALE)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
