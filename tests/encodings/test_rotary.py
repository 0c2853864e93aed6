"""RoPE and p-RoPE against the formula in complex numbers, pair by pair."""

from __future__ import annotations

import cmath

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Context, Encoding
from extrapo.errors import UserError

SHAPE = {"heads": 2, "head_dim": 8, "dim": 16}
T = 9


def products(layer: Encoding, q: Tensor, k: Tensor, start: int = 0) -> Tensor:
    x = torch.zeros(1, T, 16, dtype=torch.float64)
    out = layer.transform(q, k, k, x=x, context=Context.plain(x, start), state=None)
    return out.q @ out.k.transpose(-1, -2)


@pytest.fixture
def qk() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 2, T, 8, generator=generator, dtype=torch.float64) for _ in range(2)]


def plain(q: Tensor, k: Tensor, theta: list[float], dims: list[tuple[int, int]], rest: list[int]) -> Tensor:
    """Sum over planes of Re q_c conj(k_c) e^(i n theta_c), plus the dimensions that lie in no plane."""
    out = torch.zeros(1, 2, T, T, dtype=torch.float64)
    for h in range(2):
        for i in range(T):
            for j in range(T):
                total = sum(float(q[0, h, i, e] * k[0, h, j, e]) for e in rest)
                for frequency, (a, b) in zip(theta, dims, strict=True):
                    z = complex(q[0, h, i, a], q[0, h, i, b]) * complex(k[0, h, j, a], -k[0, h, j, b])
                    total += (z * cmath.exp(1j * (i - j) * frequency)).real
                out[0, h, i, j] = total
    return out


@pytest.mark.parametrize(
    ("layout", "dims"),
    [("half", [(0, 4), (1, 5), (2, 6), (3, 7)]), ("interleaved", [(0, 1), (2, 3), (4, 5), (6, 7)])],
)
def test_complex_formula(layout: str, dims: list[tuple[int, int]], qk: list[Tensor]) -> None:
    layer = encodings.create("rope", **SHAPE, layout=layout, base=100.0)
    theta = [100.0 ** (-2 * c / 8) for c in range(4)]
    torch.testing.assert_close(products(layer, *qk), plain(*qk, theta, dims, []))


def test_partial_rotation(qk: list[Tensor]) -> None:
    """The first half of the head turns, as a head of half the width would (GPT-J, GPT-NeoX)."""
    layer = encodings.create("rope", **SHAPE, fraction=0.5, base=100.0)
    expected = plain(*qk, [1.0, 100.0 ** (-2 / 4)], [(0, 2), (1, 3)], [4, 5, 6, 7])
    torch.testing.assert_close(products(layer, *qk), expected)


@pytest.mark.parametrize(("p", "planes"), [(0.0, 0), (0.25, 1), (0.74, 2), (0.75, 3), (1.0, 4)])
def test_p_rope(p: float, planes: int, qk: list[Tensor]) -> None:
    """floor(p d/2) planes turn, and pair dimensions of the whole head."""
    layer = encodings.create("p-rope", **SHAPE, p=p, base=100.0)
    theta = [100.0 ** (-2 * c / 8) if c < planes else 0.0 for c in range(4)]
    torch.testing.assert_close(products(layer, *qk), plain(*qk, theta, [(c, c + 4) for c in range(4)], []))


def test_logits_depend_on_the_distance_alone(qk: list[Tensor]) -> None:
    layer = encodings.create("rope", **SHAPE)
    torch.testing.assert_close(products(layer, *qk), products(layer, *qk, start=131_072), rtol=0, atol=1e-9)


def test_learned_frequencies_start_as_rope_and_have_the_gradient_of_the_formula(qk: list[Tensor]) -> None:
    learned, fixed = encodings.create("rope", **SHAPE, learned=True), encodings.create("rope", **SHAPE)
    torch.testing.assert_close(products(learned, *qk), products(fixed, *qk), rtol=0, atol=1e-5)
    assert [name for name, _ in learned.named_parameters()] == ["log_theta"]
    learned = learned.double()
    (got,) = torch.autograd.grad(products(learned, *qk).square().sum(), learned.parameters())
    for c in range(4):
        ends = []
        for step in (1e-5, -1e-5):
            moved = encodings.create("rope", **SHAPE, learned=True).double()
            with torch.no_grad():
                moved.log_theta[c] += step
                ends.append(float(products(moved, *qk).square().sum()))
        assert float(got[c]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rope", {"fraction": 0.0}, r"fraction must lie in \(0, 1\], not 0"),
        ("p-rope", {"p": 1.5}, r"p must lie in \[0, 1\], not 1.5"),
        ("rope", {"layout": "diagonal"}, "layout must be 'half' or 'interleaved'"),
    ],
)
def test_a_mistake_is_one_line(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encodings.create(name, **SHAPE, **options)


@pytest.mark.parametrize("name", ["rope", "p-rope"])
def test_odd_head_width(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}'.*must be even, not 7"):
        encodings.create(name, heads=2, head_dim=7, dim=14)
