"""TAPA against its formula, pair by pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo.attention import attend
from extrapo.encodings import Context, LayerSpec, tapa
from extrapo.errors import UserError

HEADS, D, T = 2, 8, 9
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}


def draws() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, T, D, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3))
    return q, k, v


def plain(q: Tensor, k: Tensor, v: Tensor, alpha: float, theta: float) -> Tensor:
    size, out = round(theta * D), []
    for b in range(q.size(0)):
        for h in range(HEADS):
            for i in range(T):
                logits = []
                for j in range(i + 1):
                    amplitude = q[b, h, i, :size] @ k[b, h, j, :size] / math.sqrt(theta * D)
                    phase = q[b, h, i, size:] @ k[b, h, j, size:] / math.sqrt((1 - theta) * D)
                    logits.append(amplitude * (2 * math.pi * (i - j) ** alpha * phase).cos())
                out.append(torch.stack(logits).softmax(0) @ v[b, h, : i + 1])
    return torch.stack(out).view_as(v)


@pytest.mark.parametrize("impl", ["reference", "tiles"])
@pytest.mark.parametrize("options", [{}, {"alpha": 1.0}, {"theta": 0.25}])
def test_formula(impl: str, options: dict[str, Any]) -> None:
    q, k, v = draws()
    bias = tapa.TAPA(LayerSpec(**SHAPE), **options).bias(torch.zeros(2, T, HEADS * D, dtype=torch.float64))
    got = attend(q, k, v, bias, scale=1 / math.sqrt(D), impl=impl)
    expected = plain(q, k, v, options.get("alpha", 0.1), options.get("theta", 0.5))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    receive = torch.randn_like(got)
    found, wanted = (torch.autograd.grad((t * receive).sum(), [q, k, v]) for t in (got, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_distances_come_from_the_positions() -> None:
    q, k, _ = draws()
    x = torch.zeros(2, T, HEADS * D, dtype=torch.float64)
    layer, rows = tapa.TAPA(LayerSpec(**SHAPE)), slice(0, T)
    plain_index = Context.plain(x).index
    scores = [
        layer.bias(x, None, Context(index)).score_rows(q, k, 0.3, rows).tril()
        for index in (plain_index, plain_index + 7, 2 * plain_index)
    ]
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-12)
    assert (scores[2] - scores[0]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"theta": 0.0}, "must leave a dimension to each part"),
        ({"theta": 1.0}, "must leave a dimension to each part"),
        ({"alpha": 0.0}, "alpha must be positive, not 0.0"),
    ],
)
def test_mistakes(options: dict[str, float], cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        tapa.TAPA(LayerSpec(**SHAPE), **options)
