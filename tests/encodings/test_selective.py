"""Selective RoPE against its formula in loops, its options, and what decoding keeps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Context
from extrapo.encodings.selective import SelectiveRoPE
from extrapo.errors import UserError

H, D, T, DIM = 2, 6, 9, 12
SHAPE = {"heads": H, "head_dim": D, "dim": DIM}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"skip_conv": True},
    {"gate": True, "width": 1},
    {"phase_bias": True, "gate": True, "width": 3, "rank": 2},
    {"tau": "rfa", "span": 0.6},
]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return draw(1, H, T, D, seed=0), draw(1, H, T, D, seed=1), draw(1, T, DIM, seed=2)


def built(options: dict[str, Any]) -> SelectiveRoPE:
    layer = encodings.create("selective-rope", **SHAPE, **options).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


def plain_angles(layer: SelectiveRoPE, x: Tensor, options: dict[str, Any]) -> list[list[Tensor]]:
    """Per head and token the angles (d/2,), from the formula."""
    tau = [500_000.0 ** (-2 * c / D) for c in range(D // 2)]
    if options.get("tau") == "rfa":
        angles = [0.6 * math.pi * c / (D // 2 - 1) for c in range(D // 2)]
        roots = [math.sqrt((1 - math.cos(a)) / (1 + math.cos(a))) for a in angles]
        tau = [root / max(roots) for root in roots]
    units = []
    for t in range(T):
        slices = [x[0, t, h * DIM // H : (h + 1) * DIM // H] for h in range(H)]
        units.append(torch.cat([part / (part.square().sum() + 1e-6).sqrt() for part in slices]))
    projected = [layer.up.weight @ (layer.down.weight @ unit) for unit in units]
    found = []
    for h in range(H):
        total, rows = torch.zeros(D // 2, dtype=torch.float64), []
        for t in range(T):
            step = []
            for c in range(D // 2):
                channel = h * D // 2 + c
                if options.get("skip_conv"):
                    phi = projected[t][channel] - (projected[t - 1][channel] if t else 0)
                else:
                    taps = layer.taps[channel, 0]
                    phi = sum(taps[-1 - m] * projected[t - m][channel] for m in range(len(taps)) if m <= t)
                step.append(phi)
            phi = torch.stack(step)
            if options.get("phase_bias"):
                phi = phi + layer.phase_bias[h, 0].exp()
            if options.get("gate"):
                phi = phi * torch.sigmoid(layer.gate.weight[h] @ units[t] + layer.gate.bias[h])
            total = total + phi
            rows.append(total * torch.tensor(tau, dtype=torch.float64))
        found.append(rows)
    return found


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_formula(options: dict[str, Any]) -> None:
    """In values and gradients."""
    layer = built(options)
    q, k, x = (t.requires_grad_() for t in inputs())
    angles = plain_angles(layer, x, options)
    products = []
    for h in range(H):
        for i in range(T):
            for j in range(T):
                turn = angles[h][i] - angles[h][j]
                (a, b), (p, r) = q[0, h, i].chunk(2), k[0, h, j].chunk(2)
                products.append(((a * p + b * r) * turn.cos() - (b * p - a * r) * turn.sin()).sum())
    expected = torch.stack(products).view(1, H, T, T)
    out = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    got = out.q @ out.k.transpose(-1, -2)
    torch.testing.assert_close(got, expected)
    receive = draw(1, H, T, T, seed=4)
    leaves = (q, k, x, *layer.parameters())
    wanted = torch.autograd.grad((expected * receive).sum(), leaves)
    for mine, theirs in zip(torch.autograd.grad((got * receive).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_taps_and_phase_go_on_from_their_state(options: dict[str, Any]) -> None:
    layer = built(options)
    q, k, x = inputs()
    whole = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    state, keys = None, []
    for t in (slice(0, 1), slice(1, 3), slice(3, 4), slice(4, T)):
        context = Context.plain(x[:, t], t.start)
        out = layer.transform(q[:, :, t], k[:, :, t], k[:, :, t], x=x[:, t], context=context, state=state)
        state = out.state
        keys.append(out.k)
    torch.testing.assert_close(torch.cat(keys, dim=2), whole.k)


def test_without_the_convolution_the_sum_is_the_projection_itself() -> None:
    layer = built({"skip_conv": True})
    _, _, x = inputs()
    phi, _ = layer.steps(x, None)
    unit = x.view(1, T, H, -1)
    unit = (unit / (unit.square().sum(-1, keepdim=True) + 1e-6).sqrt()).flatten(-2)
    projected = layer.up(layer.down(unit)).view(1, T, H, D // 2).transpose(1, 2)
    torch.testing.assert_close(phi.cumsum(2), projected)


def test_with_a_bias_alone_it_starts_as_rope_at_its_base() -> None:
    """exp(0) = 1 per token, counted from 1."""
    layer = encodings.create("selective-rope", **SHAPE, phase_bias=True).double()
    torch.nn.init.zeros_(layer.up.weight)
    q, k, x = inputs()
    rope = encodings.create("rope", **SHAPE, base=500_000.0)
    mine, theirs = (e.transform(q, k, k, x=x, context=Context.plain(x, 1), state=None) for e in (layer, rope))
    torch.testing.assert_close(mine.k, theirs.k)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_phase_of_a_bfloat16_layer_is_that_of_its_weights(options: dict[str, Any]) -> None:
    """The steps add up over the whole text: rounded to bfloat16 they would end radians away."""
    narrow = built(options).bfloat16()
    exact = encodings.create("selective-rope", **SHAPE, **options).double()
    exact.load_state_dict({name: weight.double() for name, weight in narrow.state_dict().items()})
    q, x = draw(1, H, 512, D, seed=4).bfloat16(), draw(1, 512, DIM, seed=5).bfloat16()
    phases = []
    for layer, dtype in ((narrow, torch.bfloat16), (exact, torch.float64)):
        out = layer.transform(*3 * (q.to(dtype),), x=x.to(dtype), context=Context.plain(x), state=None)
        phases.append(out.state.phase)
    torch.testing.assert_close(*phases, rtol=0, atol=1e-3)


def test_size_and_start() -> None:
    """rank D + rank H d/2 + 4 H d/2 numbers, N(0, 0.02)."""
    torch.manual_seed(0)
    layer = encodings.create("selective-rope", heads=8, head_dim=64, dim=512)
    assert sum(p.numel() for p in layer.parameters()) == 16 * 512 + 16 * 256 + 4 * 256
    assert all(float(p.detach().std()) == pytest.approx(0.02, rel=0.1) for p in layer.parameters())


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match="rank and width must be at least 1, not 0 and 4"):
        encodings.create("selective-rope", **SHAPE, rank=0)
    with pytest.raises(UserError, match=r"span must lie in \(0, 1\), not 1.0"):
        encodings.create("selective-rope", **SHAPE, tau="rfa", span=1.0)
    with pytest.raises(UserError, match=r"'selective-rope'.*must be even, not 7"):
        encodings.create("selective-rope", heads=2, head_dim=7, dim=14)
