"""KERPLE's kernels against their formulas, pair by pair; the weight kernel in values and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from extrapo import encodings
from extrapo.attention import attend
from extrapo.encodings import Elementwise
from extrapo.encodings.kerple import IndexKernel, KerpleWeight

H, D, T = 3, 4, 9
SCALE = 1 / math.sqrt(D)


def made(name: str, **options: object) -> IndexKernel:
    torch.manual_seed(0)
    layer = encodings.create(name, heads=H, head_dim=D, dim=H * D, **options).double()
    assert isinstance(layer, IndexKernel)
    return layer


@pytest.mark.parametrize("constraint", ["softplus", "clamp"])
@pytest.mark.parametrize("name", ["kerple-log", "kerple-power"])
def test_bias(name: str, constraint: str) -> None:
    layer = made(name, constraint=constraint)
    tile = layer.bias(torch.zeros(1, T, H * D, dtype=torch.float64)).added(slice(0, T))[0]
    tile, values = tile.detach(), [value.flatten().tolist() for value in layer.kernel.values()]
    for h in range(H):
        first, second = values[0][h], values[1][h]
        for i in range(T):
            for j in range(i + 1):
                n = i - j
                expected = -first * math.log(1 + second * n) if name == "kerple-log" else -first * n**second
                assert float(tile[h, i, j]) == pytest.approx(expected, abs=1e-9)


def test_weight_damps_the_content() -> None:
    layer = made("kerple-weight")
    q, k = (torch.randn(1, H, T, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    receive = torch.randn(H, T, T, dtype=torch.float64).tril()
    bias = layer.bias(torch.zeros(1, T, H * D, dtype=torch.float64))
    logits = bias.score_rows(q, k, SCALE, slice(0, T))[0]
    a, p = (value.flatten() for value in layer.kernel.values())
    weighed = torch.zeros((), dtype=torch.float64)
    for h in range(H):
        for i in range(T):
            for j in range(i + 1):
                # 0^p is 0, whose derivative by p is 0 as well.
                power = torch.tensor(float(i - j), dtype=torch.float64) ** p[h] if i > j else 0.0
                expected = SCALE * (q[0, h, i] @ k[0, h, j]) * torch.exp(-a[h] * power)
                torch.testing.assert_close(logits[h, i, j], expected)
                weighed = weighed + receive[h, i, j] * expected
    leaves = [q, k, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((logits * receive).sum(), leaves), torch.autograd.grad(weighed, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_weight_is_one_line_of_distances() -> None:
    layer = made("kerple-weight")
    x = torch.zeros(1, T, H * D, dtype=torch.float64)
    bias = layer.bias(x)
    assert isinstance(bias, Elementwise)
    assert bias.pointwise()
    line = bias.line()
    assert line is not None
    t, b = line
    expected = layer.kernel(torch.arange(T - 1, -1, -1, dtype=torch.float64)).exp()
    torch.testing.assert_close(t, expected.view(1, H, 1, T))
    assert b.shape == t.shape
    assert not b.any()
    with torch.no_grad():
        step = layer.bias(x[:, -1:], layer.bias(x[:, -2:-1], layer.bias(x[:, :-2])))
        assert isinstance(step, Elementwise)
        cached = step.cached_line()
    assert cached is not None
    torch.testing.assert_close(cached[0], t)
    assert not cached[1].any()


def test_weight_and_power_together_are_the_authors_whole_module() -> None:
    torch.manual_seed(0)
    both = encodings.create("kerple-weight+kerple-power", heads=H, head_dim=D, dim=H * D).double()
    weight, power = both.parts["kerple-weight"], both.parts["kerple-power"]
    assert isinstance(weight, KerpleWeight)
    q, k, v = torch.randn(3, 1, H, T, D, dtype=torch.float64)
    x = torch.zeros(1, T, H * D, dtype=torch.float64)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    logits = SCALE * q @ k.transpose(-1, -2)
    logits = logits * weight.kernel(distances()).exp() + power.kernel(distances())
    expected = logits.masked_fill(future, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v, both.bias(x), scale=SCALE, impl="reference"), expected)


def distances() -> torch.Tensor:
    """(T, T) i - j, 0 above the diagonal."""
    n = torch.arange(T, dtype=torch.float64)
    return (n.unsqueeze(1) - n).clamp_min(0)


def test_parameters_start_in_their_ranges() -> None:
    for name in ("kerple-log", "kerple-power", "kerple-weight"):
        for parameter in made(name).kernel.values():
            assert (parameter >= 0.01).all()
            assert (parameter <= 2).all()
