"""CoPE against its formula, pair by pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from extrapo import encodings
from extrapo.attention import attend
from extrapo.encodings import LayerSpec, cope
from extrapo.errors import UserError

HEADS, D, T = 2, 4, 7
SCALE = 1 / math.sqrt(D)
SHAPE = {"heads": HEADS, "head_dim": D, "dim": HEADS * D}


def draws(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def layer_of(**options: Any) -> cope.CoPE:
    torch.manual_seed(1)
    layer = cope.CoPE(LayerSpec(**SHAPE), **options).double()
    with torch.no_grad():
        layer.table.normal_()
    return layer


def position(q: Tensor, k: Tensor, i: int, j: int, scale: float, npos: int) -> Tensor:
    """The sum of the gates of the keys j..i, one sequence and head."""
    gates = [torch.sigmoid(scale * q[i] @ k[between]) for between in range(j, i + 1)]
    return torch.stack(gates).sum().clamp_max(npos - 1)


def plain(layer: cope.CoPE, q: Tensor, k: Tensor, v: Tensor, bias_scale: float, gate_scale: float) -> Tensor:
    npos, out = layer.table.size(0), []
    for b in range(q.size(0)):
        for h in range(HEADS):
            for i in range(T):
                logits = []
                for j in range(i + 1):
                    p = position(q[b, h], k[b, h], i, j, gate_scale, npos)
                    low = math.floor(p.item())
                    left, right = (q[b, h, i] @ layer.table[c] for c in (low, math.ceil(p.item())))
                    between = (1 - (p - low)) * left + (p - low) * right
                    logits.append(SCALE * q[b, h, i] @ k[b, h, j] + bias_scale * between)
                out.append(torch.stack(logits).softmax(0) @ v[b, h, : i + 1])
    return torch.stack(out).view_as(v)


@pytest.mark.parametrize("impl", ["reference", "tiles"])
@pytest.mark.parametrize(
    ("options", "bias_scale", "gate_scale"),
    [
        ({"npos": 3}, SCALE, SCALE),
        ({"npos": 64, "bias_scale": "one"}, 1.0, SCALE),
        ({"npos": 4, "gate_scale": "one"}, SCALE, 1.0),
        ({"npos": 1}, SCALE, SCALE),
    ],
)
def test_formula(impl: str, options: dict[str, Any], bias_scale: float, gate_scale: float) -> None:
    layer = layer_of(**options)
    q, k, v = draws(2, HEADS, T, D)
    got = attend(q, k, v, layer.bias(torch.zeros(2, T, HEADS * D)), scale=SCALE, impl=impl)
    expected = plain(layer, q, k, v, bias_scale, gate_scale)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    receive, leaves = torch.randn_like(got), [q, k, v, layer.table]
    found, wanted = (torch.autograd.grad((out * receive).sum(), leaves) for out in (got, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_with_open_gates_positions_are_distances() -> None:
    """Both ends count: the query's own key stands at 1."""
    layer = layer_of(npos=5)
    q, k, _ = (t.detach() for t in draws(1, HEADS, T, D))
    q[..., 0], k[..., 0], k[..., 1:] = 100.0, 100.0, 0.0
    bias = layer.bias(torch.zeros(1, T, HEADS * D))
    positions = bias.score_rows(q, k, SCALE, slice(0, T)) - SCALE * q @ k.transpose(-1, -2)
    for i in range(T):
        for j in range(i + 1):
            expected = SCALE * q[0, :, i] @ layer.table[min(i - j + 1, 4)]
            torch.testing.assert_close(positions[0, :, i, j], expected, rtol=0, atol=1e-9)


def test_it_starts_without_positions() -> None:
    layer = cope.CoPE(LayerSpec(**SHAPE)).double()
    q, k, v = draws(1, HEADS, T, D)
    x = torch.zeros(1, T, HEADS * D)
    nope = encodings.create("nope", **SHAPE).bias(x)
    torch.testing.assert_close(attend(q, k, v, layer.bias(x), scale=SCALE), attend(q, k, v, nope, scale=SCALE))


def test_mistakes() -> None:
    with pytest.raises(UserError, match="npos must be at least 1, not 0"):
        cope.CoPE(LayerSpec(**SHAPE), npos=0)
    q = torch.zeros(1, HEADS, T, D + 2)
    with pytest.raises(UserError, match="reads queries of width 4; another scheme made it 6"):
        attend(q, q, q, layer_of().bias(torch.zeros(1, T, HEADS * D)), scale=SCALE)
