"""PI, NTK, YaRN and LongRoPE against their formulas, written out per plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extrapo import encodings
from extrapo.encodings import Context, Encoding, LayerSpec
from extrapo.encodings.interpolated import YaRN
from extrapo.errors import UserError

D, T, L0 = 8, 11, 64
NAMES = ["pi", "ntk", "yarn", "longrope"]
SHAPE = {"heads": 2, "head_dim": D, "dim": 16, "train_length": L0}


def draw(seed: int) -> Tensor:
    return torch.randn(1, 2, T, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(layer: Encoding, q: Tensor, k: Tensor) -> Tensor:
    """q.k after the transform, (2, T, T)."""
    x = torch.zeros(1, T, 16, dtype=torch.float64)
    out = layer.transform(q, k, k, x=x, context=Context.plain(x), state=None)
    return (out.q @ out.k.transpose(-1, -2))[0]


def plain(q: Tensor, k: Tensor, angle: Callable[[int, int], float], magnitude: float) -> Tensor:
    """magnitude^2 times the sum over planes of Re q_c conj(k_c) e^(i (angle_c(i) - angle_c(j)))."""
    rows = []
    for i in range(T):
        for j in range(T):
            total = torch.zeros(2, dtype=torch.float64)
            for c in range(D // 2):
                turn = angle(c, i) - angle(c, j)
                a, b, x, y = q[0, :, i, c], q[0, :, i, c + D // 2], k[0, :, j, c], k[0, :, j, c + D // 2]
                total = total + (a * x + b * y) * math.cos(turn) - (b * x - a * y) * math.sin(turn)
            rows.append(total * magnitude**2)
    return torch.stack(rows, dim=-1).view(2, T, T)


def theta(c: int, base: float = 10_000.0) -> float:
    return base ** (-2 * c / D)


def yarn(c: int, s: float) -> float:
    low = max(math.floor(D * math.log(L0 / (32 * 2 * math.pi)) / (2 * math.log(10_000))), 0)
    high = min(math.ceil(D * math.log(L0 / (2 * math.pi)) / (2 * math.log(10_000))), D - 1)
    ramp = min(max((c - low) / (high - low), 0), 1)
    return theta(c) * (1 - ramp) + theta(c) / s * ramp


@pytest.mark.parametrize("s", [1.0, 4.0, 16.0])
@pytest.mark.parametrize("name", NAMES)
def test_formula(name: str, s: float) -> None:
    """In values and gradients."""
    frequency, magnitude = {
        "pi": (lambda c: theta(c) / s, 1.0),
        "ntk": (lambda c: theta(c, 10_000.0 * s ** (D / (D - 2))), 1.0),
        "yarn": (lambda c: yarn(c, s), 0.1 * math.log(s) + 1),
        "longrope": (lambda c: theta(c) / s ** (2 * c / (D - 2)), math.sqrt(1 + math.log(s) / math.log(L0))),
    }[name]
    layer = encodings.create(name, **SHAPE, factor=s)
    q, k = draw(0).requires_grad_(), draw(1).requires_grad_()
    got, expected = logits(layer, q, k), plain(q, k, lambda c, t: t * frequency(c), magnitude)
    torch.testing.assert_close(got, expected)
    receive = torch.randn(2, T, T, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * receive).sum(), (q, k))
    for mine, theirs in zip(torch.autograd.grad((got * receive).sum(), (q, k)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@given(name=st.sampled_from(NAMES), base=st.sampled_from([100.0, 10_000.0, 5e5]), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_factor_1_is_rope(name: str, base: float, seed: int) -> None:
    q, k = draw(seed), draw(seed + 1)
    layer, rope = (encodings.create(n, **SHAPE, base=base, **o) for n, o in ((name, {"factor": 1.0}), ("rope", {})))
    torch.testing.assert_close(logits(layer, q, k), logits(rope, q, k))


def test_the_example_of_yarns_repository() -> None:
    """d = 64, base 10,000, L0 = 1,024: planes up to 5 as they are, planes from 18 divided by s."""
    layer = YaRN(LayerSpec(1, 64, 64, train_length=1024))
    s = torch.tensor(4.0, dtype=torch.float64)
    ratio = [10_000.0 ** (-2 * c / 64) / float(f) for c, f in enumerate(layer.theta(s))]
    assert ratio[:6] == pytest.approx([1.0] * 6)
    assert ratio[18:] == pytest.approx([4.0] * 14)
    assert all(1 < a < b < 4 for a, b in pairwise(ratio[6:18]))


def test_yarn_without_its_factor_on_the_logits_is_ntk_by_parts() -> None:
    q, k = draw(0), draw(1)
    whole, parts = (encodings.create("yarn", **SHAPE, mscale=mscale) for mscale in (True, False))
    torch.testing.assert_close(logits(whole, q, k), logits(parts, q, k) * (0.1 * math.log(4) + 1) ** 2)


@pytest.mark.parametrize("name", ["yarn", "longrope"])
def test_the_original_length_is_the_training_length_unless_told(name: str) -> None:
    q, k = draw(0), draw(1)
    trained, told, other = (
        encodings.create(name, **{**SHAPE, "train_length": length}, original_length=original)
        for length, original in ((L0, None), (4096, L0), (4096, None))
    )
    assert torch.equal(logits(trained, q, k), logits(told, q, k))
    assert not torch.allclose(logits(trained, q, k), logits(other, q, k))


def test_longrope_with_searched_factors_and_first_tokens_as_they_were() -> None:
    factors, n_hat = [1.0, 1.5, 2.0, 7.0], 3
    layer = encodings.create("longrope", **SHAPE, factor=8.0, factors=factors, n_hat=n_hat)
    q, k = draw(0), draw(1)

    def angle(c: int, t: int) -> float:
        return t * theta(c) / (factors[c] if t >= n_hat else 1.0)

    magnitude = math.sqrt(1 + math.log(8) / math.log(L0))
    torch.testing.assert_close(logits(layer, q, k), plain(q, k, angle, magnitude))
    assert "translation" in layer.exemptions()
    assert not encodings.create("longrope", **SHAPE).exemptions()


@pytest.mark.parametrize("name", NAMES)
def test_layouts_are_a_permutation_of_the_head(name: str) -> None:
    q, k = draw(0), draw(1)
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    half, pairs = (encodings.create(name, **SHAPE, layout=layout) for layout in ("half", "interleaved"))
    torch.testing.assert_close(logits(half, q, k), logits(pairs, q[..., order], k[..., order]))


@pytest.mark.parametrize("name", NAMES)
def test_mistakes_are_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}': factor must be at least 1, not 0.5"):
        encodings.create(name, **SHAPE, factor=0.5)
    with pytest.raises(UserError, match=f"'{name}'.*must be even, not 7"):
        encodings.create(name, heads=2, head_dim=7, dim=14)


def test_mistakes_of_longrope() -> None:
    with pytest.raises(UserError, match="factors must be 4 numbers, one per plane"):
        encodings.create("longrope", **SHAPE, factors=[1.0, 2.0])
    layer = encodings.create("longrope", **{**SHAPE, "train_length": 1})
    with pytest.raises(UserError, match="original length of at least 2, not 1"):
        logits(layer, draw(0), draw(1))


def test_yarns_ramp_between_planes_that_are_not_whole() -> None:
    """The bounds of the ramp as they are; d = 64, base 10,000, L0 = 1,024."""
    layer = YaRN(LayerSpec(1, 64, 64, train_length=1024), truncate=False)
    s = torch.tensor(4.0, dtype=torch.float64)
    low, high = (64 * math.log(1024 / (turns * 2 * math.pi)) / (2 * math.log(10_000.0)) for turns in (32.0, 1.0))
    ramps = [min(max((c - low) / (high - low), 0.0), 1.0) for c in range(32)]
    expected = [10_000.0 ** (-2 * c / 64) * (1 - ramp + ramp / 4) for c, ramp in enumerate(ramps)]
    assert layer.theta(s).tolist() == pytest.approx(expected)


def test_yarns_factor_may_be_given() -> None:
    q, k = draw(0), draw(1)
    given, parts = (encodings.create("yarn", **SHAPE, **o) for o in ({"attention_factor": 1.5}, {"mscale": False}))
    torch.testing.assert_close(logits(given, q, k), logits(parts, q, k) * 1.5**2)
    for name in ("yarn", "dynamic-yarn"):
        with pytest.raises(UserError, match=f"'{name}': attention_factor must be positive, and needs mscale"):
            encodings.create(name, **SHAPE, attention_factor=1.5, mscale=False)
