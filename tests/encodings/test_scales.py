"""Factors on the query against weights written out with powers, and what they leave alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend_under
from extrapo.encodings import Context, Encoding, LayerSpec, scales
from extrapo.errors import UserError

HEADS, D, T = 2, 4, 9
SCALE = 1 / math.sqrt(D)
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D, "train_length": 6}


def draws() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, T, D, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v, torch.randn(2, T, HEADS * D, generator=generator, dtype=torch.float64)


def out_of(layer: Encoding, context: Context | None = None) -> Tensor:
    q, k, v, x = draws()
    context = context or Context.plain(x)
    return attend_under(layer, q, k, v, x=x, context=context, scale=SCALE)


def test_ssmax_is_a_softmax_with_the_number_of_keys_as_its_base() -> None:
    layer = scales.SSMax(LayerSpec(**SHAPE)).double()
    with torch.no_grad():
        layer.s.copy_(torch.tensor([0.43, 1.2]).view(-1, 1, 1))
    q, k, v, _ = draws()
    expected = torch.zeros_like(v)
    for h, s in enumerate(layer.s.flatten().tolist()):
        for i in range(T):
            weights = [(i + 1) ** (s * SCALE * q[:, h, i] * k[:, h, j]).sum(-1) for j in range(i + 1)]
            total = sum(weights)
            expected[:, h, i] = sum((w / total).unsqueeze(-1) * v[:, h, j] for j, w in enumerate(weights))
    torch.testing.assert_close(out_of(layer), expected, rtol=0, atol=1e-12)


def test_starting_values() -> None:
    assert scales.SSMax(LayerSpec(**SHAPE)).s.flatten().tolist() == [1.0, 1.0]
    assert scales.SSMax(LayerSpec(**SHAPE), init=0.43).s.flatten().tolist() == pytest.approx([0.43, 0.43])
    torch.testing.assert_close(
        out_of(scales.HeadScale(LayerSpec(**SHAPE)).double()), out_of(encodings.create("nope", **SHAPE))
    )


FACTORS: list[tuple[Any, dict[str, Any], Any]] = [
    (scales.LogN, {}, lambda m: math.log(m) / math.log(6)),
    (scales.LogN, {"beyond": True}, lambda m: math.log(m) / math.log(6) if m > 6 else 1.0),
    (scales.HeadScale, {"init": 1.7}, lambda m: 1.7),
    (scales.AttentionTemperature, {}, lambda m: 1 + 0.1 * math.log(1 + m // 6)),
    (scales.AttentionTemperature, {"floor": 3, "slope": 0.5}, lambda m: 1 + 0.5 * math.log(1 + m // 3)),
]


@pytest.mark.parametrize(("kind", "options", "factor"), FACTORS)
def test_factors(kind: type[scales.QueryScale], options: dict[str, Any], factor: Any) -> None:
    layer = kind(LayerSpec(**SHAPE), **options).double()
    q, k, v, x = draws()
    got = layer.transform(q, k, v, x=x, context=Context.plain(x, 3), state=None)
    expected = torch.stack([q[:, :, t] * factor(3 + t + 1) for t in range(T)], dim=2)
    torch.testing.assert_close(got.q, expected, rtol=0, atol=1e-6)
    assert got.k is k
    assert got.v is v


def test_llama_4s_steps() -> None:
    layer = scales.AttentionTemperature(LayerSpec(**SHAPE), floor=8192)
    keys = torch.tensor([1.0, 8191, 8192, 16383, 16384], dtype=torch.float64)
    expected = [1, 1, 1 + 0.1 * math.log(2), 1 + 0.1 * math.log(2), 1 + 0.1 * math.log(3)]
    assert layer.factor(keys).tolist() == pytest.approx(expected)


def test_keys_are_counted_whatever_the_positions() -> None:
    layer = scales.SSMax(LayerSpec(**SHAPE)).double()
    x = draws()[-1]
    index = torch.tensor([2.0, 5, 6, 9, 11, 12, 20, 21, 40], dtype=torch.float64).view(1, 1, -1)
    q, k, v, _ = draws()
    got = layer.transform(q, k, v, x=x, context=Context(index, start=3), state=None).q
    torch.testing.assert_close(got, q * torch.arange(4.0, 13.0).double().log().unsqueeze(-1))


def test_with_a_bias_only_the_dot_product_is_scaled() -> None:
    layer = encodings.create("cable+ssmax", **SHAPE).double()
    q, k, v, x = draws()
    m = torch.arange(1, T + 1, dtype=torch.float64).view(-1, 1)
    cable = layer.parts["cable"].bias(x).added(slice(0, T))  # type: ignore[operator, union-attr, index]
    logits = SCALE * m.log() * (q @ k.transpose(-1, -2)) + cable
    expected = logits.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf")).softmax(-1) @ v
    torch.testing.assert_close(out_of(layer), expected, rtol=0, atol=1e-12)


def test_before_or_after_a_rotation_is_the_same() -> None:
    torch.testing.assert_close(*(out_of(encodings.create(n, **SHAPE)) for n in ("rope+log-n", "log-n+rope")))


def test_mistakes() -> None:
    with pytest.raises(UserError, match="needs at least 2 tokens"):
        scales.LogN(LayerSpec(HEADS, D, HEADS * D, train_length=1))
    with pytest.raises(UserError, match="init must be positive, not 0"):
        scales.HeadScale(LayerSpec(**SHAPE), init=0)
    with pytest.raises(UserError, match="floor must be at least 1, not 0"):
        scales.AttentionTemperature(LayerSpec(**SHAPE), floor=0)
