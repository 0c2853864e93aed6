"""xPos against its formula pair by pair, and at lengths where its factors alone would leave float32."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend
from extrapo.encodings import Context, LayerSpec
from extrapo.encodings.xpos import XPos
from extrapo.errors import UserError

D, T, SCALE = 6, 11, 0.4
SHAPE = {"heads": 2, "head_dim": D, "dim": 12}


def draw(seed: int, length: int = T) -> Tensor:
    return torch.randn(1, 2, length, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(layer: XPos, q: Tensor, k: Tensor, start: int = 0) -> Tensor:
    x = torch.zeros(1, T, 12, dtype=torch.float64)
    context = Context.plain(x, start)
    out = layer.transform(q, k, k, x=x, context=context, state=None)
    return layer.bias(x, None, context).score_rows(out.q, out.k, SCALE, slice(0, T))[0]


@pytest.mark.parametrize(
    ("layout", "dims"), [("half", [(0, 3), (1, 4), (2, 5)]), ("interleaved", [(0, 1), (2, 3), (4, 5)])]
)
def test_formula(layout: str, dims: list[tuple[int, int]]) -> None:
    """In values and gradients, on both sides of the diagonal."""
    layer = encodings.create("xpos", **SHAPE, layout=layout, scale_base=16.0)
    q, k = draw(0).requires_grad_(), draw(1).requires_grad_()
    rows = []
    for i in range(T):
        for j in range(T):
            total = torch.zeros(2, dtype=torch.float64)
            for c, (a, b) in enumerate(dims):
                zeta = (2 * c + 0.4 * D) / (1.4 * D)
                turn = (i - j) * 10_000 ** (-2 * c / D)
                real = q[0, :, i, a] * k[0, :, j, a] + q[0, :, i, b] * k[0, :, j, b]
                imaginary = q[0, :, i, b] * k[0, :, j, a] - q[0, :, i, a] * k[0, :, j, b]
                total = total + zeta ** ((i - j) / 16) * (real * math.cos(turn) - imaginary * math.sin(turn))
            rows.append(SCALE * total)
    expected = torch.stack(rows, dim=-1).view(2, T, T)
    got = logits(layer, q, k)
    torch.testing.assert_close(got, expected)
    receive = torch.randn(2, T, T, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * receive).sum(), (q, k))
    for mine, theirs in zip(torch.autograd.grad((got * receive).sum(), (q, k)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_factors_of_the_paper() -> None:
    """zeta_0 = 0.4 / 1.4 at gamma = 0.4, over 512 tokens; the last plane of a wide head comes near 1."""
    rate = XPos(LayerSpec(1, 64, 64)).rate(torch.zeros(1))
    assert float(rate[0]) == pytest.approx(math.log(0.4 / 1.4) / 512)
    assert float(rate[31]) == pytest.approx(math.log((62 / 64 + 0.4) / 1.4) / 512)
    assert torch.equal(rate[:32], rate[32:])


def test_no_plane_fades_at_gamma_without_bound() -> None:
    q, k = draw(0), draw(1)
    x = torch.zeros(1, T, 12, dtype=torch.float64)
    rotated = encodings.create("rope", **SHAPE).transform(q, k, k, x=x, context=Context.plain(x), state=None)
    rope = SCALE * (rotated.q @ rotated.k.transpose(-1, -2))[0]
    torch.testing.assert_close(logits(encodings.create("xpos", **SHAPE, gamma=1e9), q, k), rope)


def test_logits_depend_on_the_distance_alone() -> None:
    layer = encodings.create("xpos", **SHAPE)
    q, k = draw(0), draw(1)
    torch.testing.assert_close(logits(layer, q, k), logits(layer, q, k, start=10**6), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_exact_far_beyond_what_a_fixed_centre_allows(dtype: torch.dtype, bound: float) -> None:
    """At scale_base = 2, q and k measured from one end of 1,000 tokens would need factors of e^620."""
    length = 1000
    layer = encodings.create("xpos", **SHAPE, scale_base=2.0)
    q, k, v = (draw(seed, length).to(dtype).requires_grad_() for seed in range(3))
    bias = layer.encode(q, k, v, x=torch.zeros(1, length, 12, dtype=dtype)).bias
    # Of q and k as they are: what the rotation adds is not the matter here.
    out = attend(q, k, v, bias, scale=SCALE, impl="tiles")
    grads = torch.autograd.grad(out.square().sum(), (q, k, v))
    assert all(t.isfinite().all() for t in (out, *grads))
    q, k, v = (t.detach().double() for t in (q, k, v))
    n = torch.arange(length).unsqueeze(-1) - torch.arange(length)
    logits = torch.zeros(1, 2, length, length, dtype=torch.float64)
    for e in range(D):
        zeta = (2 * (e % (D // 2)) + 0.4 * D) / (1.4 * D)
        logits += SCALE * zeta ** (n.clamp_min(0) / 2) * q[..., e].unsqueeze(-1) * k[..., e].unsqueeze(-2)
    expected = logits.masked_fill(n < 0, float("-inf")).softmax(-1) @ v
    assert (out.double() - expected).abs().max() < bound


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match="'xpos': scale_base and gamma must be positive"):
        encodings.create("xpos", **SHAPE, scale_base=0.0)
    with pytest.raises(UserError, match=r"'xpos'.*must be even, not 7"):
        encodings.create("xpos", heads=2, head_dim=7, dim=14)
