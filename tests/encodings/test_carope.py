"""CARoPE against its formula in loops, its start as RoPE, and what decoding carries."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Context
from extrapo.encodings.carope import CARoPE
from extrapo.errors import UserError

D, T, DIM = 6, 9, 12
SHAPE = {"heads": 2, "head_dim": D, "dim": DIM}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def products(layer: CARoPE, q: Tensor, k: Tensor, x: Tensor) -> Tensor:
    out = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    return (out.q @ out.k.transpose(-1, -2))[0]


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return draw(1, 2, T, D, seed=0), draw(1, 2, T, D, seed=1), draw(1, T, DIM, seed=2)


@pytest.mark.parametrize("c0", [False, True])
@pytest.mark.parametrize("linear_bias", [False, True])
def test_formula(c0: bool, linear_bias: bool) -> None:
    """In values and gradients."""
    layer = encodings.create("carope", **SHAPE, c0=c0, linear_bias=linear_bias).double()
    with torch.no_grad():
        layer.projection.weight.normal_(generator=torch.Generator().manual_seed(3))
    q, k, x = (t.requires_grad_() for t in inputs())
    weight = layer.projection.weight
    heads = []
    for h in range(2):
        z = x[0] @ weight[h] + (layer.projection.bias[h] if linear_bias else 0)
        f = 1 / (F.softplus(z) + 1)
        rows = []
        for i in range(T):
            for j in range(T):
                total = torch.zeros((), dtype=torch.float64)
                for c in range(D // 2):
                    power = c if c0 else c + 1
                    turn = (f[: i + 1] ** power).sum() - (f[: j + 1] ** power).sum()
                    a, b, p, r = q[0, h, i, c], q[0, h, i, c + D // 2], k[0, h, j, c], k[0, h, j, c + D // 2]
                    total = total + (a * p + b * r) * turn.cos() - (b * p - a * r) * turn.sin()
                rows.append(total)
        heads.append(torch.stack(rows).view(T, T))
    expected, got = torch.stack(heads), products(layer, q, k, x)
    torch.testing.assert_close(got, expected)
    receive = draw(2, T, T, seed=4)
    leaves = (q, k, x, *layer.parameters())
    for mine, theirs in zip(*(torch.autograd.grad((o * receive).sum(), leaves) for o in (got, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_printed_values() -> None:
    """d = 64: theta_1 = 0.749894 at softplus^-1(1/theta_1 - 1) = -0.92666; without weights and bias f = 0.5906."""
    x = torch.zeros(1, 1, 64)
    layer = encodings.create("carope", heads=1, head_dim=64, dim=64)
    assert float(layer.projection.bias.detach()) == pytest.approx(-0.92666, abs=1e-5)
    assert float(layer.steps(x)[0, 0, 0, 0].detach()) == pytest.approx(0.749894, abs=1e-6)
    bare = encodings.create("carope", heads=1, head_dim=64, dim=64, linear_bias=False)
    assert float(bare.steps(x)[0, 0, 0, 0].detach()) == pytest.approx(1 / (1 + math.log(2)), abs=1e-6)


@pytest.mark.parametrize(("c0", "first"), [(False, 1), (True, 0)])
def test_without_weights_it_is_rope_at_the_planes_from_1(c0: bool, first: int) -> None:
    layer = encodings.create("carope", **SHAPE, c0=c0).double()
    torch.nn.init.zeros_(layer.projection.weight)
    # The bias in float64: rounded to float32 the frequencies are off by 1e-7.
    target = 10_000.0 ** (2 / D) - 1
    torch.nn.init.constant_(layer.projection.bias, target + math.log(-math.expm1(-target)))
    q, k, x = inputs()
    theta = torch.tensor([10_000.0 ** (-2 * (c + first) / D) for c in range(D // 2)], dtype=torch.float64)
    turn = torch.polar(torch.ones(T, D // 2).double(), torch.arange(T).double().unsqueeze(-1) * theta)
    q_planes, k_planes = (torch.complex(*t.chunk(2, -1)) * turn for t in (q, k))
    expected = torch.einsum("bhic,bhjc->hij", q_planes, k_planes.conj()).real
    torch.testing.assert_close(products(layer, q, k, x), expected)


def test_phases_go_on_from_what_is_carried() -> None:
    layer = encodings.create("carope", **SHAPE).double()
    q, k, x = inputs()
    whole = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    state, keys = None, []
    for t in (slice(0, 4), slice(4, 5), slice(5, T)):
        context = replace(Context.plain(x[:, t]), start=t.start)
        out = layer.transform(q[:, :, t], k[:, :, t], k[:, :, t], x=x[:, t], context=context, state=state)
        state = out.state
        keys.append(out.k)
    torch.testing.assert_close(torch.cat(keys, dim=2), whole.k)
    assert state.shape == (1, 2, 1, D // 2)
    assert state.dtype == torch.float64


def test_a_wide_base_does_not_overflow() -> None:
    layer = encodings.create("carope", heads=2, head_dim=2, dim=4, base=1e6)
    assert layer.projection.bias.detach().tolist() == pytest.approx([1e6 - 1] * 2)


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match="'carope': base must be above 1, not 1"):
        encodings.create("carope", **SHAPE, base=1.0)
    with pytest.raises(UserError, match=r"'carope'.*must be even, not 7"):
        encodings.create("carope", heads=2, head_dim=7, dim=14)
